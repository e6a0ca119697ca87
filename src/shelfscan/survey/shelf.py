"""What stands on one shelf: stretches of one SKU, and tags below which nothing stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from shelfscan.audit.match import Seen
from shelfscan.audit.stale import GAP_M, Run, runs
from shelfscan.audit.tags import agree, amount
from shelfscan.model.catalogue import Catalogue
from shelfscan.model.scan import TagReading

#: Two products take the same place of the front when they overlap by this share of the smaller one both ways.
SAME_PLACE = 0.4
#: Readings of one tag lie within this.
SAME_TAG_M = 0.03
#: A tag belongs to a stretch that begins so far before or behind it, at most.
TAG_REACH_M = 0.10
#: Tags hang at the stretches' left ends when their place there spreads by no more than this (median absolute deviation).
STEADY_M = 0.012
#: A stretch grows to where the next one begins when that makes whole facings, within this share of one.
WHOLE = 0.3
#: What stands behind another one's tag and looks this much like its product is that product.
ALIKE = 0.5
#: Columns stand this much apart, as a share of the catalogue's width and a gap; a share further apart is an empty place.
PITCH_SHARE = (0.75, 1.6)
#: A second row is one when its items are whole, and over so many of the columns.
WHOLE_HEIGHT, ROW_SHARE = 0.75, 0.34


@dataclass(frozen=True)
class HangingTag:
    """All readings of one tag: where it hangs, its printed price, and the SKUs that cost that."""

    x_m: float
    price: str
    skus: frozenset[str]


@dataclass(frozen=True)
class Stretch:
    """A proposed bin: from ``x0_m`` to ``x1_m`` along the face. ``seen`` is empty where only a tag speaks."""

    sku: str
    x0_m: float
    x1_m: float
    wide: int
    high: int
    deep: int
    seen: tuple[Seen, ...]
    tag: HangingTag | None
    confidence: float
    why: str
    others: tuple[str, ...] = ()
    room_m: float = 0.0


def hanging(readings: Sequence[TagReading], by_price: Mapping[str, frozenset[str]]) -> list[HangingTag]:
    """The tags of one shelf from the left, each from all its readings."""
    ordered = sorted(readings, key=lambda t: t.face_m[0])
    groups: list[list[TagReading]] = []
    for t in ordered:
        if groups and t.face_m[0] - groups[-1][-1].face_m[0] < SAME_TAG_M:
            groups[-1].append(t)
        else:
            groups.append([t])
    out = []
    for group in groups:
        price = agree(group).price
        printed = amount(price) if price else None
        skus = by_price.get(f"{printed:.2f}", frozenset()) if printed is not None else frozenset()
        out.append(HangingTag(float(np.median([t.face_m[0] for t in group])), price, skus))
    return out


def front_row(seen: Sequence[Seen]) -> list[Seen]:
    """Products without those of which a nearer one takes the place."""
    out: list[Seen] = []
    for s in sorted(seen, key=lambda s: (s.face_m[1], -s.score, s.key)):
        if not any(_share(s, o, 0) > SAME_PLACE and _share(s, o, 1) > SAME_PLACE for o in out):
            out.append(s)
    return out


def _share(a: Seen, b: Seen, side: int) -> float:
    k = 0 if side == 0 else 2
    reach = (a.size_m[side] + b.size_m[side]) / 2 - abs(a.face_m[k] - b.face_m[k])
    return reach / max(1e-6, min(a.size_m[side], b.size_m[side]))


def stretches(
    seen: Sequence[Seen],
    tags: Sequence[HangingTag],
    catalogue: Catalogue,
    z_m: float,
    clear_m: float,
    depth_m: float,
    ends: tuple[float, float],
    tag_offset_m: float | None,
) -> list[Stretch]:
    """The bins of one shelf, from the left. ``ends``: of the bay; ``tag_offset_m``: see `tag_offset`."""
    found = runs(front_row(seen), catalogue, frozenset(), [(t.x_m, t.skus) for t in tags])
    found = _without_strays(found, tags)
    owner = _tags_of(found, tags)
    parts = [_Part(r.sku, r.x0_m - GAP_M / 2, r.x1_m + GAP_M / 2, r.seen, owner.get(n)) for n, r in enumerate(found)]
    parts = _split_at_tags(parts, tags, tag_offset_m)
    taken = {p.tag for p in parts if p.tag is not None}
    for t in tags:
        if t not in taken and not any(p.x0_m < t.x_m < p.x1_m for p in parts):
            start = t.x_m - (tag_offset_m or 0.0) - GAP_M / 2
            parts.append(_Part(min(t.skus) if len(t.skus) == 1 else "", start, start, (), t))
    parts.sort(key=lambda p: (p.x0_m, p.sku))
    return [_stretch(parts, n, catalogue, z_m, clear_m, depth_m, ends, tag_offset_m) for n in range(len(parts))]


@dataclass(frozen=True)
class _Part:
    sku: str
    x0_m: float
    x1_m: float
    seen: tuple[Seen, ...]
    tag: HangingTag | None


def tag_offset(shelves: Sequence[tuple[Sequence[Run], Sequence[HangingTag]]]) -> float | None:
    """How far right of a stretch's left end its tag hangs in this store; None where tags do not hang there."""
    off = []
    for found, tags in shelves:
        for n, tag in _tags_of(found, tags).items():
            off.append(tag.x_m - found[n].x0_m)
    if len(off) < 6:
        return None
    middle = float(np.median(off))
    return middle if float(np.median(np.abs(np.array(off) - middle))) <= STEADY_M else None


