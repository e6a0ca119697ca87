"""``shelfscan enrol`` and ``shelfscan gallery``: references of products, from pictures, photographs and runs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from shelfscan.cli._console import err, out, print_json, progress
from shelfscan.cli.photos import expand
from shelfscan.config import Config, load_config
from shelfscan.errors import BadInput
from shelfscan.inputs import expect_writable
from shelfscan.model.imaging import Rgb
from shelfscan.ports import Embedder

app = typer.Typer(help="Look after a gallery of reference pictures.", no_args_is_help=True)

GalleryDir = Annotated[Path, typer.Option("--gallery", help="Reference pictures: DIR/<sku>/*.jpg.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML configuration.")]
Runs = Annotated[list[Path] | None, typer.Option("--run", help="A run's folder; may be given more than once.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]

#: So many references of one SKU are taken from one named group.
FROM_GROUP = 5
#: A box this near to the picture's border is cut, and half a product looks like no reference of it.
CUT_PX = 4
COLUMNS = ("group", "sku", "crops_in_group", "picture", "x_min_px", "y_min_px", "x_max_px", "y_max_px", "nearest", "similarity")

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Crop:
    """A product found in a picture; ``planned`` is the SKU of the place it stands in, empty where that is not known."""

    path: Path
    box_px: Box
    picture: Rgb
    planned: str = ""


def enrol(
    gallery: GalleryDir,
    sku: Annotated[str | None, typer.Option("--sku", help="The product that the pictures show.")] = None,
    pictures: Annotated[list[Path] | None, typer.Argument(metavar="[PICTURE]...", help="Pictures of one product.")] = None,
    box: Annotated[str | None, typer.Option("--box", help="x0,y0,x1,y1: the product in a photograph, in pixels.")] = None,
    named: Annotated[Path | None, typer.Option("--named", help="groups.csv of `gallery unknowns`, with SKUs.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Add references to a gallery. A picture it has already is left out; a product like another is warned of."""
    from shelfscan.adapters.gallery import add_reference, expect_sku, references_in
    from shelfscan.bootstrap import make_embedder
    from shelfscan.perception.enrol import duplicates, fingerprint, look_alikes

    if (named is None) == (sku is None) or (named is not None and (pictures or box)):
        raise BadInput("give --sku with pictures, or --named with the table of `shelfscan gallery unknowns`")
    new = _named(named) if named is not None else [(sku or "", p) for p in _given(pictures or [], box)]
    expect_writable(gallery, folder=True)
    for name in sorted({s for s, _ in new}):
        expect_sku(gallery, name)
    old = references_in(gallery) if gallery.is_dir() and any(gallery.iterdir()) else []
    embedder = make_embedder(load_config(config))
    labels = [r.sku for r in old] + [s for s, _ in new]
    every = [r.picture for r in old] + [p for _, p in new]
    vectors, prints = embedder.embed(every), [fingerprint(p) for p in every]
    warnings: list[str] = []
    left_out: set[int] = set()
    for i, j in duplicates(prints, vectors):
        if j < len(old) or i in left_out or j in left_out:
            continue
        if labels[i] == labels[j]:
            left_out.add(j)
            warnings.append(f"SKU {labels[j]}: picture {j - len(old) + 1} is in the gallery already: left out")
        else:
            warnings.append(f"SKU {labels[j]}: picture {j - len(old) + 1} is also a picture of SKU {labels[i]}")
    added = {s for s, _ in new}
    for pair in look_alikes(labels, vectors):
        if {pair.first, pair.second} & added:
            warnings.append(f"SKU {pair.first} and SKU {pair.second} look alike ({pair.likeness:.2f})")
    files = [add_reference(gallery, s, p) for n, (s, p) in enumerate(new) if n + len(old) not in left_out]
    _warn(warnings)
    if as_json:
        print_json({"added": [str(f) for f in files], "left_out": len(left_out), "warnings": warnings})
    else:
        _say(f"{gallery}: {len(files)} references added for {len(added)} SKUs, {len(left_out)} left out")


