"""How well facings of plain photographs are named, counted and ordered: the whole of ``shelfscan audit`` on labelled scenes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shelfscan.adapters.pictures import pictures_in, read_gallery
from shelfscan.errors import BadInput
from shelfscan.evaluation.data import Report, Unreadable, cut, median, need_folder, ratio, read_json
from shelfscan.model.imaging import Rgb
from shelfscan.perception.photo import PhotoDetector, PhotoFacing, audit_photo, find_products
from shelfscan.perception.recognise import Recogniser

Enrol = Callable[[dict[str, list[Rgb]]], Recogniser]
ROWS = "rows_top_to_bottom_left_to_right"


def evaluate_facings(
    folder: Path, gallery: Path | None, detector: PhotoDetector, enrol: Enrol, report: Report
) -> dict[str, Any]:
    """Measure on ``facings.json`` with its photographs; ``gallery``: reference pictures, else the subfolder that has them.

    ``facing_precision``, ``facing_recall``: facings that got a name against the labelled ones, matched by SKU within a
    scene; ``row_order_exact``: share of labelled rows whose names from left to right are exactly those of a found row,
    rows in order. Scenes without rows are unlabelled and left out.
    """
    path = need_folder(folder) / "facings.json"
    scenes = _scenes(path)
    references = read_gallery(gallery or _gallery_of(folder, {s for rows in scenes.values() for row in rows for s in row}))
    bad = Unreadable()
    recogniser = enrol(references)
    right = said = wanted = rows_right = rows_total = looked = 0
    times_ms: list[float] = []
    for n, (name, rows) in enumerate(sorted(scenes.items())):
        report(name, n / len(scenes))
        picture = bad.read(folder / name)
        if picture is None:
            continue
        looked += 1
        t0 = time.perf_counter()
        products = find_products(detector, picture)
        crops = [cut(picture, tuple(box)) for box in products.boxes_px.tolist()]
        facings, _ = audit_photo(products, recogniser.recognise(crops), recogniser.unknown_below)
        times_ms.append(1e3 * (time.perf_counter() - t0))
        found = names_of(facings)
        there, named = (Counter(sku for row in table for sku in row) for table in (rows, found))
        right += (there & named).total()
        said += named.total()
        wanted += there.total()
        rows_right += rows_in_order(rows, found)
        rows_total += len(rows)
    if not looked:
        raise bad.none_left()
    return {
        "facing_precision": ratio(right, said),
        "facing_recall": ratio(right, wanted),
        "row_order_exact": ratio(rows_right, rows_total),
        "scenes": looked,
        "facings": wanted,
        "gallery": len(references),
        "ms_per_scene": median(times_ms, 1),
        "unreadable": bad.problems,
    }


def names_of(facings: Sequence[PhotoFacing]) -> list[list[str]]:
    """Names by row, top to bottom, left to right; what has no name is left out, and so is a row without any."""
    rows: dict[int, list[str]] = {}
    for f in facings:
        if f.sku:
            rows.setdefault(f.row, []).append(f.sku)
    return [rows[r] for r in sorted(rows)]


def rows_in_order(wanted: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> int:
    """How many wanted rows are among the found ones in the same order (longest common subsequence of rows)."""
    best = [0] * (len(found) + 1)
    for row in wanted:
        before = best[:]
        for j, other in enumerate(found):
            best[j + 1] = max(best[j], before[j + 1], before[j] + (list(row) == list(other)))
    return best[-1]


def _scenes(path: Path) -> dict[str, list[list[str]]]:
    data = read_json(path, f'an object of photographs, each with "{ROWS}" or null')
    if not isinstance(data, dict):
        raise BadInput(f"{path}: expected an object of photographs, found {type(data).__name__}")
    scenes: dict[str, list[list[str]]] = {}
    problems = []
    for name, entry in data.items():
        if entry is None:
            continue
        rows = entry.get(ROWS) if isinstance(entry, dict) else None
        if not isinstance(rows, list) or not all(isinstance(r, list) and all(isinstance(s, str) for s in r) for r in rows):
            problems.append(f"{path}: {name}: expected {ROWS}: a list of rows, each a list of SKUs")
        else:
            scenes[name] = rows
    if not problems and not any(r for rows in scenes.values() for r in rows):
        problems.append(f"{path}: no labelled photograph")
    if problems:
        raise BadInput(problems)
    return scenes


def _gallery_of(folder: Path, skus: set[str]) -> Path:
    for entry in sorted(p for p in folder.iterdir() if p.is_dir()):
        names = {p.stem for p in pictures_in(entry)} | {p.name for p in entry.iterdir() if p.is_dir()}
        if skus <= names:
            return entry
    raise BadInput(f"{folder}: no subfolder has a reference picture of every SKU of facings.json; name one with --gallery")
