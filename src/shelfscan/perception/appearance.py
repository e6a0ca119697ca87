"""Colour of packs: how it lies on the whole of a crop, and how it compares where two crops were laid on each other."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.model.imaging import Rgb
from shelfscan.perception.local_features import SIDE_PX

#: Cells of the colour layout, and the steps of L, a and b in a cell.
ROWS, COLUMNS, CELL_PX = 6, 3, 8
STEPS_L, STEPS_AB, RANGE_AB = 4, 6, 160.0
LAYOUT_DIM = ROWS * COLUMNS * STEPS_L * STEPS_AB * STEPS_AB
#: The cell of each pixel.
_CELL = np.add.outer(np.arange(ROWS * CELL_PX) // CELL_PX * COLUMNS, np.arange(COLUMNS * CELL_PX) // CELL_PX)
#: Crops that are laid on each other have this longer side.
LAID_PX = 96
#: Fewer shared pixels say nothing.
LEAST_OVERLAP_PX = 40


def colour_layout(crop: Rgb) -> NDArray[np.float32]:
    """Where which colours are: square roots of L*a*b* histograms of 6 × 3 cells, (LAYOUT_DIM,) of length 1.

    The dot product of two is the mean Bhattacharyya coefficient of their cells.
    """
    size = (COLUMNS * CELL_PX, ROWS * CELL_PX)
    lab = cv2.cvtColor(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB).astype(np.float32)
    light = np.clip(lab[..., 0] / 256 * STEPS_L, 0, STEPS_L - 1e-3).astype(int)
    ab = np.clip((lab[..., 1:] - 128) / RANGE_AB * STEPS_AB + STEPS_AB / 2, 0, STEPS_AB - 1e-3).astype(int)
    bins = STEPS_L * STEPS_AB * STEPS_AB
    step = (light * STEPS_AB + ab[..., 0]) * STEPS_AB + ab[..., 1]
    counts = np.bincount((_CELL * bins + step).ravel(), minlength=LAYOUT_DIM)
    layout: NDArray[np.float32] = np.sqrt(counts / (size[0] * size[1])).astype(np.float32)
    return layout


def laid_copy(crop: Rgb) -> NDArray[np.uint8]:
    """The small L*a*b* copy that `laid_on` compares, (h, w, 3)."""
    scale = LAID_PX / max(crop.shape[:2])
    size = (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))
    small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2LAB), np.uint8)


def laid_on(query: NDArray[np.uint8], reference: NDArray[np.uint8], affine: NDArray[np.float32]) -> tuple[float, float, float]:
    """Correlation of L, a and b (-1..1) where a reference laid on a query covers it; zeros where that says nothing.

    Both are `laid_copy`; ``affine`` (2, 3) goes from the query to the reference in px of `SIDE_PX` crops. Correlation does not
    mind another exposure or white balance.
    """
    if np.linalg.det(affine[:, :2]) <= 0:
        return 0.0, 0.0, 0.0
    small = affine.astype(np.float64)
    small[:, 2] *= LAID_PX / SIDE_PX
    size = (query.shape[1], query.shape[0])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    over = cv2.warpAffine(np.ones(reference.shape[:2], np.float32), small, size, flags=how) > 0.99
    if over.sum() < LEAST_OVERLAP_PX:
        return 0.0, 0.0, 0.0
    # One row a channel: sums over long rows are quick.
    a = np.ascontiguousarray(query[over].T, dtype=np.float32)
    moved = cv2.warpAffine(reference.astype(np.float32), small, size, flags=how)
    b = np.ascontiguousarray(np.asarray(moved, np.float32)[over].T)
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    r = (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1) + 1e-3)
    return float(r[0]), float(r[1]), float(r[2])
