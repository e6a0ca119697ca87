"""A robot as ``robot.yaml`` describes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from shelfscan.model.geometry import Pose2D
from shelfscan.model.imaging import Rig


@dataclass(frozen=True)
class RobotModel:
    """Cameras, body and limits. Distances from the *cameras* to the shelf front are standoffs, metres.

    ``calibrated_on``: the day its cameras were measured last, None when nobody knows.
    ``look_rad``: direction the heads look in ``base`` (pi/2: to the robot's left).
    """

    name: str
    rig: Rig
    footprint_radius_m: float
    max_speed_mps: float
    max_turn_radps: float
    wheel_separation_m: float
    wheel_radius_m: float
    dock: Pose2D
    standoff_m: float = 0.9
    standoff_min_m: float = 0.75
    standoff_max_m: float = 1.0
    look_rad: float = 1.5707963267948966
    battery_wh: float = 600.0
    drive_w: float = 60.0
    idle_w: float = 35.0
    calibrated_on: date | None = None
