"""Which bin fronts a capture really showed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.model.scan import COVERAGE_COLUMNS, COVERAGE_ROWS
from shelfscan.model.store import BinPlace
from shelfscan.model.viewing import cells_in_view, front_points
from shelfscan.perception.localise import GRID, FaceView

#: Something this much nearer than the front plane hides what is behind it.
BLOCK_M = 0.06
#: ... and at least so many cells of the depth grid wide and high (about 3 cm at the shelf).
BLOCK_CELLS = 11


@dataclass(frozen=True)
class FrontSeen:
    """Cells (R, C) of one bin's front: seen within the angle, and hidden by something before the shelf or made unreadable."""

    place: BinPlace
    seen: NDArray[np.bool_]
    blocked: NDArray[np.bool_]


def fronts_seen(view: FaceView, T_face_base: NDArray[np.float64], places: Sequence[BinPlace]) -> list[FrontSeen]:
    """Coverage of every bin front that is at least partly in view."""
    out = []
    eye_x = float(view.eye_face_m[0])
    least_m = -float(view.eye_face_m[1]) - BLOCK_M
    with np.errstate(invalid="ignore"):
        near = ((view.depth < least_m) | (view.before < least_m)).astype(np.uint8)
    # What hides a shelf is larger than a stray match: only what survives an opening counts.
    before = cv2.morphologyEx(near, cv2.MORPH_OPEN, np.ones((BLOCK_CELLS, BLOCK_CELLS), np.uint8)).astype(bool)
    for place in places:
        if place.x1_m < eye_x - 0.9 or place.x0_m > eye_x + 0.9:
            continue
        corners = front_points(place)
        cells = cells_in_view(view.head, T_face_base, corners)
        if not cells.any():
            continue
        middle = (corners[:-1, :-1] + corners[1:, 1:]) / 2
        px = view.to_pixels(middle) / GRID
        rows = np.clip(px[..., 1], 0, view.depth.shape[0] - 1).astype(np.int64)
        cols = np.clip(px[..., 0], 0, view.depth.shape[1] - 1).astype(np.int64)
        hidden = cells & (before | view.hidden)[rows, cols]
        out.append(FrontSeen(place, cells & ~hidden, hidden))
    return out


def to_bits(cells: NDArray[np.bool_]) -> int:
    """(R, C) cells to the bit mask of `BinCoverage`."""
    bits = 0
    for index in np.flatnonzero(cells.ravel()):
        bits |= 1 << int(index)
    return bits


def share(bits: int) -> float:
    """Share of a front's cells that a mask holds, 0..1."""
    return bits.bit_count() / (COVERAGE_ROWS * COVERAGE_COLUMNS)
