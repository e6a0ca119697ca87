"""EAN and UPC barcodes with zxing-cpp, from several renditions of a picture that must agree; blurred ones by their greys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np

from shelfscan.errors import MissingModel
from shelfscan.model.gtin import gtin14
from shelfscan.model.imaging import Gray, Rgb
from shelfscan.perception.bar_strips import confirm, read_strip, strips

#: So many renditions must say the same: one digit in ten misreadings passes the check digit, two alike hardly ever do.
VOTES = 2
#: Places of a picture that are looked at closely when nothing was read.
PLACES = 4
#: Formats that hold other things than a product's number, read on request.
MATRIX = ("QRCode", "DataMatrix")
#: x_min, y_min, x_max, y_max in pixels of the picture.
_Place = tuple[float, float, float, float]


class ZxingCodeReader:
    """Codes anywhere in a picture. Raises `MissingModel` when zxing-cpp is not installed.

    ``thorough``: pictures in which no code was read are searched for blurred bars too, which takes up to a few seconds.
    """

    def __init__(self, *, thorough: bool = True) -> None:
        try:
            import zxingcpp
        except ImportError as e:
            raise MissingModel(f"zxing-cpp is not installed ({e}): pip install 'shelfscan[eval]'") from e
        self._library: Any = zxingcpp
        self._thorough = thorough

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(ZxingCodeReader, thorough=self._thorough), ()  # for other processes: a library goes into no pickle

    def read(self, picture: Rgb) -> tuple[str, ...]:
        """GTIN-14 texts of the codes in an (H, W, 3) uint8 RGB picture.

        Each was read alike in `VOTES` renditions, or in one and by its greys, or by its greys in several lines.
        """
        votes: Counter[str] = Counter()
        places: dict[str, _Place] = {}
        gray = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)
        for rendition, scale in _renditions(gray):
            for code, place in self._codes(rendition, scale).items():
                votes[code] += 1
                places.setdefault(code, place)
            # Once all that was read is sure and in places of its own, the other renditions are not needed.
            if votes and min(votes.values()) >= VOTES and not any(_rivals(c, votes, places) for c in votes):
                break
        sure = tuple(c for c, n in votes.most_common() if n >= VOTES and n > max(_rivals(c, votes, places), default=0))
        return sure if sure or not self._thorough else self._closely(gray, votes, places)

    def _closely(self, gray: Gray, votes: Counter[str], places: dict[str, _Place]) -> tuple[str, ...]:
        """What is left: one misreading among doubtful readings, or bars without edges."""
        for rendition, scale in _deblurred(gray):
            for code, place in self._codes(rendition, scale).items():
                votes[code] += 1
                places.setdefault(code, place)
        found = {c for c, _ in votes.most_common(3) if confirm(gray, c, places[c])}
        if not found:
            for n, strip in enumerate(strips(gray)):
                read = read_strip(strip) if n < PLACES else None
                if read is not None:
                    found.add(read.code)
                    break
        # Where both ways read something, they must not contradict each other.
        return tuple(found) if len(found) == 1 else ()

    def read_matrix(self, picture: Rgb) -> tuple[str, ...]:
        """Texts of the QR and DataMatrix codes in an (H, W, 3) uint8 RGB picture; their error correction guards them."""
        formats = [getattr(self._library.BarcodeFormat, name) for name in MATRIX]
        wanted = self._library.BarcodeFormats(formats)
        gray = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)
        for rendition in (gray, _enlarged(gray)):
            texts = tuple(dict.fromkeys(str(c.text) for c in self._library.read_barcodes(rendition, formats=wanted) if c.text))
            if texts:
                return texts
        return ()

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


def _renditions(gray: Gray) -> Iterator[tuple[Gray, float]]:
    """The picture as it is, enlarged (thin bars), sharpened (out of focus), its contrast evened (shade, glare); scales."""
    yield gray, 1.0
    large = _enlarged(gray)
    yield large, 2.0
    even = np.asarray(cv2.createCLAHE(4.0, (8, 8)).apply(gray), np.uint8)
    large_even = _enlarged(even)
    yield even, 1.0
    yield _sharpened(large), 2.0
    yield large_even, 2.0
    yield _sharpened(large_even), 2.0


def _deblurred(gray: Gray) -> Iterator[tuple[Gray, float]]:
    """Enlarged, and a blur of several widths taken out (Wiener's filter)."""
    for scale in (2, 3):
        large = np.asarray(cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), np.uint8)
        if max(large.shape) > 1600:
            continue
        for sharp in _wiener(large, [sigma * scale for sigma in (0.8, 1.2, 1.6)], 0.03):
            yield sharp, float(scale)


def _wiener(gray: Gray, sigmas_px: Sequence[float], noise: float) -> Iterator[Gray]:
    pad = 32
    padded = np.pad(gray.astype(np.float32), pad, mode="reflect")
    h, w = padded.shape
    fy, fx = np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None]
    spectrum = np.fft.rfft2(padded)
    for sigma_px in sigmas_px:
        transfer = np.exp(-2 * (np.pi * sigma_px) ** 2 * (fx**2 + fy**2))
        sharp = np.fft.irfft2(spectrum * transfer / (transfer**2 + noise), (h, w))[pad:-pad, pad:-pad]
        low, high = np.percentile(sharp, (1, 99))
        yield np.asarray(np.clip((sharp - low) / max(high - low, 1e-3) * 255, 0, 255), np.uint8)


def _enlarged(gray: Gray) -> Gray:
    return np.asarray(cv2.resize(gray, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC), np.uint8)


def _sharpened(gray: Gray) -> Gray:
    return np.asarray(cv2.addWeighted(gray, 3.0, cv2.GaussianBlur(gray, (0, 0), 3.0), -2.0, 0), np.uint8)
