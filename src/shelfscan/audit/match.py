"""What was seen against what was planned: which of a bin's places are taken, and by what.

A bin has a place for each planned column and row. Two kinds of evidence meet there: products the detector boxed, and
the depth of the front-most surface. Depth says *that* something stands in a place and how far back, whatever the
detector missed or merged; boxes say *what* it is and, where depth has holes, that it is there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from shelfscan.audit.lying import Lying, as_tall, lying
from shelfscan.model.catalogue import Catalogue, Product
from shelfscan.model.detections import Candidate
from shelfscan.model.front import EDGE_M, FaceFront, place_surface, share_at
from shelfscan.model.planogram import Planogram, PlanogramLine
from shelfscan.model.scan import PlaceCheck
from shelfscan.model.store import BinPlace, PlacesAlong

#: A crop taken where the planned item should be shows it from this similarity on, in the best look ...
CHECK_PLANNED = 0.5
#: ... unless another SKU looks this much more alike, and very much so.
CHECK_MARGIN, CHECK_SURE = 0.15, 0.9
#: Looks at another depth than the fused one looked at something else.
CHECK_DEPTH_M = 0.03
#: A product may stick out of its bin by so much and still be its.
BESIDE_M = 0.035
#: A stranger must look this much more like its own SKU than like the planned one ...
STRANGER_MARGIN = 0.30
#: ... less so when its size speaks against the planned one too.
STRANGER_MARGIN_MISFIT = 0.15
STRANGER_LEAST = 0.55
MISFIT = 0.25
#: What no SKU names: it looks less than this like what is planned and like anything else ...
UNNAMED_PLANNED, UNNAMED_OTHER = 0.2, 0.7
#: ... but as much as this like some front, as the sides and backs of turned goods do not; in so many looks.
UNNAMED_LEAST, UNNAMED_LOOKS = 0.3, 2
#: Share of a window's cells that must be measured before depth alone has a say, and with a box at that depth.
KNOWN_ALONE, KNOWN_WITH_BOX = 0.35, 0.15
#: Without a box, and without a look that shows the planned product, so many of a place's cells must be at one depth: in an
#: empty place neighbours' sides and chance make a surface now and then.
ALL_AT_DEPTH = 0.6
#: What stands nearer than the back of the shelf by this share of an item's depth is an item.
ITEM_SHARE = 0.5
#: Where clutter is looked for: so far from a bin's sides, above its shelf (its edge is seen below that) up to this share of the
#: goods' height, so much at least; and so much before where an item could still stand.
CLUTTER_SIDE_M, CLUTTER_FOOT_M, CLUTTER_HIGH, CLUTTER_LEAST_M, CLUTTER_BACK_M = 0.01, 0.03, 0.8, 0.05, 0.02
#: What is this far behind a stranger's front is not the stranger.
PAST_STRANGER_M = 0.04
#: A box whose middle is this much higher or lower than that of what stands there is cut, or of more than one item.
OFF_FOOT_M = 0.03
#: Goods stand in the shelf: their fronts lie behind its front plane by this at least.
STANDS_FROM_M = 0.006
#: A box of less than this of its item's height is not the item's, or cut.
OTHER_HEIGHT = 0.75
#: A box and a place are the same thing within this share of the column's pitch or the item's height.
ALIGNED_X, ALIGNED_Z = 0.5, 0.45
#: A box alone, without depth, must be this sure and look like what is planned, or be surer still.
BOX_ALONE, BOX_ALONE_LIKE = 0.5, 0.5
BOX_ALONE_SURE = 0.75


@dataclass(frozen=True)
class Seen:
    """A fused product as matching needs it; ``face_m`` is the centre of its front face, ``top`` how much it looked like
    anything in its best single look."""

    key: str
    face_m: tuple[float, float, float]
    size_m: tuple[float, float]
    score: float
    candidates: tuple[Candidate, ...]
    looks: int
    top: float = 0.0

    def similarity(self, sku: str) -> float:
        """Similarity to a SKU; 0 when it is not among the candidates."""
        return next((c.score for c in self.candidates if c.sku == sku), 0.0)


@dataclass(frozen=True)
class Placed:
    """The front-most item of one place of a bin: ``column`` from the left, ``row`` from the shelf up.

    ``face_m``: centre of its front face in the face frame, metres. ``seen`` is its box, None when only depth shows it.
    ``unnamed``: it may be a product that the gallery does not know, and counts as what is planned, for a turned one of those is
    as likely.
    ``confidence``: that something stands there, 0..1. ``down``: it lies, and ``face_m`` is where it would stand.
    ``tall``: depth shows that it is as tall as what is planned.
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
    unnamed: bool = False
    down: Lying | None = None
    tall: bool = False


