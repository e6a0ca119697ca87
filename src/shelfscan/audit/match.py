"""What was seen against what was planned: which of a bin's places are taken, and by what.

A bin has a place for each planned column and row. Two kinds of evidence meet there: products the detector boxed, and
the depth of the front-most surface. Depth says *that* something stands in a place and how far back, whatever the
detector missed or merged; boxes say *what* it is and, where depth has holes, that it is there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shelfscan.model.catalogue import Catalogue, Product
from shelfscan.model.detections import Candidate
from shelfscan.model.front import FaceFront
from shelfscan.model.planogram import Planogram, PlanogramLine
from shelfscan.model.store import BinPlace

#: A product may stick out of its bin by so much and still be its.
BESIDE_M = 0.035
#: A stranger must look this much more like its own SKU than like the planned one ...
STRANGER_MARGIN = 0.30
#: ... less so when its size speaks against the planned one too.
STRANGER_MARGIN_MISFIT = 0.15
STRANGER_LEAST = 0.55
MISFIT = 0.25
#: Middle part of a column, and of an item's height, whose depth is looked at; the neck of a bottle is left out.
WINDOW_X, WINDOW_Z = 0.30, (0.15, 0.65)
#: Nearer to the shelf's surface than this its own edge is seen.
FOOT_M = 0.012
#: Share of a window's cells that must be measured before depth alone has a say, and with a box at that depth.
KNOWN_ALONE, KNOWN_WITH_BOX = 0.5, 0.15
#: A surface is what this share of the measured cells agree on, within the spread.
SURFACE_SHARE, SPREAD_M = 0.5, 0.035
#: What stands nearer than the back of the shelf by this share of an item's depth is an item.
ITEM_SHARE = 0.5
#: A box and a place are the same thing within this share of the column's pitch or the item's height.
ALIGNED_X, ALIGNED_Z = 0.5, 0.45
#: A box alone, without depth, must be this sure.
BOX_ALONE = 0.5


@dataclass(frozen=True)
class Seen:
    """A fused product as matching needs it; ``face_m`` is the centre of its front face."""

    key: str
    face_m: tuple[float, float, float]
    size_m: tuple[float, float]
    score: float
    candidates: tuple[Candidate, ...]
    looks: int

    def similarity(self, sku: str) -> float:
        """Similarity to a SKU; 0 when it is not among the candidates."""
        return next((c.score for c in self.candidates if c.sku == sku), 0.0)


@dataclass(frozen=True)
class Placed:
    """The front-most item of one place of a bin: ``column`` from the left, ``row`` from the shelf up.

    ``face_m``: centre of its front face in the face frame, metres. ``seen`` is its box, None when only depth shows it.
    ``confidence``: that something stands there, 0..1.
    """

    key: str
    bin_id: str
    sku: str
    planned: bool
    column: int
    row: int
    face_m: tuple[float, float, float]
    confidence: float
    seen: Seen | None


@dataclass(frozen=True)
class BinMatch:
    """All taken places of a bin, and how much of its places depth could judge (0..1)."""

    placed: tuple[Placed, ...]
    judged: float


def bin_of(seen: Seen, places: Sequence[BinPlace], planogram: Planogram) -> BinPlace | None:
    """The bin a product stands in: by its middle; where two bins are near, by what is planned there."""
    x, _, z = seen.face_m
    best: tuple[float, BinPlace] | None = None
    for place in places:
        beside = max(place.x0_m - x, x - place.x1_m, 0.0)
        if beside > BESIDE_M or not (place.z0_m <= z <= place.z1_m):
            continue
        cost = beside - 0.03 * seen.similarity(planogram[place.bin_id].sku)
        if best is None or cost < best[0]:
            best = (cost, place)
    return best[1] if best else None


def match_face(
    seen: Sequence[Seen], places: Sequence[BinPlace], planogram: Planogram, catalogue: Catalogue, front: FaceFront
) -> dict[str, BinMatch]:
    """Every bin of one face with its taken places."""
    by_bin: dict[str, list[Seen]] = {}
    for s in seen:
        place = bin_of(s, places, planogram)
        if place is not None:
            by_bin.setdefault(place.bin_id, []).append(s)
    return {
        p.bin_id: match_bin(p, planogram[p.bin_id], catalogue, by_bin.get(p.bin_id, []), front) for p in places
    }


def match_bin(
    place: BinPlace, line: PlanogramLine, catalogue: Catalogue, seen: Sequence[Seen], front: FaceFront
) -> BinMatch:
    """The taken places of one bin."""
    product = catalogue[line.sku]
    pitch = (place.x1_m - place.x0_m) / line.facings_wide
    boxes = _by_place(place, line, product, seen)
    empty_beyond_m = place.depth_m - ITEM_SHARE * product.depth_m
    out: list[Placed] = []
    judged = 0
    for column in range(line.facings_wide):
        x = place.x0_m + (column + 0.5) * pitch
        for row in range(line.facings_high):
            foot = place.z0_m + row * product.height_m
            depth, known = surface(front, product, x, foot)
            judged += known >= KNOWN_ALONE
            box = _best(boxes.get((column, row), []), depth)
            by_depth = depth < empty_beyond_m and (known >= KNOWN_ALONE or (box is not None and known >= KNOWN_WITH_BOX))
            if math.isfinite(depth) and known >= KNOWN_ALONE:
                taken = by_depth
            else:
                taken = by_depth or (box is not None and box.score >= BOX_ALONE and box.face_m[1] < empty_beyond_m)
            if not taken:
                continue
            y = depth if by_depth else box.face_m[1] if box else 0.0
            sku, planned = name_in(box, line.sku, catalogue) if box else (line.sku, True)
            middle = (x, y, foot + product.height_m / 2)
            out.append(
                Placed(
                    key=box.key if box else f"{place.bin_id}/c{column}r{row}",
                    bin_id=place.bin_id,
                    sku=sku,
                    planned=planned,
                    column=column,
                    row=row,
                    face_m=_where(box, product, middle, planned),
                    confidence=round(min(0.99, 0.75 + 0.24 * box.score) if box and by_depth else 0.7, 3),
                    seen=box,
                )
            )
    return BinMatch(tuple(out), judged / (line.facings_wide * line.facings_high))


def surface(front: FaceFront, product: Product, x_m: float, foot_m: float) -> tuple[float, float]:
    """The front-most surface in a place: its depth behind the front plane in metres, and the measured share of cells.

    NaN when nothing was measured, or no surface holds enough of what was (scattered matches of a bare shelf back).
    """
    half = max(0.01, WINDOW_X * product.width_m)
    z0, z1 = (foot_m + s * product.height_m for s in WINDOW_Z)
    window = front.window(x_m - half, x_m + half, max(z0, foot_m + FOOT_M), z1)
    values = np.sort(window[np.isfinite(window)])
    if len(values) == 0:
        return math.nan, 0.0
    known = len(values) / window.size
    need = max(1, math.ceil(SURFACE_SHARE * len(values)))
    # The nearest run of sorted depths that is narrow and long enough.
    spread = values[need - 1 :] - values[: len(values) - need + 1]
    narrow = np.flatnonzero(spread < SPREAD_M)
    if len(narrow) == 0:
        return math.nan, known
    start = int(narrow[0])
    return float(np.median(values[start : start + need])), known


def _by_place(place: BinPlace, line: PlanogramLine, product: Product, seen: Sequence[Seen]) -> dict[tuple[int, int], list[Seen]]:
    """Boxes by the place they are the middle of."""
    pitch = (place.x1_m - place.x0_m) / line.facings_wide
    out: dict[tuple[int, int], list[Seen]] = {}
    for s in seen:
        column = min(line.facings_wide - 1, max(0, math.floor((s.face_m[0] - place.x0_m) / pitch)))
        foot = s.face_m[2] - s.size_m[1] / 2 - place.z0_m
        row = min(line.facings_high - 1, max(0, round(foot / max(product.height_m, 0.02))))
        out.setdefault((column, row), []).append(s)
    return out


def _best(boxes: Sequence[Seen], depth_m: float) -> Seen | None:
    """The box of the front-most item: at the measured depth, surest first; nearest first where depth is unknown."""
    if not math.isfinite(depth_m):
        return min(boxes, key=lambda s: (s.face_m[1], -s.score, s.key), default=None)
    at = [s for s in boxes if abs(s.face_m[1] - depth_m) < 0.04]
    return max(at, key=lambda s: (s.score, s.key), default=None)


def _where(box: Seen | None, product: Product, middle: tuple[float, float, float], planned: bool) -> tuple[float, float, float]:
    """The measured centre when the box is as large as the item; a box that is cut or merged only says that it is there."""
    if box is None:
        return middle
    whole = abs(box.size_m[0] - product.width_m) < 0.15 * product.width_m + 0.006
    tall = abs(box.size_m[1] - product.height_m) < 0.15 * product.height_m + 0.006
    if not planned:
        return (box.face_m[0], middle[1], box.face_m[2])
    return (box.face_m[0] if whole else middle[0], middle[1], box.face_m[2] if tall else middle[2])


def name_in(seen: Seen, planned: str, catalogue: Catalogue) -> tuple[str, bool]:
    """The SKU of a product in a bin and whether it is the planned one.

    What is planned is nearly always what stands there, and look-alikes differ little: the planned SKU keeps its place
    unless another one looks clearly more like what is seen, less clearly when the size speaks against the plan too.
    """
    own = seen.similarity(planned)
    best = max(seen.candidates, key=lambda c: (c.score, c.sku), default=None)
    if best is None or best.sku == planned:
        return planned, True
    misfit = _misfit(seen, planned, catalogue) > MISFIT and _misfit(seen, best.sku, catalogue) < MISFIT
    margin = STRANGER_MARGIN_MISFIT if misfit else STRANGER_MARGIN
    if best.score >= STRANGER_LEAST and best.score - own > margin:
        return best.sku, False
    return planned, True


def _misfit(seen: Seen, sku: str, catalogue: Catalogue) -> float:
    """Relative difference of measured and catalogue size, 0..1."""
    product = catalogue.get(sku)
    if product is None:
        return 0.5
    dw = abs(seen.size_m[0] - product.width_m) / max(product.width_m, 1e-3)
    dh = abs(seen.size_m[1] - product.height_m) / max(product.height_m, 1e-3)
    return min(1.0, max(dw, dh))
