"""The simulator's packages of the name space ``train`` as textures for composed shelves.

Stores of the demo, the tests and the scores draw their packages from another name space: none of these families
ever stands there.
"""

from __future__ import annotations

import cv2
import numpy as np

from shelfscan.sim.artwork import draw_pack
from shelfscan.sim.packaging import PackSpec, make_packs
from training.detector.art import Art

NAMESPACE = "train"
_BOTTLE = np.array([[0.0, 0.96], [0.03, 1.0], [0.58, 1.0], [0.66, 0.93], [0.8, 0.55], [0.87, 0.38], [0.9, 0.4], [1.0, 0.4]])


def pack_art(spec: PackSpec, px: int = 176) -> Art:
    """The front of a pack as a camera sees it: round packs foreshortened and shaded at their sides."""
    front = np.asarray(draw_pack(spec, px)["front"])
    h = px
    w = int(np.clip(h * spec.width_m / spec.height_m, 40, 360))
    front = cv2.resize(front, (w, h), interpolation=cv2.INTER_AREA)
    alpha = np.full((h, w), 255, np.uint8)
    shape = spec.shape
    if shape in ("can", "bottle"):
        height = 1 - (np.arange(h) + 0.5) / h
        radius = (
            np.interp(height, _BOTTLE[:, 0], _BOTTLE[:, 1])
            if shape == "bottle"
            else np.where((height > 0.97) | (height < 0.03), 0.97, 1.0)
        )
        x = (np.arange(w) + 0.5) / w * 2 - 1
        across = x[None] / radius[:, None]
        inside = np.abs(across) <= 1
        u = np.arcsin(across.clip(-1, 1)) / np.pi + 0.5
        front = cv2.remap(
            front, (u * (w - 1)).astype(np.float32), np.repeat(np.arange(h, dtype=np.float32)[:, None], w, 1), cv2.INTER_LINEAR
        )
        shade = 0.4 + 0.6 * np.sqrt(1 - across.clip(-1, 1) ** 2)
        front = (front * shade[..., None]).astype(np.uint8)
        alpha = np.where(inside, 255, 0).astype(np.uint8)
    elif shape == "bag":
        y = (np.arange(h) + 0.5) / h * 2 - 1
        half = 1 - 0.04 * (1 - y**2)
        x = np.abs((np.arange(w) + 0.5) / w * 2 - 1)
        alpha = np.where(x[None] <= half[:, None], 255, 0).astype(np.uint8)
        front = (front * (1 - 0.35 * x[None, :, None] ** 3)).astype(np.uint8)
    return Art(np.dstack([front, alpha]), "box" if shape == "multipack" else shape, spec.width_m, spec.height_m, spec.depth_m)


def pack_arts(seed: int, count: int) -> list[Art]:
    """``count`` packs of the training name space."""
    return [pack_art(s) for s in make_packs(seed, count, NAMESPACE)]
