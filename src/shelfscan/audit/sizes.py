"""Does a product have the size that the catalogue says? Where it has not, the size to count with.

Three sides, three witnesses:

- *height*: the boxes of what stands on the shelf and looks like the planned SKU, from the shelf's surface to their top. Seen
  from above a box takes in the item's own top side, so the height is also worked out without it, and only what contradicts
  the catalogue both ways is told. Depth is a third way, where it shows what is behind above the item's upper end.
- *width*: boxes again, and the columns of the planogram.
- *depth*: nothing shows it from the front, but the rows of the planogram.

What columns, rows and, for height and width, the pictures of the gallery say, by what is usual in the store, is in `usual`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from shelfscan.audit.usual import ALONE, BOTH, SEEN, WRONG_BY, Usual, WrongSize, as_pictured, by_column, by_picture, by_rows
from shelfscan.model.catalogue import Catalogue, Product
from shelfscan.model.front import FaceFront, goes_on, seen_top
from shelfscan.model.planogram import Planogram
from shelfscan.model.scan import FRONT_Z_M, BayScan, Observation
from shelfscan.model.store import BinPlace

#: ... and by a height that boxes can measure.
LEAST_M = 0.016
#: Boxes must look like the planned SKU this much, stand on the shelf within so much, and agree within so much.
LIKE, FOOT_M, AGREE = 0.5, 0.03, 0.1
#: Height and width that are off by the same factor, within this, and no width that is as said.
SCALED, AS_SAID = 0.08, 0.12
#: Names this near in likeness are not told apart.
TIE_WITHIN = 0.05
#: Higher than said: without their tops boxes must still be higher, and may differ more (tops do); a low item's single box tells
#: nothing.
HIGHER_BARE, HIGHER_ONCE, HIGHER_AGREE, LOW_M, LOW_LEAST_M = 1.09, 1.25, 0.3, 0.12, 0.025
#: Lower than said: a single box must be lower still. So much of its height may be the top side, of one box less; this share is.
LOWER_ONCE, LOWER_BARE, LOWER_BARE_ONCE, LOWER_AGREE, TOP_SHARE = 0.8, 0.3, 0.13, 0.16, 0.25
#: A box this many times higher or lower than its item is two items' or a part of one.
MOST = 1.75
#: Feet of an upper row: of boxes that stand so much above the shelf, and by so much of the height that is said; so many of
#: them, within so much; they lie between the lower row's heights with and without tops, widened; where goods are lower than
#: said, the upper row's tops are at twice the height and no more than this share above it.
RAISED_M, RAISED, FEET, FEET_AGREE, FEET_SLACK, FEET_TOP = 0.03, 0.5, 2, 0.2, 0.1, 1.2
#: An item's head this much below the board above is seen.
CLEAR_M = 0.02
#: Fewer boxes than this measure nothing, and so many that agree are not all off by chance.
LEAST_LOOKS, MANY = 2, 4


@dataclass(frozen=True, slots=True)
class Height:
    """One look at an item's height, metres: its box, the box without the top side, and by depth where that shows it.

    ``cut``: above the box the item's front goes on, up to where it should. ``stacked``: goods stand on one another there.
    """

    whole_m: float
    bare_m: float
    depth_m: float | None = None
    cut: bool = False
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Upper:
    """A box of an upper row: its lower and upper end above the shelf, metres."""

    foot_m: float
    top_m: float


def wrong_sizes(
    scans: Sequence[BayScan],
    gondola_id: str,
    places: Sequence[BinPlace],
    planogram: Planogram,
    catalogue: Catalogue,
    usual: Usual,
    front: FaceFront,
    shapes: Mapping[str, float] | None = None,
) -> dict[str, WrongSize]:
    """The SKUs planned on a face whose size is wrong, the surest side of each. ``scans`` with their corrections applied;
    ``shapes``: height over width of their pictures, by SKU."""
    heights, widths, uppers = _measured(scans, gondola_id, places, planogram, catalogue, front)
    out: dict[str, WrongSize] = {}
    for place in places:
        line = planogram[place.bin_id]
        product = catalogue[line.sku]
        shape = (shapes or {}).get(line.sku)
        pictured = by_picture(product, place, line.facings_wide, shape, usual)
        boxes = [
            _height(product, heights.get(line.sku, []), widths.get(line.sku, [])),
            _stacked(product, heights.get(line.sku, []), uppers.get(line.sku, [])),
        ]
        if as_pictured(product, place, line.facings_wide, shape, usual):
            boxes = []  # something else looks like it, or its boxes are cut
        for found in (
            *(_agreed(b, pictured) for b in boxes),
            _width(product, place, line.facings_wide, widths.get(line.sku, []), usual),
            pictured,
            by_rows(product, place, line.facings_deep, usual),
        ):
            _keep_surer(out, found)
    return out


def planned_sizes(
    places: Iterable[BinPlace],
    planogram: Planogram,
    catalogue: Catalogue,
    usual: Usual,
    shapes: Mapping[str, float],
) -> dict[str, WrongSize]:
    """The SKUs of a store whose size is wrong by its own plan and pictures alone, before anything is seen."""
    out: dict[str, WrongSize] = {}
    for place in places:
        line = planogram[place.bin_id]
        product = catalogue[line.sku]
        for found in (
            _width(product, place, line.facings_wide, [], usual),
            by_picture(product, place, line.facings_wide, shapes.get(line.sku), usual),
            by_rows(product, place, line.facings_deep, usual),
        ):
            _keep_surer(out, found)
    return out


def _keep_surer(out: dict[str, WrongSize], found: WrongSize | None) -> None:
    if found is not None and (found.sku not in out or found.confidence > out[found.sku].confidence):
        out[found.sku] = found


def _agreed(seen: WrongSize | None, pictured: WrongSize | None) -> WrongSize | None:
    """What boxes say is surer where the product's picture says so too."""
    if seen is None or pictured is None or pictured.side != seen.side:
        return seen
    both = (pictured.likely_m > pictured.said_m) == (seen.likely_m > seen.said_m)
    return replace(seen, confidence=BOTH) if both else seen


