"""Expiry dates with RapidOCR: what looks like a date is read again in several renditions, and most of them must agree."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.adapters.text_rapidocr import FoundText, RapidOcrText
from shelfscan.model.imaging import Rgb
from shelfscan.perception.dates import ExpiryReading, Order, read_expiry

#: Lines that may hold a date, or a part of one.
_LIKE = re.compile(
    r"\d{1,4}\s*[./\-: ]\s*\d|\d{6,8}|20\d\d|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC|EXP|BEST|USE\s*BY", re.IGNORECASE
)
_VERY_LIKE = re.compile(
    r"20\d\d|\d\s*[./\-]\s*\d\d?\s*[./\-]|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC|EXP|BEST|USE\s*BY", re.IGNORECASE
)
_NUMBER = re.compile(r"^[\d./\-: ]+$")
#: Height of a line as it is read, and how many lines are read again.
LINE_PX, MOST = 48, 8
#: The date most renditions say must have so many votes, and so many times those of the next.
LEAST_VOTES, CLEARLY = 3, 1.5


class RapidOcrDates:
    """Reads expiry dates. Not thread-safe. Raises `MissingModel` when RapidOCR is not installed."""

    def __init__(self, *, order: Order | None = None, threads: int = 1) -> None:
        self._text, self._order = RapidOcrText(threads=threads), order

    def read(self, picture: Rgb) -> ExpiryReading:
        """The expiry date in an upright (H, W, 3) uint8 RGB picture of a pack."""
        found = self._text.find(picture)
        lines = [f.line for f in found]
        first = read_expiry(lines, order=self._order)
        again = [n for n, f in enumerate(found) if _LIKE.search(f.line.text)]
        again = sorted(again, key=lambda n: not _VERY_LIKE.search(found[n].line.text))[:MOST]
        if not again:
            return first
        regions = [(n, found[n].corners_px) for n in again]
        regions += [(n, _union(found[n], found[m])) for n, m in _neighbours(found, again)]
        votes: Counter[str] = Counter()
        could_be: set[str] = set(first.could_be)
        kinds = [list(_renditions(picture, corners)) for _, corners in regions]
        for k in range(len(kinds[0])):
            said = list(lines)
            for (n, _), pictures in zip(regions, kinds, strict=True):
                read = self._text.line(pictures[k])
                # Of a line and the one joined with its neighbour, what holds a date counts.
                if read is not None and (said[n] is lines[n] or read_expiry([read], order="dmy").iso):
                    said[n] = replace(read, height_px=lines[n].height_px)
            reading = read_expiry(said, order=self._order)
            could_be |= set(reading.could_be)
            votes[reading.iso] += bool(reading.iso)
        if first.iso:
            votes[first.iso] += 1
        ranked = votes.most_common(2)
        best, count = ranked[0] if ranked else ("", 0)
        rival = ranked[1][1] if len(ranked) > 1 else 0
        if best and count >= LEAST_VOTES and count >= CLEARLY * rival:
            return ExpiryReading(best)
        return ExpiryReading("", tuple(sorted(could_be | {iso for iso in votes if iso})))


def _neighbours(found: list[FoundText], among: list[int]) -> list[tuple[int, int]]:
    """Pairs of lines of figures that stand side by side, left one first: parts of one line."""
    out = []
    for n in among:
        for m in range(len(found)):
            a, b = found[n], found[m]
            if n == m or not (_NUMBER.match(a.line.text) and _NUMBER.match(b.line.text)):
                continue
            h = (a.line.height_px + b.line.height_px) / 2
            gap = float(b.corners_px[:, 0].min() - a.corners_px[:, 0].max())
            if b.line.x_px > a.line.x_px and abs(a.line.y_px - b.line.y_px) < 0.5 * h and -1.2 * h < gap < 1.2 * h:
                out.append((n, m))
    return out


def _union(a: FoundText, b: FoundText) -> NDArray[np.float64]:
    """The corners of two boxes side by side as one."""
    left, right = a.corners_px, b.corners_px
    return np.array([left[0], right[1], right[2], left[3]])


def _renditions(picture: Rgb, corners: NDArray[np.float64]) -> Iterator[Rgb]:
    """A line cut out in several ways: more or less around it, contrast evened, softer, smaller, wider, narrower."""
    plain = _cut(picture, corners, 0.12)
    yield _cut(picture, corners, 0.0)
    yield _cut(picture, corners, 0.3)
    yield _cut(picture, corners, 0.2, 32)
    yield _cut(picture, corners, 0.12, 26)
    lab = cv2.cvtColor(plain, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(3.0, (2, 4)).apply(lab[..., 0])
    even = np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)
    yield even
    yield np.asarray(cv2.GaussianBlur(plain, (0, 0), 1.2), np.uint8)
    yield np.asarray(cv2.GaussianBlur(even, (0, 0), 1.8), np.uint8)
    for stretch in (1.25, 0.85):
        yield np.asarray(cv2.resize(plain, None, fx=stretch, fy=1.0, interpolation=cv2.INTER_LINEAR), np.uint8)
    gray = cv2.cvtColor(plain, cv2.COLOR_RGB2GRAY)
    low, high = np.percentile(gray, (1, 99))
    full = np.clip((gray - low) / max(float(high - low), 1.0) * 255, 0, 255).astype(np.uint8)
    yield np.repeat(full[..., None], 3, axis=2)


def _cut(picture: Rgb, corners: NDArray[np.float64], pad: float, height: int = LINE_PX) -> Rgb:
    """A line with ``pad`` of its height around it, upright, ``height`` pixels high."""
    q = np.asarray(corners, np.float64)
    middle = q.mean(axis=0)
    along, down = (q[1] - q[0] + q[2] - q[3]) / 2, (q[3] - q[0] + q[2] - q[1]) / 2
    w, h = max(1.0, float(np.linalg.norm(along))), max(1.0, float(np.linalg.norm(down)))
    along, down = along / w * (w / 2 + pad * h), down / h * (h / 2 * (1 + pad))
    source = np.array([middle - along - down, middle + along - down, middle + along + down, middle - along + down], np.float32)
    scale = height / (h * (1 + pad))
    width = int(np.clip((w + 2 * pad * h) * scale, 8, 40 * height))
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    turn = cv2.getPerspectiveTransform(source, target)
    return np.asarray(cv2.warpPerspective(picture, turn, (width, height), flags=how), np.uint8)
