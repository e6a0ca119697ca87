"""Is a bin's space used as planned? Too few facings although goods are there, and more goods than the bin is planned to hold.

*Wrong facings* is one of two things, told at the bin whose facings are too few, and only where that bin isn't low:

- a neighbour's goods *spread* into its nearest columns, while the neighbour's own columns are all taken by them too. Goods that
  merely moved over by a column are no more than planned, and a border that is seen a little off makes nothing more;
- it is *narrow*: columns are bare while the others are full to the back, by the lower end of the interval. Shoppers take from
  any column; where they leave such a picture by chance now and then, nothing is told. Or goods stand on one another above the
  planned rows beside a bare column.

*Overstocked* is more units, by the lower end of the interval, than the planogram's maximum (``max_units``), or goods that stand
on one another above the planned rows while no column is bare.

Nothing of this is told of bins that were not seen in full, of bays whose planogram is stale, or of products whose size is not
the catalogue's: there something else is to be put right first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from shelfscan.audit.match import KNOWN_ALONE, MISFIT, BinMatch, Placed, Seen, bin_of, bins_along, match_face
from shelfscan.audit.units import Units, missing_rows
from shelfscan.model.catalogue import Catalogue, Product
from shelfscan.model.front import FaceFront, place_surface
from shelfscan.model.planogram import Planogram, PlanogramLine, emptied_by_chance
from shelfscan.model.scan import PlaceCheck
from shelfscan.model.store import BinPlace

#: A box above the planned rows must look so much like what is planned, and like nothing else by that much more.
LIKE, UNLIKE = 0.5, 0.1
#: Its foot is where a layer begins within this share of an item's height; it may be so much too high, for its top shows too.
LAYER, TALLER, LOWER = 0.25, 1.4, 0.8
#: Its depth and the measured surface's differ by no more.
SAME_DEPTH_M = 0.06
#: Without a measured surface such a box must be this sure.
BOX_ALONE = 0.6
#: Bins of one shelf are neighbours when their borders are no further apart.
BESIDE_M = 0.05
#: A spread item's middle is inside the bin by this share of its width, and as far from the neighbour's last column.
INSIDE, APART = 0.35, 0.6
#: Chance leaves columns bare beside full ones less often than this, or nothing is told: a store has hundreds of bins.
SELDOM = 0.002
#: Columns are full when the lower end of the interval is this share of what they hold.
FULL = 0.9
#: A bare column that depth shows to be bare, and one in which nothing is seen.
BARE_SEEN, BARE = 0.9, 0.75
#: Of a surplus' price, what a month of it costs: a quarter of it a year.
CARRYING = 0.02


@dataclass(frozen=True, slots=True)
class Taken:
    """Columns of a bin that a neighbour's goods stand in: ``sku`` of ``from_bin``, planned on ``planned`` columns there."""

    sku: str
    from_bin: str
    planned: int
    columns: tuple[int, ...]
    confidence: float


@dataclass(frozen=True, slots=True)
class SpaceTrouble:
    """What is wrong with a bin's space: ``kind`` as the finding's type, ``value`` in the store's currency."""

    kind: str
    confidence: float
    value: float
    suggestion: str


def layers(
    seen: Sequence[Seen],
    places: Sequence[BinPlace],
    planogram: Planogram,
    catalogue: Catalogue,
    front: FaceFront,
    leave: Collection[str] = (),
) -> dict[str, tuple[Placed, ...]]:
    """Products that stand above the planned rows of their bin, by bin.

    These are whole boxes of what is planned there, where a layer's foot is, and with nothing in depth that speaks against it.
    Bins in ``leave`` are left out.
    """
    out: dict[str, list[Placed]] = {}
    along = bins_along(places)
    for s in seen:
        place = bin_of(s, along, planogram)
        if place is None or place.bin_id in leave:
            continue
        line = planogram[place.bin_id]
        found = _layer(s, place, line, catalogue[line.sku], front)
        if found is not None:
            out.setdefault(place.bin_id, []).append(found)
    return {b: tuple(found) for b, found in out.items()}


