"""Facings in a plain photograph: boxes with names, grouped into shelf rows and runs of one SKU.

A photograph has no depth and no pose, so a row is what hangs together from neighbour to neighbour: that follows
slanted shelves of an oblique photograph, which a global threshold on height does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from shelfscan.model.detections import Candidate, DetectionClass, Detections
from shelfscan.model.imaging import Rgb
from shelfscan.perception.recognise import verdict
from shelfscan.ports import Detector

#: A plain photograph says nothing of its scale. The first look is at this long side; how large products are there says at
#: which scales they are as the detector likes them best, and two more looks are made about these. Products that are too large
#: for it at one are right at another, and what only one look takes for a product seldom is one.
FIRST_PX, LEAST_PX, MOST_PX = 1000, 320, 1296
#: Shorter side of a product that the detector likes best, and the further looks as shares of that scale.
TYPICAL_PX, ABOUT = 36.0, (0.95, 0.75)
#: So many boxes of at least such a score say how large products are; with fewer, the usual shelf is assumed.
SAYING, SAYING_SCORE, USUAL_SIDE_PX = 5, 0.3, 800.0
#: Looks that differ by less than this share are one.
SAME_LOOK = 0.08
#: Boxes of two looks are one product above this overlap (intersection over union).
SAME_BOX = 0.55
#: What only one look found keeps this share of its score; what some of them found, in between.
ALONE = 0.5
#: Scores that looks ask for, so that two half-sure looks may make a sure box.
FAINT = 0.05
#: Of two boxes of which one lies in the other by this share of the smaller, one is wrong: a facing hides what is behind it.
NESTED = 0.75
#: Two boxes stand on one shelf when they overlap in height by this share of the lower one ...
ROW_OVERLAP = 0.5
#: ... and the gap between them is below this many widths of the narrower one.
ROW_GAP_WIDTHS = 1.5


@dataclass(frozen=True, slots=True)
class PhotoFacing:
    """One product in a photograph. ``sku`` is empty when it is none of the gallery's; ``row`` 0 is the top shelf.

    ``tied_with``: another SKU that fits it as well as ``sku`` does; mostly empty. It counts for ``sku`` alone.
    """

    box_px: tuple[float, float, float, float]
    score: float
    candidates: tuple[Candidate, ...]
    sku: str
    row: int
    column: int
    tied_with: str = ""


@dataclass(frozen=True, slots=True)
class FacingRun:
    """Neighbouring facings of one SKU on one row. ``tied_with``: SKUs that some of them are tied with, each once."""

    sku: str
    row: int
    facings: int
    box_px: tuple[float, float, float, float]
    tied_with: tuple[str, ...] = ()


def looks_at(detector: Detector, picture: Rgb) -> list[Detections]:
    """What a detector finds in a picture ((H, W, 3) uint8 RGB) at several scales, in px of the picture.

    The detector should ask for scores of `FAINT` on: `fused` needs them. No picture is enlarged.
    """
    long_side = max(picture.shape[:2])
    first = look_at(detector, picture, min(FIRST_PX, long_side))
    sure = first.of(DetectionClass.PRODUCT)
    sure = sure.where(sure.scores >= SAYING_SCORE)
    ideal = USUAL_SIDE_PX
    if len(sure) >= SAYING:
        ideal = long_side * TYPICAL_PX / float(np.median((sure.boxes_px[:, 2:] - sure.boxes_px[:, :2]).min(axis=1)))
    sides, looks = [float(min(FIRST_PX, long_side))], [first]
    for share in ABOUT:
        side = min(max(share * ideal, LEAST_PX), MOST_PX, long_side)
        if all(abs(side / s - 1) > SAME_LOOK for s in sides):
            sides.append(side)
            looks.append(look_at(detector, picture, side))
    return looks


def look_at(detector: Detector, picture: Rgb, side_px: float) -> Detections:
    """What is found in the picture reduced to a long side, in px of the picture."""
    h, w = picture.shape[:2]
    scale = side_px / max(h, w)
    if scale >= 1:
        return detector.detect(picture)
    size = (max(1, round(w * scale)), max(1, round(h * scale)))
    found = detector.detect(np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8))
    back = np.array([w / size[0], h / size[1]] * 2, np.float32)
    return Detections(found.boxes_px * back, found.scores, found.classes)


def fused(looks: Sequence[Detections]) -> Detections:
    """Boxes of one class from several looks at one picture, each product once, best first.

    Boxes that overlap are averaged by score (weighted boxes fusion, Solovyev et al., 2021); the score is their mean, less
    what the looks that have no such box say against it.
    """
    n = len(looks)
    boxes = np.concatenate([v.boxes_px for v in looks])
    scores = np.concatenate([v.scores for v in looks])
    look = np.repeat(np.arange(n), [len(v) for v in looks])
    order = np.argsort(-scores, kind="stable")
    boxes, scores, look = boxes[order], scores[order], look[order]
    iou, _ = _overlaps(boxes, boxes)
    used = np.zeros(len(boxes), bool)
    out: list[tuple[NDArray[np.float32], float]] = []
    for i in range(len(boxes)):
        if used[i]:
            continue
        used[i] = True
        members = [i]
        for other in range(n):
            if other != look[i]:
                near = np.flatnonzero((look == other) & ~used & (iou[i] >= SAME_BOX))
                if len(near):
                    best = int(near[iou[i, near].argmax()])
                    used[best] = True
                    members.append(best)
        weights = scores[members]
        share = (len(members) - 1) / (n - 1) if n > 1 else 1.0
        mean = (boxes[members] * weights[:, None]).sum(axis=0) / max(float(weights.sum()), 1e-6)
        out.append((mean.astype(np.float32), float(weights.mean()) * (ALONE + (1 - ALONE) * share)))
    if not out:
        return Detections.empty()
    found = np.stack([b for b, _ in out])
    sure = np.array([s for _, s in out], np.float32)
    order = np.argsort(-sure, kind="stable")
    found, sure = found[order], sure[order]
    again, _ = _overlaps(found, found)
    keep: list[int] = []
    for i in range(len(found)):
        if not keep or float(again[i, keep].max()) < SAME_BOX:
            keep.append(i)
    cls = next(int(v.classes[0]) for v in looks if len(v))
    return Detections(found[keep], sure[keep], np.full(len(keep), cls, np.int64))


class PhotoDetector:
    """A `Detector` for plain photographs of unknown scale: several looks, each thing once.

    ``detector`` asks for scores of `FAINT` on; ``thresholds``: the least fused score a class, in the order of
    `DetectionClass`.
    """

    def __init__(self, detector: Detector, thresholds: Sequence[float]) -> None:
        self._detector, self._thresholds = detector, thresholds

    @property
    def description(self) -> str:
        """The detector's own, and how it is used."""
        return f"{self._detector.description}, {1 + len(ABOUT)} looks"

    def detect(self, picture: Rgb) -> Detections:
        """Boxes of all classes in px of ``picture`` ((H, W, 3) uint8 RGB), best first."""
        looks = looks_at(self._detector, picture)
        parts = []
        for cls in DetectionClass:
            found = fused([v.of(cls) for v in looks])
            parts.append(found.where(found.scores >= self._thresholds[int(cls)]))
        boxes, scores, classes = (np.concatenate([getattr(p, k) for p in parts]) for k in ("boxes_px", "scores", "classes"))
        order = np.argsort(-scores, kind="stable")
        return Detections(boxes[order], scores[order], classes[order])


