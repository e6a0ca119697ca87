"""``robot.yaml``: a robot's cameras and body, in terms an engineer measures.

What ``shelfscan calibrate`` found stands beside what was measured with a ruler, and counts before it: ``fx_px`` and its kin
before ``fov_long_deg``, ``T_left_rgb`` before the RGB camera's offsets, ``T_base_camera`` before ``x_m``, ``y_m``, ``height_m``
and the angles. All of it is of *rectified* pictures, which the processing expects; ``raw`` keeps what the cameras are before.
"""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from shelfscan.errors import BadInput
from shelfscan.inputs import field_problems, read_yaml
from shelfscan.model.geometry import Array, Pose2D, from_quaternion, transform
from shelfscan.model.imaging import Camera, Head, Intrinsics, Rig
from shelfscan.model.robot import RobotModel


class _Doc(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


#: A measured pose that is further from the one in words is of another frame, or of another robot.
POSE_GATE_M, POSE_GATE_DEG = 0.5, 30.0


class _Pose(_Doc):
    """Where one frame sits in another: metres, and a quaternion of length 1."""

    translation_m: list[float] = Field(min_length=3, max_length=3)
    rotation_xyzw: list[float] = Field(min_length=4, max_length=4)

    @field_validator("rotation_xyzw")
    @classmethod
    def _unit(cls, value: list[float]) -> list[float]:
        if abs(math.hypot(*value) - 1) > 1e-3:
            raise ValueError("expected a quaternion x, y, z, w of length 1")
        return value

    def matrix(self) -> Array:
        x, y, z, w = self.rotation_xyzw
        a, b, c = self.translation_m
        return from_quaternion((x, y, z, w), (a, b, c))


class _Raw(_Doc):
    """One camera before its pictures are rectified. ``rms_px``: how far the board's corners were from where they should be."""

    fx_px: float = Field(gt=0)
    fy_px: float = Field(gt=0)
    cx_px: float
    cy_px: float
    distortion: list[float] = Field(default=[0.0, 0.0, 0.0, 0.0, 0.0], min_length=5, max_length=5)
    rms_px: float | None = Field(default=None, ge=0)


class _Lens(_Doc):
    width_px: int = Field(gt=15)
    height_px: int = Field(gt=15)
    fov_long_deg: float = Field(gt=5, lt=170)
    fx_px: float | None = Field(default=None, gt=0)
    fy_px: float | None = Field(default=None, gt=0)
    cx_px: float | None = None
    cy_px: float | None = None
    #: OpenCV's k1, k2, p1, p2, k3.
    distortion: list[float] = Field(default=[0.0, 0.0, 0.0, 0.0, 0.0], min_length=5, max_length=5)
    rms_px: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _inside(self) -> _Lens:
        for name, value, size in (("cx_px", self.cx_px, self.width_px), ("cy_px", self.cy_px, self.height_px)):
            if value is not None and not 0 < value < size:
                raise ValueError(f"{name} is {value:g}: the optical axis would pass beside a picture of {size} px")
        return self

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


class _RawPair(_Doc):
    left: _Raw
    right: _Raw
    #: The right camera's optical frame in the left one's, before rectification.
    T_left_right: _Pose | None = None


class _Stereo(_Lens):
    baseline_m: float = Field(gt=0.005, lt=1)
    #: How far corners of the board lay apart across the rows in the rectified pair.
    epipolar_rms_px: float | None = Field(default=None, ge=0)
    raw: _RawPair | None = None


class _Rgb(_Lens):
    #: Offset of the RGB optical centre from the left one, along the sensor's x and y, metres.
    offset_x_m: float = 0.0
    offset_y_m: float = 0.0
    #: The RGB optical frame in the (rectified) left one's; it counts before the offsets.
    T_left_rgb: _Pose | None = None
    raw: _Raw | None = None


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
    #: The left camera's (rectified) optical frame in ``base``; it counts before place and angles above.
    T_base_camera: _Pose | None = None


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
    #: The day `shelfscan calibrate` measured the cameras last.
    calibrated_on: date | None = None


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


def nominal_left(h: _Head) -> Array:
    """``T_base_left`` as place and angles have it, (4, 4)."""
    rotation = optical_rotation(h.yaw_rad, h.pitch_rad, h.roll_turns)
    middle = np.array([h.x_m, h.y_m, h.height_m])
    return transform(rotation, middle - rotation[:, 0] * h.stereo.baseline_m / 2)


def _head(h: _Head) -> Head:
    T_base_left = nominal_left(h) if h.T_base_camera is None else h.T_base_camera.matrix()
    T_left_right, T_left_rgb = np.eye(4), np.eye(4)
    T_left_right[0, 3] = h.stereo.baseline_m
    T_left_rgb[:2, 3] = h.rgb.offset_x_m, h.rgb.offset_y_m
    if h.rgb.T_left_rgb is not None:
        T_left_rgb = h.rgb.T_left_rgb.matrix()
    stereo = h.stereo.intrinsics()
    return Head(
        h.name,
        Camera(stereo, T_base_left),
        Camera(stereo, T_base_left @ T_left_right),
        Camera(h.rgb.intrinsics(), T_base_left @ T_left_rgb),
    )


def _pose_problems(where: str, n: int, h: _Head) -> list[str]:
    """Measured poses that cannot be of this head."""
    out = []
    if h.T_base_camera is not None:
        off_m, off_deg = pose_difference(nominal_left(h), h.T_base_camera.matrix())
        if off_m > POSE_GATE_M or off_deg > POSE_GATE_DEG:
            out.append(
                f"{where}: heads.{n}.T_base_camera: {off_m:.2f} m and {off_deg:.0f} degrees from where x_m, y_m, height_m and "
                f"the angles have the camera; expected less than {POSE_GATE_M} m and {POSE_GATE_DEG:.0f} degrees"
            )
    if h.rgb.T_left_rgb is not None and float(np.linalg.norm(h.rgb.T_left_rgb.translation_m)) > POSE_GATE_M:
        out.append(f"{where}: heads.{n}.rgb.T_left_rgb: more than {POSE_GATE_M} m from the left camera")
    return out


def pose_difference(a: Array, b: Array) -> tuple[float, float]:
    """How far two poses (4, 4) are apart: metres, degrees."""
    turn = (float(np.trace(a[:3, :3].T @ b[:3, :3])) - 1) / 2
    return float(np.linalg.norm(a[:3, 3] - b[:3, 3])), math.degrees(math.acos(min(1.0, max(-1.0, turn))))


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
    for n, h in enumerate(doc.heads):
        problems += _pose_problems(where, n, h)
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
        calibrated_on=doc.calibrated_on,
    )
