"""``shelfscan detect|audit``: plain photographs, no robot."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from shelfscan.cli._console import err, out, print_json, progress
from shelfscan.errors import BadInput
from shelfscan.inputs import expect_writable

Photos = Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Pictures, or folders of pictures.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML configuration.")]


def expand(paths: list[Path]) -> list[Path]:
    """Files as given, folders as the pictures in them. Raises `BadInput` for what is not there."""
    from shelfscan.adapters.pictures import pictures_in

    files: list[Path] = []
    missing: list[str] = []
    for path in paths:
        if path.is_dir():
            found = pictures_in(path)
            files += found
            if not found:
                missing.append(f"{path}: no pictures in this folder")
        elif path.is_file():
            files.append(path)
        else:
            missing.append(f"{path}: no such picture")
    if missing:
        raise BadInput(missing)
    return files


def detect(
    images: Photos,
    out_file: Annotated[Path, typer.Option("--out", help="COCO file to write.")],
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Product, price-tag and empty-space boxes in photographs, as COCO. A bad file is named and stops no other."""
    from shelfscan.adapters.pictures import read_picture
    from shelfscan.bootstrap import make_photo_detector
    from shelfscan.config import load_config
    from shelfscan.model.detections import DetectionClass
    from shelfscan.runfolder import write_atomic

    files = expand(images)
    expect_writable(out_file)
    detector = make_photo_detector(load_config(config))
    coco: dict[str, Any] = {
        "info": {"description": detector.description},
        "images": [],
        "annotations": [],
        "categories": [{"id": int(c), "name": c.name.lower()} for c in DetectionClass],
    }
    bad: list[str] = []
    with progress("detecting") as report:
        for n, file in enumerate(files):
            report(file.name, n / len(files))
            try:
                picture = read_picture(file)
            except BadInput as e:
                bad += e.problems
                continue
            image_id = len(coco["images"]) + 1
            h, w = picture.shape[:2]
            coco["images"].append({"id": image_id, "file_name": str(file), "width": w, "height": h})
            found = detector.detect(picture)
            for box, score, cls in zip(found.boxes_px.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True):
                x0, y0, x1, y1 = box
                coco["annotations"].append(
                    {
                        "id": len(coco["annotations"]) + 1,
                        "image_id": image_id,
                        "category_id": cls,
                        "bbox": [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)],
                        "area": round((x1 - x0) * (y1 - y0), 2),
                        "score": round(score, 4),
                        "iscrowd": 0,
                    }
                )
    if not coco["images"]:
        raise BadInput(bad)
    for problem in bad:
        err.print(f"shelfscan: {problem}", highlight=False, markup=False, soft_wrap=True)
    write_atomic(out_file, json.dumps(coco).encode())
    summary = {"images": len(coco["images"]), "boxes": len(coco["annotations"]), "unreadable": bad, "out": str(out_file)}
    if as_json:
        print_json(summary)
    else:
        text = f"{out_file}: {summary['boxes']} boxes in {summary['images']} pictures"
        out.print(text, highlight=False, markup=False, soft_wrap=True)