def find_products(detector: PhotoDetector, picture: Rgb) -> Detections:
    """Product boxes of a plain photograph, best first, none within another."""
    return drop_nested(detector.detect(picture).of(DetectionClass.PRODUCT))


def drop_nested(found: Detections) -> Detections:
    """Without the lesser of any two boxes of which one lies in the other (parts of a pack, a pack around bottles)."""
    _, inside = _overlaps(found.boxes_px, found.boxes_px)
    keep: list[int] = []
    for i in np.argsort(-found.scores, kind="stable").tolist():
        if not keep or float(inside[i, keep].max()) < NESTED:
            keep.append(i)
    mask = np.zeros(len(found), bool)
    mask[keep] = True
    return found.where(mask)


def _overlaps(a: NDArray[np.float32], b: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Intersection over union, and over the smaller box, of boxes (N, 4) and (M, 4); (N, M) each."""
    p, q = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    size = np.clip(np.minimum(p[..., 2:], q[..., 2:]) - np.maximum(p[..., :2], q[..., :2]), 0.0, None)
    shared = size[..., 0] * size[..., 1]
    area_p, area_q = (np.prod(np.clip(v[..., 2:] - v[..., :2], 1e-6, None), axis=-1) for v in (p, q))
    return shared / (area_p + area_q - shared), shared / np.minimum(area_p, area_q)


def rows_of(boxes_px: NDArray[np.float32]) -> NDArray[np.int64]:
    """Row index of each box (N, 4), 0 the top one; (N,)."""
    n = len(boxes_px)
    if n == 0:
        return np.zeros(0, np.int64)
    x0, y0, x1, y1 = boxes_px.astype(np.float64).T
    height, width = y1 - y0, x1 - x0
    overlap = np.minimum(y1[:, None], y1) - np.maximum(y0[:, None], y0)
    beside = overlap >= ROW_OVERLAP * np.maximum(np.minimum(height[:, None], height), 1e-6)
    gap = np.maximum(x0[:, None], x0) - np.minimum(x1[:, None], x1)
    near = gap <= ROW_GAP_WIDTHS * np.minimum(width[:, None], width)
    linked = beside & near
    count, label = connected_components(coo_matrix(linked), directed=False)
    # Segments of one shelf that a gap split are joined where their bottoms continue each other.
    order = np.argsort([float(np.mean(y1[label == k])) for k in range(count)])
    bottoms = np.array([float(np.mean(y1[label == k])) for k in order])
    tall = float(np.median(height))
    row_of_segment = np.zeros(count, np.int64)
    row = 0
    for i in range(1, count):
        a, b = order[i - 1], order[i]
        disjoint = x1[label == a].max() < x0[label == b].min() or x1[label == b].max() < x0[label == a].min()
        if not (disjoint and bottoms[i] - bottoms[i - 1] < 0.35 * tall):
            row += 1
        row_of_segment[b] = row
    return np.asarray(row_of_segment[label], dtype=np.int64)


def audit_photo(
    products: Detections, candidates: Sequence[Sequence[Candidate]], unknown_below: float
) -> tuple[list[PhotoFacing], list[FacingRun]]:
    """Name and order the products of a photograph.

    ``candidates``: best first, one sequence a box. `verdict` decides what each is; a best score below ``unknown_below``
    leaves the name empty.
    """
    rows = rows_of(products.boxes_px)
    facings: list[PhotoFacing] = []
    for row in range(int(rows.max(initial=-1)) + 1):
        inside = np.flatnonzero(rows == row)
        ordered = inside[np.argsort(products.boxes_px[inside, 0])]
        for column, i in enumerate(ordered):
            named = tuple(candidates[i])
            said = verdict(named, unknown_below)
            x0, y0, x1, y1 = (float(v) for v in products.boxes_px[i])
            score = float(products.scores[i])
            facings.append(PhotoFacing((x0, y0, x1, y1), score, named, said.sku, row, column, said.tied_with))
    return facings, _runs(facings)


def _runs(facings: Sequence[PhotoFacing]) -> list[FacingRun]:
    runs: list[FacingRun] = []
    for f in facings:
        last = runs[-1] if runs else None
        if last is not None and last.sku == f.sku and last.row == f.row:
            a, b = last.box_px, f.box_px
            box = (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
            also = (f.tied_with,) if f.tied_with and f.tied_with not in last.tied_with else ()
            runs[-1] = FacingRun(f.sku, f.row, last.facings + 1, box, last.tied_with + also)
        else:
            runs.append(FacingRun(f.sku, f.row, 1, f.box_px, (f.tied_with,) if f.tied_with else ()))
    return runs


def facings_per_sku(facings: Sequence[PhotoFacing]) -> dict[str, int]:
    """Facings by SKU, most first; the empty name counts what is none of the gallery's."""
    return dict(Counter(f.sku for f in facings).most_common())
