"""What lies on a shelf instead of standing: depth shows something low near the front, and above it what is behind."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shelfscan.model.catalogue import Product
from shelfscan.model.front import EDGE_M, WINDOW_X, FaceFront, median, nearest_run, quantile
from shelfscan.model.scan import FRONT_X_M, FRONT_Z_M

#: What lies is lower than what stands by so much at least, and what is seen above it stands so much further back.
LOWER_M, BEHIND_M = 0.035, 0.06
#: Behind what lies on its side the next one stands as far back as this share of its depth; so much at least, however thin.
DEPTH_SHARE, LEAST_BEHIND_M = 0.75, 0.03
#: Parts of a product's width that are looked at: of what points to the back, and of what points along the shelf.
WIDE_X, ASIDE_X = 0.40, 0.50
#: A row or column of cells counts with these shares of it inside.
ROW_INSIDE, COLUMN_INSIDE = 0.6, 0.5
#: Air between an item and what is measured beside it.
FOOT_AIR_M, HEAD_AIR_M = 0.004, 0.012
#: In the row of cells on the shelf's board the board's edge is as near as this; it reaches so high at most.
BOARD_M, BOARD_HIGH_M = 0.02, 0.01
#: Shares of the cells that must be measured: of what lies, so many at least, and of what is above it.
NEAR_KNOWN, NEAR_CELLS, FAR_KNOWN = 0.3, 4, 0.4
#: What lies is one surface: so many of its measured cells are this near to each other in depth.
SAME_SHARE, SPREAD_M = 0.5, 0.05
#: What is above it: nearly all of the cells, for a bottle's neck or a single hole in the depth is no fall.
FAR_QUANTILE = 0.25
#: A bare wall above has no depth: hardly any cell of so many rows; then what lies must be measured better.
BARE_KNOWN, BARE_ROWS, BARE_NEAR_KNOWN, BARE_NEAR_ROWS = 0.1, 3, 0.6, 2
#: Share of a top's cells that must be measured.
KNOWN = 0.5
#: Nothing stands where an item lies; depth and sizes may be off by so much.
ROOM_M = 0.04
#: Where a product's top is, as shares of its height.
TOP_Z = (0.75, 0.95)
#: Cells of one lying item are this near in depth, so many of those along its length; so many on either side are looked at too.
SAME_M, LONG, BESIDE_CELLS = 0.03, 0.7, 4


@dataclass(frozen=True, slots=True)
class Lying:
    """An item that lies: ``front_m`` its nearest side behind the front plane, ``behind_m`` what stands behind it (infinite: a
    bare wall).

    ``x_m`` its middle along the face; ``long_m``, ``tall_m`` and ``deep_m`` its size along the face, upwards and to the back as
    it lies. ``aside``: its foot points along the shelf, so that it takes the room of columns beside it.
    """

    x_m: float
    front_m: float
    behind_m: float
    long_m: float
    tall_m: float
    deep_m: float
    aside: bool

    def before(self, other: Lying) -> bool:
        """Whether this one lies along the shelf where the other one, of another column, was seen to lie: they are one."""
        return self.aside and abs(other.x_m - self.x_m) < self.long_m / 2 and abs(other.front_m - self.front_m) < SAME_M

    def centre(self, foot_m: float) -> tuple[float, float, float]:
        """The item's middle in the face frame."""
        return (self.x_m, self.front_m + self.deep_m / 2, foot_m + self.tall_m / 2)


def lying(
    front: FaceFront, product: Product, x_m: float, foot_m: float, back_m: float = math.inf, boxed: bool = True
) -> Lying | None:
    """What lies front-most in a place; None where something stands, and where depth does not say.

    ``x_m``: middle of the column along the face, ``foot_m`` the shelf's surface, ``back_m`` its depth. ``boxed``: the detector
    found something that stands there; if it did not, something low before a bare wall lies too.
    """
    head_m = foot_m + 0.95 * product.height_m
    # On its face or back, or on a side.
    for tall_m, deep_m, aside in ((product.depth_m, product.height_m, False), (product.width_m, product.depth_m, True)):
        if product.height_m < tall_m + LOWER_M:
            continue
        half = max(0.01, (ASIDE_X if aside else WIDE_X) * product.width_m)
        low_m, high_m = foot_m + FOOT_AIR_M, foot_m + tall_m - FOOT_AIR_M
        near = _cells(front, x_m - half, x_m + half, low_m, high_m)
        far = _cells(front, x_m - half, x_m + half, foot_m + tall_m + HEAD_AIR_M, head_m)
        if not near.size or not far.size:
            continue
        low_row_m = math.ceil(low_m / FRONT_Z_M - (1 - ROW_INSIDE) - 1e-6) * FRONT_Z_M
        if low_row_m < foot_m + BOARD_HIGH_M:
            near[0][near[0] < BOARD_M] = np.nan
        known = near[np.isfinite(near) & (near > EDGE_M)]
        seen = len(known) >= max(NEAR_CELLS, NEAR_KNOWN * near.size)
        front_m = nearest_run(known, SAME_SHARE, SPREAD_M) if seen else None
        above = far[np.isfinite(far)]
        if front_m is None or (len(near) > 1 and _rows(near, front_m) < 2):
            continue
        if len(above) >= FAR_KNOWN * far.size:
            behind_m = quantile(above, FAR_QUANTILE)
        elif not boxed and front_m + deep_m < back_m - ROOM_M and _bare(near, known, far, above):
            behind_m = math.inf
        else:
            continue
        thin_m = min(BEHIND_M, max(LEAST_BEHIND_M, DEPTH_SHARE * deep_m))
        room_m = thin_m if aside else max(BEHIND_M, deep_m - ROOM_M)
        if behind_m < front_m + room_m or front_m + deep_m > back_m + ROOM_M:
            continue
        if not aside:
            return Lying(x_m, front_m, behind_m, product.width_m, tall_m, deep_m, aside)
        middle_m = _middle(front, x_m, product.height_m, low_m, high_m, front_m)
        return Lying(middle_m, front_m, behind_m, product.height_m, tall_m, deep_m, aside)
    return None


