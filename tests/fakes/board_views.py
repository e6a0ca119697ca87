"""Views of a board as known cameras would take them: lens, distortion, blur and noise, from a seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from shelfscan.calibration.board import Board
from shelfscan.model.geometry import Array, inverse, transform
from shelfscan.model.imaging import Gray, Intrinsics

BOARD = Board.parse("9,6,0.040,0.030,DICT_5X5_100")
#: Resolution of the printed board and its white margin.
PX_PER_M, MARGIN_M = 4000.0, 0.02
#: Pictures are drawn so many times larger and then reduced: a sensor's pixel has an area.
OVER = 2


@dataclass(frozen=True)
class TrueCamera:
    """A camera as it really is: lens with distortion, and where it sits."""

    lens: Intrinsics
    T_base_camera: Array


def turned(rpy_deg: tuple[float, float, float]) -> Array:
    """Rotation (3, 3) by roll, pitch, yaw about fixed axes."""
    R = np.eye(3)
    for axis, angle in zip(np.eye(3), rpy_deg, strict=True):
        R = cv2.Rodrigues(axis * np.radians(angle))[0] @ R
    return np.asarray(R)


class Draughtsman:
    """Draws pictures of one board; remembers each lens' rays."""

    def __init__(self, board: Board = BOARD, *, noise: float = 3.0, blur_px: float = 0.6, seed: int = 1) -> None:
        self.board = board
        self._sheet = board.picture(PX_PER_M, MARGIN_M)
        self._rays: dict[Any, Array] = {}
        self._noise, self._blur = noise, blur_px
        self._rng = np.random.default_rng(seed)

    def draw(self, lens: Intrinsics, T_camera_board: Array, blur_px: float | None = None) -> Gray:
        """The picture, (H, W) uint8."""
        rays = self._rays_of(lens)
        R, t = T_camera_board[:3, :3], T_camera_board[:3, 3]
        # Where each ray meets the board's plane, in the board's own x and y.
        scale = (R[:, 2] @ t) / (rays @ R[:, 2])
        points = (rays * scale[..., None] - t) @ R
        with np.errstate(invalid="ignore"):
            u = ((points[..., 0] + MARGIN_M) * PX_PER_M - 0.5).astype(np.float32)
            v = ((points[..., 1] + MARGIN_M) * PX_PER_M - 0.5).astype(np.float32)
        behind = scale <= 0
        u[behind] = v[behind] = -1e6
        # The sheet reduced to about the picture's own resolution first: no moire.
        step = np.linalg.norm(t) / lens.fx_px * PX_PER_M / OVER
        sheet = cv2.GaussianBlur(self._sheet, (0, 0), max(0.3, 0.5 * float(step)))
        large = cv2.remap(sheet, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=110)
        small = cv2.resize(large, (lens.width_px, lens.height_px), interpolation=cv2.INTER_AREA).astype(np.float32)
        soft = cv2.GaussianBlur(small, (0, 0), self._blur if blur_px is None else blur_px)
        out = 20 + soft * 0.8 + self._rng.normal(0, self._noise, soft.shape)
        return np.asarray(np.clip(out, 0, 255), dtype=np.uint8)

    def _rays_of(self, lens: Intrinsics) -> Array:
        key = (lens.width_px, lens.fx_px, lens.cx_px, lens.distortion)
        if key not in self._rays:
            x = (np.arange(lens.width_px * OVER) + 0.5) / OVER - 0.5
            y = (np.arange(lens.height_px * OVER) + 0.5) / OVER - 0.5
            grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 1, 2)
            criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-9)
            at = cv2.undistortPoints(
                grid, lens.matrix(), np.array(lens.distortion), R=np.eye(3), P=np.eye(3), criteria=criteria
            )
            plane = at.reshape(len(y), len(x), 2)
            self._rays[key] = np.concatenate([plane, np.ones((*plane.shape[:2], 1))], axis=-1)
        return self._rays[key]


def board_poses(count: int, seed: int, *, tilt_deg: float = 32.0, near_m: float = 0.4, far_m: float = 0.75) -> list[Array]:
    """``T_camera_board`` of boards held before one camera, over its picture and at many angles."""
    rng = np.random.default_rng([seed, 5])
    w, h = BOARD.size_m
    out = []
    for n in range(count):
        z = rng.uniform(near_m, far_m)
        # The middle of the board goes over the picture in a pattern, so that its corners are reached.
        cx, cy = ((n % 3) - 1) * 0.36 * z, ((n // 3 % 3) - 1) * 0.18 * z
        R = turned(tuple(rng.uniform(-tilt_deg, tilt_deg, 3) * (1, 1, 0.6)))
        out.append(transform(R, np.array([cx, cy, z]) - R @ np.array([w / 2, h / 2, 0.0])))
    return out


def in_camera(T_reference_camera: Array, T_reference_board: Array) -> Array:
    """``T_camera_board``."""
    return inverse(T_reference_camera) @ T_reference_board


def save(folder: Path, name: str, picture: Gray) -> None:
    """Write a picture as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(folder / f"{name}.png"), picture)


def robot_document(heads: int = 1, *, width: int = 960, height: int = 600) -> dict[str, Any]:
    """A small robot, as an engineer would first write it: from data sheets and a ruler."""
    lens = {"width_px": width, "height_px": height, "fov_long_deg": 80}
    names = ["low", "high"][:heads]
    return {
        "name": "test robot",
        "footprint_radius_m": 0.25,
        "max_speed_mps": 0.5,
        "max_turn_radps": 1.0,
        "wheel_separation_m": 0.3,
        "wheel_radius_m": 0.08,
        "dock": {"x_m": 0.0, "y_m": 0.0, "yaw_rad": 0.0},
        "heads": [
            {
                "name": name,
                "height_m": 0.55 + 0.5 * n,
                "y_m": 0.05,
                "roll_turns": 1,
                "stereo": {**lens, "baseline_m": 0.1},
                "rgb": {**lens, "offset_x_m": 0.05, "offset_y_m": 0.03},
            }
            for n, name in enumerate(names)
        ],
    }


def write_robot(path: Path, heads: int = 1, **size: int) -> Path:
    """`robot_document` as a file."""
    path.write_text(yaml.safe_dump(robot_document(heads, **size), sort_keys=False))
    return path


def lens_like(nominal: Intrinsics, rng: np.random.Generator, *, distorted: bool) -> Intrinsics:
    """A real lens: some percent off its data sheet, its centre some pixels off, with distortion."""
    f = nominal.fx_px * (1 + rng.uniform(-0.03, 0.03))
    d = (rng.uniform(-0.2, -0.1), rng.uniform(0.02, 0.06), rng.uniform(-1e-3, 1e-3), rng.uniform(-1e-3, 1e-3), 0.0)
    return replace(
        nominal,
        fx_px=f,
        fy_px=f * (1 + rng.uniform(-0.003, 0.003)) if distorted else f,
        cx_px=nominal.cx_px + rng.uniform(-12, 12),
        cy_px=nominal.cy_px + rng.uniform(-12, 12),
        distortion=d if distorted else (0.0,) * 5,
    )
