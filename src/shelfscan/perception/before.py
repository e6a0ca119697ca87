"""What stands before the shelf: people, trolleys, pallets, however plain their surface and however near.

The shelf's depth is searched in a narrow band, and surfaces without texture are left out of it: a hole there is better
than a guess, and a bare opening is one. So a plain trolley before full shelves would be such a hole as well, and the
bins behind it would look empty. Here a bare surface takes the depth of its borders, as semi-global matching does by
itself: an opening then lies at its shelf's edge, a trolley where the trolley stands.
"""

from __future__ import annotations

import math
import threading
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.model.imaging import Gray, Head

#: Half the resolution does for things as large as what hides a shelf, at a tenth of the cost.
SCALE = 2
#: Nothing is nearer to a robot's cameras than this.
NEAREST_M = 0.25
BLOCK_PX = 5


@lru_cache(maxsize=32)
def _matcher(thread: int, least: int, count: int) -> cv2.StereoSGBM:
    """A matcher of its own for each thread: it computes in buffers that it keeps."""
    # Neither uniqueness nor left-right check: both would turn a bare surface into a hole.
    return cv2.StereoSGBM.create(
        minDisparity=least,
        numDisparities=count,
        blockSize=BLOCK_PX,
        P1=8 * BLOCK_PX**2,
        P2=32 * BLOCK_PX**2,
        disp12MaxDiff=-1,
        uniquenessRatio=0,
        speckleWindowSize=60,
        speckleRange=2,
        mode=cv2.STEREO_SGBM_MODE_SGBM_3WAY,
    )


def foreground(head: Head, left: Gray, right: Gray, far_m: float) -> NDArray[np.float32]:
    """Depth along the left optical axis between `NEAREST_M` and ``far_m``, every `SCALE`-th pixel, bare surfaces filled.

    (H / SCALE, W / SCALE) float32 metres in sensor orientation, NaN where nothing matched. Coarse: it says what hides the
    shelf, not where an item stands.
    """
    f_b = head.left.intrinsics.fx_px * head.baseline_m / SCALE
    least = max(0, int(f_b / far_m) - 1)
    count = 16 * math.ceil((f_b / NEAREST_M - least) / 16)
    # The matcher answers only where its whole search range lies in the right picture, so both get a margin.
    margin = least + count
    small = [cv2.resize(p, None, fx=1 / SCALE, fy=1 / SCALE, interpolation=cv2.INTER_AREA) for p in (left, right)]
    wide = [cv2.copyMakeBorder(p, 0, 0, margin, 0, cv2.BORDER_REPLICATE) for p in small]
    disparity = _matcher(threading.get_ident(), least, count).compute(*wide)[:, margin:].astype(np.float32) / 16.0
    known = (disparity > least) & (disparity <= np.arange(disparity.shape[1]))
    with np.errstate(divide="ignore"):
        return np.asarray(np.where(known, f_b / disparity, np.nan), np.float32)
