"""From a picture to the detector's input and from its output to boxes: pure numpy and OpenCV, shared by all backends.

The network takes (1, 3, H, W) float32 RGB in 0..1, H and W multiples of 32, and gives, per cell of strides 8, 16
and 32 (each row by row), ``distances`` (1, 4, A): how far the box's left, top, right and bottom lie from the cell's
centre, in strides; and ``scores`` (1, C, A) in 0..1. Decoding looks at scores first: few cells survive.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.model.detections import Detections
from shelfscan.model.imaging import Rgb

STRIDES = (8, 16, 32)
MULTIPLE = 32
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How a picture lies in the network's input: scaled by ``scale``, top left, the rest grey."""

    scale: float
    width_px: int
    height_px: int


def input_scale(height_px: int, width_px: int, scale: float | None, max_side_px: int) -> float:
    """The factor a picture is resized by: ``scale`` when given, else so that its long side is ``max_side_px`` at most."""
    if scale is not None:
        return scale
    return min(1.0, max_side_px / max(height_px, width_px))


def letterbox(picture: Rgb, scale: float) -> tuple[Floats, Letterbox]:
    """The network's input (1, 3, H, W) for a picture (h, w, 3) uint8 RGB resized by ``scale``, and how to get back."""
    h, w = picture.shape[:2]
    new_w, new_h = max(1, round(w * scale)), max(1, round(h * scale))
    if (new_h, new_w) != (h, w):
        picture = cv2.resize(picture, (new_w, new_h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR).astype(
            np.uint8, copy=False
        )
    full = np.full((-(-new_h // MULTIPLE) * MULTIPLE, -(-new_w // MULTIPLE) * MULTIPLE, 3), 114, np.uint8)
    full[:new_h, :new_w] = picture
    blob = np.empty((1, 3, *full.shape[:2]), np.float32)
    for channel, plane in enumerate(cv2.split(full)):
        np.multiply(plane, np.float32(1.0 / 255.0), out=blob[0, channel])
    return blob, Letterbox(scale, w, h)


@lru_cache(maxsize=8)
def _cells(height: int, width: int) -> tuple[Floats, Floats]:
    """Centres (A, 2) in input pixels and strides (A,)."""
    points, strides = [], []
    for s in STRIDES:
        ys, xs = np.mgrid[: height // s, : width // s]
        points.append((np.stack([xs, ys], -1).reshape(-1, 2) + 0.5) * s)
        strides.append(np.full(len(points[-1]), s))
    return np.concatenate(points).astype(np.float32), np.concatenate(strides).astype(np.float32)


def cell_count(height: int, width: int) -> int:
    """How many cells an input of this size has."""
    return sum((height // s) * (width // s) for s in STRIDES)


def decode(
    distances: Floats,
    scores: Floats,
    shape: tuple[int, int],
    back: Letterbox,
    thresholds: tuple[float, ...],
    iou: float = 0.55,
    limit: int = 1000,
) -> Detections:
    """Boxes of one picture, best first, after non-maximum suppression a class.

    ``distances`` (4, A) and ``scores`` (C, A) are the network's output for an input of ``shape`` (H, W);
    ``thresholds`` has one score a class. Boxes are in pixels of the original picture, cut at its edges.
    """
    return decode_cells(distances, scores, shape, back, thresholds, iou, limit)[0]


def decode_cells(
    distances: Floats,
    scores: Floats,
    shape: tuple[int, int],
    back: Letterbox,
    thresholds: tuple[float, ...],
    iou: float = 0.55,
    limit: int = 1000,
) -> tuple[Detections, NDArray[np.int64]]:
    """What `decode` gives, and for each box the cell (index into A) that it is of."""
    floors = np.asarray(thresholds, np.float32)
    keep = np.flatnonzero(scores.max(0) >= floors.min())
    best = scores[:, keep].argmax(0)
    top = scores[best, keep]
    sure = top >= floors[best]
    keep, best, top = keep[sure], best[sure], top[sure]
    if not len(keep):
        return Detections.empty(), np.zeros(0, np.int64)
    if len(keep) > 4 * limit:
        first = np.argpartition(-top, 4 * limit)[: 4 * limit]
        keep, best, top = keep[first], best[first], top[first]
    points, strides = _cells(*shape)
    d = distances[:, keep].T * strides[keep, None]
    corners = np.concatenate([points[keep] - d[:, :2], points[keep] + d[:, 2:]], 1)
    boxes = np.asarray(corners / np.float32(back.scale), np.float32)
    boxes[:, [0, 2]] = boxes[:, [0, 2]].clip(0, back.width_px)
    boxes[:, [1, 3]] = boxes[:, [1, 3]].clip(0, back.height_px)
    chosen = suppress(boxes, top, best, iou)[:limit]
    solid = (boxes[chosen, 2:] - boxes[chosen, :2] > 1).all(1)
    chosen = chosen[solid]
    found = Detections(boxes[chosen], top[chosen].astype(np.float32), best[chosen].astype(np.int64))
    return found, np.asarray(keep[chosen], np.int64)


def suppress(boxes: Floats, scores: Floats, classes: NDArray[np.int64], iou: float) -> NDArray[np.int64]:
    """Indices of the boxes (N, 4) that stay, best first: none overlaps a better one of its class by more than ``iou``."""
    if not len(boxes):
        return np.zeros(0, np.int64)
    sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    # The work grows with the square of the boxes, so it is done a class and, in it, a band at a time: between two shelves
    # there mostly is a line that no product crosses.
    apart = classes * (float(boxes[:, 3].max()) + 1.0)
    top, bottom = boxes[:, 1] + apart, boxes[:, 3] + apart
    order = np.argsort(top, kind="stable")
    reach = np.maximum.accumulate(bottom[order])
    kept = []
    for band in np.split(order, np.flatnonzero(top[order][1:] >= reach[:-1]) + 1):
        band.sort()  # of equal scores the first comes first
        found = cv2.dnn.NMSBoxes(sizes[band].tolist(), scores[band].tolist(), 0.0, iou) if len(band) > 1 else [0]
        kept.append(band[np.asarray(found, np.int64).reshape(-1)])
    chosen = np.concatenate(kept)
    return np.asarray(chosen[np.lexsort((chosen, -scores[chosen]))], np.int64)