def _layer(s: Seen, place: BinPlace, line: PlanogramLine, product: Product, front: FaceFront) -> Placed | None:
    x, y, z = s.face_m
    width, height = s.size_m
    foot = z - height / 2 - place.z0_m
    row = round(foot / max(product.height_m, 0.02))
    if row < line.facings_high or (row + 1) * product.height_m > place.z1_m - place.z0_m + 0.01:
        return None
    whole = abs(width - product.width_m) < MISFIT * product.width_m + 0.006
    tall = LOWER * product.height_m < height < TALLER * product.height_m
    own = s.similarity(line.sku)
    other = max((c.score for c in s.candidates if c.sku != line.sku), default=0.0)
    if not (whole and tall and own >= LIKE and other < own + UNLIKE):
        return None
    if abs(foot - row * product.height_m) > LAYER * product.height_m:
        return None
    pitch = (place.x1_m - place.x0_m) / line.facings_wide
    column = min(line.facings_wide - 1, max(0, int((x - place.x0_m) / pitch)))
    depth, known = place_surface(front, product, x, place.z0_m + row * product.height_m)
    by_depth = known >= KNOWN_ALONE
    if abs(depth - y) > SAME_DEPTH_M if by_depth and depth == depth else s.score < BOX_ALONE:
        return None
    sure = 0.9 if by_depth else 0.7
    return Placed(s.key, place.bin_id, line.sku, True, column, row, s.face_m, sure, s)


def standing(match: BinMatch, above: Sequence[Placed]) -> BinMatch:
    """A bin's match with those of ``above`` that stand on something; one a place, the surest."""
    rows = {(p.column, p.row) for p in match.placed if p.planned and p.down is None}
    out: dict[tuple[int, int], Placed] = {}
    for p in sorted(above, key=lambda p: (p.row, -p.confidence, p.key)):
        if (p.column, p.row - 1) in rows:
            rows.add((p.column, p.row))
            out.setdefault((p.column, p.row), p)
    return replace(match, above=tuple(out.values()))


def match_layers(
    seen: Sequence[Seen],
    places: Sequence[BinPlace],
    planogram: Planogram,
    catalogue: Catalogue,
    front: FaceFront,
    checks: Sequence[PlaceCheck] = (),
    leave: Collection[str] = (),
) -> dict[str, BinMatch]:
    """Every bin of one face with what stands in its places and, but for bins in ``leave``, above them."""
    above = layers(seen, places, planogram, catalogue, front, leave)
    while True:
        apart = {p.key for found in above.values() for p in found}
        matched = match_face([s for s in seen if s.key not in apart], places, planogram, catalogue, front, checks)
        matched |= {b: standing(matched[b], found) for b, found in above.items()}
        held = {(b, p.column, p.row) for b in above for p in matched[b].above}
        stand = {b: tuple(p for p in found if (b, p.column, p.row) in held) for b, found in above.items()}
        if stand == above:
            return matched
        # What stands on nothing is no layer: it is matched like any other box.
        above = stand


def spread(
    places: Sequence[BinPlace],
    planogram: Planogram,
    catalogue: Catalogue,
    matched: Mapping[str, BinMatch],
    leave: Collection[str] = (),
) -> dict[str, Taken]:
    """Bins of which a neighbour's goods take columns, by bin. ``leave``: bins of which nothing can be said."""
    shelves: dict[str, list[BinPlace]] = {}
    for p in places:
        shelves.setdefault(p.shelf_id, []).append(p)
    out: dict[str, Taken] = {}
    for shelf in shelves.values():
        row = sorted(shelf, key=lambda p: p.x0_m)
        for left, right in pairwise(row):
            if right.x0_m - left.x1_m > BESIDE_M or {left.bin_id, right.bin_id} & set(leave):
                continue
            for own, other in ((left, right), (right, left)):
                taken = _taken(own, other, planogram, catalogue, matched)
                if taken is not None and own.bin_id not in out:
                    out[own.bin_id] = taken
    return out


