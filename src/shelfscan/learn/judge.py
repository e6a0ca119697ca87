"""How good a detector is on held-out pictures, and which scores it should ask for there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shelfscan.evaluation.data import LabelledBox
from shelfscan.evaluation.detection import coco_measures
from shelfscan.learn.datasets import IGNORE
from shelfscan.learn.workset import Sample
from shelfscan.model.detections import DetectionClass, Detections
from shelfscan.perception.photo import FIRST_PX, drop_nested, fused, look_at, looks_at
from shelfscan.ports import Detector

#: Scores that are tried as thresholds.
STEPS = tuple(round(0.1 + 0.02 * i, 2) for i in range(36))
#: New weights must gain this much average precision, because a few pictures say no more than that ...
MIN_GAIN = 0.005
#: ... and may lose this much of anything else.
MAX_LOSS = 0.02

#: Thresholds are chosen on so many pictures; where fewer are held out, trained ones are taken too, each with this say: their
#: scores are too good, but they do not leave the choice to one picture.
ENOUGH, TRAINED_SAY = 12, 0.5


@dataclass(frozen=True, slots=True)
class Quality:
    """Of one detector on labelled pictures, looked at as photographs are (`perception.photo`).

    Precision in 0..1; ``count_mae``: products a picture off; None: not labelled. ``thresholds`` are for fused scores,
    ``look_thresholds`` for those of one look, as a robot looks.
    """

    ap: float
    ap50: float
    ap75: float
    count_mae: float
    tag_ap50: float | None
    empty_ap50: float | None
    thresholds: dict[str, float]
    look_thresholds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Everything, by name."""
        return asdict(self)

    def numbers(self) -> dict[str, float]:
        """What was measured, as a manifest keeps it."""
        return {k: v for k, v in asdict(self).items() if isinstance(v, int | float)}


def quick_ap(detector: Detector, samples: Sequence[Sample]) -> tuple[float, float]:
    """AP and AP50 of products in one look, the first of those at a photograph; ``detector`` asks for scores near zero."""
    found = [look_at(detector, s.read(), FIRST_PX).of(DetectionClass.PRODUCT) for s in samples]
    measures = coco_measures([_truth(s, DetectionClass.PRODUCT) for s in samples], found)
    return measures["ap"], measures["ap50"]


@dataclass(frozen=True, eq=False)
class _Seen:
    """What was found of each class in one picture: in one look, and fused from several."""

    one: dict[DetectionClass, Detections]
    fused: dict[DetectionClass, Detections]


def judge(
    detector: Detector,
    samples: Sequence[Sample],
    thresholds: dict[str, float],
    look_thresholds: dict[str, float],
    choose: bool,
    beside: Sequence[Sample] = (),
) -> Quality:
    """Measure; ``choose``: replace both kinds of thresholds of labelled classes by those with the least count error.

    ``detector`` asks for scores near zero, so that precision covers all of the ranking. ``beside``: pictures that were
    trained on; some of them have a say in the thresholds, where one or two held-out pictures alone would decide by luck,
    and in nothing else.
    """
    seen = [_see(detector, s.read()) for s in samples]
    used, single = dict(thresholds), dict(look_thresholds)
    labelled = [c for c in DetectionClass if any((s.classes == int(c)).any() for s in samples)]
    if choose:
        more = [*samples, *beside[: max(0, ENOUGH - len(samples))]]
        views = [*seen, *(_see(detector, s.read()) for s in more[len(samples) :])]
        weights = np.array([1.0] * len(samples) + [TRAINED_SAY] * (len(more) - len(samples)))
        for cls in labelled:
            once, together = [v.one[cls] for v in views], [v.fused[cls] for v in views]
            used[cls.name] = _least(np.array([weights @ _count_errors(together, more, cls, t) for t in STEPS]))
            single[cls.name] = _least(np.array([weights @ _count_errors(once, more, cls, t) for t in STEPS]))
    measures = {c: coco_measures([_truth(s, c) for s in samples], [v.fused[c] for v in seen]) for c in labelled}
    product = measures[DetectionClass.PRODUCT]
    counted = _count_mae([v.fused[DetectionClass.PRODUCT] for v in seen], samples, DetectionClass.PRODUCT, used["PRODUCT"])
    return Quality(
        product["ap"],
        product["ap50"],
        product["ap75"],
        round(counted, 2),
        measures[DetectionClass.PRICE_TAG]["ap50"] if DetectionClass.PRICE_TAG in measures else None,
        measures[DetectionClass.EMPTY]["ap50"] if DetectionClass.EMPTY in measures else None,
        used,
        single,
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


def _see(detector: Detector, picture: NDArray[np.uint8]) -> _Seen:
    looks = looks_at(detector, picture)
    return _Seen({c: looks[0].of(c) for c in DetectionClass}, {c: fused([v.of(c) for v in looks]) for c in DetectionClass})


def _count_mae(found: Sequence[Detections], samples: Sequence[Sample], cls: DetectionClass, threshold: float) -> float:
    """Mean absolute error of counts as a user gets them."""
    return float(_count_errors(found, samples, cls, threshold).mean())


def _count_errors(
    found: Sequence[Detections], samples: Sequence[Sample], cls: DetectionClass, threshold: float
) -> NDArray[np.float64]:
    """By how much each picture's count is off."""
    errors = []
    for boxes, sample in zip(found, samples, strict=True):
        sure = boxes.where(boxes.scores >= threshold)
        if cls is DetectionClass.PRODUCT:
            sure = drop_nested(sure)
        errors.append(abs(_counted(sure, sample) - int((sample.classes == int(cls)).sum())))
    return np.array(errors, np.float64)


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
