"""Where the heads sit on the robot: by boards at known places before it, or by what two heads see at once."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from shelfscan.calibration.adjust import Mount, adjust
from shelfscan.calibration.board import Board
from shelfscan.calibration.corners import View
from shelfscan.errors import BadInput
from shelfscan.model.geometry import Array, inverse, transform
from shelfscan.model.imaging import Camera, Head
from shelfscan.robotfile import pose_difference

#: Further from where its file has it, a head's pose is told to be suspicious.
MOVED_M, MOVED_DEG = 0.05, 5.0
#: A pose that these pictures leave unsure by more (one standard deviation) is not written down.
MOST_SIGMA_M, MOST_SIGMA_DEG = 0.005, 0.3
#: Corners further off say that a board was not where it was said to be.
MOST_RMS_PX = 3.0
COLUMNS = ("key", "x_m", "y_m", "z_m", "roll_deg", "pitch_deg", "yaw_deg")


@dataclass(frozen=True)
class HeadFit:
    """Where a head's left camera sits in ``base``, how sure that is, and how far from where the file had it."""

    T_base_left: Array
    sigma_m: float
    sigma_deg: float
    moved_m: float
    moved_deg: float
    pictures: int


@dataclass(frozen=True)
class Placed:
    """All heads, and how far corners were from where they should be, pixels."""

    heads: dict[str, HeadFit]
    rms_px: float
    rms_of: dict[str, float]


def place_heads(
    heads: Mapping[str, Head], views: Sequence[View], board: Board, boards: Mapping[str, Array], reference: str = ""
) -> Placed:
    """Poses of the heads in ``base``.

    ``boards``: ``T_base_board`` by key (the key ``""`` stands for all); ``reference``: the head whose pose in the file is
    right, empty when boards are known. Raises `BadInput` when these pictures cannot tell.
    """
    wanted = sorted({v.head for v in views} & set(heads))
    mounts = {}
    for name in wanted:
        head = heads[name]
        for camera, part in _cameras(head).items():
            mounts[name, camera] = Mount(name, inverse(head.left.T_base_optical) @ part.T_base_optical, part.intrinsics)
    used = [v for v in views if (v.head, v.camera) in mounts]
    known: dict[str, Array] = {}
    if reference:
        if reference not in wanted:
            raise BadInput(f"--reference {reference}: no picture of that head shows the board; there are {', '.join(wanted)}")
        bodies = {reference: heads[reference].left.T_base_optical}
    else:
        bodies = {}
        for key in sorted({v.key for v in used}):
            if key in boards or "" in boards:
                known[key] = boards.get(key, boards.get("", np.eye(4)))
        used = [v for v in used if v.key in known]
        if not used:
            raise BadInput(f"no picture of the keys {', '.join(sorted(boards))} shows the board")
    found = adjust(used, board, mounts, bodies, known)
    if found.rms_px > MOST_RMS_PX:
        worst = max(found.rms_of, key=lambda s: found.rms_of[s])
        raise BadInput(
            f"corners are {found.rms_px:.1f} px from where they should be (at most {MOST_RMS_PX:g}; worst: {worst}): was each "
            "board where it was said to be, and are the lenses calibrated?"
        )
    out, problems = {}, []
    for name in wanted:
        if name == reference:
            continue
        sigma_m, sigma_deg = found.sigma[name]
        moved_m, moved_deg = pose_difference(heads[name].left.T_base_optical, found.bodies[name])
        count = sum(v.head == name for v in used)
        out[name] = HeadFit(found.bodies[name], sigma_m, sigma_deg, moved_m, moved_deg, count)
        if sigma_m > MOST_SIGMA_M or sigma_deg > MOST_SIGMA_DEG:
            problems.append(
                f"{name}: {count} pictures leave its pose unsure by {sigma_m * 1000:.1f} mm and {sigma_deg:.2f} degrees "
                f"(at most {MOST_SIGMA_M * 1000:.0f} mm and {MOST_SIGMA_DEG} degrees); take more, at other places and angles"
            )
    if problems:
        raise BadInput(problems)
    return Placed(out, found.rms_px, found.rms_of)


def _cameras(head: Head) -> dict[str, Camera]:
    return {"left": head.left, "right": head.right, "rgb": head.rgb}


def read_board_pose(text: str, board: Board) -> Array:
    """``T_base_board`` from ``x,y,z,roll,pitch,yaw`` (metres, degrees) of the board's middle. Raises `BadInput`."""
    try:
        x, y, z, roll, pitch, yaw = (float(v) for v in text.split(","))
    except ValueError:
        raise BadInput(f"--board-pose is {text!r}; expected x,y,z,roll,pitch,yaw in metres and degrees") from None
    return board_in_base((x, y, z), (roll, pitch, yaw), board)


def read_board_poses(path: Path, board: Board) -> dict[str, Array]:
    """``T_base_board`` by key from a CSV with `COLUMNS`. Raises `BadInput` naming file and line."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as f:
            reader = csv.DictReader(f)
            missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
            if missing:
                raise BadInput(f"{path}: line 1: missing column {', '.join(missing)}")
            out: dict[str, Array] = {}
            for row in reader:
                try:
                    values = [float(row[c]) for c in COLUMNS[1:]]
                except (TypeError, ValueError):
                    raise BadInput(f"{path}: line {reader.line_num}: expected numbers in {', '.join(COLUMNS[1:])}") from None
                out[row["key"]] = board_in_base((values[0], values[1], values[2]), (values[3], values[4], values[5]), board)
    except OSError as e:
        raise BadInput(f"{path}: cannot be read: {e.strerror}") from e
    if not out:
        raise BadInput(f"{path}: expected lines below the header, found none")
    return out


def board_in_base(middle_m: tuple[float, float, float], rpy_deg: tuple[float, float, float], board: Board) -> Array:
    """``T_base_board`` of a board by its middle and roll, pitch, yaw about fixed axes (see `Board.T_centre_board`)."""
    if not np.isfinite([*middle_m, *rpy_deg]).all():
        raise BadInput(f"board at {middle_m}, {rpy_deg}: expected finite numbers")
    turn = np.eye(3)
    for axis, angle in zip(np.eye(3), rpy_deg, strict=True):
        turn = np.asarray(cv2.Rodrigues(axis * math.radians(angle))[0], dtype=np.float64) @ turn
    return transform(turn, np.array(middle_m)) @ board.T_centre_board
