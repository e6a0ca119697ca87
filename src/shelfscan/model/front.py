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
#: Nearer to the shelf's surface than this its own edge is seen.
FOOT_M = 0.012
#: A surface is what this share of the measured cells agree on, within the spread.
SURFACE_SHARE, SPREAD_M = 0.5, 0.035


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
        """Per cell what the camera saw that looked at it most squarely; independent of the grids' order."""
        shape = (int(height_m / FRONT_Z_M) + 2, int(length_m / FRONT_X_M) + 2)
        depth = np.full(shape, np.nan, np.float32)
        best = np.full(shape, np.inf, np.float64)
        ordered = sorted(grids, key=lambda g: (g.eye_x_m, g.eye_z_m, g.head, g.depth_mm.tobytes()))
        for g in ordered:
            r0, c0 = max(0, g.row), max(0, g.column)
            part = g.depth_mm[r0 - g.row : shape[0] - g.row, c0 - g.column : shape[1] - g.column]
            if part.size == 0:
                continue
            r1, c1 = r0 + part.shape[0], c0 + part.shape[1]
            z = (np.arange(r0, r1) + 0.5) * FRONT_Z_M - g.eye_z_m
            x = (np.arange(c0, c1) + 0.5) * FRONT_X_M - g.eye_x_m
            # Columns are told apart along the face, so an oblique look along it costs more than one from above.
            cost = np.hypot(x[None, :], 0.5 * z[:, None])
            better = (part != UNKNOWN_MM) & (cost < best[r0:r1, c0:c1])
            depth[r0:r1, c0:c1][better] = part[better] / np.float32(1000)
            best[r0:r1, c0:c1][better] = cost[better]
        return FaceFront(depth)


def place_surface(front: FaceFront, product: Product, x_m: float, foot_m: float) -> tuple[float, float]:
    """The front-most surface in a place: its depth behind the front plane in metres, and the measured share of cells.

    NaN when nothing was measured, or no surface holds enough of what was (scattered matches of a bare shelf back).
    """
    half = max(0.01, WINDOW_X * product.width_m)
    z0, z1 = (foot_m + s * product.height_m for s in WINDOW_Z)
    window = front.window(x_m - half, x_m + half, max(z0, foot_m + FOOT_M), z1)
    values = np.sort(window[np.isfinite(window)])
    if len(values) == 0:
        return math.nan, 0.0
    known = len(values) / window.size
    need = max(1, math.ceil(SURFACE_SHARE * len(values)))
    # The nearest run of sorted depths that is narrow and long enough.
    spread = values[need - 1 :] - values[: len(values) - need + 1]
    narrow = np.flatnonzero(spread < SPREAD_M)
    if len(narrow) == 0:
        return math.nan, known
    start = int(narrow[0])
    return float(np.median(values[start : start + need])), known
