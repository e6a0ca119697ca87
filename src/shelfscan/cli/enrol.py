"""``shelfscan enrol`` and ``shelfscan gallery``: references of products, from pictures, photographs and runs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from shelfscan.cli._console import err, out, print_json, progress
from shelfscan.cli.photos import expand
from shelfscan.config import Config, load_config
from shelfscan.errors import BadInput
from shelfscan.inputs import expect_writable
from shelfscan.model.imaging import Rgb
from shelfscan.ports import Embedder

if TYPE_CHECKING:
    from shelfscan.perception.enrol import Sighting, Vectors

app = typer.Typer(help="Look after a gallery of reference pictures.", no_args_is_help=True)

GalleryDir = Annotated[Path, typer.Option("--gallery", help="Reference pictures: DIR/<sku>/*.jpg.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML configuration.")]
Runs = Annotated[list[Path] | None, typer.Option("--run", help="A run's folder; may be given more than once.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]

#: So many references of one SKU are taken from one named group.
FROM_GROUP = 5
#: A box this near to the picture's border is cut, and half a product looks like no reference of it.
CUT_PX = 4
#: Pictures of a gallery that are held at a time.
BATCH = 64
#: What a person names groups in. ``enrol`` needs the columns of `NEEDED`, the rest helps the person.
COLUMNS = ("group", "sku", "crops_in_group", "picture", "x_min_px", "y_min_px", "x_max_px", "y_max_px", "nearest", "similarity")
BOX = COLUMNS[4:8]
NEEDED = ("group", "sku", "picture", *BOX)

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Place:
    """Where a picture of a run was taken: the SKU planned there, the night, x and y in ``map`` (metres)."""

    sku: str
    night: str
    position_m: tuple[float, float]


@dataclass(frozen=True)
class _Crop:
    """A product found in a picture; ``place`` is None in photographs, which say nothing of it."""

    path: Path
    box_px: Box
    picture: Rgb
    place: _Place | None


@dataclass
class _References:
    """Pictures of products without the pictures: row i of ``vectors`` and of ``prints`` is ``paths[i]``, of ``skus[i]``."""

    skus: list[str] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    shapes: list[float] = field(default_factory=list)
    prints: list[int] = field(default_factory=list)
    rows: list[Vectors] = field(default_factory=list)

    def add(self, embedder: Embedder, sku_paths: Sequence[tuple[str, Path]], pictures: Sequence[Rgb]) -> None:
        """Take in some more."""
        from shelfscan.perception.enrol import fingerprint

        self.skus += [sku for sku, _ in sku_paths]
        self.paths += [path for _, path in sku_paths]
        self.shapes += [p.shape[1] / p.shape[0] for p in pictures]
        self.prints += [fingerprint(p) for p in pictures]
        self.rows.append(embedder.embed(pictures))

    @property
    def vectors(self) -> Vectors:
        """(N, D) float32."""
        return np.concatenate(self.rows) if self.rows else np.zeros((0, 0), np.float32)


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
    from shelfscan.adapters.gallery import add_reference, expect_sku, is_started
    from shelfscan.bootstrap import make_embedder
    from shelfscan.perception.enrol import duplicates, look_alikes

    if (named is None) == (sku is None) or (named is not None and (pictures or box)):
        raise BadInput("give --sku with pictures, or --named with the table of `shelfscan gallery unknowns`")
    new = _named(named) if named is not None else [(sku or "", *p) for p in _given(pictures or [], box)]
    expect_writable(gallery, folder=True)
    added = sorted({s for s, _, _ in new})
    for name in added:
        expect_sku(gallery, name)
    embedder = make_embedder(load_config(config))
    every = _read(gallery, embedder) if is_started(gallery) else _References()
    first = len(every.skus)
    every.add(embedder, [(s, path) for s, path, _ in new], [p for _, _, p in new])
    warnings: list[str] = []
    left_out: set[int] = set()
    for i, j in duplicates(every.prints, every.vectors, first):
        if i in left_out or j in left_out:
            continue
        if every.skus[i] == every.skus[j]:
            left_out.add(j)
            warnings.append(f"{every.paths[j]}: SKU {every.skus[j]} has this picture already ({every.paths[i]}): left out")
        else:
            warnings.append(f"{every.paths[j]}: SKU {every.skus[i]} has the same picture ({every.paths[i]})")
    for pair in look_alikes(every.skus, every.vectors, first):
        warnings.append(f"SKU {pair.first} and SKU {pair.second} look alike ({pair.likeness:.2f})")
    files = [add_reference(gallery, s, p) for n, (s, _, p) in enumerate(new, start=first) if n not in left_out]
    _warn(warnings)
    if as_json:
        print_json({"added": [str(f) for f in files], "left_out": len(left_out), "warnings": warnings})
    else:
        _say(f"{gallery}: {len(files)} references added for {len(added)} SKUs, {len(left_out)} left out")


def _given(paths: Sequence[Path], box: str | None) -> list[tuple[Path, Rgb]]:
    from shelfscan.adapters.pictures import read_picture

    if not paths:
        raise BadInput("no picture to enrol; give files or folders of one product")
    files = expand(list(paths))
    if box is None:
        read: list[tuple[Path, Rgb]] = []
        problems: list[str] = []
        for f in files:
            try:
                read.append((f, read_picture(f)))
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
    return [(files[0], _cut(read_picture(files[0]), (x0, y0, x1, y1), f"--box {box}"))]


def _cut(picture: Rgb, box: Box, where: str) -> Rgb:
    h, w = picture.shape[:2]
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= w and 0 <= y0 < y1 <= h):
        raise BadInput(f"{where}: expected x0 < x1 and y0 < y1 within the picture of {w}x{h} pixels")
    return picture[y0:y1, x0:x1].copy()  # a view would keep all of the photograph


def _named(table: Path) -> list[tuple[str, Path, Rgb]]:
    """The crops of the groups whose rows bear a SKU, at most `FROM_GROUP` a group, spread over it."""
    from shelfscan.adapters.pictures import read_picture

    groups: dict[str, list[tuple[int, str, Path, Box]]] = {}
    problems: list[str] = []
    try:
        with table.open(newline="", encoding="utf-8-sig") as f:
            reader = csv.DictReader(f)
            missing = [c for c in NEEDED if c not in (reader.fieldnames or ())]
            if missing:
                raise BadInput(f"{table}: line 1: missing column {', '.join(missing)}")
            for row in reader:
                line = reader.line_num
                if not (row["sku"] or "").strip():
                    continue
                try:
                    x0, y0, x1, y1 = (int(row[c]) for c in BOX)
                except (TypeError, ValueError):
                    problems.append(f"{table}: line {line}: x_min_px to y_max_px must be whole numbers")
                    continue
                groups.setdefault(row["group"], []).append((line, row["sku"].strip(), Path(row["picture"]), (x0, y0, x1, y1)))
    except OSError as e:
        raise BadInput(f"{table}: cannot be read: {e.strerror}") from e
    except (UnicodeDecodeError, csv.Error) as e:
        raise BadInput(f"{table}: not a CSV file in UTF-8: {e}") from e
    found: list[tuple[str, Path, Rgb]] = []
    for group, rows in groups.items():
        if len({sku for _, sku, _, _ in rows}) > 1:
            problems.append(f"{table}: group {group} bears more than one SKU")
            continue
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), FROM_GROUP)).round().astype(int))
        for line, sku, path, box in (rows[i] for i in chosen):
            try:
                found.append((sku, path, _cut(read_picture(path), box, f"{table}: line {line}")))
            except BadInput as e:
                problems += e.problems
    if not found and not problems:
        problems.append(f"{table}: no row bears a SKU; fill in the column sku")
    if problems:
        raise BadInput(problems)
    return found


def _read(gallery: Path, embedder: Embedder) -> _References:
    """A gallery, a few pictures at a time. Raises `BadInput` with every picture that cannot be read, and as `gallery_files`."""
    from shelfscan.adapters.pictures import gallery_files, read_picture

    files = [(sku, path) for sku, paths in gallery_files(gallery).items() for path in paths]
    known = _References()
    problems: list[str] = []
    for start in range(0, len(files), BATCH):
        pictures: list[Rgb] = []
        read: list[tuple[str, Path]] = []
        for sku, path in files[start : start + BATCH]:
            try:
                pictures.append(read_picture(path))
                read.append((sku, path))
            except BadInput as e:
                problems += e.problems
        known.add(embedder, read, pictures)
    if problems:
        raise BadInput(problems)
    return known


@app.command("unknowns")
def unknowns(
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for contact sheets and groups.csv.")],
    photos: Annotated[list[Path] | None, typer.Argument(metavar="[PHOTO]...", help="Pictures, or folders of pictures.")] = None,
    gallery: Annotated[Path | None, typer.Option("--gallery", help="What is known; none: everything is unknown.")] = None,
    run: Runs = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Group products that are none of the gallery's, for a person to name: one contact sheet a group."""
    from shelfscan.adapters.pictures import read_gallery
    from shelfscan.bootstrap import make_embedder, make_recogniser
    from shelfscan.model.detections import Candidate
    from shelfscan.perception.enrol import cluster
    from shelfscan.runfolder import write_atomic

    expect_writable(out_dir, folder=True)
    if out_dir.is_dir() and any(out_dir.iterdir()):
        raise BadInput(f"{out_dir}: is not empty; expected a new folder, so that no sheet of before is taken for one of now")
    settings = load_config(config)
    references = read_gallery(gallery) if gallery is not None else None
    sources = _sources(photos, run)
    embedder = make_embedder(settings)
    bad: list[str] = []
    crops = _products(settings, sources, bad)
    best: list[Candidate | None] = [None] * len(crops)
    strange = list(range(len(crops)))
    if references is not None:
        recogniser = make_recogniser(settings, embedder, references)
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
            table.writerow([f"{n:03d}", "", len(mine), crops[i].path.resolve(), *crops[i].box_px, near, score])
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
    out_dir: Annotated[Path | None, typer.Option("--out", help="With --run: folder for a sheet of each new design.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Pictures that are there twice, products that look alike, and, with --run, packages that may look new."""
    from shelfscan.bootstrap import make_embedder
    from shelfscan.perception.enrol import drifts, duplicates, look_alikes
    from shelfscan.runfolder import write_atomic

    if out_dir is not None:
        if not run:
            raise BadInput("--out: new designs are looked for in runs; give --run")
        expect_writable(out_dir, folder=True)
        if out_dir.is_dir() and any(out_dir.iterdir()):
            raise BadInput(f"{out_dir}: is not empty; expected a new folder")
    settings = load_config(config)
    sources = _sources(None, run) if run else []
    embedder = make_embedder(settings)
    known = _read(gallery, embedder)
    vectors = known.vectors
    same = duplicates(known.prints, vectors)
    alike = look_alikes(known.skus, vectors)
    bad: list[str] = []
    crops = _products(settings, sources, bad) if sources else []
    new = drifts([_sighting(c) for c in crops], embedder.embed([c.picture for c in crops]), known.skus, known.shapes, vectors)
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
    pairs = [(known.paths[i], known.paths[j], known.skus[i], known.skus[j]) for i, j in same]
    if as_json:
        print_json(
            {
                "skus": len(set(known.skus)),
                "references": len(known.skus),
                "duplicates": [{"first": str(a), "second": str(b), "same_sku": s == t} for a, b, s, t in pairs],
                "look_alikes": [{"first": p.first, "second": p.second, "likeness": p.likeness} for p in alike],
                "new_designs": designs,
                "crops": len(crops),
                "unreadable": bad,
            }
        )
    else:
        for a, b, s, t in pairs:
            _say(f"{b}: the same picture as {a}" + ("" if s == t else f", which is of another SKU, {s}"))
        for p in alike:
            _say(f"SKU {p.first} and SKU {p.second} look alike ({p.likeness:.2f})")
        for design in designs:
            where = f" -> {design['sheet']}" if design["sheet"] else ""
            _say(f"SKU {design['sku']}: {design['crops']} products in its places look new ({design['likeness']:.2f}){where}")
        counts = f"{len(same)} twice, {len(alike)} pairs alike" + (f", {len(designs)} new designs" if sources else "")
        _say(f"{gallery}: {len(known.skus)} references of {len(set(known.skus))} SKUs, {counts}")
    if bad:
        raise typer.Exit(1)


def _sighting(crop: _Crop) -> Sighting:
    from shelfscan.perception.enrol import Sighting

    place = crop.place or _Place("", "", (0.0, 0.0))
    h, w = crop.picture.shape[:2]
    return Sighting(place.sku, place.night, place.position_m, w / h)


def _sources(photos: Sequence[Path] | None, runs: Sequence[Path] | None) -> list[tuple[Path, _Place | None]]:
    """Pictures to look for products in, each with where it was taken (None for photographs)."""
    if not photos and not runs:
        raise BadInput("nothing to look at; give photographs or --run")
    found: list[tuple[Path, _Place | None]] = [(p, None) for p in (expand(list(photos)) if photos else [])]
    for run_dir in dict.fromkeys(p.resolve() for p in runs or ()):
        found += _evidence(run_dir)
    if not found:
        raise BadInput(f"no pictures of products in {', '.join(str(r) for r in runs or ())}")
    return found


def _evidence(run_dir: Path) -> Iterator[tuple[Path, _Place]]:
    """The pictures of bins that a run's stock map names."""
    path = run_dir / "stock_map.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        night = f"{data['mission_id']} {data['created_at']}"
        bins = []
        for b in data["bins"]:
            x, y, _ = map(float, b["position"])
            bins.append((_Place(str(b["sku"]), night, (x, y)), [str(e) for e in b["evidence"]]))
    except OSError as e:
        raise BadInput(f"{path}: cannot be read; expected the folder of a finished run: {e.strerror}") from e
    except (ValueError, KeyError, TypeError) as e:
        raise BadInput(f"{path}: not a stock map: {type(e).__name__}: {e}") from e
    for place, names in bins:
        for name in names:
            file = (run_dir / name).resolve()
            if run_dir.resolve() not in file.parents:
                raise BadInput(f"{path}: {name}: is not in the run's folder")
            yield file, place


def _products(settings: Config, sources: Sequence[tuple[Path, _Place | None]], bad: list[str]) -> list[_Crop]:
    """Every product that is whole, in a run's pictures of bins those in front; what is wrong with others goes to ``bad``.

    Raises `BadInput` when no picture can be read.
    """
    from shelfscan.adapters.pictures import read_picture
    from shelfscan.bootstrap import make_photo_detector
    from shelfscan.perception.enrol import in_front
    from shelfscan.perception.photo import find_products

    detector = make_photo_detector(settings)
    crops: list[_Crop] = []
    readable = 0
    with progress("looking for products") as report:
        for n, (path, place) in enumerate(sources):
            report(path.name, n / len(sources))
            try:
                picture = read_picture(path)
            except BadInput as e:
                bad += e.problems
                continue
            readable += 1
            h, w = picture.shape[:2]
            boxes = find_products(detector, picture).boxes_px
            if place is not None:
                boxes = boxes[in_front(boxes)]
            for left, top, right, bottom in boxes.tolist():
                x0, y0, x1, y1 = max(0, int(left)), max(0, int(top)), min(w, int(right) + 1), min(h, int(bottom) + 1)
                cut = x0 < CUT_PX or y0 < CUT_PX or x1 > w - CUT_PX or y1 > h - CUT_PX
                if not cut and x1 - x0 >= 8 and y1 - y0 >= 8:
                    crops.append(_Crop(path, (x0, y0, x1, y1), picture[y0:y1, x0:x1].copy(), place))
    if not readable:
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
