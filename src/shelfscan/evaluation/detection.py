"""How well products are found: COCO average precision, and counts at the score the product uses."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shelfscan.errors import BadInput
from shelfscan.evaluation.data import LabelledBox, Report, Unreadable, median, pictures_of, read_coco
from shelfscan.model.detections import DetectionClass, Detections
from shelfscan.perception.photo import PhotoDetector, find_products

#: Boxes a picture that the COCO measures look at; shelves hold more than its usual 100.
MAX_DETS = 300
#: A box that lies in an ignored one by this share is not counted.
IN_IGNORED = 0.5
#: The detector's other classes, as `shelfscan detect` names them; any other category is a kind of product.
NO_PRODUCT = frozenset(c.name.lower() for c in DetectionClass if c is not DetectionClass.PRODUCT)


def evaluate_detection(
    folder: Path, detector: PhotoDetector, sensitive: PhotoDetector, threshold: float, report: Report
) -> dict[str, Any]:
    """Measure on ``annotations.json`` + ``images/``; a labelled box is "a product" unless its category is `NO_PRODUCT`.

    ``detector`` is the one the product uses, at its ``threshold``: counts and times are its own. ``sensitive`` is the
    same network with the threshold near zero: average precision is a property of the ranking, also of the boxes that a
    threshold would hide. Raises `BadInput`.
    """
    labelled = read_coco(folder)
    if not any(not b.ignore and b.category.lower() not in NO_PRODUCT for item in labelled for b in item.boxes):
        raise BadInput(f"{folder / 'annotations.json'}: no box of a product that is not to be ignored")
    bad = Unreadable()
    truth: list[Sequence[LabelledBox]] = []
    ranked: list[Detections] = []
    errors: list[float] = []
    times_ms: list[float] = []
    for item, picture in pictures_of(labelled, bad, report):
        t0 = time.perf_counter()
        found = find_products(detector, picture)
        times_ms.append(1e3 * (time.perf_counter() - t0))
        boxes = [b for b in item.boxes if b.category.lower() not in NO_PRODUCT]
        truth.append(boxes)
        ranked.append(sensitive.detect(picture).of(DetectionClass.PRODUCT))
        wanted = sum(not b.ignore for b in boxes)
        errors.append(len(found) - int(_in_ignored(found, boxes).sum()) - wanted)
    if not truth:
        raise bad.none_left()
    counts = np.array(errors)
    return {
        **coco_measures(truth, ranked),
        "count_mae": round(float(np.abs(counts).mean()), 2),
        "count_rmse": round(float(np.sqrt((counts**2).mean())), 2),
        "count_bias": round(float(counts.mean()), 2),
        "threshold": threshold,
        "ms_per_image": median(times_ms, 1),
        "images": len(truth),
        "boxes": sum(not b.ignore for boxes in truth for b in boxes),
        "unreadable": bad.problems,
    }


def coco_measures(truth: Sequence[Sequence[LabelledBox]], found: Sequence[Detections]) -> dict[str, float]:
    """``ap``, ``ap50``, ``ap75`` and ``ar300``, one picture an entry of both. Raises `BadInput` without any wanted box."""
    if not any(not b.ignore for boxes in truth for b in boxes):
        raise BadInput("the readable pictures have no box that is not to be ignored")
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as e:
        raise BadInput(f"pycocotools is not installed ({e}): pip install 'shelfscan[eval]'") from e
    annotations: list[dict[str, Any]] = []
    for image, boxes in enumerate(truth, start=1):
        for b in boxes:
            x0, y0, x1, y1 = b.box_px
            size = (x1 - x0, y1 - y0)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": 1,
                    "bbox": [x0, y0, *size],
                    "area": size[0] * size[1],
                    "iscrowd": int(b.ignore),
                }
            )
    results = [
        [image, x0, y0, x1 - x0, y1 - y0, score, 1]
        for image, d in enumerate(found, start=1)
        for (x0, y0, x1, y1), score in zip(d.boxes_px.tolist(), d.scores.tolist(), strict=True)
    ]
    if not results:
        return {"ap": 0.0, "ap50": 0.0, "ap75": 0.0, "ar300": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):  # it talks
        reference = COCO()
        reference.dataset = {
            "info": {},
            "images": [{"id": i} for i in range(1, len(truth) + 1)],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "product"}],
        }
        reference.createIndex()
        judged = COCOeval(reference, reference.loadRes(np.array(results, np.float64)), "bbox")
        judged.params.maxDets = [1, 10, MAX_DETS]
        judged.evaluate()
        judged.accumulate()
    # Not `summarize`, which reads the measures at a limit of 100 boxes whatever the limits are.
    precision = judged.eval["precision"][:, :, 0, 0, -1]  # (IoU thresholds, recall levels)
    recall = judged.eval["recall"][:, 0, 0, -1]
    at = {round(100 * float(t)): i for i, t in enumerate(judged.params.iouThrs)}
    return {
        "ap": round(float(precision.mean()), 4),
        "ap50": round(float(precision[at[50]].mean()), 4),
        "ap75": round(float(precision[at[75]].mean()), 4),
        "ar300": round(float(recall.mean()), 4),
    }


def _in_ignored(found: Detections, boxes: Sequence[LabelledBox]) -> NDArray[np.bool_]:
    """Which boxes lie in an ignored one and fit no wanted one better; (N,)."""
    ignored = np.array([b.box_px for b in boxes if b.ignore]).reshape(-1, 4)
    wanted = np.array([b.box_px for b in boxes if not b.ignore]).reshape(-1, 4)
    inside = _inside(found, ignored)
    return np.asarray((inside >= IN_IGNORED) & (inside > _inside(found, wanted)))


def _inside(found: Detections, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest share of each found box that lies in one of ``boxes`` (M, 4); (N,)."""
    p = found.boxes_px.astype(np.float64)[:, None]
    q = boxes[None]
    size = np.clip(np.minimum(p[..., 2:], q[..., 2:]) - np.maximum(p[..., :2], q[..., :2]), 0.0, None)
    area = np.prod(np.clip(p[..., 2:] - p[..., :2], 1e-6, None), axis=-1)
    return np.asarray((size[..., 0] * size[..., 1] / area).max(axis=1, initial=0.0))
