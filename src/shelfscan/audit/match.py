"""What was seen against what was planned: which bin a product stands in, and which of the bin's places it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shelfscan.model.catalogue import Catalogue
from shelfscan.model.detections import Candidate
from shelfscan.model.planogram import Planogram
from shelfscan.model.store import BinPlace

#: A product may stick out of its bin by so much and still be its.
BESIDE_M = 0.035
ABOVE_M = 0.05
#: How much better another name must look before the planned one is doubted.
DOUBT = 0.10
#: Below this similarity to the planned SKU it is not believed at all.
NOT_PLANNED_BELOW = 0.35
#: Room round a column in a bin (half of the gap between columns on either side).
GAP_M = 0.008


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
    """A product in its bin: ``column`` from the left, ``row`` from the shelf up; ``front`` when nothing hides it."""

    seen: Seen
    bin_id: str
    sku: str
    planned: bool
    column: int
    row: int
    front: bool


def bin_of(seen: Seen, places: Sequence[BinPlace], planogram: Planogram) -> BinPlace | None:
    """The bin a product stands in: by its foot and middle; where two bins are near, by what is planned there."""
    x, _, z = seen.face_m
    foot = z - seen.size_m[1] / 2
    best: tuple[float, BinPlace] | None = None
    for place in places:
        beside = max(place.x0_m - x, x - place.x1_m, 0.0)
        if beside > BESIDE_M or not (place.z0_m - 0.04 <= z <= place.z1_m + 0.02):
            continue
        height = abs(foot - place.z0_m) if foot < place.z0_m else 0.0
        if height > ABOVE_M + 0.3 * seen.size_m[1]:
            continue
        cost = beside + 0.2 * height - 0.03 * seen.similarity(planogram[place.bin_id].sku)
        if best is None or cost < best[0]:
            best = (cost, place)
    return best[1] if best else None


def name_in(seen: Seen, planned: str, catalogue: Catalogue) -> tuple[str, bool]:
    """The SKU of a product in a bin and whether it is the planned one.

    Look-alikes differ little: the planned SKU keeps its place unless another one looks clearly more like what is seen
    and fits its size at least as well.
    """
    own = seen.similarity(planned)
    best = max(seen.candidates, key=lambda c: (c.score, c.sku), default=None)
    if best is None or best.sku == planned:
        return planned, True
    misfit = _misfit(seen, planned, catalogue) - _misfit(seen, best.sku, catalogue)
    if best.score - own + 0.15 * misfit > DOUBT:
        return best.sku, False
    if own < NOT_PLANNED_BELOW and best.score < NOT_PLANNED_BELOW:
        return "", False
    return planned, True


def _misfit(seen: Seen, sku: str, catalogue: Catalogue) -> float:
    """Relative difference of measured and catalogue size, 0..1."""
    product = catalogue.get(sku)
    if product is None:
        return 0.5
    dw = abs(seen.size_m[0] - product.width_m) / max(product.width_m, 1e-3)
    dh = abs(seen.size_m[1] - product.height_m) / max(product.height_m, 1e-3)
    return min(1.0, max(dw, dh))


def place_products(
    seen: Sequence[Seen], places: Sequence[BinPlace], planogram: Planogram, catalogue: Catalogue
) -> dict[str, list[Placed]]:
    """Products of one face by bin; of several at one place of the front only the front-most is marked ``front``."""
    out: dict[str, list[Placed]] = {p.bin_id: [] for p in places}
    by_bin: dict[str, list[Seen]] = {}
    for s in seen:
        place = bin_of(s, places, planogram)
        if place is not None:
            by_bin.setdefault(place.bin_id, []).append(s)
    index = {p.bin_id: p for p in places}
    for bin_id, members in by_bin.items():
        line, place = planogram[bin_id], index[bin_id]
        product = catalogue[line.sku]
        pitch = (place.x1_m - place.x0_m) / line.facings_wide
        taken: set[tuple[int, int]] = set()
        for s in sorted(members, key=lambda s: (s.face_m[1], -s.score, s.key)):
            column = min(line.facings_wide - 1, max(0, int((s.face_m[0] - place.x0_m) // pitch)))
            foot = s.face_m[2] - s.size_m[1] / 2 - place.z0_m
            row = min(line.facings_high - 1, max(0, round(foot / max(product.height_m, 0.02))))
            sku, planned = name_in(s, line.sku, catalogue)
            front = (column, row) not in taken
            taken.add((column, row))
            out[bin_id].append(Placed(s, bin_id, sku, planned, column, row, front))
    return out
