"""A finder of people that is told where they are, and minds what it is given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shelfscan.model.imaging import Rgb


class FakePeople:
    """Says a rectangle of every picture, in shares (x0, y0, x1, y1) of the upright one; None: nobody."""

    description = "fake"

    def __init__(self, where: tuple[float, float, float, float] | None) -> None:
        self.where = where
        self.seen: list[tuple[int, ...]] = []

    def find(self, picture: Rgb) -> NDArray[np.bool_]:
        assert picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8 and picture.flags.c_contiguous
        assert picture.shape[0] > picture.shape[1], "the robot's heads are portrait: an upright picture is higher than wide"
        self.seen.append(picture.shape)
        out = np.zeros((picture.shape[0] // 3, picture.shape[1] // 3), bool)
        if self.where is not None:
            h, w = out.shape
            x0, y0, x1, y1 = self.where
            out[int(y0 * h) : int(y1 * h), int(x0 * w) : int(x1 * w)] = True
        return out
