"""A whole store's realogram from a drive's scans. It is told the faces and the catalogue, and no planogram."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from shelfscan.audit.match import Seen
from shelfscan.audit.stale import GAP_M, runs
from shelfscan.audit.tags import TAG_BELOW_M, amount
from shelfscan.errors import BadInput
from shelfscan.model.catalogue import Catalogue
from shelfscan.model.scan import BayScan, TagReading
from shelfscan.model.store import Store
from shelfscan.stock.fuse import fuse, latest_per_viewpoint
from shelfscan.stock.register import registered
from shelfscan.survey.layout import BACK_M, BayFound, FaceLayout, ShelfFound, bay_counts, find_bays
from shelfscan.survey.shelf import HangingTag, Stretch, front_row, hanging, stretches, tag_offset

#: A tag hangs on a shelf's edge within this of where it should.
TAG_SLACK_M = 0.03
#: What stands this little below a shelf's surface stands on it.
BELOW_M = 0.03
#: Bays that a mean width was given for may be this much wider or narrower.
SLACK_SHARE = 0.15
#: Narrower than this is no bin.
LEAST_BIN_M = 0.01
#: How sure the name of an empty bin is when one product only is left for it.
EMPTY_SURE = 0.6


@dataclass(frozen=True)
class Line:
    """One proposed bin with its place, as one line of the review. Lengths in metres; ``x_m`` from the bay's left edge."""

    aisle_id: str
    gondola_id: str
    bay_id: str
    bay_x_m: float
    bay_width_m: float
    shelf_id: str
    shelf_z_m: float
    clear_height_m: float
    depth_m: float
    bin_id: str
    x_m: float
    width_m: float
    sku: str
    facings_wide: int
    facings_high: int
    facings_deep: int
    confidence: float
    why: str
    seen: int
    tag_price: str
    others: tuple[str, ...]
    evidence: str
    #: How wide it may be: to the next bin, or the bay's end.
    room_m: float = 0.0


def faces_of(store: Store) -> list[FaceLayout]:
    """The faces of a layout; what its bays hold is not looked at."""
    return [FaceLayout(a.aisle_id, g.gondola_id, g.face, g.length_m, g.depth_m, g.height_m) for a, g in store.gondolas()]


def propose(
    faces: Sequence[FaceLayout], catalogue: Catalogue, scans: Sequence[BayScan], *, bay_width_m: float | None = None
) -> list[Line]:
    """Every bin that was seen, in the order of the faces. ``bay_width_m``: None finds it out for each face.

    Raises `BadInput` when no scan shows any of the faces.
    """
    scans = latest_per_viewpoint(scans)
    by_price: dict[str, set[str]] = {}
    for sku, product in catalogue.items():
        by_price.setdefault(f"{product.price:.2f}", set()).add(sku)
    prices = {p: frozenset(s) for p, s in by_price.items()}
    looks = {f.gondola_id: _look(f.gondola_id, scans) for f in faces}
    if bay_width_m is None:
        bays = bay_counts(faces, {g: look.seen for g, look in looks.items()})
    else:
        bays = {f.gondola_id: _bays(f, bay_width_m) for f in faces}
    out: list[Line] = []
    for face in faces:
        out += _face(face, looks[face.gondola_id], bays[face.gondola_id], catalogue, prices)
    out = _empty_named(out, prices, catalogue)
    if not out:
        raise BadInput("no shelf with products or tags was seen on any face; did the drive pass them, and is the layout right?")
    return out


@dataclass(frozen=True)
class _Look:
    """All products and tags of one face, over all captures."""

    seen: Sequence[Seen]
    tags: Sequence[TagReading]


def _look(gondola_id: str, scans: Sequence[BayScan]) -> _Look:
    here = registered([s for s in scans if _tells(s, gondola_id)], gondola_id, [])
    clusters = [c for c in fuse(here) if c.gondola_id == gondola_id]
    seen = [Seen(c.first_id, c.face_m, c.size_m, c.score, c.candidates(), len(c.looks)) for c in clusters]
    return _Look(seen, [t for s in here for t in s.tags if t.gondola_id == gondola_id])


def _face(face: FaceLayout, look: _Look, count: int, catalogue: Catalogue, prices: Mapping[str, frozenset[str]]) -> list[Line]:
    seen, readings = look.seen, look.tags
    if not seen and not readings:
        return []
    bays = find_bays(face, seen, readings, count)
    shelves = [
        _Shelf(b, bay, k, shelf, _on(seen, bay, shelf), hanging(_below(readings, bay, shelf), prices))
        for b, bay in enumerate(bays)
        for k, shelf in enumerate(bay.shelves)
    ]
    offset = tag_offset(
        [(runs(front_row(s.seen), catalogue, frozenset(), [(t.x_m, t.skus) for t in s.tags]), s.tags) for s in shelves]
    )
    out = []
    for s in shelves:
        ends = (s.bay.x_m, s.bay.x_m + s.bay.width_m)
        depth = face.depth_m - BACK_M
        found = stretches(s.seen, s.tags, catalogue, s.shelf.z_m, s.shelf.clear_height_m, depth, ends, offset)
        out += [_line(face, s, n, depth, part) for n, part in enumerate(_side_by_side(found))]
    return out