def corrected(catalogue: Catalogue, wrong: Mapping[str, WrongSize]) -> Catalogue:
    """The catalogue with the likely sizes."""
    if not wrong:
        return catalogue
    return {**catalogue, **{sku: replace(catalogue[sku], **{w.side: w.likely_m}) for sku, w in wrong.items()}}  # type: ignore[arg-type]


def _measured(
    scans: Sequence[BayScan],
    gondola_id: str,
    places: Sequence[BinPlace],
    planogram: Planogram,
    catalogue: Catalogue,
    front: FaceFront,
) -> tuple[dict[str, list[Height]], dict[str, list[float]], dict[str, list[Upper]]]:
    """Per SKU: heights, widths in metres, and what stands in an upper row of two."""
    heights: dict[str, list[Height]] = {}
    widths: dict[str, list[float]] = {}
    uppers: dict[str, list[Upper]] = {}
    of_sku: dict[str, list[BinPlace]] = {}
    for p in places:
        of_sku.setdefault(planogram[p.bin_id].sku, []).append(p)
    for scan in scans:
        eyes = {f.head: (f.eye_x_m, f.eye_z_m) for f in scan.fronts if f.gondola_id == gondola_id}
        for o in scan.observations:
            if o.gondola_id != gondola_id or not o.candidates or o.candidates[0].score < LIKE or o.head not in eyes:
                continue
            # Flavours of one brand differ in a word: of names that are alike the one that is planned there.
            alike = [c.sku for c in o.candidates if c.score >= o.candidates[0].score - TIE_WITHIN]
            here = [(s, q) for s in alike for q in of_sku.get(s, ()) if _stands_in(o, q)]
            if not here:
                for sku in alike:
                    for p in of_sku.get(sku, ()):
                        if planogram[p.bin_id].facings_high == 2 and _above(o, p):
                            middle_m, half_m = o.face_m[2] - p.z0_m, o.size_m[1] / 2
                            uppers.setdefault(sku, []).append(Upper(middle_m - half_m, middle_m + half_m))
                continue
            sku, p = here[0]
            product = catalogue[sku]
            measured = _heights(o, p, product, eyes[o.head])
            if measured is not None and 1 / MOST < measured[0] / product.height_m < MOST:
                x, y = o.face_m[0], o.face_m[1]
                # Where goods are stacked, what reaches higher is the next one.
                stacked = planogram[p.bin_id].facings_high > 1
                top = None if stacked else seen_top(front, product, x, p.z0_m, p.z1_m, y)
                end = p.z0_m + product.height_m
                cut = goes_on(front, product, x, p.z0_m + measured[0] + FRONT_Z_M, end, y)
                heights.setdefault(sku, []).append(Height(*measured, top, cut, stacked))
            widths.setdefault(sku, []).append(o.size_m[0])
    return heights, widths, uppers