def _given(paths: Sequence[Path], box: str | None) -> list[Rgb]:
    from shelfscan.adapters.pictures import read_picture

    if not paths:
        raise BadInput("no picture to enrol; give files or folders of one product")
    files = expand(list(paths))
    if box is None:
        read: list[Rgb] = []
        problems: list[str] = []
        for f in files:
            try:
                read.append(read_picture(f))
            except BadInput as e:
                problems += e.problems
        if problems:  # all or nothing: half a product is enrolled twice by the second try
            raise BadInput(problems)
        return read
    if len(files) != 1:
        raise BadInput(f"--box: expected one photograph, found {len(files)}")
    try:
        x0, y0, x1, y1 = (round(float(v)) for v in box.split(","))
    except (ValueError, OverflowError):
        raise BadInput(f"--box {box}: expected x0,y0,x1,y1 in pixels") from None
    return [_cut(read_picture(files[0]), (x0, y0, x1, y1), f"--box {box}")]


def _cut(picture: Rgb, box: Box, where: str) -> Rgb:
    h, w = picture.shape[:2]
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= w and 0 <= y0 < y1 <= h):
        raise BadInput(f"{where}: expected x0 < x1 and y0 < y1 within the picture of {w}x{h} pixels")
    return picture[y0:y1, x0:x1]


