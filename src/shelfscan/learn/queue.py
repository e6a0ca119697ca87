"""Which pictures are worth a person's time: those in which the networks doubt most, no two of them alike.

A box is in doubt when its score is near the threshold, when one of two looks at the picture finds it and the other does
not, and, with a gallery, when its product is none of the gallery's or two of them fit it alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.model.detections import DetectionClass, Detections
from shelfscan.model.imaging import Rgb
from shelfscan.perception.photo import SAME_BOX, drop_nested, fused, looks_at
from shelfscan.perception.recognise import Recogniser, verdict
from shelfscan.ports import Detector

#: Scores within this of the threshold could as well have been on its other side.
NEAR = 0.1
#: How much a doubt of each kind counts; one near the threshold counts up to 1, the nearer the more.
WEIGHTS = {"disagreement": 0.8, "unknown": 0.7, "tie": 0.6}
#: A picture with fewer boxes than this is not worth more for having so few.
FEW = 10
#: How far likeness to a chosen picture lowers the worth of another.
ALIKE = 0.7


@dataclass(frozen=True, slots=True)
class Doubt:
    """A box and why it is in doubt; ``weight`` in 0..1."""

    box_px: tuple[float, float, float, float]
    cls: DetectionClass
    score: float
    why: str
    weight: float


@dataclass(frozen=True, eq=False)
class Reviewed:
    """A picture's drafts (what the product would report), doubts, and a small likeness of it of length 1."""

    drafts: Detections
    doubts: tuple[Doubt, ...]
    likeness: NDArray[np.float32]

    @property
    def worth(self) -> float:
        """Doubt a box, 0..1: what a person's clicks in this picture would teach, however large it is."""
        return sum(d.weight for d in self.doubts) / max(len(self.doubts), len(self.drafts), FEW)


def review(detector: Detector, thresholds: Sequence[float], picture: Rgb, recogniser: Recogniser | None) -> Reviewed:
    """Look at a picture; ``detector`` asks for scores of `FAINT` on, ``thresholds``: least fused scores, one a class."""
    looks = looks_at(detector, picture)
    doubts: list[Doubt] = []
    drafts: list[Detections] = []
    for cls in DetectionClass:
        least = thresholds[int(cls)]
        together = fused([v.of(cls) for v in looks])
        sure = together.where(together.scores >= least)
        if cls is DetectionClass.PRODUCT:
            if len(looks) > 1:
                a, b = looks[0].of(cls), looks[-1].of(cls)
                doubts += _one_sided(a, b, least) + _one_sided(b, a, least)
            sure = drop_nested(sure)
        drafts.append(sure)
        doubts += [
            Doubt(_box(together, i), cls, float(s), "near threshold", 1 - abs(float(s) - least) / NEAR)
            for i, s in enumerate(together.scores.tolist())
            if abs(s - least) < NEAR
        ]
    if recogniser is not None:
        doubts += _names(recogniser, picture, drafts[0])
    small = cv2.resize(picture, (8, 8), interpolation=cv2.INTER_AREA).astype(np.float32).reshape(-1)
    small -= small.mean()
    drawn = Detections(*(np.concatenate([getattr(d, k) for d in drafts]) for k in ("boxes_px", "scores", "classes")))
    return Reviewed(drawn, _each_once(doubts), small / max(float(np.linalg.norm(small)), 1e-6))


def choose(reviewed: Sequence[Reviewed], count: int) -> list[int]:
    """Places of the ``count`` pictures to label, the most worth first; each unlike those before it where it can be."""
    left = list(range(len(reviewed)))
    chosen: list[int] = []
    while left and len(chosen) < count:

        def value(i: int) -> float:
            like = max((float(reviewed[i].likeness @ reviewed[j].likeness) for j in chosen), default=0.0)
            return reviewed[i].worth * (1 - ALIKE * max(like, 0.0))

        best = max(left, key=value)
        chosen.append(best)
        left.remove(best)
    return chosen


def _box(found: Detections, i: int) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(v) for v in found.boxes_px[i])
    return x0, y0, x1, y1


def _one_sided(a: Detections, b: Detections, least: float) -> list[Doubt]:
    """Sure boxes of one look that the other has nothing like, not even half as sure."""
    sure, other = a.where(a.scores >= least), b.where(b.scores >= 0.5 * least)
    overlap = _iou(sure.boxes_px, other.boxes_px).max(1, initial=0.0)
    lonely = np.flatnonzero(overlap < SAME_BOX).tolist()
    weight = WEIGHTS["disagreement"]
    return [Doubt(_box(sure, i), DetectionClass.PRODUCT, float(sure.scores[i]), "disagreement", weight) for i in lonely]


def _names(recogniser: Recogniser, picture: Rgb, products: Detections) -> list[Doubt]:
    crops = [picture[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1] for x0, y0, x1, y1 in products.boxes_px.clip(0)]
    out = []
    for i, candidates in enumerate(recogniser.recognise(crops)):
        said = verdict(candidates, recogniser.unknown_below)
        why = "unknown" if not said.sku else "tie" if said.tied_with else ""
        if why:
            out.append(Doubt(_box(products, i), DetectionClass.PRODUCT, float(products.scores[i]), why, WEIGHTS[why]))
    return out


def _each_once(doubts: Sequence[Doubt]) -> tuple[Doubt, ...]:
    """The heaviest doubt of each place."""
    kept: list[Doubt] = []
    for d in sorted(doubts, key=lambda d: -d.weight):
        boxes = np.array([k.box_px for k in kept if k.cls is d.cls], np.float32).reshape(-1, 4)
        if _iou(np.array([d.box_px], np.float32), boxes).max(initial=0.0) < SAME_BOX:
            kept.append(d)
    return tuple(kept)


def _iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    p, q = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    size = np.clip(np.minimum(p[..., 2:], q[..., 2:]) - np.maximum(p[..., :2], q[..., :2]), 0.0, None)
    shared = size[..., 0] * size[..., 1]
    area_p, area_q = (np.prod(np.clip(v[..., 2:] - v[..., :2], 1e-6, None), axis=-1) for v in (p, q))
    return np.asarray(shared / (area_p + area_q - shared))
