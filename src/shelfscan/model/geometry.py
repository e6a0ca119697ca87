"""Rigid transforms as 4x4 arrays and planar poses.

A transform ``T_a_b`` maps points of frame ``b`` into frame ``a``: ``p_a = T_a_b @ p_b``.
Frames: ``map`` (z up, floor at 0), ``base`` (x forward, y left, z up), optical frames
(x right, y down, z forward), ``face`` (a gondola face: origin at the floor at the left end as a
shopper sees it, x to the shopper's right, y into the shelf, z up).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pose2D:
    """A planar pose in ``map``: metres and radians (counter-clockwise from x)."""

    x_m: float
    y_m: float
    yaw_rad: float

    def matrix(self) -> Array:
        """``T_map_this``, (4, 4)."""
        return planar(self.x_m, self.y_m, self.yaw_rad)


def planar(x_m: float, y_m: float, yaw_rad: float, z_m: float = 0.0) -> Array:
    """Transform of a frame at (x, y, z) turned by yaw about z; (4, 4)."""
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    return np.array([[c, -s, 0, x_m], [s, c, 0, y_m], [0, 0, 1, z_m], [0, 0, 0, 1]], dtype=np.float64)


def transform(rotation: Array, translation: Array) -> Array:
    """(3, 3) rotation and (3,) translation to a (4, 4) transform."""
    out = np.eye(4)
    out[:3, :3] = rotation
    out[:3, 3] = translation
    return out


def inverse(T: Array) -> Array:
    """Inverse of a rigid (4, 4) transform."""
    out = np.eye(4)
    out[:3, :3] = T[:3, :3].T
    out[:3, 3] = -T[:3, :3].T @ T[:3, 3]
    return out


def apply(T: Array, points: Array) -> Array:
    """Map points (..., 3) by ``T``; (..., 3)."""
    return np.asarray(points @ T[:3, :3].T + T[:3, 3])


def yaw_of(T: Array) -> float:
    """Heading of ``T``'s x axis about z, radians in (-pi, pi]."""
    return math.atan2(float(T[1, 0]), float(T[0, 0]))


def pose2d_of(T: Array) -> Pose2D:
    """Planar part of ``T``."""
    return Pose2D(float(T[0, 3]), float(T[1, 3]), yaw_of(T))


def quaternion_of(T: Array) -> tuple[float, float, float, float]:
    """(x, y, z, w) of the rotation of ``T``; w >= 0."""
    m = T[:3, :3]
    trace = float(np.trace(m))
    if trace > 0:
        s = 2.0 * math.sqrt(trace + 1.0)
        q = ((m[2, 1] - m[1, 2]) / s, (m[0, 2] - m[2, 0]) / s, (m[1, 0] - m[0, 1]) / s, 0.25 * s)
    else:
        i = int(np.argmax(np.diag(m)))
        j, k = (i + 1) % 3, (i + 2) % 3
        s = 2.0 * math.sqrt(max(1e-12, 1.0 + m[i, i] - m[j, j] - m[k, k]))
        v = [0.0, 0.0, 0.0]
        v[i] = 0.25 * s
        v[j] = (m[j, i] + m[i, j]) / s
        v[k] = (m[k, i] + m[i, k]) / s
        q = (v[0], v[1], v[2], (m[k, j] - m[j, k]) / s)
    x, y, z, w = (float(c) for c in q)
    return (-x, -y, -z, -w) if w < 0 else (x, y, z, w)


def from_quaternion(q: tuple[float, float, float, float], translation: tuple[float, float, float]) -> Array:
    """Transform from an (x, y, z, w) quaternion (normalised here) and metres."""
    x, y, z, w = np.asarray(q, dtype=np.float64) / np.linalg.norm(q)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    return transform(rotation, np.asarray(translation, dtype=np.float64))