def _above(o: Observation, place: BinPlace) -> bool:
    x, _, z = o.face_m
    foot_m = z - o.size_m[1] / 2 - place.z0_m
    return place.x0_m - 0.01 < x < place.x1_m + 0.01 and z < place.z1_m and foot_m > RAISED_M


def _stands_in(o: Observation, place: BinPlace) -> bool:
    x, _, z = o.face_m
    return place.x0_m - 0.01 < x < place.x1_m + 0.01 and abs(z - o.size_m[1] / 2 - place.z0_m) < FOOT_M


def _heights(o: Observation, place: BinPlace, product: Product, eye: tuple[float, float]) -> tuple[float, float] | None:
    """An item's height from its box: to the box's top, and without the top side that is seen from above.

    None where the board above may hide the item's head.
    """
    eye_x_m, eye_z_m = eye
    top = o.face_m[2] + o.size_m[1] / 2
    across = math.hypot(o.face_m[0] - eye_x_m, o.face_m[2] - eye_z_m) / math.tan(max(0.02, o.view_angle_rad))
    distance = max(0.3, min(3.0, across))
    # The rays past the shelf's edge and past the board above, carried on to the item.
    beyond = max(0.0, o.face_m[1]) / max(0.3, distance - o.face_m[1])
    board = place.z1_m + (place.z1_m - eye_z_m) * beyond
    height = o.size_m[1] + max(0.0, place.z0_m - eye_z_m) * beyond
    if top > board - CLEAR_M:
        return None
    if eye_z_m <= top:
        return height, height
    # Two tops: of short goods the box often takes in the next row's too.
    r = 2 * product.depth_m / (distance + 2 * product.depth_m)
    return height, (height - max(0.0, eye_z_m - place.z0_m) * r) / (1 - r)