def _side_by_side(parts: Sequence[Stretch]) -> list[Stretch]:
    """Stretches that do not overlap: each begins where the one before ends, and what is left without width is gone."""
    out: list[Stretch] = []
    end = -1.0
    for p in parts:
        p = replace(p, x0_m=max(p.x0_m, end))
        if p.x1_m - p.x0_m > LEAST_BIN_M:
            out.append(p)
            end = p.x1_m
    return out


def _empty_named(lines: Sequence[Line], prices: Mapping[str, frozenset[str]], catalogue: Catalogue) -> list[Line]:
    """Empty bins named by elimination: a product that costs what the tag says and was seen nowhere else."""
    placed = {x.sku for x in lines if x.sku}
    out = []
    for x in lines:
        if x.sku:
            out.append(x)
            continue
        printed = amount(x.tag_price) if x.tag_price else None
        costs = prices.get(f"{printed:.2f}", frozenset()) if printed is not None else frozenset()
        missing = sorted(
            k for k in costs - placed if catalogue[k].width_m < x.room_m and catalogue[k].height_m < x.clear_height_m
        )
        if not missing:
            out.append(replace(x, others=tuple(sorted(costs)[:3])))
            continue
        # Of several, the one that fills the place with whole facings best.
        sku = min(missing, key=lambda k: (_unfilled(x.room_m, catalogue[k].width_m + GAP_M), k))
        pitch = catalogue[sku].width_m + GAP_M
        wide = max(1, int(x.room_m / pitch + 0.2))
        deep = max(1, int((x.depth_m - 0.02) / (catalogue[sku].depth_m + 0.004)))
        out.append(
            replace(
                x,
                sku=sku,
                width_m=math.floor(min(x.room_m, wide * pitch) * 1e4) / 1e4,
                facings_wide=wide,
                facings_deep=deep,
                confidence=round(min(EMPTY_SURE, EMPTY_SURE * 1.2 / len(missing)), 2),
                why=f"empty; {len(missing)} products cost that and were seen nowhere",
                others=tuple(k for k in missing if k != sku)[:3],
            )
        )
    return out


def _unfilled(room_m: float, pitch_m: float) -> float:
    """The share of a facing that is left over."""
    n = room_m / pitch_m
    return n - int(n + 0.1)


@dataclass(frozen=True)
class _Shelf:
    bay_number: int
    bay: BayFound
    number: int
    shelf: ShelfFound
    seen: Sequence[Seen]
    tags: Sequence[HangingTag]


def _bays(face: FaceLayout, bay_width_m: float) -> int:
    count = max(1, round(face.length_m / bay_width_m))
    if abs(face.length_m / count - bay_width_m) > SLACK_SHARE * bay_width_m:
        raise BadInput(
            f"--bay-width {bay_width_m:g}: face {face.gondola_id} of {face.length_m:.2f} m is no whole number of such bays "
            f"({count} would be {face.length_m / count:.2f} m each)"
        )
    return count


def _tells(scan: BayScan, gondola_id: str) -> bool:
    return any(x.gondola_id == gondola_id for part in (scan.observations, scan.tags) for x in part)


def _on(seen: Sequence[Seen], bay: BayFound, shelf: ShelfFound) -> list[Seen]:
    return [
        s
        for s in seen
        if bay.x_m <= s.face_m[0] < bay.x_m + bay.width_m
        and shelf.z_m <= s.face_m[2] < shelf.z_m + shelf.clear_height_m + BELOW_M
        and s.face_m[2] - s.size_m[1] / 2 > shelf.z_m - 2 * BELOW_M
    ]


def _below(readings: Sequence[TagReading], bay: BayFound, shelf: ShelfFound) -> list[TagReading]:
    return [
        t
        for t in readings
        if bay.x_m <= t.face_m[0] < bay.x_m + bay.width_m and abs(t.face_m[2] + TAG_BELOW_M - shelf.z_m) < TAG_SLACK_M
    ]


def _line(face: FaceLayout, s: _Shelf, n: int, depth_m: float, part: Stretch) -> Line:
    bay_id = f"{face.gondola_id}-B{s.bay_number + 1:02d}"
    shelf_id = f"{bay_id}-S{s.number + 1}"
    # Both ends rounded alike: neighbours meet and do not overlap.
    x0, x1 = round(part.x0_m - s.bay.x_m, 4), round(part.x1_m - s.bay.x_m, 4)
    best = max(part.seen, key=lambda x: (x.score, x.key), default=None)
    return Line(
        face.aisle_id,
        face.gondola_id,
        bay_id,
        s.bay.x_m,
        s.bay.width_m,
        shelf_id,
        s.shelf.z_m,
        s.shelf.clear_height_m,
        round(depth_m, 4),
        f"{shelf_id}-{n + 1:02d}",
        x0,
        round(x1 - x0, 4),
        part.sku,
        part.wide,
        part.high,
        part.deep,
        part.confidence,
        part.why,
        len(part.seen),
        part.tag.price if part.tag else "",
        part.others,
        best.key if best else "",
        round(part.room_m, 4),
    )
