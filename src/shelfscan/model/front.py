"""The front-most surface of a gondola face, fused over all looks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shelfscan.model.catalogue import Product
from shelfscan.model.scan import FRONT_X_M, FRONT_Z_M, UNKNOWN_MM, FrontGrid

#: Middle part of a column, and of an item's height, whose depth is looked at; the neck of a bottle is left out.
WINDOW_X, WINDOW_Z = 0.30, (0.15, 0.65)
#: ... and beside what stands before it.
WIDE_X = 0.45
#: Nearer to the shelf's surface than this its own edge is seen.
FOOT_M = 0.012
#: A surface is what this share of the measured cells agree on, within the spread.
SURFACE_SHARE, SPREAD_M = 0.5, 0.035
#: A row of an item is seen when this share of its cells is measured; its depth may be off by so much before and behind.
SEEN_ROW, BEFORE_M, BEHIND_M = 0.3, 0.04, 0.03
#: A board's edge and its tags are nearer than this, goods are not.
EDGE_M = 0.004
#: Fewer measured cells than this are no front.
LEAST_CELLS = 3
#: A look counts by one over the square of this and of how far aside (and half as much: above or below) its camera was.
SQUARE_M = 0.3


def _cells(low_m: float, high_m: float, cell_m: float) -> tuple[int, int]:
    first, end = math.ceil(low_m / cell_m - 1e-6), math.floor(high_m / cell_m + 1e-6)
    middle = math.floor((low_m + high_m) / 2 / cell_m)
    return min(first, middle), max(end, middle + 1)


@dataclass(frozen=True)
class FaceFront:
    """``depth_m``: (rows, columns) float32 metres behind the front plane, NaN unknown; cell (0, 0) at the face's origin."""

    depth_m: NDArray[np.float32]

    def window(self, x0_m: float, x1_m: float, z0_m: float, z1_m: float) -> NDArray[np.float32]:
        """Cells that lie wholly in a stretch of the face, at least those of its middle; (rows, columns)."""
        c0, c1 = _cells(x0_m, x1_m, FRONT_X_M)
        r0, r1 = _cells(z0_m, z1_m, FRONT_Z_M)
        return self.depth_m[max(0, r0) : max(0, r1), max(0, c0) : max(0, c1)]

    @staticmethod
    def fuse(grids: Iterable[FrontGrid], length_m: float, height_m: float) -> FaceFront:
        """Per cell the depth that most looks agree on, squarer ones counting more; independent of the grids' order.

        A look that grazes the board's edge from below measures something between the edge and the goods behind it, however
        square it is; two other looks that agree outvote it.
        """
        shape = (int(height_m / FRONT_Z_M) + 2, int(length_m / FRONT_X_M) + 2)
        depth = np.full(shape, np.nan, np.float32)
        best = np.full(shape, -np.inf, np.float64)
        ordered = sorted(grids, key=lambda g: (g.eye_x_m, g.eye_z_m, g.head, g.depth_mm.tobytes()))
        looks = [look for look in (_Look.of(g, shape) for g in ordered) if look is not None]
        for look in looks:
            support = look.weight.copy()
            for other in looks:
                if other is not look:
                    look.hear(other, support)
            r, c = slice(look.row, look.row + look.depth_m.shape[0]), slice(look.column, look.column + look.depth_m.shape[1])
            better = np.isfinite(look.depth_m) & (support > best[r, c])
            depth[r, c][better] = look.depth_m[better]
            best[r, c][better] = support[better]
        return FaceFront(depth)


@dataclass(frozen=True)
class _Look:
    """One camera's grid as far as it lies on the face: ``depth_m`` NaN unknown, ``weight`` by how squarely it looked."""

    row: int
    column: int
    depth_m: NDArray[np.float32]
    weight: NDArray[np.float64]

    @staticmethod
    def of(grid: FrontGrid, shape: tuple[int, int]) -> _Look | None:
        r0, c0 = max(0, grid.row), max(0, grid.column)
        part = grid.depth_mm[r0 - grid.row : shape[0] - grid.row, c0 - grid.column : shape[1] - grid.column]
        if part.size == 0:
            return None
        z = (np.arange(r0, r0 + part.shape[0]) + 0.5) * FRONT_Z_M - grid.eye_z_m
        x = (np.arange(c0, c0 + part.shape[1]) + 0.5) * FRONT_X_M - grid.eye_x_m
        # Columns are told apart along the face, so an oblique look along it costs more than one from above.
        cost = np.hypot(x[None, :], 0.5 * z[:, None])
        depth = np.where(part == UNKNOWN_MM, np.float32(np.nan), part / np.float32(1000))
        return _Look(r0, c0, depth.astype(np.float32), 1 / (SQUARE_M + cost) ** 2)

    def hear(self, other: _Look, support: NDArray[np.float64]) -> None:
        """Add the other look's weight wherever it measured the same depth."""
        r0, c0 = max(self.row, other.row), max(self.column, other.column)
        r1 = min(self.row + self.depth_m.shape[0], other.row + other.depth_m.shape[0])
        c1 = min(self.column + self.depth_m.shape[1], other.column + other.depth_m.shape[1])
        if r1 <= r0 or c1 <= c0:
            return
        mine = (slice(r0 - self.row, r1 - self.row), slice(c0 - self.column, c1 - self.column))
        theirs = (slice(r0 - other.row, r1 - other.row), slice(c0 - other.column, c1 - other.column))
        same = np.abs(self.depth_m[mine] - other.depth_m[theirs]) < SPREAD_M
        support[mine] += np.where(same, other.weight[theirs], 0.0)


