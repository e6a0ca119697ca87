"""A finder of people that is told where they are, and minds what it is given."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fakes.captures import HEADS
from shelfscan.model.imaging import Rgb
from shelfscan.perception.upright import upright_size

#: Height over width of the cameras' upright pictures.
RATIOS = [h / w for head in HEADS for w, h in (upright_size(head.left), upright_size(head.rgb))]


class FakePeople:
    """Says a rectangle of every whole picture, in shares (x0, y0, x1, y1) of the upright one; None: nobody.

    In pictures put together of others nobody is anywhere.
    """

    description = "fake"

    def __init__(self, where: tuple[float, float, float, float] | None) -> None:
        self.where = where
        self.seen: list[tuple[int, ...]] = []

    def find(self, picture: Rgb) -> NDArray[np.bool_]:
        assert picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8 and picture.flags.c_contiguous
        assert picture.shape[0] > picture.shape[1], "the robot's heads are portrait: an upright picture is higher than wide"
        self.seen.append(picture.shape)
        out = np.zeros((picture.shape[0] // 3, picture.shape[1] // 3), bool)
        if self.where is not None and min(abs(picture.shape[0] / picture.shape[1] - r) for r in RATIOS) < 0.01:
            h, w = out.shape
            x0, y0, x1, y1 = self.where
            out[int(y0 * h) : int(y1 * h), int(x0 * w) : int(x1 * w)] = True
        return out


class RedPeople:
    """Finds what is red and at least so many pixels wide: a sliver of somebody is as little known as in earnest."""

    description = "red"

    def __init__(self, least_px: int) -> None:
        self.least_px = least_px

    def find(self, picture: Rgb) -> NDArray[np.bool_]:
        red = ((picture[..., 0] > 150) & (picture[..., 1] < 100)).astype(np.uint8)
        # What is narrower than that is gone, the rest as it was.
        opened = cv2.morphologyEx(
            red, cv2.MORPH_OPEN, np.ones((1, self.least_px), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=(0,)
        )
        return np.asarray(opened, bool)
