"""Corners of the board in pictures, and which pictures are of use."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from shelfscan.calibration.board import Board, Ids
from shelfscan.errors import BadInput
from shelfscan.model.geometry import Array
from shelfscan.model.imaging import Gray

CAMERAS = ("left", "right", "rgb")
#: Fewer corners than this in a picture say little about where the board is.
LEAST_CORNERS = 8
#: An edge of the board spreads over a Gaussian of this standard deviation when the picture is sharp enough: absolute, and
#: against the middle one of the same camera.
BLUR_PX, BLUR_SHARE = 2.5, 2.0
#: Half side of the square around a corner in which its edges are looked at, as a share of the distance between corners.
EDGE_SHARE, EDGE_MOST_PX = 0.35, 12
#: Cells, over the long side of a picture and the short one, by which coverage is told.
CELLS_LONG, CELLS_SHORT = 8, 6


@dataclass(frozen=True)
class Picture:
    """One picture of one camera. ``key`` names the instant: pictures of one key show the board at one place."""

    head: str
    camera: str
    key: str
    gray: Gray
    source: str


@dataclass(frozen=True)
class View:
    """The board in one picture: corner numbers (N,), pixels (N, 2), and how wide an edge is (standard deviation, pixels)."""

    head: str
    camera: str
    key: str
    source: str
    width_px: int
    height_px: int
    ids: Ids
    pixels: Array
    blur_px: float


@dataclass
class Found:
    """All usable views, and why each other picture was left out."""

    views: list[View] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    foreign: set[int] = field(default_factory=set)
    pictures: int = 0

    def of(self, head: str, camera: str) -> list[View]:
        """The views of one camera, by key."""
        return sorted((v for v in self.views if (v.head, v.camera) == (head, camera)), key=lambda v: v.key)

    @property
    def heads(self) -> list[str]:
        """Names of the heads that saw the board."""
        return sorted({v.head for v in self.views})


def find_board(pictures: Iterable[Picture], board: Board) -> Found:
    """Look for the board in every picture.

    Pictures without it, with few corners of it, or blurred are left out and named. Raises `BadInput` when there is no picture,
    when none shows the board, or when the pictures show another board than the one described.
    """
    out = Found()
    seen: set[int] = set()
    for p in pictures:
        out.pictures += 1
        pixels, ids, _, marker_ids = board.detector.detectBoard(p.gray)
        found = set() if marker_ids is None else {int(i) for i in np.ravel(marker_ids)}
        out.foreign |= found - board.markers
        seen |= found & board.markers
        count = 0 if ids is None else len(ids)
        if not found:
            out.left_out.append(f"{p.source}: no marker of {board.dictionary} in it")
        elif count < LEAST_CORNERS:
            out.left_out.append(f"{p.source}: {count} corners of the board; at least {LEAST_CORNERS} are needed")
        else:
            h, w = p.gray.shape
            points = np.asarray(pixels, dtype=np.float64).reshape(-1, 2)
            numbers = np.asarray(ids, dtype=np.int32).ravel()
            blur = edge_width(p.gray, points, numbers, board)
            out.views.append(View(p.head, p.camera, p.key, p.source, w, h, numbers, points, blur))
    if out.pictures == 0:
        raise BadInput("no picture to calibrate with")
    _expect_this_board(out, board, seen)
    _leave_out_blurred(out)
    return out


def _expect_this_board(found: Found, board: Board, seen: set[int]) -> None:
    if len(found.foreign) > max(2, 0.05 * len(seen)):
        shown = ", ".join(str(i) for i in sorted(found.foreign)[:6])
        shown += ", …" if len(found.foreign) > 6 else ""
        raise BadInput(
            f"--board {board}: the pictures show markers ({shown}) that are not on such a board of {len(board.markers)}; "
            "count its squares again"
        )
    if not found.views and len(seen) >= 4:
        raise BadInput(
            f"--board {board}: {len(seen)} of its markers were seen in {found.pictures} pictures, but not as they lie on such "
            "a board; count its squares again, first along the side that is horizontal when the text is upright"
        )
    if not found.views:
        why = found.left_out[0] if found.left_out else "no picture"
        raise BadInput(f"--board {board}: the board was found in none of {found.pictures} pictures (the first: {why})")


def _leave_out_blurred(found: Found) -> None:
    kept: list[View] = []
    for key in sorted({(v.head, v.camera) for v in found.views}):
        views = found.of(*key)
        most = min(BLUR_PX, max(1.2, BLUR_SHARE * float(np.median([v.blur_px for v in views]))))
        for v in views:
            if v.blur_px <= most:
                kept.append(v)
            else:
                found.left_out.append(
                    f"{v.source}: blurred: an edge is {v.blur_px:.1f} px wide; at most {most:.1f} is of use here"
                )
    if not kept:
        raise BadInput([f"all {len(found.views)} pictures that show the board are blurred", *found.left_out])
    found.views = kept


def edge_width(gray: Gray, pixels: Array, ids: Ids, board: Board) -> float:
    """How wide the edges at the corners are: the standard deviation of a Gaussian in pixels, of the blurrier direction.

    An edge of contrast C behind a Gaussian of width s rises by at most C / (s sqrt(2 pi)) a pixel; noise is smoothed away first
    with a Gaussian of 0.7 px, which is then subtracted in squares. The median over the corners is told.
    """
    spacing = _spacing(pixels, ids, board)
    half = max(3, min(EDGE_MOST_PX, round(EDGE_SHARE * spacing)))
    smooth = cv2.GaussianBlur(gray, (0, 0), 0.7).astype(np.float32)
    gx, gy = (np.abs(cv2.Sobel(smooth, cv2.CV_32F, i, 1 - i, ksize=3)) / 8 for i in (1, 0))
    widths = []
    for x, y in pixels.tolist():
        window = np.s_[max(0, round(y) - half) : round(y) + half + 1, max(0, round(x) - half) : round(x) + half + 1]
        patch = smooth[window]
        if patch.size < 9:
            continue
        low, high = np.percentile(patch, (5, 95))
        # Along the blurrier of the two directions: a moving camera blurs only one.
        rise = min(float(np.percentile(g[window], 98)) for g in (gx, gy))
        if high - low > 20 and rise > 0:
            widths.append((high - low) / (rise * math.sqrt(2 * math.pi)))
    if not widths:
        return math.inf
    return math.sqrt(max(0.0, float(np.median(widths)) ** 2 - 0.7**2))


def _spacing(pixels: Array, ids: Ids, board: Board) -> float:
    """Median distance of neighbours in a row or column, pixels."""
    place = {int(i): p for i, p in zip(ids, pixels, strict=True)}
    across = board.squares_x - 1
    steps = [(i, j) for i in place for j in (i + 1, i + across) if j in place and (j == i + across or j % across != 0)]
    return float(np.median([np.linalg.norm(place[i] - place[j]) for i, j in steps])) if steps else 10.0


def coverage(views: Sequence[View]) -> float:
    """Share of a camera's picture, in cells, that a corner was seen in."""
    if not views:
        return 0.0
    w, h = views[0].width_px, views[0].height_px
    columns, rows = (CELLS_LONG, CELLS_SHORT) if w >= h else (CELLS_SHORT, CELLS_LONG)
    cells = {(int(x * columns / w), int(y * rows / h)) for v in views for x, y in v.pixels.tolist()}
    return len(cells) / (columns * rows)