def audit(
    photos: Photos,
    gallery: Annotated[Path, typer.Option("--gallery", help="Reference pictures: DIR/<sku>/*.jpg.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for results.")],
    planogram: Annotated[Path | None, typer.Option("--planogram", help="planogram.csv to compare with.")] = None,
    config: ConfigFile = None,
    unknown_below: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Similarity below which a product is none of the gallery's."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Facings per SKU in plain photographs, with an annotated picture of each. Exit 1 when a file was bad; others are done."""
    import cv2

    from shelfscan.adapters.pictures import read_gallery, read_picture
    from shelfscan.bootstrap import make_embedder, make_photo_detector, make_recogniser
    from shelfscan.cli.annotate import draw_audit
    from shelfscan.config import load_config
    from shelfscan.perception.photo import audit_photo, facings_per_sku, find_products
    from shelfscan.runfolder import write_atomic

    settings = load_config(config)
    files = expand(photos)
    expect_writable(out_dir, folder=True)
    planned = _planned_facings(planogram) if planogram is not None else None
    references = read_gallery(gallery)
    detector = make_photo_detector(settings)
    bad: list[str] = []
    results: list[dict[str, Any]] = []
    rows: list[list[Any]] = []
    total: dict[str, int] = {}
    #: Photographs of different folders may have the same name.
    used: dict[str, int] = {}
    with progress("auditing") as report:
        report("learning the gallery", 0.0)
        recogniser = make_recogniser(settings, make_embedder(settings), references)
        for n, file in enumerate(files):
            report(file.name, n / len(files))
            try:
                picture = read_picture(file)
            except BadInput as e:
                bad += e.problems
                continue
            products = find_products(detector, picture)
            crops = [picture[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1] for x0, y0, x1, y1 in products.boxes_px.clip(0)]
            least = recogniser.unknown_below if unknown_below is None else unknown_below
            facings, runs = audit_photo(products, recogniser.recognise(crops), least)
            counts = facings_per_sku(facings)
            for sku, count in counts.items():
                total[sku] = total.get(sku, 0) + count
            for f in facings:
                best = f.candidates[0] if f.candidates else None
                second = f.candidates[1].sku if len(f.candidates) > 1 else ""
                box = [round(v, 1) for v in f.box_px]
                similarity = round(best.score, 4) if best else ""
                rows.append([str(file), f.row, f.column, f.sku, similarity, second, round(f.score, 4), *box, f.tied_with])
            used[file.stem] = used.get(file.stem, 0) + 1
            name = file.stem if used[file.stem] == 1 else f"{file.stem}-{used[file.stem]}"
            annotated = out_dir / f"{name}.audit.jpg"
            drawn = cv2.cvtColor(draw_audit(picture, facings, runs), cv2.COLOR_RGB2BGR)
            write_atomic(annotated, cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes())
            results.append(
                {
                    "photo": str(file),
                    "facings": len(facings),
                    "rows": 1 + max((f.row for f in facings), default=-1),
                    "unknown": counts.get("", 0),
                    "tied": sum(bool(f.tied_with) for f in facings),
                    "per_sku": {k: v for k, v in counts.items() if k},
                    "runs": [{"row": r.row, "sku": r.sku, "facings": r.facings, "tied_with": list(r.tied_with)} for r in runs],
                    "annotated": str(annotated),
                }
            )
    if not results:
        raise BadInput(bad)
    for problem in bad:
        err.print(f"shelfscan: {problem}", highlight=False, markup=False, soft_wrap=True)
    summary: dict[str, Any] = {
        "photos": results,
        "per_sku": dict(sorted((k, v) for k, v in total.items() if k)),
        "unknown": total.get("", 0),
        "tied": sum(r["tied"] for r in results),
        "unreadable": bad,
        "detector": detector.description,
    }
    if planned is not None:
        summary["planogram"] = [
            {"sku": sku, "planned": planned.get(sku, 0), "seen": total.get(sku, 0)}
            for sku in sorted(set(planned) | {k for k in total if k})
            if planned.get(sku, 0) != total.get(sku, 0)
        ]
    write_atomic(out_dir / "audit.json", json.dumps(summary, indent=2).encode())
    _write_csv(out_dir / "facings.csv", rows)
    if as_json:
        print_json(summary)
    else:
        for r in results:
            out.print(
                f"{r['photo']}: {r['facings']} facings on {r['rows']} rows, {len(r['per_sku'])} SKUs, "
                f"{r['unknown']} not in the gallery, {r['tied']} between two SKUs -> {r['annotated']}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )


def _planned_facings(path: Path) -> dict[str, int]:
    planned: dict[str, int] = {}
    problems: list[str] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as f:
            reader = csv.DictReader(f)
            missing = {"sku", "facings_wide", "facings_high"} - set(reader.fieldnames or ())
            if missing:
                raise BadInput(f"{path}: line 1: missing column {', '.join(sorted(missing))}")
            for line, row in enumerate(reader, start=2):
                try:
                    planned[row["sku"]] = planned.get(row["sku"], 0) + int(row["facings_wide"]) * int(row["facings_high"])
                except (TypeError, ValueError):
                    problems.append(f"{path}: line {line}: facings_wide and facings_high must be whole numbers")
    except OSError as e:
        raise BadInput(f"{path}: cannot be read: {e.strerror}") from e
    except (UnicodeDecodeError, csv.Error) as e:
        raise BadInput(f"{path}: not a CSV file in UTF-8: {e}") from e
    if problems:
        raise BadInput(problems)
    return planned


def _write_csv(path: Path, rows: list[list[Any]]) -> None:
    import io

    from shelfscan.runfolder import write_atomic

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    box = ["x_min_px", "y_min_px", "x_max_px", "y_max_px"]
    writer.writerow(["photo", "row", "column", "sku", "similarity", "second", "score", *box, "tied_with"])
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())