def _named(table: Path) -> list[tuple[str, Rgb]]:
    """The crops of the groups whose rows bear a SKU, at most `FROM_GROUP` a group, spread over it."""
    from shelfscan.adapters.pictures import read_picture

    groups: dict[str, list[tuple[int, str, Path, Box]]] = {}
    problems: list[str] = []
    try:
        with table.open(newline="", encoding="utf-8-sig") as f:
            reader = csv.DictReader(f)
            missing = set(COLUMNS[:8]) - {"crops_in_group"} - set(reader.fieldnames or ())
            if missing:
                raise BadInput(f"{table}: line 1: missing column {', '.join(sorted(missing))}")
            for line, row in enumerate(reader, start=2):
                if not (row["sku"] or "").strip():
                    continue
                try:
                    x0, y0, x1, y1 = (int(row[c]) for c in COLUMNS[4:8])
                except (TypeError, ValueError):
                    problems.append(f"{table}: line {line}: x_min_px to y_max_px must be whole numbers")
                    continue
                groups.setdefault(row["group"], []).append((line, row["sku"].strip(), Path(row["picture"]), (x0, y0, x1, y1)))
    except OSError as e:
        raise BadInput(f"{table}: cannot be read: {e.strerror}") from e
    except (UnicodeDecodeError, csv.Error) as e:
        raise BadInput(f"{table}: not a CSV file in UTF-8: {e}") from e
    found: list[tuple[str, Rgb]] = []
    for group, rows in groups.items():
        if len({sku for _, sku, _, _ in rows}) > 1:
            problems.append(f"{table}: group {group} bears more than one SKU")
            continue
        step = max(1, len(rows) // FROM_GROUP)
        for line, sku, path, box in rows[::step][:FROM_GROUP]:
            try:
                found.append((sku, _cut(read_picture(path), box, f"{table}: line {line}")))
            except BadInput as e:
                problems += e.problems
    if not found and not problems:
        problems.append(f"{table}: no row bears a SKU; fill in the column sku")
    if problems:
        raise BadInput(problems)
    return found


@app.command("unknowns")
def unknowns(
    gallery: GalleryDir,
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for contact sheets and groups.csv.")],
    photos: Annotated[list[Path] | None, typer.Argument(metavar="[PHOTO]...", help="Pictures, or folders of pictures.")] = None,
    run: Runs = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Group products that are none of the gallery's, for a person to name: one contact sheet a group."""
    from shelfscan.adapters.pictures import read_gallery
    from shelfscan.bootstrap import make_embedder, make_recogniser
    from shelfscan.perception.enrol import cluster
    from shelfscan.runfolder import write_atomic

    expect_writable(out_dir, folder=True)
    if out_dir.is_dir() and any(out_dir.iterdir()):
        raise BadInput(f"{out_dir}: is not empty; expected a new folder, so that no sheet of before is taken for one of now")
    settings = load_config(config)
    references = read_gallery(gallery)
    sources = _sources(photos, run)
    embedder = make_embedder(settings)
    recogniser = make_recogniser(embedder, references)
    bad: list[str] = []
    crops = _products(settings, sources, bad)
    best = [c[0] if c else None for c in recogniser.recognise([c.picture for c in crops])]
    strange = [i for i, b in enumerate(best) if b is None or b.score < recogniser.unknown_below]
    groups = cluster(embedder.embed([crops[i].picture for i in strange]))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for n, members in enumerate(groups, start=1):
        mine = [strange[m] for m in members]
        write_atomic(out_dir / f"group-{n:03d}.jpg", _sheet([crops[i].picture for i in mine]))
        for i in mine:
            b = best[i]
            near, score = (b.sku, b.score) if b else ("", "")
            table.writerow([f"{n:03d}", "", len(mine), crops[i].path, *crops[i].box_px, near, score])
    write_atomic(out_dir / "groups.csv", text.getvalue().encode())
    _warn(bad)
    if as_json:
        print_json({"products": len(crops), "unknown": len(strange), "groups": [len(g) for g in groups], "unreadable": bad})
    else:
        _say(f"{out_dir}: {len(strange)} of {len(crops)} products are none of the gallery's, in {len(groups)} groups")
    if bad:
        raise typer.Exit(1)


@app.command("check")
def check(
    gallery: GalleryDir,
    run: Runs = None,
    out_dir: Annotated[Path | None, typer.Option("--out", help="Folder for a contact sheet of each new design.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Pictures that are there twice, products that look alike, and, with --run, packages that look new."""
    from shelfscan.adapters.gallery import references_in
    from shelfscan.bootstrap import make_embedder
    from shelfscan.perception.enrol import drifts, duplicates, fingerprint, look_alikes
    from shelfscan.runfolder import write_atomic

    if out_dir is not None:
        expect_writable(out_dir, folder=True)
    settings = load_config(config)
    references = references_in(gallery)
    sources = _sources(None, run) if run else []
    embedder: Embedder = make_embedder(settings)
    skus, shown = [r.sku for r in references], [r.picture for r in references]
    vectors = embedder.embed(shown)
    same = [(references[i], references[j]) for i, j in duplicates([fingerprint(p) for p in shown], vectors)]
    alike = look_alikes(skus, vectors)
    bad: list[str] = []
    crops = _products(settings, sources, bad) if sources else []
    new = drifts([c.planned for c in crops], embedder.embed([c.picture for c in crops]), skus, vectors)
    designs: list[dict[str, Any]] = []
    for n, d in enumerate(new, start=1):
        mine = [crops[i] for i in d.members]
        sheet = out_dir / f"design-{n:03d}.jpg" if out_dir is not None else None
        if sheet is not None:
            write_atomic(sheet, _sheet([c.picture for c in mine]))
        found = sorted({str(c.path) for c in mine})
        designs.append(
            {"sku": d.sku, "crops": len(mine), "likeness": d.likeness, "pictures": found, "sheet": str(sheet) if sheet else ""}
        )
    _warn(bad)
    if as_json:
        print_json(
            {
                "skus": len(set(skus)),
                "references": len(skus),
                "duplicates": [{"first": str(a.path), "second": str(b.path), "same_sku": a.sku == b.sku} for a, b in same],
                "look_alikes": [{"first": p.first, "second": p.second, "likeness": p.likeness} for p in alike],
                "new_designs": designs,
                "crops": len(crops),
                "unreadable": bad,
            }
        )
    else:
        for a, b in same:
            _say(f"{b.path}: the same picture as {a.path}" + ("" if a.sku == b.sku else f", which is of another SKU, {a.sku}"))
        for p in alike:
            _say(f"SKU {p.first} and SKU {p.second} look alike ({p.likeness:.2f})")
        for design in designs:
            where = f" -> {design['sheet']}" if design["sheet"] else ""
            _say(f"SKU {design['sku']}: {design['crops']} products in its places look new ({design['likeness']:.2f}){where}")
        counts = f"{len(same)} twice, {len(alike)} pairs alike, {len(designs)} new designs"
        _say(f"{gallery}: {len(skus)} references of {len(set(skus))} SKUs, {counts}")
    if bad:
        raise typer.Exit(1)


def _sources(photos: Sequence[Path] | None, runs: Sequence[Path] | None) -> list[tuple[Path, str]]:
    """Pictures to look for products in, each with the SKU planned where it was taken (empty for photographs)."""
    if not photos and not runs:
        raise BadInput("nothing to look at; give photographs or --run")
    found = [(p, "") for p in (expand(list(photos)) if photos else [])]
    for run_dir in runs or ():
        found += _evidence(run_dir)
    return found


def _evidence(run_dir: Path) -> Iterator[tuple[Path, str]]:
    path = run_dir / "stock_map.json"
    try:
        bins = [(str(b["sku"]), [str(e) for e in b["evidence"]]) for b in json.loads(path.read_text(encoding="utf-8"))["bins"]]
    except OSError as e:
        raise BadInput(f"{path}: cannot be read; expected the folder of a finished run: {e.strerror}") from e
    except (ValueError, KeyError, TypeError) as e:
        raise BadInput(f"{path}: not a stock map: {e}") from e
    for sku, names in bins:
        for name in names:
            file = (run_dir / name).resolve()
            if run_dir.resolve() not in file.parents:
                raise BadInput(f"{path}: {name}: is not in the run's folder")
            yield file, sku


def _products(settings: Config, sources: Sequence[tuple[Path, str]], bad: list[str]) -> list[_Crop]:
    """Every product that is whole; unreadable pictures are added to ``bad``. Raises `BadInput` when nothing can."""
    from shelfscan.adapters.pictures import read_picture
    from shelfscan.bootstrap import make_detector
    from shelfscan.perception.photo import find_products

    detector = make_detector(settings)
    crops: list[_Crop] = []
    readable = 0
    with progress("looking for products") as report:
        for n, (path, planned) in enumerate(sources):
            report(path.name, n / len(sources))
            try:
                picture = read_picture(path)
            except BadInput as e:
                bad += e.problems
                continue
            readable += 1
            h, w = picture.shape[:2]
            for left, top, right, bottom in find_products(detector, picture).boxes_px.tolist():
                x0, y0, x1, y1 = max(0, int(left)), max(0, int(top)), min(w, int(right) + 1), min(h, int(bottom) + 1)
                cut = x0 < CUT_PX or y0 < CUT_PX or x1 > w - CUT_PX or y1 > h - CUT_PX
                if not cut and x1 - x0 >= 8 and y1 - y0 >= 8:
                    crops.append(_Crop(path, (x0, y0, x1, y1), picture[y0:y1, x0:x1].copy(), planned))
    if sources and not readable:
        raise BadInput(bad)
    return crops


def _sheet(pictures: Sequence[Rgb]) -> bytes:
    import cv2

    from shelfscan.perception.enrol import contact_sheet

    bgr = cv2.cvtColor(contact_sheet(pictures), cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes())


def _warn(lines: Sequence[str]) -> None:
    for line in lines:
        err.print(f"shelfscan: {line}", highlight=False, markup=False, soft_wrap=True)


def _say(line: str) -> None:
    out.print(line, highlight=False, markup=False, soft_wrap=True)
