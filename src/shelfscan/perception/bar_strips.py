"""Where a picture has stripes like a barcode's, strips of them turned upright, and codes that several lines of one agree on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.model.gtin import gtin14
from shelfscan.model.imaging import Gray
from shelfscan.perception.bars import BarReading, Floats, find_bars, read_bars

#: Pictures are searched at this size, stripes brought to this width for reading.
SEARCH_PX, STRIP_PX = 480, 300
#: Narrower stripes hold no code that could be read.
LEAST_WIDTH_PX = 70
#: What a line must say to count: so much of its grey values explained, and the next best code so much worse. Wrong codes
#: of blurred photographs reach a lead of 0.2, rarely 0.3.
LEAST_FIT, LEAST_LEAD = 0.88, 0.4
#: A doubtful line that says something else is a reason to abstain from this lead on.
DOUBT = 0.25
#: How many lines must agree.
AGREE = 2
#: Where the lines lie in a strip's height, in the order they are looked at.
_ORDER = (0.5, 0.35, 0.65, 0.2, 0.8)
#: Camera pictures have a tone curve; light adds up before it.
GAMMA = 2.2


@dataclass(frozen=True, slots=True)
class Strip:
    """Stripes turned upright: ``gray`` (h, w), and how its pixels (x, y, 1) lie in the picture, ``M`` (2, 3)."""

    gray: Gray
    M: Floats


def strips(gray: Gray) -> Iterator[Strip]:
    """Places with stripes of one direction, the strongest first."""
    s = min(1.0, SEARCH_PX / max(gray.shape))
    small = cv2.resize(gray, None, fx=s, fy=s, interpolation=cv2.INTER_AREA) if s < 1 else gray
    g = cv2.GaussianBlur(small.astype(np.float32), (0, 0), 0.8)
    gx, gy = cv2.Sobel(g, cv2.CV_32F, 1, 0), cv2.Sobel(g, cv2.CV_32F, 0, 1)
    seen: list[Floats] = []
    for share, level in ((48, 1.0), (24, 0.8), (48, 0.6), (16, 0.7)):
        sigma = max(g.shape) / share
        xx, yy, xy = (cv2.GaussianBlur(v, (0, 0), sigma) for v in (gx * gx, gy * gy, gx * gy))
        both = xx + yy
        score = ((xx - yy) ** 2 + 4 * xy**2) / np.maximum(both, 1e-3) ** 2 * np.sqrt(both)
        map_ = np.clip(score / max(float(score.max()), 1e-6) * 255, 0, 255).astype(np.uint8)
        bar = cv2.threshold(map_, 0, 255, cv2.THRESH_OTSU)[0] * level
        _, labels, stats, _ = cv2.connectedComponentsWithStats((map_ > bar).astype(np.uint8))
        order = sorted(range(1, len(stats)), key=lambda i: -int(stats[i][4]))[:2]
        for i in order:
            mask = labels == i
            if mask.sum() < 0.008 * mask.size:
                continue
            turn = 0.5 * np.arctan2(2 * float((xy * score)[mask].sum()), float(((xx - yy) * score)[mask].sum()))
            along, down = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
            ys, xs = np.nonzero(mask)
            u, v = xs * along[0] + ys * along[1], xs * down[0] + ys * down[1]
            box = np.array([*np.percentile(u, (1, 99)), *np.percentile(v, (4, 96)), 40 * turn]) / s
            if box[1] - box[0] < LEAST_WIDTH_PX:
                continue
            if any(np.abs(box - b).max() < 0.06 * (box[1] - box[0]) for b in seen):
                continue
            seen.append(box)
            yield _strip(gray, along, down, box)


def _strip(gray: Gray, along: Floats, down: Floats, box: Floats) -> Strip:
    u0, u1, v0, v1 = (float(v) for v in box[:4])
    width = u1 - u0
    u0 -= 0.25 * width
    zoom = max(1.0, STRIP_PX / width)
    corner = along * u0 + down * v0
    M = np.array([[along[0] / zoom, down[0] / zoom, corner[0]], [along[1] / zoom, down[1] / zoom, corner[1]]])
    size = (int(1.5 * width * zoom), max(8, int((v1 - v0) * zoom)))
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return Strip(np.asarray(cv2.warpAffine(gray, M, size, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8), M)


@dataclass(frozen=True, slots=True)
class Blurred:
    """A code that lines of a strip agreed on; ``box_px``: x_min, y_min, x_max, y_max in the picture."""

    code: str
    lines: int
    box_px: tuple[float, float, float, float]


def read_strip(strip: Strip) -> Blurred | None:
    """The code of one strip; None when fewer than `AGREE` lines are sure, or two say something different."""
    h = strip.gray.shape[0]
    thick = max(2, h // 12)
    votes: Counter[str] = Counter()
    against: set[str] = set()
    where: list[BarReading] = []
    for n, share in enumerate(_ORDER):
        y = int(share * (h - thick))
        line = 255 * (strip.gray[y : y + thick].astype(np.float64).mean(axis=0) / 255) ** GAMMA
        read = _line(line, where[-1] if where else None)
        if read is not None and read.fit > LEAST_FIT and read.lead > LEAST_LEAD:
            votes[read.code] += 1
            where.append(read)
        elif read is not None and read.lead > DOUBT and read.fit > 0.9:
            against.add(read.code)
        if n == 1 and not votes:
            return None  # two lines that say nothing: more of the same will not
    if not votes or len(votes) > 1 or against - set(votes) or next(iter(votes.values())) < AGREE:
        return None
    code = next(iter(votes))
    x0, x1 = min(r.x0 for r in where), max(r.x1 for r in where)
    corners = np.array([[x, y, 1.0] for x in (x0, x1) for y in (0.0, float(h))]) @ strip.M.T
    (a, b), (c, d) = corners.min(axis=0), corners.max(axis=0)
    return Blurred(gtin14(code), votes[code], (float(a), float(b), float(c), float(d)))


def confirm(gray: Gray, code: str, place: tuple[float, float, float, float]) -> bool:
    """Whether lines of the bars in a place (x_min, y_min, x_max, y_max) say the GTIN-14 ``code`` by their greys too."""
    x0, y0, x1, y1 = place
    cx, cy, reach = (x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0)
    if reach < LEAST_WIDTH_PX:
        return False
    half = max(8, int(0.75 * reach))
    a, b = max(0, int(cx - half)), max(0, int(cy - half))
    part = np.ascontiguousarray(gray[b : int(cy + half) + 1, a : int(cx + half) + 1])
    for n, strip in enumerate(strips(part)):
        read = read_strip(strip) if n < 3 else None
        if read is not None:
            return read.code == code
    return False


def _line(line: NDArray[np.float64], known: BarReading | None) -> BarReading | None:
    """What one line says, looked at where another line's bars lie, or anywhere."""
    if known is not None:
        return read_bars(line, known.x0, known.x1, 0.03, known.backwards)
    return find_bars(line, 0.3 * len(line), 0.95 * len(line))