def _tags_of(found: Sequence[Run], tags: Sequence[HangingTag]) -> dict[int, HangingTag]:
    """A tag for each stretch: one that names it, else the nearest to its left end."""
    out: dict[int, HangingTag] = {}
    free = list(tags)
    for named in (True, False):
        for n, r in enumerate(found):
            if n in out:
                continue
            near = [t for t in free if r.x0_m - TAG_REACH_M < t.x_m < min(r.x1_m, r.x0_m + TAG_REACH_M)]
            near = [t for t in near if r.sku in t.skus] if named else near
            if near:
                out[n] = min(near, key=lambda t: (abs(t.x_m - r.x0_m), t.x_m))
                free.remove(out[n])
    return out


def _without_strays(found: Sequence[Run], tags: Sequence[HangingTag]) -> list[Run]:
    """Stretches of one product, put among others by a shopper, taken into the one they stand in."""
    out: list[Run] = []
    for n, r in enumerate(found):
        tagged = any(r.sku in t.skus and r.x0_m - TAG_REACH_M < t.x_m < r.x1_m for t in tags)
        hung = any(out and out[-1].x1_m - 0.02 < t.x_m < r.x1_m for t in tags)
        between = bool(out) and n + 1 < len(found) and out[-1].sku == found[n + 1].sku
        if out and len(r.seen) == 1 and not tagged and (between or (tags and not hung)):
            out[-1] = replace(out[-1], x1_m=max(out[-1].x1_m, r.x1_m))
        elif out and out[-1].sku == r.sku:
            out[-1] = Run(r.sku, out[-1].x0_m, max(out[-1].x1_m, r.x1_m), (*out[-1].seen, *r.seen))
        else:
            out.append(r)
    return out


def _split_at_tags(parts: Sequence[_Part], tags: Sequence[HangingTag], offset_m: float | None) -> list[_Part]:
    """Where a tag of another price hangs within a stretch, another bin begins: of a product that looks the same, or empty."""
    out: list[_Part] = []
    taken = {p.tag for p in parts if p.tag is not None}
    for whole in parts:
        p = whole
        for t in tags:
            first = min((s.face_m[0] for s in p.seen), default=p.x0_m)
            if t in taken or not t.skus or p.sku in t.skus or not first < t.x_m < p.x1_m:
                continue
            begin = t.x_m - (offset_m or 0.0)
            right = tuple(s for s in p.seen if s.face_m[0] > begin)
            left = tuple(s for s in p.seen if s.face_m[0] <= begin)
            if not left:
                continue
            sku = max(t.skus, key=lambda k: (sum(s.similarity(k) for s in right), k)) if right or len(t.skus) == 1 else ""
            if right and np.mean([s.similarity(sku) for s in right]) < ALIKE:
                continue
            reach = max(s.face_m[0] + s.size_m[0] / 2 for s in left) + GAP_M / 2
            out.append(_Part(p.sku, p.x0_m, min(reach, begin) if right else reach, left, p.tag))
            p = _Part(sku, begin, p.x1_m if right else begin, right, t)
            taken.add(t)
        out.append(p)
    return out


