"""What training does to pictures so that few of them teach much: zoom, stretch, mirror, colour, blur, noise, JPEG, mosaics."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.learn.datasets import IGNORE
from shelfscan.model.imaging import Rgb

GREY = (114, 114, 114)
#: A box that keeps less than this of itself in a crop is neither right nor wrong.
KEPT = 0.3


@dataclass(frozen=True, eq=False)
class Crop:
    """``picture`` (S, S, 3) uint8 RGB with ``boxes_px`` (N, 4) float32 and ``classes`` (N,) int64, -1 to be ignored."""

    picture: Rgb
    boxes_px: NDArray[np.float32]
    classes: NDArray[np.int64]


def crop(
    picture: Rgb,
    boxes_px: NDArray[np.float32],
    classes: NDArray[np.int64],
    rng: np.random.Generator,
    size: int,
    zoom: tuple[float, float],
) -> Crop:
    """A square part of a picture at a random zoom (log-uniform), slightly stretched, mirrored half of the time."""
    h, w = picture.shape[:2]
    scale = float(np.exp(rng.uniform(np.log(zoom[0]), np.log(zoom[1]))))
    stretch = float(np.exp(rng.normal(0, 0.06)))
    sx, sy = scale * stretch, scale / stretch
    x0 = rng.uniform(min(0.0, w - size / sx), max(0.0, w - size / sx))
    y0 = rng.uniform(min(0.0, h - size / sy), max(0.0, h - size / sy))
    mirror = rng.random() < 0.5
    m = np.array([[sx, 0, -x0 * sx], [0, sy, -y0 * sy]])
    if mirror:
        m[0] = [-sx, 0, size + x0 * sx]
    source, k = picture, m.copy()
    if scale < 0.7:  # averaged first: warpAffine alone would alias
        source = np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        k[0, :2] *= w / source.shape[1]
        k[1, :2] *= h / source.shape[0]
    cut = cv2.warpAffine(source, k, (size, size), flags=cv2.INTER_LINEAR, borderValue=GREY)
    moved = boxes_px * np.array([m[0, 0], m[1, 1], m[0, 0], m[1, 1]], np.float32)
    moved += np.array([m[0, 2], m[1, 2], m[0, 2], m[1, 2]], np.float32)
    if mirror:
        moved[:, [0, 2]] = moved[:, [2, 0]]
    return Crop(np.asarray(cut, np.uint8), *clipped(moved, classes, (0, 0, size, size)))


def clipped(
    boxes: NDArray[np.float32], classes: NDArray[np.int64], to: tuple[int, int, int, int]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Boxes cut at a window's edges; those that lose most of themselves are to be ignored, those that lose all are gone."""
    whole = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6), 1)
    x0, y0, x1, y1 = to
    cut = np.clip(boxes, np.array([x0, y0, x0, y0], np.float32), np.array([x1, y1, x1, y1], np.float32))
    sides = cut[:, 2:] - cut[:, :2]
    keep = sides.min(1, initial=np.inf) > 2 if len(cut) else np.zeros(0, bool)
    new = np.where((sides.prod(1) < KEPT * whole) | (sides.min(1, initial=np.inf) < 6), IGNORE, classes)
    return cut[keep].astype(np.float32), new[keep].astype(np.int64)


def mosaic(parts: list[Crop], rng: np.random.Generator) -> Crop:
    """Four crops of one size around a random point: other neighbours, and twice the shops in one picture."""
    size = parts[0].picture.shape[0]
    cx, cy = (int(v) for v in rng.uniform(0.35 * size, 0.65 * size, 2))
    out = np.empty_like(parts[0].picture)
    boxes, classes = [], []
    for part, (x0, y0, x1, y1) in zip(
        parts, ((0, 0, cx, cy), (cx, 0, size, cy), (0, cy, cx, size), (cx, cy, size, size)), strict=True
    ):
        out[y0:y1, x0:x1] = part.picture[y0:y1, x0:x1]
        b, c = clipped(part.boxes_px, part.classes, (x0, y0, x1, y1))
        boxes.append(b)
        classes.append(c)
    return Crop(out, np.concatenate(boxes), np.concatenate(classes))


def spoil(picture: Rgb, rng: np.random.Generator, strength: float = 1.0) -> Rgb:
    """A camera's and a codec's faults: uneven light, colour cast, exposure, contrast, blur, noise, JPEG."""
    img = picture.astype(np.float32)
    h, w = img.shape[:2]
    if rng.random() < 0.5:
        ramp = rng.uniform(1 - 0.3 * strength, 1.1, (3, 3)).astype(np.float32)
        img *= cv2.resize(ramp, (w, h), interpolation=cv2.INTER_CUBIC)[..., None]
    if rng.random() < 0.5:
        img *= (1 + strength * rng.normal(0, 0.07, 3)).astype(np.float32)
    if rng.random() < 0.3:
        grey = img.mean(2, keepdims=True)
        img = grey + (img - grey) * np.float32(rng.uniform(1 - 0.6 * strength, 1 + 0.4 * strength))
    gain = rng.uniform(1 - 0.3 * strength, 1 + 0.3 * strength)
    img = 255 * np.power((img * gain).clip(0, 255) / 255, np.float32(rng.uniform(1 - 0.2 * strength, 1 + 0.25 * strength)))
    kind = rng.random()
    if kind < 0.3:
        img = np.asarray(cv2.GaussianBlur(img, (0, 0), float(rng.uniform(0.3, 1.2) * strength + 0.01)), np.float32)
    elif kind < 0.4:
        n = int(rng.integers(3, 7))
        kernel = np.full((1, n) if rng.random() < 0.7 else (n, 1), 1 / n, np.float32)
        img = np.asarray(cv2.filter2D(img, -1, kernel), np.float32)
    if rng.random() < 0.5:
        img = img + rng.normal(0, 1, img.shape).astype(np.float32) * np.float32(rng.uniform(0, 6) * strength)
    out = np.asarray(img.clip(0, 255), np.uint8)
    if rng.random() < 0.6:
        ok, data = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 96))])
        if ok:
            out = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(out)
