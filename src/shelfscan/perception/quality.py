"""What a head's pictures say about the head: sharp, bright, clean, rectified. Plain numbers, judged over a whole run."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.model.imaging import Gray, HeadFrame, Rgb
from shelfscan.perception.hidden import Mask

#: The upright picture is cut into these cells to find where a lens is smeared.
CELL_ROWS, CELL_COLUMNS = 6, 4
#: So much of a picture, or of a part of it, must have been left readable to say something.
SHOWN = 0.5
#: Corners that are looked for in the right picture, and how alike they must be there.
CORNERS, ALIKE = 90, 0.92
PATCH_PX, ROWS_PX = 10, 4
LONGEST_PX, SHORTEST_PX = 220, 10


def measures(frame: HeadFrame, picture: Rgb, hidden: Mask | None = None) -> dict[str, float]:
    """Numbers of one head in one capture, by name.

    ``sharpness``: variance of the Laplacian of a reduced picture (Pech-Pacheco et al., 2000); ``brightness``: mean grey;
    ``cell_R_C``: fine detail in that part of the picture; ``rows_px``: how far the right stereo picture's rows lie below the
    left one's, absent where too few corners are found again. ``hidden``: what was made unreadable of the picture, over all of
    it; it says nothing of a lens, and parts of which too little is left are absent.
    """
    small = cv2.cvtColor(np.ascontiguousarray(picture[::3, ::3]), cv2.COLOR_RGB2GRAY)
    fine = cv2.Laplacian(small, cv2.CV_32F)
    shown = np.ones(fine.shape, bool)
    if hidden is not None and hidden.any():
        gone = cv2.resize(hidden.astype(np.uint8), fine.shape[::-1], interpolation=cv2.INTER_NEAREST)
        # Its border is an edge that no shelf has.
        shown = cv2.dilate(gone, np.ones((5, 5), np.uint8)) == 0
    out: dict[str, float] = {}
    if shown.mean() >= SHOWN:
        out |= {"sharpness": round(float(fine[shown].var()), 2), "brightness": round(float(small[shown].mean()), 2)}
        out |= _detail(np.abs(fine), shown)
    rows_px = row_offset_px(frame.left, frame.right)
    if rows_px is not None:
        out["rows_px"] = round(rows_px, 3)
    return out


def _detail(detail: NDArray[Any], shown: Mask) -> dict[str, float]:
    rows, cols = detail.shape
    out: dict[str, float] = {}
    for r in range(CELL_ROWS):
        for c in range(CELL_COLUMNS):
            high = slice(r * rows // CELL_ROWS, (r + 1) * rows // CELL_ROWS)
            wide = slice(c * cols // CELL_COLUMNS, (c + 1) * cols // CELL_COLUMNS)
            if shown[high, wide].mean() >= SHOWN:
                out[f"cell_{r}_{c}"] = round(float(detail[high, wide][shown[high, wide]].mean()), 3)
    return out


def row_offset_px(left: Gray, right: Gray) -> float | None:
    """Median row of what both pictures of a stereo pair show, right minus left; 0 when rectified. None: too little is found."""
    points = cv2.goodFeaturesToTrack(left, CORNERS, 0.02, 25)
    if points is None:
        return None
    height, width = left.shape
    found: list[float] = []
    for x, y in points.reshape(-1, 2).astype(int):
        if not (
            PATCH_PX + LONGEST_PX <= x < width - PATCH_PX - 1 and PATCH_PX + ROWS_PX <= y < height - PATCH_PX - ROWS_PX - 1
        ):
            continue
        patch = left[y - PATCH_PX : y + PATCH_PX + 1, x - PATCH_PX : x + PATCH_PX + 1]
        strip = right[
            y - PATCH_PX - ROWS_PX : y + PATCH_PX + ROWS_PX + 1, x - PATCH_PX - LONGEST_PX : x + PATCH_PX - SHORTEST_PX + 1
        ]
        score = cv2.matchTemplate(strip, patch, cv2.TM_CCOEFF_NORMED)
        _, best, _, (c, r) = cv2.minMaxLoc(score)
        if best >= ALIKE and 0 < r < score.shape[0] - 1:
            found.append(r - ROWS_PX + _peak(score[r - 1 : r + 2, c]))
    return float(np.median(found)) if len(found) >= 12 else None


def _peak(three: NDArray[Any]) -> float:
    """Where a parabola through three scores is highest, relative to the middle one."""
    a, b, c = three.tolist()
    curve = a - 2 * b + c
    return 0.0 if abs(curve) < 1e-9 else float(np.clip(0.5 * (a - c) / curve, -0.5, 0.5))


#: A picture so much less sharp than a head's usual ones is taken again; so many usual ones are needed to say so.
BLURRED, USUAL_FROM, USUAL_KEPT = 0.35, 5, 40


def sharpness_of(gray: NDArray[Any]) -> float:
    """Variance of the Laplacian of a small grey picture."""
    return float(cv2.Laplacian(gray, cv2.CV_32F).var())


class BlurGuard:
    """Whether a head's picture came out blurred, against the pictures it took before. A head that is out of focus for good is
    `audit.health`'s affair: its usual pictures are what they are."""

    def __init__(self) -> None:
        self._usual: dict[str, list[float]] = {}

    def blurred(self, head: str, sharpness: float) -> bool:
        """Whether it should be taken again."""
        before = self._usual.get(head, [])
        return len(before) >= USUAL_FROM and sharpness < BLURRED * float(np.median(before))

    def taken(self, head: str, sharpness: float) -> None:
        """A picture that is used."""
        before = self._usual.setdefault(head, [])
        before.append(sharpness)
        del before[:-USUAL_KEPT]
