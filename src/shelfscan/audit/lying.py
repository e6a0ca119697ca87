"""What lies on a shelf instead of standing: depth shows something low near the front, and above it what is behind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shelfscan.model.catalogue import Product
from shelfscan.model.front import EDGE_M, FOOT_M, WINDOW_X, FaceFront
from shelfscan.model.scan import FRONT_X_M, FRONT_Z_M

#: What lies is lower than what stands by so much at least, and what is seen above it stands so much further back.
LOWER_M, BEHIND_M = 0.035, 0.06
#: Behind what lies on its side the next one stands as far back as this share of its depth; so much at least, however thin.
DEPTH_SHARE, LEAST_BEHIND_M = 0.75, 0.03
#: Share of a window's cells that must be measured.
KNOWN = 0.5
#: Nothing stands where an item lies; depth and sizes may be off by so much.
ROOM_M = 0.04
#: Where a product's top is, as shares of its height.
TOP_Z = (0.75, 0.95)
#: Cells of one lying item are this near in depth; it is as long as it should be within this factor.
SAME_M, LONG = 0.03, 0.3


@dataclass(frozen=True, slots=True)
class Lying:
    """An item that lies: ``front_m`` its nearest side behind the front plane, ``behind_m`` what stands behind it.

    ``x_m`` its middle along the face; ``tall_m`` and ``deep_m`` its height and depth as it lies. ``aside``: its foot points
    along the shelf, so that it takes the room of columns beside it.
    """

    x_m: float
    front_m: float
    behind_m: float
    tall_m: float
    deep_m: float
    aside: bool

    def centre(self, foot_m: float) -> tuple[float, float, float]:
        """The item's middle in the face frame."""
        return (self.x_m, self.front_m + self.deep_m / 2, foot_m + self.tall_m / 2)


def lying(front: FaceFront, product: Product, x_m: float, foot_m: float) -> Lying | None:
    """What lies front-most in a place; None where something stands, and where depth does not say.

    ``x_m``: middle of the column along the face, ``foot_m`` the shelf's surface.
    """
    half = max(0.01, WINDOW_X * product.width_m)
    head_m = foot_m + 0.95 * product.height_m
    # On its face or back, or on a side.
    for tall_m, deep_m, aside in ((product.depth_m, product.height_m, False), (product.width_m, product.depth_m, True)):
        if product.height_m < tall_m + LOWER_M:
            continue
        low_m = foot_m + max(0.8 * tall_m, FOOT_M + FRONT_Z_M)
        near = _measured(front.window(x_m - half, x_m + half, foot_m + FOOT_M, low_m))
        far = _measured(front.window(x_m - half, x_m + half, foot_m + tall_m + FRONT_Z_M, head_m))
        if near is None or far is None:
            continue
        front_m = float(np.median(near))
        # Nearly all of the head's cells: a bottle's neck or a single hole in the depth is no fall.
        behind_m = float(np.quantile(far, 0.2))
        thin_m = min(BEHIND_M, max(LEAST_BEHIND_M, DEPTH_SHARE * deep_m))
        room_m = thin_m if aside else max(BEHIND_M, deep_m - ROOM_M)
        if front_m < EDGE_M or behind_m < front_m + room_m:
            continue
        middle = _middle(front, x_m, product.height_m, foot_m, low_m, front_m) if aside else x_m
        return Lying(middle, front_m, behind_m, tall_m, deep_m, aside)
    return None


def as_tall(front: FaceFront, product: Product, x_m: float, foot_m: float, depth_m: float) -> bool:
    """Whether what stands ``depth_m`` behind the front plane in a place reaches as high as the product; False where depth
    does not say.

    A bottle's neck is half of its depth further back than its belly, what stands behind something that lies all of it.
    """
    half = max(0.01, WINDOW_X * product.width_m)
    low_m, high_m = (foot_m + share * product.height_m for share in TOP_Z)
    top = _measured(front.window(x_m - half, x_m + half, low_m, high_m))
    return top is not None and float(np.median(top)) < depth_m + max(SAME_M, 0.6 * product.depth_m)


def _measured(window: NDArray[np.float32]) -> NDArray[np.float32] | None:
    known = window[np.isfinite(window)]
    return known if len(known) and len(known) >= KNOWN * window.size else None


def _middle(front: FaceFront, x_m: float, long_m: float, foot_m: float, low_m: float, front_m: float) -> float:
    """The middle of what is as near along the face, if it is as long as the item; else where it was found."""
    first = max(0.0, x_m - 1.2 * long_m)
    window = front.window(first, x_m + 1.2 * long_m, foot_m + FOOT_M, low_m)
    same = (np.abs(window - front_m) < SAME_M).any(axis=0)
    begin = end = min(len(same) - 1, int((x_m - first) / FRONT_X_M))
    while begin > 0 and same[begin - 1]:
        begin -= 1
    while end < len(same) - 1 and same[end + 1]:
        end += 1
    length_m = (end - begin + 1) * FRONT_X_M
    return first + (begin + end + 1) / 2 * FRONT_X_M if abs(length_m / long_m - 1) < LONG else x_m
