"""Between a sensor's picture and the upright one people and networks look at."""

from __future__ import annotations

import numpy as np

from shelfscan.model.geometry import Array
from shelfscan.model.imaging import Camera


def to_upright(pixels: Array, camera: Camera) -> Array:
    """Sensor pixels (..., 2) as (u, v) to those of ``np.rot90(picture, camera.upright_turns)``."""
    w, h = camera.intrinsics.width_px, camera.intrinsics.height_px
    u, v = pixels[..., 0], pixels[..., 1]
    turned = ((u, v), (v, w - 1 - u), (w - 1 - u, h - 1 - v), (h - 1 - v, u))[camera.upright_turns]
    return np.stack(turned, axis=-1)


def to_sensor(pixels: Array, camera: Camera) -> Array:
    """Inverse of `to_upright`."""
    w, h = camera.intrinsics.width_px, camera.intrinsics.height_px
    u, v = pixels[..., 0], pixels[..., 1]
    turned = ((u, v), (w - 1 - v, u), (w - 1 - u, h - 1 - v), (v, h - 1 - u))[camera.upright_turns]
    return np.stack(turned, axis=-1)


def upright_size(camera: Camera) -> tuple[int, int]:
    """(width, height) of the upright picture."""
    w, h = camera.intrinsics.width_px, camera.intrinsics.height_px
    return (h, w) if camera.upright_turns % 2 else (w, h)