def _taken(
    own: BinPlace, other: BinPlace, planogram: Planogram, catalogue: Catalogue, matched: Mapping[str, BinMatch]
) -> Taken | None:
    line, theirs = planogram[own.bin_id], planogram[other.bin_id]
    placed, beside = matched[own.bin_id].placed, matched[other.bin_id].placed
    from_left = other.x0_m < own.x0_m
    columns = range(line.facings_wide) if from_left else range(line.facings_wide - 1, -1, -1)
    found: list[Placed] = []
    for c in columns:
        here = [p for p in placed if p.column == c]
        if not here or any(p.planned or p.sku != theirs.sku for p in here):
            break
        found += here
    if not found or theirs.sku == line.sku or not any(p.planned for p in placed):
        return None
    # The neighbour's own columns must all hold its goods: otherwise these have moved over and are no more than planned.
    last = [p for p in beside if p.planned and p.column == (theirs.facings_wide - 1 if from_left else 0)]
    if len({p.column for p in beside if p.planned}) < theirs.facings_wide or not last:
        return None
    width = catalogue[theirs.sku].width_m
    border = own.x0_m if from_left else own.x1_m
    inside = [
        p
        for p in found
        if p.seen is not None
        and abs(p.face_m[0] - border) >= INSIDE * width
        and min(abs(p.face_m[0] - q.face_m[0]) for q in last) >= APART * width
    ]
    if not inside:
        return None
    sure = max(p.confidence for p in inside)
    return Taken(theirs.sku, other.bin_id, theirs.facings_wide, tuple(sorted({p.column for p in found})), sure)


def troubles_of_space(
    line: PlanogramLine, product: Product, match: BinMatch, units: Units, taken: Taken | None, elsewhere: bool
) -> list[SpaceTrouble]:
    """What is wrong with the space of a bin that was seen in full, is neither low nor empty, and planned as it stands.

    ``elsewhere``: some of its goods stand in a bin beside it, which is told there.
    """
    strangers = any(not p.planned for p in match.placed)
    bare = sorted(set(range(line.facings_wide)) - {p.column for p in match.placed})
    if taken is not None:
        return [_spread_trouble(line, product, taken)]
    if strangers or elsewhere:
        return _over(line, product, match, units, [])
    if bare and (match.above or _filled(line, product, match, units, len(bare))):
        share = len(bare) / line.facings_wide
        sure = (BARE_SEEN if match.judged >= 1.0 else BARE) if not match.above else BARE
        stands = f"{line.sku} stands on {line.facings_wide - len(bare)} of its {line.facings_wide} columns"
        return [SpaceTrouble("wrong_facings", sure, product.price * share, f"{stands}: fill {_columns(bare)}")]
    return _over(line, product, match, units, bare)


def _spread_trouble(line: PlanogramLine, product: Product, taken: Taken) -> SpaceTrouble:
    many = len(taken.columns)
    text = (
        f"{taken.sku} stands in {_columns(taken.columns)} of {line.sku}: "
        f"take it back to its own {taken.planned}, and fill {line.sku} to {line.facings_wide} columns"
    )
    return SpaceTrouble("wrong_facings", taken.confidence, product.price * many / line.facings_wide, text)


def _filled(line: PlanogramLine, product: Product, match: BinMatch, units: Units, bare: int) -> bool:
    """Whether the columns that are not bare are full to the back for sure, and chance hardly leaves it so."""
    if emptied_by_chance(line, bare) > SELDOM:
        return False
    stands = (line.facings_wide - bare) * line.facings_high
    if len(match.placed) < stands or any(missing_rows(p.face_m[1], line, product) for p in match.placed):
        return False
    return units.low >= FULL * stands * line.facings_deep


def _over(line: PlanogramLine, product: Product, match: BinMatch, units: Units, bare: Sequence[int]) -> list[SpaceTrouble]:
    surplus = units.low - line.most_units
    if surplus > 0:
        mass = sum(p for n, p in units.pmf if n > line.most_units) / max(1e-9, sum(p for _, p in units.pmf))
        text = (
            f"take {surplus} or more of {line.sku} out: at least {units.low} are there, planned are {line.most_units} at most"
        )
        return [SpaceTrouble("overstocked", min(0.99, mass), CARRYING * product.price * surplus, text)]
    if match.above and not bare:
        many = len(match.above)
        text = f"take down {line.sku} from {_columns(sorted({p.column for p in match.above}))}: stacked above the planned rows"
        sure = max(p.confidence for p in match.above)
        return [SpaceTrouble("overstocked", sure, CARRYING * product.price * many, text)]
    return []


def _columns(columns: Sequence[int]) -> str:
    return f"column{'s' if len(columns) > 1 else ''} {', '.join(str(c + 1) for c in columns)}"