@dataclass(frozen=True)
class BinMatch:
    """All taken places of a bin, and how much of its places depth could judge (0..1).

    ``above``: planned goods on top of the planned rows, which are no places of the plan. ``clutter``: share of the bin's cells
    of depth in which something is before its back, whatever it is. ``hidden``: in some place depth ends before the shelf and
    no box says that it is goods, so that nothing is known of what is behind.
    """

    placed: tuple[Placed, ...]
    judged: float
    above: tuple[Placed, ...] = ()
    clutter: float = 0.0
    hidden: bool = False


def bins_along(places: Iterable[BinPlace]) -> PlacesAlong:
    """The bins of a face for `bin_of`."""
    return PlacesAlong(places, BESIDE_M)


def bin_of(seen: Seen, places: PlacesAlong, planogram: Planogram) -> BinPlace | None:
    """The bin a product stands in: by its middle; where two bins are near, by what is planned there."""
    x, _, z = seen.face_m
    best: tuple[float, BinPlace] | None = None
    for place in places.near(x):
        beside = max(place.x0_m - x, x - place.x1_m, 0.0)
        if beside > BESIDE_M or not (place.z0_m <= z <= place.z1_m):
            continue
        cost = beside - 0.03 * seen.similarity(planogram[place.bin_id].sku)
        if best is None or cost < best[0]:
            best = (cost, place)
    return best[1] if best else None


def match_face(
    seen: Sequence[Seen],
    places: Sequence[BinPlace],
    planogram: Planogram,
    catalogue: Catalogue,
    front: FaceFront,
    checks: Sequence[PlaceCheck] = (),
) -> dict[str, BinMatch]:
    """Every bin of one face with its taken places."""
    checks_of: dict[str, list[PlaceCheck]] = {}
    for c in checks:
        checks_of.setdefault(c.bin_id, []).append(c)
    by_bin: dict[str, list[Seen]] = {}
    along = bins_along(places)
    for s in seen:
        place = bin_of(s, along, planogram)
        if place is not None:
            by_bin.setdefault(place.bin_id, []).append(s)
    return {
        p.bin_id: match_bin(p, planogram[p.bin_id], catalogue, by_bin.get(p.bin_id, []), front, checks_of.get(p.bin_id, []))
        for p in places
    }


def match_bin(
    place: BinPlace,
    line: PlanogramLine,
    catalogue: Catalogue,
    seen: Sequence[Seen],
    front: FaceFront,
    checks: Sequence[PlaceCheck] = (),
) -> BinMatch:
    """The taken places of one bin."""
    product = catalogue[line.sku]
    pitch = (place.x1_m - place.x0_m) / line.facings_wide
    boxes = _by_place(place, line, product, seen)
    empty_beyond_m = place.depth_m - ITEM_SHARE * product.depth_m
    out: list[Placed] = []
    judged = 0
    hidden = False
    for column in range(line.facings_wide):
        x = place.x0_m + (column + 0.5) * pitch
        before: Placed | None = None
        for row in range(line.facings_high):
            foot = place.z0_m + row * product.height_m
            beyond_m = _beyond(before, foot, product, catalogue)
            depth, known = place_surface(front, product, x, foot, beyond_m)
            judged += known >= KNOWN_ALONE
            box = _best(boxes.get((column, row), []), depth)
            by_depth = depth < empty_beyond_m and (known >= KNOWN_ALONE or (box is not None and known >= KNOWN_WITH_BOX))
            if math.isfinite(depth) and known >= KNOWN_ALONE:
                taken = by_depth
            else:
                taken = by_depth or (box is not None and box.face_m[1] < empty_beyond_m and _stands_alone(box, line.sku))
            down = lying(front, product, x, foot, place.depth_m, box is not None) if row == 0 else None
            if down is not None and not place.x0_m <= down.centre(place.z0_m)[0] <= place.x1_m:
                down = None  # what lies there is next door's, or a wide stranger stands before both
            y = depth if by_depth else box.face_m[1] if box else down.front_m if down else 0.0
            looks = [c for c in checks if (c.column, c.row) == (column, row) and abs(c.depth_m - y) < CHECK_DEPTH_M]
            if box is None and down is None and math.isinf(beyond_m) and not _shown(looks, line.sku):
                taken = taken and share_at(front, product, x, foot, depth) >= ALL_AT_DEPTH
            if taken and box is None and by_depth and y < STANDS_FROM_M:
                taken, hidden = False, True
            if not taken and down is None:
                continue
            verdict = check_name(looks, line.sku)
            # A crop of the planned item's outline shows a part of a larger stranger, as of a turned item; the box all of it.
            if box is not None and check_turn(looks) and misfit(box, line.sku, catalogue) > MISFIT:
                verdict = None
            tall = by_depth and as_tall(front, product, x, foot, depth)
            # Over something low it shows the planned goods behind, too.
            if box is not None and by_depth and not tall and misfit(box, line.sku, catalogue) > MISFIT:
                named = name_in(box, line.sku, catalogue)
                verdict = verdict if named[1] else named
            if verdict is None:
                verdict = name_in(box, line.sku, catalogue) if box else (line.sku, True)
            sku, planned = verdict
            if not planned and box is not None and box.candidates and box.candidates[0].sku != line.sku:
                # A stranger has a size of its own: its box shows it better than the planned item's outline does.
                sku = box.candidates[0].sku
            stands = product if planned else catalogue.get(sku)
            out.append(
                before := Placed(
                    key=box.key if box else f"{place.bin_id}/c{column}r{row}",
                    bin_id=place.bin_id,
                    sku=sku,
                    planned=planned,
                    column=column,
                    row=row,
                    face_m=_where(box, stands, (x, y), foot, planned, by_depth and not tall),
                    confidence=_confidence(box, by_depth, bool(looks)),
                    seen=box,
                    unnamed=box is not None and check_turn(looks) in ("", "other_side") and unnamed(box, line.sku),
                    down=down if planned else None,
                    tall=tall,
                )
            )
    clutter = _clutter(place, line, product, front)
    return BinMatch(tuple(_one_lies(out)), judged / (line.facings_wide * line.facings_high), clutter=clutter, hidden=hidden)


