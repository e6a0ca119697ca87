"""How well price tags, barcodes and expiry dates are read."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from shelfscan.adapters.codes_zxing import ZxingCodeReader
from shelfscan.adapters.dates_rapidocr import RapidOcrDates
from shelfscan.errors import BadInput
from shelfscan.evaluation.data import Report, Unreadable, cut, median, need_folder, pictures_of, ratio, read_coco, read_rows
from shelfscan.model.detections import DetectionClass
from shelfscan.model.gtin import gtin14
from shelfscan.ports import Detector, TagReader

#: A tag is found when a box overlaps it by this (intersection over union).
FOUND_IOU = 0.5
#: What is added to a tag's box, as in the scan pipeline.
TAG_PAD = 0.06
#: Fewer pictures are not worth the second that another process takes to start.
LEAST_A_JOB = 16
_ISO = re.compile(r"(\d{4}|-)-\d\d(-\d\d)?")


def evaluate_tags(folder: Path, detector: Detector, reader: TagReader, report: Report) -> dict[str, Any]:
    """Measure on COCO labels of tags, some with ``price``. Labels may be incomplete, so precision is not measured.

    ``price_answered``: share of the found tags with a known price that got an answer; ``price_exact``: share of those
    answers that is the price; ``end_to_end``: share of all tags with a known price that were found and read exactly.
    """
    bad = Unreadable()
    tags = found = priced = priced_found = answered = exact = pictures = 0
    times_ms: list[float] = []
    for item, picture in pictures_of(read_coco(folder), bad, report):
        pictures += 1
        boxes = detector.detect(picture).of(DetectionClass.PRICE_TAG).boxes_px
        free = np.ones(len(boxes), bool)
        for label in item.boxes:
            if label.ignore:
                continue
            tags += 1
            priced += bool(label.price)
            overlap = np.where(free, _iou(boxes, label.box_px), 0.0)
            if overlap.max(initial=0.0) < FOUND_IOU:
                continue
            best = int(overlap.argmax())
            free[best] = False
            found += 1
            if not label.price:
                continue
            priced_found += 1
            x0, y0, x1, y1 = (float(v) for v in boxes[best])
            t0 = time.perf_counter()
            price = reader.read(cut(picture, (x0, y0, x1, y1), TAG_PAD)).price_text
            times_ms.append(1e3 * (time.perf_counter() - t0))
            answered += bool(price)
            exact += bool(price) and same_price(price, label.price)
    if not pictures:
        raise bad.none_left()
    if not tags:
        raise BadInput(f"{folder / 'annotations.json'}: no box that is not to be ignored")
    return {
        "recall": ratio(found, tags),
        "price_answered": ratio(answered, priced_found),
        "price_exact": ratio(exact, answered),
        "end_to_end": ratio(exact, priced),
        "tags": tags,
        "tags_with_price": priced,
        "ms_per_tag": median(times_ms, 1),
        "unreadable": bad.problems,
    }


def same_price(a: str, b: str) -> bool:
    """Whether two texts are the same amount: "1,50" is "1.50", "99" is "99.00"."""
    try:
        return round(100 * float(a.replace(",", "."))) == round(100 * float(b.replace(",", ".")))
    except ValueError:
        return a == b


def _iou(boxes: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """Intersection over union of boxes (N, 4) with one; (N,)."""
    b, q = boxes.astype(np.float64), np.asarray(box)
    size = np.clip(np.minimum(b[:, 2:], q[2:]) - np.maximum(b[:, :2], q[:2]), 0.0, None)
    shared = size[:, 0] * size[:, 1]
    areas = np.prod(b[:, 2:] - b[:, :2], axis=1) + float(np.prod(q[2:] - q[:2]))
    return np.asarray(shared / np.maximum(areas - shared, 1e-9))


def evaluate_barcodes(folder: Path, reader: ZxingCodeReader, report: Report, jobs: int = 1) -> dict[str, Any]:
    """Measure on ``labels.csv`` (file, text; an empty text: no code in the picture).

    ``total``: pictures with a code; ``read``: of those, read right; ``misread``: pictures, with a code or without, in
    which a code was read that is not there. ``jobs``: processes that read at once; only times differ.
    """
    path = need_folder(folder) / "labels.csv"
    rows = read_rows(path, ("file", "text"))
    problems = [f"{path}: line {n}: {r['text']!r} is no GTIN" for n, r in rows if r["text"] and not gtin14(r["text"])]
    if problems:
        raise BadInput(problems)
    bad = Unreadable()
    total = read = misread = looked = 0
    times_ms: list[float] = []
    paths = [folder / row["file"] for _, row in rows]
    for n, ((_, row), answer) in enumerate(zip(rows, _answers(reader, paths, jobs), strict=True)):
        report(row["file"], n / len(rows))
        bad.problems += answer.problems
        if answer.problems:
            continue
        looked += 1
        codes = set(answer.codes)
        times_ms.append(answer.ms)
        wanted = gtin14(row["text"])
        total += bool(wanted)
        read += bool(wanted) and wanted in codes
        misread += bool(codes - {wanted})
    if not looked:
        raise bad.none_left()
    return {"total": total, "read": read, "misread": misread, "ms_per_image": median(times_ms, 1), "unreadable": bad.problems}


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was read in a picture, or why it could not be looked at."""

    codes: tuple[str, ...] = ()
    ms: float = 0.0
    problems: tuple[str, ...] = ()


def _answers(reader: ZxingCodeReader, paths: Sequence[Path], jobs: int) -> Iterator[_Answer]:
    """One a picture, in order."""
    jobs = min(jobs, -(-len(paths) // LEAST_A_JOB))
    if jobs <= 1:
        yield from (_answer(reader, path) for path in paths)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(partial(_answer, reader), paths)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _answer(reader: ZxingCodeReader, path: Path) -> _Answer:
    bad = Unreadable()
    picture = bad.read(path)
    if picture is None:
        return _Answer(problems=tuple(bad.problems))
    t0 = time.perf_counter()
    codes = reader.read(picture)
    return _Answer(codes, 1e3 * (time.perf_counter() - t0))


def evaluate_expiry(folder: Path, dates: RapidOcrDates, report: Report) -> dict[str, Any]:
    """Measure on ``labels.csv`` (file, expiry_iso8601) + ``images/``. ``exact`` counts answers that are the label."""
    path = need_folder(folder) / "labels.csv"
    rows = read_rows(path, ("file", "expiry_iso8601"))
    problems = [
        f"{path}: line {n}: expiry_iso8601 {r['expiry_iso8601']!r}; expected YYYY-MM-DD, YYYY-MM or --MM-DD"
        for n, r in rows
        if not _ISO.fullmatch(r["expiry_iso8601"])
    ]
    if problems:
        raise BadInput(problems)
    bad = Unreadable()
    total = exact = answered = 0
    times_ms: list[float] = []
    for n, (_, row) in enumerate(rows):
        report(row["file"], n / len(rows))
        picture = bad.read(folder / "images" / row["file"])
        if picture is None:
            continue
        t0 = time.perf_counter()
        date = dates.read(picture).iso
        times_ms.append(1e3 * (time.perf_counter() - t0))
        total += 1
        answered += bool(date)
        exact += date == row["expiry_iso8601"]
    if not total:
        raise bad.none_left()
    return {
        "total": total,
        "exact": exact,
        "answered": answered,
        "wrong": answered - exact,
        "ms_per_image": median(times_ms, 1),
        "unreadable": bad.problems,
    }
