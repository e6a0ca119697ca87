"""Cameras, the robot's rig of heads, and one capture.

Pictures are numpy arrays in sensor orientation, ``(height, width)`` uint8 for the stereo pair and
JPEG bytes for RGB. A portrait-mounted sensor is a camera whose optical x axis points up or down in
``base``; `Camera.upright_turns` says how to turn its picture for a person (and the detector).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shelfscan.model.geometry import Array

Gray = NDArray[np.uint8]
Rgb = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """Pinhole intrinsics in pixels, distortion in OpenCV's (k1, k2, p1, p2, k3)."""

    width_px: int
    height_px: int
    fx_px: float
    fy_px: float
    cx_px: float
    cy_px: float
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)

    def matrix(self) -> Array:
        """K, (3, 3)."""
        return np.array([[self.fx_px, 0, self.cx_px], [0, self.fy_px, self.cy_px], [0, 0, 1]], dtype=np.float64)

    def project(self, points: Array) -> Array:
        """Optical-frame points (..., 3) to pixels (..., 2), without distortion; z <= 0 gives NaN."""
        z = np.where(points[..., 2] > 1e-6, points[..., 2], np.nan)
        u = self.fx_px * points[..., 0] / z + self.cx_px
        v = self.fy_px * points[..., 1] / z + self.cy_px
        return np.stack([u, v], axis=-1)

    def deproject(self, pixels: Array, depth_m: Array) -> Array:
        """Pixels (..., 2) at depth (...) along the optical axis to optical-frame points (..., 3)."""
        x = (pixels[..., 0] - self.cx_px) / self.fx_px * depth_m
        y = (pixels[..., 1] - self.cy_px) / self.fy_px * depth_m
        return np.stack([x, y, depth_m], axis=-1)


@dataclass(frozen=True)
class Camera:
    """One camera: intrinsics and where it sits. ``T_base_optical`` is (4, 4)."""

    intrinsics: Intrinsics
    T_base_optical: Array

    @property
    def upright_turns(self) -> int:
        """Counter-clockwise quarter turns (``np.rot90``'s k) that put "up" at the top of the picture."""
        up = self.T_base_optical[:3, :3].T @ np.array([0.0, 0.0, 1.0])  # base z in the optical frame
        if abs(up[1]) >= abs(up[0]):
            return 0 if up[1] < 0 else 2
        return 1 if up[0] > 0 else 3


@dataclass(frozen=True)
class Head:
    """A stereo pair and an RGB camera on the mast. ``right`` lies ``baseline_m`` along left's optical x."""

    name: str
    left: Camera
    right: Camera
    rgb: Camera

    @property
    def baseline_m(self) -> float:
        """Distance between the optical centres of the pair, metres."""
        return float(np.linalg.norm(self.right.T_base_optical[:3, 3] - self.left.T_base_optical[:3, 3]))


@dataclass(frozen=True)
class Rig:
    """All camera heads of a robot."""

    heads: tuple[Head, ...]

    def head(self, name: str) -> Head:
        """The head called ``name``; KeyError when there is none."""
        for head in self.heads:
            if head.name == name:
                return head
        raise KeyError(f"no camera head {name!r}; there are {[h.name for h in self.heads]}")


@dataclass(frozen=True)
class HeadFrame:
    """What one head saw. ``left``/``right``: (H, W) uint8 rectified; ``rgb_jpeg``: encoded once, at capture."""

    head: Head
    left: Gray
    right: Gray
    rgb_jpeg: bytes


@dataclass(frozen=True)
class FrameBundle:
    """One capture of all heads at one instant; the pose was fixed at capture.

    ``stamp_ns``: integer nanoseconds (the clock of the run). ``T_map_base``: (4, 4).
    """

    mission_id: str
    viewpoint_id: str
    capture_id: str
    stamp_ns: int
    T_map_base: Array
    frames: tuple[HeadFrame, ...]