def _clutter(place: BinPlace, line: PlanogramLine, product: Product, front: FaceFront) -> float:
    high_m = max(CLUTTER_LEAST_M, CLUTTER_HIGH * product.height_m * line.facings_high)
    window = front.window(
        place.x0_m + CLUTTER_SIDE_M, place.x1_m - CLUTTER_SIDE_M, place.z0_m + CLUTTER_FOOT_M, place.z0_m + high_m
    )
    before = (window > EDGE_M) & (window < place.depth_m - ITEM_SHARE * product.depth_m - CLUTTER_BACK_M)
    return float(before.mean()) if window.size else 0.0


def _beyond(below: Placed | None, foot_m: float, product: Product, catalogue: Catalogue) -> float:
    """What is nearer than this in a place is a stranger's that stands in the row below and reaches up there."""
    if below is None or below.planned:
        return -math.inf
    stranger = catalogue.get(below.sku)
    if below.seen is not None:
        top_m = below.seen.face_m[2] + below.seen.size_m[1] / 2
    else:
        top_m = foot_m - product.height_m + stranger.height_m if stranger is not None else -math.inf
    return below.face_m[1] + PAST_STRANGER_M if top_m > foot_m + ITEM_SHARE * product.height_m else -math.inf


def _one_lies(placed: Sequence[Placed]) -> list[Placed]:
    """What lies along the shelf lies before several columns and is one item; in the others stands what is behind it."""
    out: list[Placed] = []
    along = [p.down for p in placed if p.down is not None and p.down.aside]
    found: list[Lying] = []
    for p in placed:
        if p.down is None:
            out.append(p)
            continue
        # Where its middle was made out it is looked for from both sides.
        if any(one.before(p.down) for one in found) or (not p.down.aside and any(one.before(p.down) for one in along)):
            if math.isfinite(p.down.behind_m):
                out.append(replace(p, down=None, face_m=(p.face_m[0], p.down.behind_m, p.face_m[2])))
            continue
        found.append(p.down)
        out.append(p)
    return out


def _stands_alone(box: Seen, planned: str) -> bool:
    """Whether a box is believed where depth does not show that something stands there."""
    return box.score >= BOX_ALONE_SURE or (box.score >= BOX_ALONE and box.similarity(planned) >= BOX_ALONE_LIKE)


def _shown(checks: Sequence[PlaceCheck], planned: str) -> bool:
    """Whether a look at a place shows the planned product as it should stand."""
    return any(not c.turn and any(k.sku == planned and k.score >= CHECK_PLANNED for k in c.candidates) for c in checks)


def _confidence(box: Seen | None, by_depth: bool, checked: bool) -> float:
    """That something stands in a place, 0..1: how many of box, depth and a look at the very place say so."""
    if by_depth:
        return 0.99 if box and checked else 0.97 if box or checked else 0.85
    return round(min(0.9, 0.4 + 0.5 * box.score), 3) if box else 0.5


