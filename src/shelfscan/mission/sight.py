"""The map as a planner sees it: where the robot may stand, what stands between a camera and a shelf, how far it is from here
to there. All of it in the plane: whatever the map shows is taken to be as high as the shelves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import time
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shelfscan.errors import BadInput
from shelfscan.model.geometry import Array, Pose2D, apply
from shelfscan.model.grid import OccupancyGrid
from shelfscan.model.store import Store

#: Rays end this far before a shelf's front: maps show the shelf itself up to two cells before where it is.
BEFORE_FRONT_M = 0.15
#: Ways are measured on cells of this size.
WAY_CELL_M = 0.2
#: What a way costs that the map does not show, as a multiple of the straight line (a door that stands open at night).
NO_WAY = 10.0


@dataclass(frozen=True, slots=True)
class KeepOut:
    """A part of the floor the robot must not enter: corners (x, y) in ``map``, metres.

    ``between``: the hours of the day it holds for, past midnight where the second is the earlier; None: always.
    """

    name: str
    corners_m: tuple[tuple[float, float], ...]
    between: tuple[time, time] | None = None

    def holds(self, begins: time, hours: float) -> bool:
        """Whether it holds at any moment of a mission that begins at a time of the day and takes some hours."""
        if self.between is None or hours >= 24:
            return True
        a, b = (t.hour + t.minute / 60 for t in self.between)
        start = begins.hour + begins.minute / 60
        length = (b - a) % 24 or 24.0
        # On a circle of 24 hours two stretches meet when the beginning of one lies in the other.
        return (start - a) % 24 < length or (a - start) % 24 < hours


def without(grid: OccupancyGrid, zones: Sequence[KeepOut]) -> OccupancyGrid:
    """The map with the zones as if walls were there. Raises `BadInput` for a zone that has no area."""
    if not zones:
        return grid
    import shapely  # here, and SciPy below: every command would wait half a second for them

    cells = grid.cells.copy()
    rows, cols = cells.shape
    x = grid.origin_m[0] + (np.arange(cols) + 0.5) * grid.resolution_m
    y = grid.origin_m[1] + (np.arange(rows) + 0.5) * grid.resolution_m
    gx, gy = np.meshgrid(x, y)
    for zone in zones:
        polygon = shapely.Polygon(zone.corners_m)
        if not polygon.is_valid or polygon.area < grid.resolution_m**2:
            raise BadInput(f"keep-out {zone.name!r}: expected the corners of a simple polygon, in order")
        cells[shapely.contains_xy(polygon, gx, gy)] = 100
    return replace(grid, cells=cells)


#: A map fits a face when so much of the strip inside it is no free floor, and so much of the strip before it is.
FITS = 0.6


def misplaced_faces(store: Store, grid: OccupancyGrid) -> list[str]:
    """Gondola faces that the map contradicts: floor where the shelf should be, or something solid all along before it."""
    out = []
    for _, gondola in store.gondolas():
        x = np.arange(0.1, max(gondola.length_m - 0.1, 0.2), grid.resolution_m)
        T = gondola.face.matrix()
        share = {}
        # The shelf's own border is mapped a cell or two off, so neither strip touches it.
        for name, y in (("inside", 0.12), ("before", -0.5)):
            points = apply(T, np.stack([x, np.full_like(x, y), np.zeros_like(x)], axis=-1))
            share[name] = float(np.mean([grid.is_free(float(p[0]), float(p[1])) for p in points]))
        if share["inside"] > 1 - FITS or share["before"] < 1 - FITS:
            out.append(gondola.gondola_id)
    return out


class Floor:
    """A map to stand on, look over and drive on."""

    def __init__(self, grid: OccupancyGrid, radius_m: float) -> None:
        self._grid, self._radius_m = grid, radius_m
        self._solid = grid.cells == 100

    def free(self, x_m: Array, y_m: Array) -> NDArray[np.bool_]:
        """Whether a disc of the robot's radius around each point lies on known free cells only; any shape."""
        angles = [(0.0, 0.0)]
        for r, n in ((self._radius_m / 2, 8), (self._radius_m, 16)):
            angles += [(r, 2 * math.pi * k / n) for k in range(n)]
        dx = np.array([r * math.cos(a) for r, a in angles])
        dy = np.array([r * math.sin(a) for r, a in angles])
        return np.asarray(
            (self._at(self._grid.cells, np.asarray(x_m)[..., None] + dx, np.asarray(y_m)[..., None] + dy, -1) == 0).all(-1)
        )

    def clear(self, camera_face: Array, xs_m: Array, T_map_face: Array) -> NDArray[np.bool_]:
        """Whether nothing on the map stands between a camera (x, y) and points of the front line of a face.

        ``camera_face``: (2,) in the face frame; ``xs_m``: (N,) along the face; returns (N,).
        """
        steps = max(2, math.ceil(-float(camera_face[1]) / self._grid.resolution_m) * 2)
        t = np.linspace(0.0, 1.0, steps)[None, :]
        x = camera_face[0] + (xs_m[:, None] - camera_face[0]) * t
        y = camera_face[1] + (0.0 - camera_face[1]) * t
        points = apply(T_map_face, np.stack([x, np.broadcast_to(y, x.shape), np.zeros_like(x)], axis=-1))
        solid = self._at(self._solid, points[..., 0], points[..., 1], 0).astype(bool)
        return np.asarray(~(solid & (y < -BEFORE_FRONT_M)).any(axis=1))

    def _at(self, cells: NDArray[Any], x: Array, y: Array, beyond: int) -> NDArray[Any]:
        r = np.floor((y - self._grid.origin_m[1]) / self._grid.resolution_m).astype(int)
        c = np.floor((x - self._grid.origin_m[0]) / self._grid.resolution_m).astype(int)
        rows, cols = cells.shape
        ok = (r >= 0) & (r < rows) & (c >= 0) & (c < cols)
        out = cells[np.clip(r, 0, rows - 1), np.clip(c, 0, cols - 1)]
        return np.asarray(np.where(ok, out, beyond))

    def ways(self, starts: Sequence[Pose2D], goals: Sequence[Pose2D]) -> Array:
        """How far it is to drive from each start to each goal on the map, metres; (starts, goals).

        A pair without a way costs `NO_WAY` times its straight line.
        """
        from scipy.sparse.csgraph import dijkstra

        graph, index = self._graph
        a = [index(p) for p in starts]
        b = [index(p) for p in goals]
        sources = sorted(set(a))
        found = dijkstra(graph, directed=False, indices=sources)
        row = {s: n for n, s in enumerate(sources)}
        line = np.array([[math.hypot(p.x_m - q.x_m, p.y_m - q.y_m) for q in goals] for p in starts])
        way = np.array([[found[row[i], j] for j in b] for i in a])
        return np.where(np.isfinite(way), np.maximum(way, line), NO_WAY * line)

    @cached_property
    def _graph(self) -> tuple[Any, Callable[[Pose2D], int]]:
        from scipy.ndimage import distance_transform_edt, maximum_filter
        from scipy.sparse import coo_matrix

        free = self._grid.cells == 0
        clear = np.asarray(distance_transform_edt(free)) * self._grid.resolution_m
        step = max(1, round(WAY_CELL_M / self._grid.resolution_m))
        # A coarse cell can be driven on where any of its cells can: narrow aisles stay open.
        wide = maximum_filter(clear > self._radius_m, size=step, origin=-((step - 1) // 2))[::step, ::step]
        rows, cols = wide.shape
        size = step * self._grid.resolution_m
        number = np.arange(rows * cols).reshape(rows, cols)
        src, dst, cost = [], [], []
        # Steps of a knight as well: with straight and diagonal ones alone a way comes out up to 8 % too long.
        for dr, dc in ((0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (2, 1), (2, -1), (1, -2)):
            r0, r1 = 0, rows - dr
            c0, c1 = max(0, -dc), cols - max(0, dc)
            both = wide[r0:r1, c0:c1] & wide[r0 + dr : r1 + dr, c0 + dc : c1 + dc]
            src.append(number[r0:r1, c0:c1][both])
            dst.append(number[r0 + dr : r1 + dr, c0 + dc : c1 + dc][both])
            cost.append(np.full(both.sum(), math.hypot(dr, dc) * size))
        n = rows * cols
        graph = coo_matrix((np.concatenate(cost), (np.concatenate(src), np.concatenate(dst))), shape=(n, n)).tocsr()
        open_r, open_c = np.nonzero(wide)

        def index(pose: Pose2D) -> int:
            """The drivable coarse cell next to a pose."""
            if not len(open_r):
                return 0
            r = (pose.y_m - self._grid.origin_m[1]) / size - 0.5
            c = (pose.x_m - self._grid.origin_m[0]) / size - 0.5
            k = int(np.argmin((open_r - r) ** 2 + (open_c - c) ** 2))
            return int(number[open_r[k], open_c[k]])

        return graph, index
