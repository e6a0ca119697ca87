"""What was measured, into ``robot.yaml``; and as files for the drivers that rectify."""

from __future__ import annotations

import copy
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from shelfscan.calibration.intrinsics import LensFit
from shelfscan.calibration.pair import PairFit, undistorted_lens
from shelfscan.calibration.placing import Placed
from shelfscan.errors import BadInput
from shelfscan.inputs import read_yaml
from shelfscan.model.geometry import Array, quaternion_of
from shelfscan.model.imaging import Intrinsics
from shelfscan.model.robot import RobotModel
from shelfscan.robotfile import robot_model
from shelfscan.runfolder import write_atomic


class RobotFile:
    """A ``robot.yaml`` that is being completed. Nothing is written before `save`."""

    def __init__(self, path: Path) -> None:
        """Raises `BadInput` when it is none."""
        self.path = path
        data = read_yaml(path, "robot description")
        self.model: RobotModel = robot_model(data, str(path))
        self._data: dict[str, Any] = copy.deepcopy(data)

    def head(self, name: str) -> dict[str, Any]:
        """The head's part of the document. Raises `BadInput` when there is none."""
        heads: list[dict[str, Any]] = self._data["heads"]
        for head in heads:
            if head["name"] == name:
                return head
        raise BadInput(f"{self.path}: no head {name!r}")

    def raw_lens(self, head: str, camera: str) -> Intrinsics:
        """A camera before its pictures are rectified. Raises `BadInput` when that was not measured yet."""
        part = self.head(head)["rgb" if camera == "rgb" else "stereo"]
        raw = part.get("raw") or {}
        of = raw if camera == "rgb" else raw.get(camera)
        if not of:
            raise BadInput(f"{self.path}: {head}: the {camera} camera has no raw lens; run `calibrate intrinsics --raw` first")
        distortion = tuple(float(v) for v in of["distortion"])
        return Intrinsics(part["width_px"], part["height_px"], of["fx_px"], of["fy_px"], of["cx_px"], of["cy_px"], distortion)

    def has_raw(self, head: str, camera: str) -> bool:
        """Whether the camera's lens before rectification is known."""
        raw = self.head(head)["rgb" if camera == "rgb" else "stereo"].get("raw") or {}
        return bool(raw) if camera == "rgb" else bool(raw.get(camera))

    def set_lens(self, head: str, fits: dict[str, LensFit], *, rectified: bool) -> None:
        """Lenses by camera; of a rectified pair ``left`` stands for both."""
        part = self.head(head)
        if rectified:
            for camera, fit in fits.items():
                _put_lens(part["rgb" if camera == "rgb" else "stereo"], fit.intrinsics, fit.rms_px)
            return
        if "left" in fits and "right" in fits:
            raw = {c: _raw(fits[c]) for c in ("left", "right")}
            part["stereo"]["raw"] = raw
        if "rgb" in fits:
            part["rgb"]["raw"] = _raw(fits["rgb"])
            _put_lens(part["rgb"], undistorted_lens(fits["rgb"].intrinsics), fits["rgb"].rms_px)

    def set_pair(self, head: str, fit: PairFit) -> None:
        """A head's cameras to each other."""
        part = self.head(head)
        stereo = part["stereo"]
        stereo["baseline_m"] = round(fit.baseline_m, 6)
        stereo["epipolar_rms_px"] = round(fit.epipolar_rms_px, 4)
        if fit.T_raw_left_right is not None:
            _put_lens(stereo, fit.lens, None)
            stereo["raw"]["T_left_right"] = _pose(fit.T_raw_left_right)
        if fit.T_left_rgb is not None:
            part["rgb"]["T_left_rgb"] = _pose(fit.T_left_rgb)

    def set_places(self, placed: Placed) -> None:
        """Where the heads sit on the robot."""
        for name, fit in placed.heads.items():
            self.head(name)["T_base_camera"] = _pose(fit.T_base_left)

    def save(self, path: Path) -> None:
        """Write the file in one step. Raises `BadInput`, and writes nothing, when the result is no valid robot."""
        self._data["calibrated_on"] = datetime.now(timezone.utc).date()
        robot_model(self._data, str(path))
        head = "# Completed by `shelfscan calibrate`. Metres, radians, pixels; see docs/robot-bringup.md.\n"
        write_atomic(path, (head + yaml.safe_dump(self._data, sort_keys=False, default_flow_style=None, width=120)).encode())


def _put_lens(part: dict[str, Any], lens: Intrinsics, rms_px: float | None) -> None:
    for name in ("fx_px", "fy_px", "cx_px", "cy_px"):
        part[name] = round(float(getattr(lens, name)), 4)
    part["distortion"] = [round(float(v), 8) for v in lens.distortion]
    if rms_px is not None:
        part["rms_px"] = round(rms_px, 4)


def _raw(fit: LensFit) -> dict[str, Any]:
    out: dict[str, Any] = {}
    _put_lens(out, fit.intrinsics, fit.rms_px)
    return out


def _pose(T: Array) -> dict[str, list[float]]:
    return {
        "translation_m": [round(float(v), 6) for v in T[:3, 3]],
        "rotation_xyzw": [round(float(v), 8) for v in quaternion_of(T)],
    }


def write_camera_info(folder: Path, name: str, raw: Intrinsics, lens: Intrinsics, turn: Array, baseline_m: float) -> Path:
    """``NAME.yaml`` as ROS' ``camera_info_manager`` reads it, for a driver or ``image_proc`` to rectify with.

    ``baseline_m``: nought but for the right camera of a pair. The format is that of ``camera_calibration_parsers``.
    """

    def matrix(rows: int, values: list[float]) -> dict[str, Any]:
        return {"rows": rows, "cols": len(values) // rows, "data": values}

    data = {
        "image_width": raw.width_px,
        "image_height": raw.height_px,
        "camera_name": name,
        "camera_matrix": matrix(3, [float(v) for v in raw.matrix().ravel()]),
        "distortion_model": "plumb_bob",
        "distortion_coefficients": matrix(1, [float(v) for v in raw.distortion]),
        "rectification_matrix": matrix(3, [float(v) for v in turn.ravel()]),
        "projection_matrix": matrix(
            3, [lens.fx_px, 0.0, lens.cx_px, -lens.fx_px * baseline_m, 0.0, lens.fy_px, lens.cy_px, 0.0, 0.0, 0.0, 1.0, 0.0]
        ),
    }
    path = folder / f"{name}.yaml"
    write_atomic(path, yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=120).encode())
    return path
