"""Captures of one face brought onto each other along it: what one capture can't settle, its neighbours do.

Where a capture stands along the face is told by columns that repeat, so one capture can be a facing or two off, or know
nothing at all. But neighbouring captures show the same goods. How far the one's have to be moved to lie on the other's is a
relative measurement, and each capture's own correction an absolute one; together they are a chain of springs (a pose graph
in one dimension; Lu and Milios, 1997), solved by iteratively reweighted least squares (weights of Geman and McClure, 1987), so
that one capture that is a facing off yields to its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from shelfscan.model.scan import COVERAGE_COLUMNS, COVERAGE_ROWS, FRONT_X_M, BayScan, BinCoverage, Observation
from shelfscan.model.store import BinPlace

#: Two looks may be of one item when they differ by less than this upwards and into the shelf ...
SAME_Z_M, SAME_Y_M = 0.02, 0.05
#: ... and by this along the face, whatever the two captures' corrections are worth.
REACH_M = 0.22
#: How wide a vote is: boxes of an item seen from its left and from its right take in a side of it each, which moves them apart.
VOTE_M = 0.012
#: ... and, the same way all along a face, the one capture's looks from the other's: so far usually, and the face's own median
#: counts against so many usual ones.
USUAL_M, USUAL_LOOKS = -0.012, 4
#: So many shared items make a measurement; and a second summit of such a share unmakes it.
LEAST_SHARED, SUMMIT_SHARE = 3, 0.8
#: What a relative and an absolute measurement are believed to be off by, at least.
RELATIVE_M, ABSOLUTE_M = 0.015, 0.006
#: Corrections below this are left alone (a relative measurement knows no better); above the other, what was looked up at
#: planned places was looked up elsewhere.
LEAST_M, CHECKS_M = 0.009, 0.015
#: What lies this little beyond a shelf's end is in view when the end is.
BEYOND_M = 0.03


@dataclass(frozen=True, slots=True)
class Edge:
    """How far the items of capture ``b`` have to be moved to lie on those of ``a``, metres."""

    a: int
    b: int
    offset_m: float


def registered(scans: Sequence[BayScan], gondola_id: str, places: Sequence[BinPlace]) -> list[BayScan]:
    """The captures with what they saw of one face moved along it so that they agree; in the given order.

    Captures without an `Alignment` for the face stay as they are and hold the others.
    """
    moves = corrections(scans, gondola_id)
    return [moved(s, gondola_id, d, places) if abs(d) >= LEAST_M else s for s, d in zip(scans, moves, strict=True)]


def corrections(scans: Sequence[BayScan], gondola_id: str) -> list[float]:
    """How far each capture has to be moved along the face, metres."""
    if len(scans) < 2:
        return [0.0] * len(scans)
    sigmas = [next((a.sigma_x_m for a in s.alignments if a.gondola_id == gondola_id), 1e-3) for s in scans]
    absolute = [(0.0, max(ABSOLUTE_M, s)) for s in sigmas]
    # Begin from the relative measurements: an absolute one is either right or a facing off.
    return relaxed(absolute, edges(scans, gondola_id), RELATIVE_M, 0.05)


def edges(scans: Sequence[BayScan], gondola_id: str, usual_m: float = USUAL_M) -> list[Edge]:
    """Relative measurements between neighbours along the face, less what is usual; scans come in their viewpoints' order."""
    looks = [[o for o in s.observations if o.gondola_id == gondola_id and o.candidates] for s in scans]
    found = [e for a, b in pairwise(range(len(scans))) if (e := _edge(a, b, looks[a], looks[b])) is not None]
    usual = float(np.median([e.offset_m for e in found] + [usual_m] * USUAL_LOOKS))
    return [replace(e, offset_m=e.offset_m - usual) for e in found]


