"""EAN and UPC barcodes with zxing-cpp, read from several renditions of a picture that must agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from shelfscan.errors import MissingModel
from shelfscan.model.gtin import gtin14
from shelfscan.model.imaging import Gray, Rgb

#: So many renditions must say the same: one digit in ten misreadings passes the check digit, two alike hardly ever do.
VOTES = 2
#: x_min, y_min, x_max, y_max in pixels of the picture.
_Place = tuple[float, float, float, float]


class ZxingCodeReader:
    """Retail barcodes anywhere in a picture. Raises `MissingModel` when zxing-cpp is not installed."""

    def __init__(self) -> None:
        try:
            import zxingcpp
        except ImportError as e:
            raise MissingModel(f"zxing-cpp is not installed ({e}): pip install 'shelfscan[eval]'") from e
        self._library: Any = zxingcpp

    def read(self, picture: Rgb) -> tuple[str, ...]:
        """GTIN-14 texts of the codes in an (H, W, 3) uint8 RGB picture that were read alike in `VOTES` renditions."""
        votes: Counter[str] = Counter()
        places: dict[str, _Place] = {}
        for rendition, scale in _renditions(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)):
            for code, place in self._codes(rendition, scale).items():
                votes[code] += 1
                places.setdefault(code, place)
            # Once all that was read is sure and in places of its own, the other renditions are not needed.
            if votes and min(votes.values()) >= VOTES and not any(_rivals(c, votes, places) for c in votes):
                break
        return tuple(c for c, n in votes.most_common() if n >= VOTES and n > max(_rivals(c, votes, places), default=0))

    def _codes(self, rendition: Gray, scale: float) -> dict[str, _Place]:
        found = self._library.read_barcodes(rendition, formats=self._library.BarcodeFormat.EANUPC)
        return {code: _place(c.position, scale) for c in found if (code := gtin14(c.text))}


def _place(position: Any, scale: float) -> _Place:
    corners = (position.top_left, position.top_right, position.bottom_right, position.bottom_left)
    xs, ys = [c.x / scale for c in corners], [c.y / scale for c in corners]
    return min(xs), min(ys), max(xs), max(ys)


def _rivals(code: str, votes: Counter[str], places: dict[str, _Place]) -> list[int]:
    """Votes of other codes that were read in the same bars: at most one of them is there."""
    x0, y0, x1, y1 = places[code]
    return [
        votes[other]
        for other, (a0, b0, a1, b1) in places.items()
        if other != code and a0 <= x1 and x0 <= a1 and b0 <= y1 and y0 <= b1
    ]


def _renditions(gray: np.ndarray) -> Iterator[tuple[Gray, float]]:
    """The picture as it is, enlarged (thin bars), sharpened (out of focus), its contrast evened (shade, glare); scales."""
    even = cv2.createCLAHE(4.0, (8, 8)).apply(gray)
    large, large_even = _enlarged(gray), _enlarged(even)
    yield np.asarray(gray, np.uint8), 1.0
    yield large, 2.0
    yield np.asarray(even, np.uint8), 1.0
    yield _sharpened(large), 2.0
    yield large_even, 2.0
    yield _sharpened(large_even), 2.0


def _enlarged(gray: np.ndarray) -> Gray:
    return np.asarray(cv2.resize(gray, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC), np.uint8)


def _sharpened(gray: np.ndarray) -> Gray:
    return np.asarray(cv2.addWeighted(gray, 3.0, cv2.GaussianBlur(gray, (0, 0), 3.0), -2.0, 0), np.uint8)
