"""Occupancy grids in Nav2's sense."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class OccupancyGrid:
    """``cells``: (rows, cols) int8, row 0 at the *lowest* y; 0 free, 100 occupied, -1 unknown.

    ``origin_m`` is the (x, y) in ``map`` of the lower left corner of cell (0, 0); the map is not rotated.
    """

    cells: NDArray[np.int8]
    resolution_m: float
    origin_m: tuple[float, float]

    def index_of(self, x_m: float, y_m: float) -> tuple[int, int]:
        """(row, col) of a point; may lie outside."""
        return (
            int(np.floor((y_m - self.origin_m[1]) / self.resolution_m)),
            int(np.floor((x_m - self.origin_m[0]) / self.resolution_m)),
        )

    def is_free(self, x_m: float, y_m: float) -> bool:
        """Whether the cell at a point is inside the map and free."""
        r, c = self.index_of(x_m, y_m)
        rows, cols = self.cells.shape
        return 0 <= r < rows and 0 <= c < cols and bool(self.cells[r, c] == 0)