def _by_place(
    place: BinPlace, line: PlanogramLine, product: Product, seen: Sequence[Seen]
) -> dict[tuple[int, int], list[Seen]]:
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


def _where(
    box: Seen | None, product: Product | None, place_m: tuple[float, float], foot_m: float, planned: bool, low: bool
) -> tuple[float, float, float]:
    """The measured centre when the box is as large as the item; a box that is cut or merged only says that it is there.

    ``place_m``: middle of the place along the face, and its depth. What stands on a shelf stands as high as it is. ``low``: by
    depth it does not reach up to the item's height, so that a low box is no cut one, but of another item that looks like it.
    """
    x, y = place_m
    if product is None:
        return (box.face_m[0], y, box.face_m[2]) if box is not None else (x, y, foot_m)
    z = foot_m + product.height_m / 2
    if box is None:
        return (x, y, z)
    whole = abs(box.size_m[0] - product.width_m) < 0.15 * product.width_m + 0.006
    tall = abs(box.size_m[1] - product.height_m) < 0.15 * product.height_m + 0.006
    other = (
        low and box.size_m[1] < OTHER_HEIGHT * product.height_m and abs(box.face_m[2] - box.size_m[1] / 2 - foot_m) < OFF_FOOT_M
    )
    high = other or (tall and abs(box.face_m[2] - z) < OFF_FOOT_M)
    return (box.face_m[0] if whole or not planned else x, y, box.face_m[2] if high else z)


def check_turn(checks: Sequence[PlaceCheck]) -> str:
    """How the item of a place is turned, as `PlaceCheck.turn` says it; empty when a look at it doesn't say that it is."""
    turns = {c.turn for c in checks}
    if "" in turns:
        return ""
    return next((t for t in ("upside_down", "lying", "other_side") if t in turns), "")


def check_name(checks: Sequence[PlaceCheck], planned: str) -> tuple[str, bool] | None:
    """The SKU that crops taken at the planned place show, and whether it is the planned one; None when nobody looked."""
    if not checks:
        return None
    if check_turn(checks):
        # It looks like nothing in the gallery as it stands; what is planned and turned is likelier than what nobody sells.
        return planned, True
    best: dict[str, float] = {}
    for check in checks:
        for c in check.candidates:
            best[c.sku] = max(best.get(c.sku, 0.0), c.score)
    own = best.get(planned, 0.0)
    other, score = max(((s, v) for s, v in best.items() if s != planned), key=lambda c: (c[1], c[0]), default=("", 0.0))
    if own >= CHECK_PLANNED and not (score >= CHECK_SURE and score - own >= CHECK_MARGIN):
        return planned, True
    return (other, False) if other else None


def unnamed(seen: Seen, planned: str) -> bool:
    """Whether a box is the front of a product that the gallery does not know: like a front, and like none of it.

    The side or back of what is planned looks like nothing at all, in every look.
    """
    own = seen.similarity(planned)
    return own < UNNAMED_PLANNED and UNNAMED_LEAST <= seen.top < UNNAMED_OTHER and seen.looks >= UNNAMED_LOOKS


def name_in(seen: Seen, planned: str, catalogue: Catalogue) -> tuple[str, bool]:
    """The SKU of a product in a bin and whether it is the planned one.

    What is planned is nearly always what stands there, and look-alikes differ little: the planned SKU keeps its place
    unless another one looks clearly more like what is seen, less clearly when the size speaks against the plan too.
    """
    own = seen.similarity(planned)
    best = max(seen.candidates, key=lambda c: (c.score, c.sku), default=None)
    if best is None or best.sku == planned:
        return planned, True
    by_size = misfit(seen, planned, catalogue) > MISFIT and misfit(seen, best.sku, catalogue) < MISFIT
    margin = STRANGER_MARGIN_MISFIT if by_size else STRANGER_MARGIN
    if best.score >= STRANGER_LEAST and best.score - own > margin:
        return best.sku, False
    return planned, True


def misfit(seen: Seen, sku: str, catalogue: Catalogue) -> float:
    """Relative difference of measured and catalogue size, 0..1."""
    product = catalogue.get(sku)
    if product is None:
        return 0.5
    dw = abs(seen.size_m[0] - product.width_m) / max(product.width_m, 1e-3)
    dh = abs(seen.size_m[1] - product.height_m) / max(product.height_m, 1e-3)
    return min(1.0, max(dw, dh))
