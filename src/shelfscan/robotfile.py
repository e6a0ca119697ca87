"""``robot.yaml``: a robot's cameras and body, in terms an engineer measures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shelfscan.errors import BadInput
from shelfscan.inputs import field_problems, read_yaml
from shelfscan.model.geometry import Array, Pose2D, transform
from shelfscan.model.imaging import Camera, Head, Intrinsics, Rig
from shelfscan.model.robot import RobotModel


class _Doc(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Lens(_Doc):
    width_px: int = Field(gt=15)
    height_px: int = Field(gt=15)
    fov_long_deg: float = Field(gt=5, lt=170)
    fx_px: float | None = None
    fy_px: float | None = None
    cx_px: float | None = None
    cy_px: float | None = None
    distortion: list[float] = Field(default=[0.0, 0.0, 0.0, 0.0, 0.0], min_length=5, max_length=5)

    def intrinsics(self) -> Intrinsics:
        f = max(self.width_px, self.height_px) / 2 / math.tan(math.radians(self.fov_long_deg) / 2)
        return Intrinsics(
            self.width_px,
            self.height_px,
            self.fx_px or f,
            self.fy_px or f,
            self.cx_px if self.cx_px is not None else (self.width_px - 1) / 2,
            self.cy_px if self.cy_px is not None else (self.height_px - 1) / 2,
            tuple(self.distortion),
        )


class _Stereo(_Lens):
    baseline_m: float = Field(gt=0.005, lt=1)


class _Rgb(_Lens):
    #: Offset of the RGB optical centre from the left one, along the sensor's x and y, metres.
    offset_x_m: float = 0.0
    offset_y_m: float = 0.0


class _Head(_Doc):
    name: str = Field(min_length=1, pattern="^[a-z][a-z0-9_]*$")
    x_m: float = 0.0
    y_m: float = 0.0
    height_m: float = Field(gt=0, lt=4)
    yaw_rad: float = math.pi / 2
    pitch_rad: float = 0.0
    #: Counter-clockwise quarter turns of the sensor seen from behind the camera; 1 is portrait.
    roll_turns: int = Field(default=1, ge=0, le=3)
    stereo: _Stereo
    rgb: _Rgb


class _Point(_Doc):
    x_m: float
    y_m: float
    yaw_rad: float


class _Standoff(_Doc):
    preferred_m: float = Field(default=0.9, gt=0)
    min_m: float = Field(default=0.75, gt=0)
    max_m: float = Field(default=1.0, gt=0)


class _Robot(_Doc):
    name: str
    footprint_radius_m: float = Field(gt=0, lt=2)
    max_speed_mps: float = Field(gt=0, lt=5)
    max_turn_radps: float = Field(gt=0, lt=10)
    wheel_separation_m: float = Field(gt=0)
    wheel_radius_m: float = Field(gt=0)
    dock: _Point
    standoff: _Standoff = _Standoff()
    battery_wh: float = Field(default=600, gt=0)
    drive_w: float = Field(default=60, ge=0)
    idle_w: float = Field(default=35, ge=0)
    heads: list[_Head] = Field(min_length=1)


def optical_rotation(yaw_rad: float, pitch_rad: float, roll_turns: int) -> Array:
    """Columns are the optical axes (x right, y down, z forward) in ``base``.

    ``pitch_rad`` is positive downwards; ``roll_turns`` turns the sensor about its viewing axis.
    """
    forward = np.array([math.cos(yaw_rad) * math.cos(pitch_rad), math.sin(yaw_rad) * math.cos(pitch_rad), -math.sin(pitch_rad)])
    right = np.array([math.sin(yaw_rad), -math.cos(yaw_rad), 0.0])
    down = np.cross(forward, right)
    upright = np.stack([right, down, forward], axis=1)
    c, s = (1, 0, -1, 0)[roll_turns], (0, 1, 0, -1)[roll_turns]
    # Seen from behind the camera y points down, so a counter-clockwise turn takes x towards -y.
    return np.asarray(upright @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]], dtype=np.float64))


def _head(h: _Head) -> Head:
    rotation = optical_rotation(h.yaw_rad, h.pitch_rad, h.roll_turns)
    middle = np.array([h.x_m, h.y_m, h.height_m])
    x_axis, y_axis = rotation[:, 0], rotation[:, 1]
    left = middle - x_axis * h.stereo.baseline_m / 2
    right = middle + x_axis * h.stereo.baseline_m / 2
    rgb = left + x_axis * h.rgb.offset_x_m + y_axis * h.rgb.offset_y_m
    stereo = h.stereo.intrinsics()
    return Head(
        h.name,
        Camera(stereo, transform(rotation, left)),
        Camera(stereo, transform(rotation, right)),
        Camera(h.rgb.intrinsics(), transform(rotation, rgb)),
    )


def read_robot(path: Path) -> RobotModel:
    """Read ``robot.yaml``. Raises `BadInput` naming every wrong field."""
    return robot_model(read_yaml(path, "robot description"), str(path))


def robot_model(data: Any, where: str) -> RobotModel:
    """A robot from the parsed document. Raises `BadInput`; ``where`` names the file."""
    try:
        doc = _Robot.model_validate(data)
    except ValidationError as e:
        raise BadInput(field_problems(where, e, _Robot)) from e
    names = [h.name for h in doc.heads]
    problems = [f"{where}: heads: the name {n!r} is there twice" for n in sorted({n for n in names if names.count(n) > 1})]
    yaw = doc.heads[0].yaw_rad
    if any(abs(h.yaw_rad - yaw) > 0.2 for h in doc.heads):
        problems.append(f"{where}: heads: all heads must look to the same side (yaw_rad within 0.2)")
    if not doc.standoff.min_m <= doc.standoff.preferred_m <= doc.standoff.max_m:
        problems.append(f"{where}: standoff: expected min_m <= preferred_m <= max_m")
    if problems:
        raise BadInput(problems)
    return RobotModel(
        name=doc.name,
        rig=Rig(tuple(_head(h) for h in doc.heads)),
        footprint_radius_m=doc.footprint_radius_m,
        max_speed_mps=doc.max_speed_mps,
        max_turn_radps=doc.max_turn_radps,
        wheel_separation_m=doc.wheel_separation_m,
        wheel_radius_m=doc.wheel_radius_m,
        dock=Pose2D(doc.dock.x_m, doc.dock.y_m, doc.dock.yaw_rad),
        standoff_m=doc.standoff.preferred_m,
        standoff_min_m=doc.standoff.min_m,
        standoff_max_m=doc.standoff.max_m,
        look_rad=yaw,
        battery_wh=doc.battery_wh,
        drive_w=doc.drive_w,
        idle_w=doc.idle_w,
    )
