"""Depth of a rectified stereo pair, searched only where the shelf can be."""

from __future__ import annotations

import math
import threading
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.model.imaging import Gray, Head

Depth = NDArray[np.float32]
BLOCK_PX = 5
#: Side of the square in which texture is looked for, and how much of it, against the picture's own noise, is needed.
TEXTURE_PX = 9
TEXTURE_OVER_NOISE = 1.6
TEXTURE_LEAST = 4.0


@lru_cache(maxsize=32)
def _matcher(thread: int, least: int, count: int) -> cv2.StereoSGBM:
    """A matcher of its own for each thread: it computes in buffers that it keeps."""
    return cv2.StereoSGBM.create(
        minDisparity=least,
        numDisparities=count,
        blockSize=BLOCK_PX,
        P1=8 * BLOCK_PX**2,
        P2=32 * BLOCK_PX**2,
        disp12MaxDiff=1,
        uniquenessRatio=8,
        speckleWindowSize=80,
        speckleRange=2,
        mode=cv2.STEREO_SGBM_MODE_SGBM_3WAY,
    )


def depth_map(head: Head, left: Gray, right: Gray, near_m: float, far_m: float) -> Depth:
    """Depth along the left optical axis, (H, W) float32 metres, NaN where nothing matched; sensor orientation.

    Semi-global matching (Hirschmueller, TPAMI 2008; OpenCV's 3-way variant) within ``near_m..far_m``. The robot knows
    where the shelf is: a narrow band is faster and leaves less room for wrong matches.
    """
    f_b = head.left.intrinsics.fx_px * head.baseline_m
    least = max(0, int(np.floor(f_b / far_m)) - 1)
    disparity = disparity_map(left, right, least, int(np.ceil(f_b / near_m)) + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.where(textured(left), f_b / disparity, np.nan)
    return np.asarray(depth.astype(np.float32))


def disparity_map(left: Gray, right: Gray, least_px: int, most_px: int) -> Depth:
    """Disparity of a rectified pair within ``least_px..most_px``, (H, W) float32 pixels, NaN where nothing matched.

    The matcher answers only where its whole search range lies in the right picture, so both pictures get a margin. A
    match in the margin itself is none: what it claims to be is outside the right picture.
    """
    count = -(-(most_px - least_px) // 16) * 16
    margin = least_px + count
    wide = [cv2.copyMakeBorder(p, 0, 0, margin, 0, cv2.BORDER_REPLICATE) for p in (left, right)]
    disparity = _matcher(threading.get_ident(), least_px, count).compute(*wide)[:, margin:].astype(np.float32) / 16.0
    disparity[(disparity <= least_px) | (disparity > np.arange(left.shape[1]))] = np.nan
    return disparity


def textured(picture: Gray) -> NDArray[np.bool_]:
    """Where there is something to match *along the epipolar line*; (H, W).

    Semi-global matching fills bare surfaces from their borders, so that an empty shelf looks closed by its edge strip.
    A hole is better than such a guess. Noise is estimated as in Immerkaer, CVIU 1996.
    """
    gradient = np.abs(cv2.Sobel(picture, cv2.CV_16S, 1, 0, ksize=3)).astype(np.float32)
    mean = cv2.boxFilter(gradient, -1, (TEXTURE_PX, TEXTURE_PX))
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    # The median, not Immerkaer's mean: most of a full shelf is texture, which is not noise.
    response = np.abs(cv2.filter2D(picture[::2, ::2], cv2.CV_32F, mask))
    noise = float(np.median(response)) / (6 * 0.6745)
    noise_gradient = math.sqrt(12.0) * noise * math.sqrt(2.0 / math.pi)
    return np.asarray(mean > max(TEXTURE_LEAST, TEXTURE_OVER_NOISE * noise_gradient))
