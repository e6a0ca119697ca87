"""Captures of noise in the robot's sizes: what bags and wires are tried with where no shelf needs to be seen."""

from __future__ import annotations

import cv2
import numpy as np

from shelfscan.model.geometry import planar
from shelfscan.model.imaging import FrameBundle, HeadFrame
from shelfscan.paths import default_robot_file
from shelfscan.robotfile import read_robot

HEADS = read_robot(default_robot_file()).rig.heads


def capture(n: int) -> FrameBundle:
    """A capture of noise in the robot's sizes, different for each ``n``."""
    rng = np.random.default_rng(n)
    frames = []
    for head in HEADS:
        i, c = head.left.intrinsics, head.rgb.intrinsics
        left, right = (rng.integers(0, 255, (i.height_px, i.width_px)).astype(np.uint8) for _ in range(2))
        plain = np.full((c.height_px, c.width_px, 3), 10 * n % 250, np.uint8)
        frames.append(HeadFrame(head, left, right, cv2.imencode(".jpg", plain)[1].tobytes()))
    return FrameBundle("m", f"V{n}", f"V{n}-1", 1_700_000_000_000_000_000 + n, planar(1.0, 2.0, 0.1 * n), tuple(frames))
