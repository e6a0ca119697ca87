"""Bays and shelves of a gondola face, from what was seen on it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from shelfscan.audit.match import Seen
from shelfscan.audit.tags import TAG_BELOW_M
from shelfscan.model.geometry import Pose2D
from shelfscan.model.scan import TagReading

#: Bays are made in these widths; a face is divided evenly.
NARROWEST_M, WIDEST_M = 0.55, 1.40
#: A border between bays is one that hardly any product reaches over: at most this share of those that are at it.
MOST_CROSSED = 0.15
#: A product reaches over a border when it is on both sides by this much: its box has some millimetres of slack.
OVER_M = 0.012
#: A border may lie this many steps beside where even bays would have it: a drive without a planogram drifts along the face.
BORDER_STEPS, BORDER_STEP_M = 8, 0.01
#: Tags of one shelf hang within this of each other; shelves are further apart than the second.
SAME_HEIGHT_M, APART_M = 0.025, 0.10
#: What makes a shelf: so many tags, or so many products' feet side by side over such a stretch.
LEAST_TAGS, LEAST_FEET, FEET_OVER_M = 2, 3, 0.25
#: Height of the strip with the tags on a shelf's edge, below the board's surface, and of the board at the very top.
EDGE_M, TOP_M = 0.045, 0.03
#: A shelf board does not reach through to the back.
BACK_M = 0.03


@dataclass(frozen=True)
class FaceLayout:
    """What is known of a face before the drive: where it stands, how long, deep and high it is; metres."""

    aisle_id: str
    gondola_id: str
    face: Pose2D
    length_m: float
    depth_m: float
    height_m: float


@dataclass(frozen=True)
class ShelfFound:
    """A shelf of a bay: ``z_m`` of its surface, and the tags and feet that say so."""

    z_m: float
    clear_height_m: float
    tags: int
    feet: int


@dataclass(frozen=True)
class BayFound:
    """A bay with its shelves from below; ``x_m`` from the face's left end."""

    x_m: float
    width_m: float
    shelves: tuple[ShelfFound, ...]


def bay_counts(faces: Sequence[FaceLayout], seen: Mapping[str, Sequence[Seen]]) -> dict[str, int]:
    """Into how many bays each face is divided, by gondola. ``seen``: the products of each face.

    A face that does not tell is divided as the others are: a store buys its bays in one width. Where none tells, bays are about
    a metre.
    """
    told = {f.gondola_id: bay_count(f, seen.get(f.gondola_id, ())) for f in faces}
    widths = Counter(round(f.length_m / told[f.gondola_id], 2) for f in faces if told[f.gondola_id])
    usual = max(widths, key=lambda w: (widths[w], w)) if widths else 1.0
    return {f.gondola_id: told[f.gondola_id] or max(1, round(f.length_m / usual)) for f in faces}


def bay_count(face: FaceLayout, seen: Sequence[Seen]) -> int:
    """Into how many even bays the face is divided: as many as no product reaches over any border of; 0 when nothing tells."""
    best = 0
    for n in range(max(1, math.ceil(face.length_m / WIDEST_M)), max(1, math.floor(face.length_m / NARROWEST_M)) + 1):
        if all(crossed(seen, face.length_m * k / n) <= MOST_CROSSED for k in range(1, n)):
            best = n
    return best


def crossed(seen: Sequence[Seen], border_m: float) -> float:
    """How many of the products that are at a border reach over it; 0..1."""
    over = near = 0
    for s in seen:
        x0, x1 = s.face_m[0] - s.size_m[0] / 2, s.face_m[0] + s.size_m[0] / 2
        near += x0 - s.size_m[0] < border_m < x1 + s.size_m[0]
        over += x0 + OVER_M < border_m < x1 - OVER_M
    return over / near if near else 0.0


def find_bays(face: FaceLayout, seen: Sequence[Seen], tags: Sequence[TagReading], bays: int) -> list[BayFound]:
    """The face in ``bays`` parts, each with its shelves.

    The parts are even but for what the drive was off by: each border is moved a little to where the fewest products reach over.
    """
    borders = [0.0, *(_border(face.length_m * n / bays, seen) for n in range(1, bays)), face.length_m]
    out = []
    for x0, x1 in pairwise(borders):
        here = [s for s in seen if x0 <= s.face_m[0] < x1]
        hang = [t for t in tags if x0 <= t.face_m[0] < x1]
        out.append(BayFound(round(x0, 4), round(round(x1, 4) - round(x0, 4), 4), shelves_of(face, here, hang)))
    return out


def _border(x_m: float, seen: Sequence[Seen]) -> float:
    tries = [x_m + k * BORDER_STEP_M for k in range(-BORDER_STEPS, BORDER_STEPS + 1)]
    return min(tries, key=lambda b: (round(crossed(seen, b), 6), abs(b - x_m)))


def shelves_of(face: FaceLayout, seen: Sequence[Seen], tags: Sequence[TagReading]) -> tuple[ShelfFound, ...]:
    """Shelves of one bay: rows of tags, and rows of feet with no tags below."""
    rows = _rows([(t.face_m[2] + TAG_BELOW_M, max(0.05, t.score)) for t in tags])
    heights = [(z, n) for z, n in rows if n >= LEAST_TAGS and 0 <= z < face.height_m - APART_M]
    found = _apart(heights)
    # The lowest row of every column stands on a shelf; a stacked item's foot is on another item.
    feet = [(s.face_m[0], s.face_m[2] - s.size_m[1] / 2, s.face_m[2] + s.size_m[1] / 2) for s in seen]
    bare = [
        (x, foot)
        for x, foot, _ in feet
        if not any(abs(foot - z) < APART_M for z, _ in found)
        and not any(abs(x - ox) < 0.06 and abs(top - foot) < 0.05 for ox, _, top in feet)
    ]
    for z, n in _rows([(foot, 1.0) for _, foot in bare]):
        xs = [x for x, foot in bare if abs(foot - z) < SAME_HEIGHT_M]
        if n >= LEAST_FEET and max(xs) - min(xs) >= FEET_OVER_M and not any(abs(z - o) < APART_M for o, _ in found):
            found = _apart([*found, (z, 0)])
    out = []
    for k, (z, n) in enumerate(found):
        top = found[k + 1][0] - EDGE_M if k + 1 < len(found) else face.height_m - TOP_M
        stand = sum(abs(foot - z) < 0.03 for _, foot, _ in feet)
        out.append(ShelfFound(round(max(0.0, z), 4), round(top - z, 4), n, stand))
    return tuple(out)


def _rows(values: Sequence[tuple[float, float]]) -> list[tuple[float, int]]:
    """Heights that values (height, weight) crowd at: their weighted median, and how many; from below."""
    ordered = sorted(values)
    out: list[tuple[float, int]] = []
    start = 0
    for n in range(1, len(ordered) + 1):
        if n == len(ordered) or ordered[n][0] - ordered[n - 1][0] > SAME_HEIGHT_M:
            part = np.array(ordered[start:n])
            order = np.cumsum(part[:, 1])
            out.append((float(part[int(np.searchsorted(order, order[-1] / 2)), 0]), len(part)))
            start = n
    return out


def _apart(heights: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """Heights far enough from each other to be shelves, those with most tags first; from below."""
    kept: list[tuple[float, int]] = []
    for z, n in sorted(heights, key=lambda h: (-h[1], h[0])):
        if all(abs(z - other) >= APART_M for other, _ in kept):
            kept.append((z, n))
    return sorted(kept)