def _stretch(
    parts: Sequence[_Part],
    n: int,
    catalogue: Catalogue,
    z_m: float,
    clear_m: float,
    depth_m: float,
    ends: tuple[float, float],
    tag_offset_m: float | None,
) -> Stretch:
    p = parts[n]
    product = catalogue.get(p.sku)
    begin = p.x0_m
    if p.tag is not None and tag_offset_m is not None:
        begin = min(begin, p.tag.x_m - tag_offset_m - GAP_M / 2)
    before = parts[n - 1] if n else None
    begin = max(begin, before.x1_m if before and before.seen else ends[0])
    after = parts[n + 1] if n + 1 < len(parts) else None
    limit = ends[1]
    if after is not None:
        limit = after.x0_m
        if after.tag is not None and tag_offset_m is not None:
            limit = max(p.x1_m, min(limit, after.tag.x_m - tag_offset_m - GAP_M / 2))
    if product is None:
        end = min(limit, max(p.x1_m, begin + 0.08))
        why = "a product that is not in the catalogue" if p.seen else "empty, and the tag names no product"
        return Stretch(p.sku, begin, end, 1, 1, 1, p.seen, p.tag, 0.1, why, _others(p), limit - begin)
    pitch = _pitch(p, product.width_m + GAP_M)
    wide = max(1, round((p.x1_m - begin) / pitch)) if p.seen else 1
    room = (limit - begin) / pitch
    if after is not None and round(room) > wide and abs(room - round(room)) < WHOLE:
        wide = round(room)
    if not p.seen and after is not None:
        wide = max(1, round(room))
    end = limit if after is not None and abs(room - wide) < 0.5 else begin + wide * pitch
    high = _rows(p, product.height_m, wide, z_m, clear_m)
    deep = max(1, int((depth_m - 0.02) / (product.depth_m + 0.004)))
    confidence, why = _sure(p)
    return Stretch(p.sku, begin, min(end, ends[1]), wide, high, deep, p.seen, p.tag, confidence, why, _others(p), limit - begin)


def _pitch(p: _Part, catalogue_m: float) -> float:
    """How far apart columns stand: as measured where two are seen beside each other, else as the catalogue's width says."""
    xs = sorted(s.face_m[0] for s in p.seen)
    steps = [b - a for a, b in pairwise(xs) if PITCH_SHARE[0] * catalogue_m < b - a < PITCH_SHARE[1] * catalogue_m]
    return float(np.median(steps)) if steps else catalogue_m


def _rows(p: _Part, height_m: float, wide: int, z_m: float, clear_m: float) -> int:
    """How many are stacked: the highest row that enough whole items stand in."""
    fit = max(1, int(clear_m / max(height_m, 0.02)))
    at: dict[int, int] = {}
    for s in p.seen:
        if s.size_m[1] >= WHOLE_HEIGHT * height_m:
            row = max(0, round((s.face_m[2] - s.size_m[1] / 2 - z_m) / max(height_m, 0.02)))
            at[row] = at.get(row, 0) + 1
    return min(fit, 1 + max((r for r, n in at.items() if n >= ROW_SHARE * wide), default=0))


def _sure(p: _Part) -> tuple[float, str]:
    """How sure the name is, 0..1, and why; stated, not learned."""
    agrees = p.tag is not None and p.sku in p.tag.skus
    if not p.seen:
        return (
            (0.6, "empty: only the tag's price says so")
            if len(p.tag.skus if p.tag else ()) == 1
            else (0.1, "empty, price unclear")
        )
    own = float(np.median([s.similarity(p.sku) for s in p.seen]))
    margin = float(
        np.median([s.similarity(p.sku) - max((c.score for c in s.candidates if c.sku != p.sku), default=0.0) for s in p.seen])
    )
    sure = 0.25 + 0.45 * own + 0.3 * max(-0.5, min(0.5, margin))
    if agrees:
        sure = max(sure, 0.8) + 0.15
    elif p.tag is not None and p.tag.skus:
        sure -= 0.25
    if len(p.seen) == 1:
        sure -= 0.05
    said = (
        "the tag's price agrees"
        if agrees
        else "the tag's price is another one's"
        if p.tag and p.tag.skus
        else "no readable tag"
    )
    return round(max(0.05, min(0.99, sure)), 2), f"looks {own:.2f}, ahead by {margin:+.2f}; {said}"


def _others(p: _Part) -> tuple[str, ...]:
    """Other names it may have, likeliest first."""
    score: dict[str, float] = {}
    for s in p.seen:
        for c in s.candidates:
            score[c.sku] = score.get(c.sku, 0.0) + c.score
    for sku in p.tag.skus if p.tag else ():
        score[sku] = score.get(sku, 0.0) + 0.5
    score.pop(p.sku, None)
    return tuple(sorted(score, key=lambda k: (-score[k], k))[:3])
