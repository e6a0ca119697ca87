"""How good a detector is on held-out pictures, and which scores it should ask for there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.evaluation.data import LabelledBox
from shelfscan.evaluation.detection import coco_measures
from shelfscan.learn.datasets import IGNORE
from shelfscan.learn.workset import Sample
from shelfscan.model.detections import DetectionClass, Detections
from shelfscan.perception.photo import REDUCED_SIDE_PX, drop_nested, merge_looks
from shelfscan.ports import Detector

#: Scores that are tried as thresholds.
STEPS = tuple(round(0.1 + 0.02 * i, 2) for i in range(36))
#: New weights must gain this much average precision, because a few pictures say no more than that ...
MIN_GAIN = 0.005
#: ... and may lose this much of anything else.
MAX_LOSS = 0.02


@dataclass(frozen=True, slots=True)
class Quality:
    """Of one detector on labelled pictures. Precision in 0..1; ``count_mae``: products a picture off; None: not labelled."""

    ap: float
    ap50: float
    ap75: float
    count_mae: float
    tag_ap50: float | None
    empty_ap50: float | None
    thresholds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Everything, by name."""
        return asdict(self)

    def numbers(self) -> dict[str, float]:
        """What was measured, as a manifest keeps it."""
        return {k: v for k, v in asdict(self).items() if isinstance(v, int | float)}


@dataclass(frozen=True, eq=False)
class _Looks:
    """What was found in one picture: at the usual size, and reduced as `find_products` does."""

    full: Detections
    reduced: Detections | None


def quick_ap(detector: Detector, samples: Sequence[Sample]) -> tuple[float, float]:
    """AP and AP50 of products; ``detector`` asks for scores near zero."""
    found = [detector.detect(s.read()).of(DetectionClass.PRODUCT) for s in samples]
    measures = coco_measures([_truth(s, DetectionClass.PRODUCT) for s in samples], found)
    return measures["ap"], measures["ap50"]


def judge(detector: Detector, samples: Sequence[Sample], thresholds: dict[str, float], choose: bool) -> Quality:
    """Measure; ``choose``: replace the thresholds of labelled classes by those with the least count error.

    ``detector`` asks for scores near zero, so that precision covers all of the ranking.
    """
    looks = [_look(detector, s.read()) for s in samples]
    used = dict(thresholds)
    labelled = [c for c in DetectionClass if any((s.classes == int(c)).any() for s in samples)]
    if choose:
        for cls in labelled:
            used[cls.name] = _least(np.array([_count_mae(looks, samples, cls, t) for t in STEPS]))
    measures = {
        c: coco_measures([_truth(s, c) for s in samples], [v.full.of(c) for v in looks]) for c in labelled
    }
    product = measures[DetectionClass.PRODUCT]
    return Quality(
        product["ap"],
        product["ap50"],
        product["ap75"],
        round(_count_mae(looks, samples, DetectionClass.PRODUCT, used["PRODUCT"]), 2),
        measures[DetectionClass.PRICE_TAG]["ap50"] if DetectionClass.PRICE_TAG in measures else None,
        measures[DetectionClass.EMPTY]["ap50"] if DetectionClass.EMPTY in measures else None,
        used,
    )


def _least(errors: NDArray[np.float64]) -> float:
    """The step with the least error of itself and its neighbours: a few pictures have lucky single steps.

    Among equals the middle one, because what lies at an edge is the first to turn wrong elsewhere.
    """
    padded = np.pad(errors, 2, mode="edge")
    smooth = np.convolve(padded, np.ones(5) / 5, mode="valid")
    best = np.flatnonzero(smooth <= smooth.min() + 1e-9)
    return STEPS[int(best[len(best) // 2])]


def better(new: Quality, old: Quality) -> list[str]:
    """Why the new one may not replace the old one; nothing when it may."""
    reasons = []
    if new.ap < old.ap + MIN_GAIN:
        reasons.append(f"AP {new.ap:.3f} is not {MIN_GAIN} above {old.ap:.3f}")
    if new.ap50 < old.ap50:
        reasons.append(f"AP50 {new.ap50:.3f} is below {old.ap50:.3f}")
    if new.count_mae > old.count_mae:
        reasons.append(f"counts are off by {new.count_mae:.1f} a picture instead of {old.count_mae:.1f}")
    for what, a, b in (("price tags", new.tag_ap50, old.tag_ap50), ("empty places", new.empty_ap50, old.empty_ap50)):
        if a is not None and b is not None and a < b - MAX_LOSS:
            reasons.append(f"AP50 of {what} fell from {b:.3f} to {a:.3f}")
    return reasons


def _look(detector: Detector, picture: NDArray[np.uint8]) -> _Looks:
    full = detector.detect(picture)
    h, w = picture.shape[:2]
    scale = REDUCED_SIDE_PX / max(h, w)
    if scale >= 0.9:
        return _Looks(full, None)
    size = (max(1, round(w * scale)), max(1, round(h * scale)))
    again = detector.detect(np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8))
    back = np.array([w / size[0], h / size[1]] * 2, np.float32)
    return _Looks(full, Detections(again.boxes_px * back, again.scores, again.classes))


def _count_mae(looks: Sequence[_Looks], samples: Sequence[Sample], cls: DetectionClass, threshold: float) -> float:
    """Mean absolute error of counts as a user gets them: products from two looks, the other classes from one."""
    errors = []
    for look, sample in zip(looks, samples, strict=True):
        found = _sure(look.full.of(cls), threshold)
        if cls is DetectionClass.PRODUCT:
            if look.reduced is not None:
                found = merge_looks(found, _sure(look.reduced.of(cls), threshold))
            found = drop_nested(found)
        errors.append(abs(_counted(found, sample) - int((sample.classes == int(cls)).sum())))
    return float(np.mean(errors))


def _sure(found: Detections, threshold: float) -> Detections:
    return found.where(found.scores >= threshold)


def _counted(found: Detections, sample: Sample) -> int:
    """Boxes, less those that lie in a region to be ignored."""
    vague = sample.boxes_px[sample.classes == IGNORE]
    if not len(vague) or not len(found):
        return len(found)
    p, q = found.boxes_px[:, None], vague[None]
    size = np.clip(np.minimum(p[..., 2:], q[..., 2:]) - np.maximum(p[..., :2], q[..., :2]), 0, None).prod(-1)
    area = np.clip(found.boxes_px[:, 2:] - found.boxes_px[:, :2], 1e-6, None).prod(-1)
    return int((size.max(1) < 0.5 * area).sum())


def _truth(sample: Sample, cls: DetectionClass) -> list[LabelledBox]:
    out = []
    for n, (box, c) in enumerate(zip(sample.boxes_px.tolist(), sample.classes.tolist(), strict=True)):
        if c in (int(cls), IGNORE):
            out.append(LabelledBox(n, (box[0], box[1], box[2], box[3]), cls.name, c == IGNORE))
    return out