def _cells(front: FaceFront, x0_m: float, x1_m: float, z0_m: float, z1_m: float) -> NDArray[np.float32]:
    """Cells of which enough lies in a stretch of the face, a copy; (rows, columns), empty where it is lower than a row."""
    dx, dz = (1 - COLUMN_INSIDE) * FRONT_X_M, (1 - ROW_INSIDE) * FRONT_Z_M
    if math.ceil((z0_m - dz) / FRONT_Z_M - 1e-6) >= math.floor((z1_m + dz) / FRONT_Z_M + 1e-6):
        return np.empty((0, 0), np.float32)
    return front.window(x0_m - dx, x1_m + dx, z0_m - dz, z1_m + dz).copy()


def _rows(near: NDArray[np.float32], front_m: float) -> int:
    """How many rows show something at a depth: a single one may be chance, or the board's edge."""
    return int((np.abs(near - front_m) < SPREAD_M).any(axis=1).sum())


def _bare(near: NDArray[np.float32], known: NDArray[np.float32], far: NDArray[np.float32], above: NDArray[np.float32]) -> bool:
    """Whether something low was measured well, and above it next to nothing in several rows."""
    low = len(known) >= BARE_NEAR_KNOWN * near.size and len(near) >= BARE_NEAR_ROWS
    return low and len(far) >= BARE_ROWS and len(above) < BARE_KNOWN * far.size


def as_tall(front: FaceFront, product: Product, x_m: float, foot_m: float, depth_m: float) -> bool:
    """Whether what stands ``depth_m`` behind the front plane in a place reaches as high as the product; False where depth
    does not say.

    A bottle's neck is half of its depth further back than its belly, what stands behind something that lies all of it.
    """
    half = max(0.01, WINDOW_X * product.width_m)
    low_m, high_m = (foot_m + share * product.height_m for share in TOP_Z)
    top = _measured(front.window(x_m - half, x_m + half, low_m, high_m))
    return top is not None and median(top) < depth_m + max(SAME_M, 0.6 * product.depth_m)


def _measured(window: NDArray[np.float32]) -> NDArray[np.float32] | None:
    known = window[np.isfinite(window)]
    return known if len(known) and len(known) >= KNOWN * window.size else None


def _middle(front: FaceFront, x_m: float, long_m: float, low_m: float, high_m: float, front_m: float) -> float:
    """The middle of the stretch as long as the item that is as near, around a place; where there is none, the place.

    The stretch with the most cells of the item's depth inside and the fewest beside it: goods next to it may stand as near.
    """
    length = max(1, round(long_m / FRONT_X_M))
    first_m = max(0.0, x_m - long_m - BESIDE_CELLS * FRONT_X_M)
    window = _cells(front, first_m, x_m + long_m + BESIDE_CELLS * FRONT_X_M, low_m, high_m)
    same = (np.abs(window - front_m) < SAME_M).any(axis=0)
    # The window begins with the first column of which half is inside.
    first_m = math.ceil(first_m / FRONT_X_M - (1 - COLUMN_INSIDE) - 1e-6) * FRONT_X_M
    at = int((x_m - first_m) / FRONT_X_M)
    fits: list[tuple[int, float, float]] = []
    for begin in range(max(0, at - length + 1), min(at, len(same) - length) + 1):
        end = begin + length
        inside = int(same[begin:end].sum())
        beside = int(same[max(0, begin - BESIDE_CELLS) : begin].sum() + same[end : end + BESIDE_CELLS].sum())
        middle_m = first_m + (begin + end) / 2 * FRONT_X_M
        if inside >= LONG * length:
            fits.append((beside - inside, abs(middle_m - x_m), middle_m))
    return min(fits)[2] if fits else x_m