def relaxed(absolute: Sequence[tuple[float, float]], edges: Sequence[Edge], edge_m: float, begin: float) -> list[float]:
    """Where the springs come to rest, metres per capture. ``absolute``: (where, standard deviation) per capture; ``edge_m``:
    that of an edge; ``begin``: how much absolute measurements are trusted at first."""
    # Rows: one absolute measurement a capture, then the relative ones.
    count = len(absolute)
    A = np.zeros((count + len(edges), count))
    y = np.zeros(len(A))
    sigma = np.array([s for _, s in absolute] + [edge_m] * len(edges))
    A[:count] = np.eye(count)
    y[:count] = [v for v, _ in absolute]
    for n, e in enumerate(edges, count):
        A[n, e.b], A[n, e.a], y[n] = 1.0, -1.0, e.offset_m
    weight = 1 / sigma**2
    trust = np.ones(len(A))
    trust[:count] = begin
    d = np.zeros(count)
    for _ in range(30):
        w = weight * trust
        d[:] = np.linalg.solve(A.T @ (w[:, None] * A), A.T @ (w * y))
        trust[:] = 1 / (1 + ((A @ d - y) / sigma / 2) ** 2) ** 2
    return [round(float(v), 5) for v in d]


def _edge(a: int, b: int, left: Sequence[Observation], right: Sequence[Observation]) -> Edge | None:
    """How far the items of ``b`` have to be moved to lie on those of ``a``, by votes of the items that may be the same."""
    offsets: list[float] = []
    weights: list[float] = []
    owner: list[int] = []
    if not left or not right:
        return None
    L, R = (np.array([o.face_m for o in side]) for side in (left, right))
    for n, o in enumerate(right):
        near = (
            (np.abs(L[:, 0] - R[n, 0]) < REACH_M)
            & (np.abs(L[:, 1] - R[n, 1]) < SAME_Y_M)
            & (np.abs(L[:, 2] - R[n, 2]) < SAME_Z_M)
        )
        mine = {c.sku: c.score for c in o.candidates}
        for m in np.flatnonzero(near).tolist():
            other = left[m]
            alike = max((min(mine.get(c.sku, 0.0), c.score) for c in other.candidates), default=0.0)
            same_size = abs(o.size_m[0] - other.size_m[0]) < 0.15 * other.size_m[0] + 0.005
            if alike > 0 and same_size:
                offsets.append(float(L[m, 0] - R[n, 0]))
                weights.append(alike * min(o.score, other.score))
                owner.append(n)
    if len(set(owner)) < LEAST_SHARED:
        return None
    off, w, own = np.array(offsets), np.array(weights), np.array(owner, np.int64)
    half = round(4 * REACH_M / VOTE_M)
    grid = np.arange(-half, half + 1) * VOTE_M / 4
    # What speaks for each offset: every item's best pair.
    each = w * np.exp(-0.5 * ((off - grid[:, None]) / VOTE_M) ** 2)
    values = np.maximum.reduceat(each, np.flatnonzero(np.diff(own, prepend=-1)), axis=1).sum(axis=1)
    best = int(np.argmax(values))
    away = np.abs(grid - grid[best]) > 2.5 * VOTE_M
    if values[away].max(initial=0.0) > SUMMIT_SHARE * values[best]:
        return None
    kept = np.abs(off - grid[best]) < 2 * VOTE_M
    shared = len(set(own[kept].tolist()))
    if shared < LEAST_SHARED:
        return None
    return Edge(a, b, float(np.median(off[kept])))


def moved(scan: BayScan, gondola_id: str, d: float, places: Sequence[BinPlace]) -> BayScan:
    """A capture with all it saw of one face moved by ``d`` along it."""
    here = {p.bin_id for p in places}
    checks = scan.checks if abs(d) < CHECKS_M else tuple(c for c in scan.checks if c.bin_id not in here)
    coverage = [c for c in scan.coverage if c.bin_id not in here]
    coverage += coverage_moved([c for c in scan.coverage if c.bin_id in here], places, d)
    cells = round(d / FRONT_X_M)
    return replace(
        scan,
        observations=tuple(
            replace(o, face_m=along(o.face_m, d)) if o.gondola_id == gondola_id else o for o in scan.observations
        ),
        tags=tuple(replace(t, face_m=along(t.face_m, d)) if t.gondola_id == gondola_id else t for t in scan.tags),
        fronts=tuple(
            replace(f, column=f.column + cells, eye_x_m=f.eye_x_m + d) if f.gondola_id == gondola_id else f for f in scan.fronts
        ),
        checks=checks,
        coverage=tuple(coverage),
    )


