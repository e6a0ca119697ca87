"""Drawn packages to recognise, and an embedder that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.model.imaging import Rgb
from shelfscan.sim.artwork import draw_pack
from shelfscan.sim.packaging import make_packs


@lru_cache
def families(count: int, seed: int = 4_000_000, px: int = 256) -> tuple[tuple[Rgb, ...], ...]:
    """Fronts of ``count`` packages, look-alikes together; the same ones every time."""
    found: dict[int, list[Rgb]] = {}
    for spec in make_packs(seed, count, "tests"):
        front = np.asarray(draw_pack(spec, px)["front"], np.uint8)[..., :3].copy()
        front.setflags(write=False)
        found.setdefault(spec.family, []).append(front)
    return tuple(tuple(f) for f in found.values())


def fronts(count: int, seed: int = 4_000_000) -> list[Rgb]:
    """One front of each family, so that no two are look-alikes."""
    return [f[0] for f in families(4 * count, seed)][:count]


def warp(picture: Rgb, turn_deg: float = 0.0, zoom: float = 1.0, light: float = 1.0) -> tuple[Rgb, NDArray[np.float64]]:
    """A picture turned about its middle, enlarged and lit anew, whole, on grey; and the (2, 3) from its pixels to the new."""
    h, w = picture.shape[:2]
    m = cv2.getRotationMatrix2D((w / 2, h / 2), turn_deg, zoom)
    corners = m @ np.array([[0, w, w, 0], [0, 0, h, h], [1, 1, 1, 1]], float)
    low, high = corners.min(axis=1), corners.max(axis=1)
    m[:, 2] -= low
    size = np.ceil(high - low).astype(int)
    how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    out = cv2.warpAffine(picture, m, (int(size[0]), int(size[1])), flags=how, borderValue=(128, 128, 128))
    return np.clip(out * light, 0, 255).astype(np.uint8), m


class Thumbnail:
    """An embedder: a small grey copy without its mean. It is as easily fooled as a real one, and as deterministic."""

    description = "thumbnail"

    def embed(self, crops: Sequence[Rgb]) -> NDArray[np.float32]:
        small = [cv2.resize(cv2.cvtColor(c, cv2.COLOR_RGB2GRAY), (8, 8), interpolation=cv2.INTER_AREA) for c in crops]
        out = np.array(small, np.float32).reshape(-1, 64)
        out -= out.mean(axis=1, keepdims=True)
        out[:, 0] += 1e-3  # a plain crop has a direction, too
        return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True), np.float32)
