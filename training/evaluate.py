"""Measure a detector on labelled pictures: ``python -m training.evaluate --pool DIR`` or ``--coco DIR``.

Pools are those of `training.detector.data` (with boxes to be ignored); a COCO folder has ``annotations.json`` and
``images/``, all boxes products. AP50 is the area under the precision-recall curve at IoU 0.5 (101 points); recall and
precision are those at the model's own thresholds; ``doubles`` are detections whose box already has a better one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.adapters.detect_onnx import OnnxDetector
from shelfscan.adapters.models import model_entry
from shelfscan.model.detections import DetectionClass
from shelfscan.perception.photo import FAINT, PhotoDetector
from training.detector.compose import Sample
from training.detector.data import load, pictures


@dataclass
class Matched:
    """Detections of one class over many pictures: scores (N,), right (N,), double (N,), and how many truths there are."""

    scores: NDArray[np.float32]
    right: NDArray[np.bool_]
    double: NDArray[np.bool_]
    truths: int
    count_errors: list[int]


def coco(folder: Path) -> Iterator[Sample]:
    """Pictures of a COCO folder; names that start with ``__`` are ignored."""
    data = json.loads((folder / "annotations.json").read_text())
    skip = {c["id"] for c in data["categories"] if c["name"].startswith("__")}
    for info in data["images"]:
        mine = [a for a in data["annotations"] if a["image_id"] == info["id"]]
        boxes = np.array([a["bbox"] for a in mine], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        classes = np.array([-1 if a["category_id"] in skip else 0 for a in mine], np.int64)
        yield Sample(cv2.imread(str(folder / "images" / info["file_name"]))[..., ::-1], boxes, classes)


def iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, M) IoU of boxes (N, 4) and (M, 4)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = (high - low).clip(0).prod(-1)
    area = (a[:, 2:] - a[:, :2]).prod(-1)[:, None] + (b[:, 2:] - b[:, :2]).prod(-1)[None]
    return inter / np.maximum(area - inter, 1e-6)


def match(runs: list[tuple[Sample, Any]], cls: int, threshold: float, at: float = 0.5) -> Matched:
    """Greedy matching, best score first. A detection mostly inside an ignored box counts neither way."""
    scores, right, double, truths, errors = [], [], [], 0, []
    for sample, found in runs:
        truth = sample.boxes[sample.classes == cls]
        vague = sample.boxes[sample.classes == -1]
        mine = found.of(DetectionClass(cls))
        taken = np.zeros(len(truth), bool)
        overlap = iou(mine.boxes_px, truth)
        count = 0
        for i in range(len(mine)):
            free = np.where(taken, 0, overlap[i]) if len(truth) else np.zeros(0)
            hit = bool(len(free) and free.max() >= at)
            if hit:
                taken[free.argmax()] = True
            elif len(vague):
                b = mine.boxes_px[i]
                inter = (np.minimum(b[2:], vague[:, 2:]) - np.maximum(b[:2], vague[:, :2])).clip(0).prod(-1)
                if inter.max() > 0.5 * (b[2:] - b[:2]).prod():
                    continue
            scores.append(mine.scores[i])
            right.append(hit)
            double.append(not hit and bool(len(truth)) and overlap[i].max() >= 0.4)
            count += mine.scores[i] >= threshold
        truths += len(truth)
        errors.append(int(count) - len(truth))
    return Matched(np.array(scores, np.float32), np.array(right, bool), np.array(double, bool), truths, errors)


def metrics(m: Matched, threshold: float) -> dict[str, float]:
    """AP50, and recall, precision, doubles and count error at a threshold."""
    order = np.argsort(-m.scores, kind="stable")
    good = np.cumsum(m.right[order])
    precision = good / np.arange(1, len(good) + 1)
    recall = good / max(m.truths, 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, np.linspace(0, 1, 101))
    ap = float(np.mean([envelope[p] if p < len(envelope) else 0.0 for p in places])) if len(good) else 0.0
    said = m.scores >= threshold
    return {
        "ap50": round(ap, 4),
        "recall": round(float((m.right & said).sum()) / max(m.truths, 1), 4),
        "precision": round(float((m.right & said).sum()) / max(int(said.sum()), 1), 4),
        "doubles": round(float((m.double & said).sum()) / max(m.truths, 1), 4),
        "count_mae": round(float(np.mean(np.abs(m.count_errors))), 2),
        "truths": m.truths,
        "threshold": threshold,
    }


def best_threshold(m: Matched) -> float:
    """The threshold with the best F1."""
    order = np.argsort(-m.scores, kind="stable")
    good = np.cumsum(m.right[order])
    f1 = 2 * good / (np.arange(1, len(good) + 1) + m.truths)
    return float(m.scores[order][f1.argmax()]) if len(f1) else 0.5


def main() -> None:
    p = argparse.ArgumentParser(description="Measure a detector on labelled pictures.")
    p.add_argument("--pool", type=Path)
    p.add_argument("--coco", type=Path)
    p.add_argument("--models", type=Path)
    p.add_argument("--name", default="detector")
    p.add_argument("--scale", type=float)
    p.add_argument("--max-side", type=int, default=1296)
    p.add_argument("--limit", type=int, default=10_000)
    p.add_argument("--photo", action="store_true", help="several looks, fused, as at photographs (photo_thresholds)")
    p.add_argument("--best", action="store_true", help="take the best-F1 threshold of these pictures instead of the manifest's")
    args = p.parse_args()
    detector = OnnxDetector(args.name, scale=args.scale, max_side_px=args.max_side, threshold=0.02, models=args.models)
    shipped = OnnxDetector(args.name, models=args.models).settings.thresholds
    look: Any = detector
    if args.photo:
        given = model_entry(args.name, args.models).for_photographs
        shipped = tuple(given[c.name] for c in DetectionClass)
        look = PhotoDetector(detector, (FAINT,) * len(DetectionClass))
    samples = coco(args.coco) if args.coco else (load(q) for q in pictures([args.pool])[: args.limit])
    runs = [(s, look.detect(np.ascontiguousarray(s.picture))) for s in samples]
    result: dict[str, Any] = {"pictures": len(runs), "model": look.description}
    for cls in DetectionClass:
        m = match(runs, int(cls), shipped[cls])
        if m.truths:
            threshold = best_threshold(m) if args.best else shipped[cls]
            result[cls.name] = metrics(match(runs, int(cls), threshold), threshold)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