def along(p: tuple[float, float, float], d: float) -> tuple[float, float, float]:
    """A place of the face frame, ``d`` further along it."""
    return (p[0] + d, p[1], p[2])


def coverage_moved(coverage: Sequence[BinCoverage], places: Sequence[BinPlace], d: float) -> list[BinCoverage]:
    """Which cells a capture saw, had it stood ``d`` further along the face than it was believed to.

    A cell counts as seen where both its ends lie in seen cells of the same row of their shelf, as blocked where either lies in
    a blocked one. Beyond a shelf's ends nobody kept a record; up to `BEYOND_M` it is taken as its last cell is.
    """
    of = {c.bin_id: c for c in coverage}
    shelves: dict[str, list[BinPlace]] = {}
    for p in places:
        shelves.setdefault(p.shelf_id, []).append(p)
    out: list[BinCoverage] = []
    rows = {shelf: _Row.of(here, of) for shelf, here in shelves.items()}
    for place in places:
        of_shelf = rows[place.shelf_id]
        if of_shelf is None or not (place.x0_m - d <= of_shelf.known_to_m and place.x1_m - d >= of_shelf.known_from_m):
            continue  # nothing of it can have been seen
        step = (place.x1_m - place.x0_m) / COVERAGE_COLUMNS
        seen = blocked = 0
        for column in range(COVERAGE_COLUMNS):
            x = place.x0_m + column * step - d
            ends = [of_shelf.cell(x + 0.02 * step), of_shelf.cell(x + 0.98 * step)]
            for row in range(COVERAGE_ROWS):
                bit = 1 << (row * COVERAGE_COLUMNS + column)
                saw = [c is not None and bool(c[0].seen >> (row * COVERAGE_COLUMNS + c[1]) & 1) for c in ends]
                hid = [c is not None and bool(c[0].blocked >> (row * COVERAGE_COLUMNS + c[1]) & 1) for c in ends]
                seen |= bit if all(saw) else 0
                blocked |= bit if any(hid) else 0
        if seen or blocked:
            known = of.get(place.bin_id)
            out.append(BinCoverage(place.bin_id, seen, blocked & ~seen, known.evidence if known else ""))
    return out


@dataclass(frozen=True, slots=True)
class _Row:
    """A shelf's bins that a capture says something of, where the shelf begins and ends, and what is known of it at most."""

    bins: tuple[tuple[BinPlace, BinCoverage], ...]
    first_m: float
    last_m: float
    known_from_m: float
    known_to_m: float

    @staticmethod
    def of(places: Sequence[BinPlace], coverage: Mapping[str, BinCoverage]) -> _Row | None:
        bins = tuple((p, coverage[p.bin_id]) for p in places if p.bin_id in coverage)
        if not bins:
            return None
        ends = [v for p, _ in bins for v in (p.x0_m, p.x1_m)]
        known = (min(ends) - BEYOND_M, max(ends) + BEYOND_M)
        return _Row(bins, min(p.x0_m for p in places), max(p.x1_m for p in places), *known)

    def cell(self, x: float) -> tuple[BinCoverage, int] | None:
        """What is known of the bin there, and the column of its front."""
        if self.first_m - BEYOND_M < x < self.last_m + BEYOND_M:
            x = min(max(x, self.first_m), self.last_m - 1e-6)
        for p, known in self.bins:
            if p.x0_m <= x < p.x1_m:
                return known, int((x - p.x0_m) / (p.x1_m - p.x0_m) * COVERAGE_COLUMNS)
        return None