def place_surface(
    front: FaceFront, product: Product, x_m: float, foot_m: float, beyond_m: float = -math.inf
) -> tuple[float, float]:
    """The front-most surface in a place: its depth behind the front plane in metres, and the measured share of cells.

    NaN when nothing was measured, or no surface holds enough of what was (scattered matches of a bare shelf back). What is
    nearer than ``beyond_m`` belongs to something else that stands before the place; then its sides are looked at too.
    """
    window = _place(front, product, x_m, foot_m, WINDOW_X if beyond_m == -math.inf else WIDE_X)
    values = window[np.isfinite(window) & (window > beyond_m)]
    if len(values) == 0:
        return math.nan, 0.0
    depth = nearest_run(values, SURFACE_SHARE, SPREAD_M)
    return math.nan if depth is None else depth, len(values) / window.size


def share_at(front: FaceFront, product: Product, x_m: float, foot_m: float, depth_m: float) -> float:
    """Share of the cells of a place, measured or not, in which something is at ``depth_m``."""
    window = _place(front, product, x_m, foot_m, WINDOW_X)
    return float(np.mean(np.abs(window - depth_m) < BEHIND_M)) if window.size else 0.0


def nearest_run(depths_m: NDArray[np.float32], share: float, spread_m: float) -> float | None:
    """The nearest depth that a share of the measured cells agrees on within a spread; None where they are of many things."""
    ordered = np.sort(depths_m)
    need = max(1, math.ceil(share * len(ordered)))
    narrow = np.flatnonzero(ordered[need - 1 :] - ordered[: len(ordered) - need + 1] < spread_m)
    if not len(narrow):
        return None
    # The median of what is in order already.
    first = int(narrow[0])
    return _middle(ordered[first : first + need])


def quantile(values: NDArray[np.float32], share: float) -> float:
    """`numpy.quantile` to the bit, for the few depths of a place in a tenth of its time.

    ``values`` (N,), one at least and none NaN; ``share`` one that float32 has exactly: older numpy rounds it to that.
    """
    ordered = np.sort(values)
    at = (len(ordered) - 1) * share
    low = int(at)
    part = at - low
    a, b = ordered[low], ordered[min(low + 1, len(ordered) - 1)]
    return float(b - (b - a) * (1 - part) if part >= 0.5 else a + (b - a) * part)


def median(values: NDArray[np.float32]) -> float:
    """`numpy.median` as `quantile` is `numpy.quantile`."""
    return _middle(np.sort(values))


def _middle(ordered: NDArray[np.float32]) -> float:
    return float((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / np.float32(2))


def _place(front: FaceFront, product: Product, x_m: float, foot_m: float, wide: float) -> NDArray[np.float32]:
    """The cells of a place that tell whether something stands there."""
    half = max(0.01, wide * product.width_m)
    z0, z1 = (foot_m + s * product.height_m for s in WINDOW_Z)
    return front.window(x_m - half, x_m + half, max(z0, foot_m + FOOT_M), z1)


def seen_top(front: FaceFront, product: Product, x_m: float, foot_m: float, upto_m: float, depth_m: float) -> float | None:
    """How high an item with its front at ``depth_m`` reaches above its foot, metres; None where its upper end is not seen.

    Depth knows where a point is, so from above an item's top side does not make it higher, as it makes its box. The end is
    seen where the rows above it are measured and lie behind the item. Rows are `FRONT_Z_M` high, and so is the uncertainty.
    """
    half = max(0.01, WINDOW_X * product.width_m)
    first, _ = _cells(foot_m, upto_m, FRONT_Z_M)
    window = front.window(x_m - half, x_m + half, foot_m, upto_m)
    # What was not measured is neither.
    beyond = window >= depth_m + product.depth_m + BEHIND_M
    mine = (window > depth_m - BEFORE_M) & ~beyond
    counts = (np.count_nonzero(cells, axis=1).tolist() for cells in (np.isfinite(window), mine, beyond))
    least = max(1, SEEN_ROW * window.shape[1])
    last: int | None = None
    for n, (known, here, behind) in enumerate(zip(*counts, strict=True)):
        if known < least:
            continue
        if 2 * here >= known:
            last = n
        elif last is not None:
            return (first + last + 1) * FRONT_Z_M - foot_m if n == last + 1 and 2 * behind >= known else None
    return None


def goes_on(front: FaceFront, product: Product, x_m: float, z0_m: float, z1_m: float, depth_m: float) -> bool:
    """Whether an item's front is seen between two heights: half of what is measured there lies at its depth."""
    half = max(0.01, WINDOW_X * product.width_m)
    window = front.window(x_m - half, x_m + half, z0_m, z1_m)
    # Not the edge of the board above.
    known = window[np.isfinite(window) & (window > EDGE_M)]
    here = np.abs(known - depth_m) < BEFORE_M
    return len(known) >= max(LEAST_CELLS, SEEN_ROW * window.size) and 2 * int(here.sum()) >= len(known)