def _height(product: Product, measured: Sequence[Height], widths: Sequence[float]) -> WrongSize | None:
    if not measured:
        return None
    said = product.height_m
    level = [h for h in measured if h.bare_m == h.whole_m]
    if len(level) >= LEAST_LOOKS:
        # From below no top side is seen, and there is nothing to take off. Looks from above must leave room for it.
        middle_m = statistics.median(h.whole_m for h in level)
        others = [h for h in measured if h.bare_m < h.whole_m]
        agree = sum(h.bare_m - AGREE * said < middle_m < h.whole_m + AGREE * said for h in others)
        measured = level if 2 * agree >= len(others) else measured
    whole, bare = (sorted(m / said for m in side) for side in ([h.whole_m for h in measured], [h.bare_m for h in measured]))
    a, b = statistics.median(whole), statistics.median(bare)
    spread = whole[len(whole) * 3 // 4] - whole[len(whole) // 4]
    deep = [h.depth_m / said for h in measured if h.depth_m is not None]
    by_depth = statistics.median(deep) if 2 * len(deep) >= len(measured) else None
    once = len(measured) < LEAST_LOOKS
    if abs(a - 1) * said < LEAST_M:
        return None
    across = [w / product.width_m for w in widths]
    if any(abs(w / a - 1) < SCALED for w in across) and not any(abs(w - 1) < AS_SAID for w in across):
        return None  # larger or smaller as a whole: another size of the same design, and no slip in the catalogue
    bare_higher = b > (HIGHER_ONCE if once else HIGHER_BARE)
    if by_depth is not None:
        bare_higher = by_depth > 1 + WRONG_BY and (by_depth - 1) * said > FRONT_Z_M
    # One look of a low item is often a look at two of them, and its box is off by a centimetre or two; of a stack, a few are.
    few = len(measured) < MANY and (any(h.stacked for h in measured) or (said < LOW_M and (a - 1) * said < LOW_LEAST_M))
    doubted = by_depth is None and (few or (once and said < LOW_M))
    if a > 1 + WRONG_BY and bare_higher and spread < HIGHER_AGREE and not doubted:
        # Depth's rows are too coarse for more than a word on which of the boxes' two heights it is.
        likely = max(a - (a - b) / 2, min(a, by_depth - FRONT_Z_M / 2 / said)) if by_depth is not None else (a + b) / 2
        return WrongSize(product.sku, "height_m", said, round(likely * said, 3), SEEN)
    # What is cut short by a board or a picture's border looks lower, too, but not from every side.
    least, bare_most = (LOWER_ONCE, LOWER_BARE_ONCE) if once else (1 - WRONG_BY, LOWER_BARE)
    lower = a < least and a - b < bare_most and spread < LOWER_AGREE
    cleared = by_depth > 1 - WRONG_BY / 2 if by_depth is not None else 2 * sum(h.cut for h in measured) >= len(measured)
    if lower and not cleared:
        return WrongSize(product.sku, "height_m", said, round((a - TOP_SHARE * (a - b)) * said, 3), SEEN)
    return None


def _stacked(product: Product, lower: Sequence[Height], upper: Sequence[Upper]) -> WrongSize | None:
    """The height of goods in two rows by the upper row's feet, where the lower row's boxes leave room for it."""
    said = product.height_m
    raised = sorted(u.foot_m / said for u in upper if u.foot_m > RAISED * said)
    if len(raised) < FEET or not lower:
        return None
    feet = statistics.median(raised)
    if abs(feet - 1) < WRONG_BY or raised[len(raised) * 3 // 4] - raised[len(raised) // 4] > FEET_AGREE:
        return None
    agree = sum(h.bare_m / said - FEET_SLACK < feet < h.whole_m / said + FEET_SLACK for h in lower)
    tops = statistics.median(u.top_m / said for u in upper if u.foot_m > RAISED * said)
    if 2 * agree < len(lower) or (feet < 1 and tops > 2 * feet * FEET_TOP):
        return None
    return WrongSize(product.sku, "height_m", said, round(feet * said, 3), SEEN)


def _width(product: Product, place: BinPlace, wide: int, measured: Sequence[float], usual: Usual) -> WrongSize | None:
    seen = statistics.median(measured) / product.width_m if len(measured) >= LEAST_LOOKS else None
    planned = by_column(product, place, wide, usual)
    if planned is not None and abs(planned - 1) > WRONG_BY / 2:
        middles = [f(measured) / product.width_m for f in (statistics.median_low, statistics.median_high)] if seen else []
        if middles and all(abs(m - 1) < abs(m - planned) for m in middles):
            return None  # the boxes side with the catalogue
        agreed = seen is not None and abs(seen / planned - 1) <= WRONG_BY
        return WrongSize(
            product.sku, "width_m", product.width_m, round(planned * product.width_m, 3), BOTH if agreed else ALONE
        )
    return None
