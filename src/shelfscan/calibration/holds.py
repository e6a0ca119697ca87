"""Does a calibration still hold? New pictures of the board, judged by the numbers that ``robot.yaml`` keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shelfscan.calibration.board import Board, Ids
from shelfscan.calibration.corners import Found, View
from shelfscan.calibration.intrinsics import board_pose, reprojection_rms, size_problems
from shelfscan.calibration.pair import matched, rectification
from shelfscan.calibration.writing import RobotFile
from shelfscan.errors import BadInput
from shelfscan.model.geometry import Array, from_quaternion, transform
from shelfscan.model.imaging import Head, Intrinsics
from shelfscan.robotfile import pose_difference

#: A lens holds while corners lie this near to where it has them, and within this many times what they did when it was measured.
LENS_PX, TIMES = 0.5, 2.5
#: A pair holds while its rows match this well, and while a square it measures is of the right size within this share.
ROWS_PX, SCALE_SHARE = 0.7, 0.01
#: Heads hold while they see one board at one place.
HEADS_M, HEADS_DEG = 0.010, 0.7


@dataclass(frozen=True)
class Held:
    """One thing that was looked at: ``value`` must not be above ``most``."""

    what: str
    value: float
    most: float
    unit: str
    pictures: int

    @property
    def ok(self) -> bool:
        """Whether it holds."""
        return bool(np.isfinite(self.value)) and self.value <= self.most

    def __str__(self) -> str:
        return f"{self.what}: {self.value:.3g} {self.unit} (at most {self.most:.3g}; {self.pictures} pictures)"


def check_calibration(robot: RobotFile, found: Found, board: Board, *, raw: bool) -> list[Held]:
    """Everything these pictures can tell of the robot's cameras. Raises `BadInput` when that is nothing at all."""
    out: list[Held] = []
    problems: list[str] = []
    seen: dict[str, dict[str, Array]] = {}
    for name in found.heads:
        head = robot.model.rig.head(name)
        lenses = _lenses(robot, head, raw)
        for camera, lens in lenses.items():
            views = found.of(name, camera)
            if not views:
                continue
            problems += size_problems(f"{name}/{camera}", views, lens)
            if problems:
                continue
            squares = [reprojection_rms(v, board, lens) ** 2 for v in views]
            stored = _stored_rms(robot, name, camera, raw)
            most = max(LENS_PX, TIMES * stored) if stored is not None else LENS_PX
            out.append(Held(f"{name}/{camera} lens", float(np.sqrt(np.mean(squares))), most, "px", len(views)))
        if problems:
            continue
        out += _pair(robot, head, found, board, lenses, raw)
        seen[name] = _boards_in_base(robot, head, found.of(name, "left"), board, lenses["left"], raw)
    if problems:
        raise BadInput(problems)
    out += _heads(seen)
    if not out:
        raise BadInput("these pictures tell nothing of the robot's cameras")
    return out


def _lenses(robot: RobotFile, head: Head, raw: bool) -> dict[str, Intrinsics]:
    if raw:
        return {c: robot.raw_lens(head.name, c) for c in ("left", "right", "rgb") if robot.has_raw(head.name, c)}
    return {"left": head.left.intrinsics, "right": head.right.intrinsics, "rgb": head.rgb.intrinsics}


def _stored_rms(robot: RobotFile, head: str, camera: str, raw: bool) -> float | None:
    part = robot.head(head)["rgb" if camera == "rgb" else "stereo"]
    if raw:
        part = part["raw"] if camera == "rgb" else part["raw"][camera]
    value = part.get("rms_px")
    return None if value is None else float(value)


def _turns(robot: RobotFile, head: Head, lenses: dict[str, Intrinsics], raw: bool) -> tuple[Array, Array]:
    if not raw:
        return np.eye(3), np.eye(3)
    pose = robot.head(head.name)["stereo"]["raw"].get("T_left_right")
    if pose is None:
        raise BadInput(f"{robot.path}: {head.name}: the raw pair was not measured; run `calibrate stereo --raw` first")
    T = from_quaternion(tuple(pose["rotation_xyzw"]), tuple(pose["translation_m"]))
    return rectification(lenses["left"], lenses["right"], T)[1]


def _pair(robot: RobotFile, head: Head, found: Found, board: Board, lenses: dict[str, Intrinsics], raw: bool) -> list[Held]:
    """Rows that match, and squares of the right size."""
    if "left" not in lenses or "right" not in lenses:
        return []
    views = [*found.of(head.name, "left"), *found.of(head.name, "right")]
    lens = head.left.intrinsics
    turns = _turns(robot, head, lenses, raw)
    pairs = matched(views, (lenses["left"], lenses["right"]), lens, turns)
    if not pairs:
        return []
    rows = np.concatenate([a[:, 1] - b[:, 1] for _, _, a, b in pairs])
    stored = robot.head(head.name)["stereo"].get("epipolar_rms_px")
    most = max(ROWS_PX, TIMES * float(stored)) if stored is not None else ROWS_PX
    out = [Held(f"{head.name} rows of the pair", float(np.sqrt(np.mean(rows**2))), most, "px", len(pairs))]
    sizes = [s for _, ids, a, b in pairs for s in _square_sizes(ids, a, b, lens, head.baseline_m, board)]
    if sizes:
        off = abs(float(np.median(sizes)) / board.square_m - 1)
        out.append(Held(f"{head.name} scale of the pair", off * 100, SCALE_SHARE * 100, "%", len(pairs)))
    return out


def _square_sizes(ids: Ids, left: Array, right: Array, lens: Intrinsics, baseline_m: float, board: Board) -> list[float]:
    """Lengths of the board's square sides as the pair measures them, metres."""
    disparity = left[:, 0] - right[:, 0]
    if (disparity < 0.5).any():
        return []
    points = lens.deproject(left, lens.fx_px * baseline_m / disparity)
    place = {int(i): p for i, p in zip(ids, points, strict=True)}
    across = board.squares_x - 1
    # The longest run of each row: a single side is too short to be measured well.
    out = []
    for row in range(board.squares_y - 1):
        here = sorted(i for i in place if i // across == row)
        if len(here) >= 4:
            out.append(float(np.linalg.norm(place[here[-1]] - place[here[0]])) / (here[-1] - here[0]))
    return out


def _boards_in_base(
    robot: RobotFile, head: Head, views: Sequence[View], board: Board, lens: Intrinsics, raw: bool
) -> dict[str, Array]:
    """Where the head's left camera has the board in ``base``, by key."""
    if not views:
        return {}
    lenses = _lenses(robot, head, raw)
    turn = _turns(robot, head, lenses, raw)[0] if "right" in lenses else np.eye(3)
    T_base_raw = head.left.T_base_optical @ transform(turn, np.zeros(3))
    return {v.key: T_base_raw @ board_pose(v, board, lens) for v in views}


def _heads(seen: dict[str, dict[str, Array]]) -> list[Held]:
    """How far apart two heads have the same board, the median over the instants that both saw."""
    out: list[Held] = []
    names = sorted(seen)
    for n, one in enumerate(names):
        for other in names[n + 1 :]:
            shared = sorted(set(seen[one]) & set(seen[other]))
            if not shared:
                continue
            apart = np.array([pose_difference(seen[one][k], seen[other][k]) for k in shared])
            metres, degrees = (float(v) for v in np.median(apart, axis=0))
            out.append(Held(f"{one} and {other} board apart", metres * 1000, HEADS_M * 1000, "mm", len(shared)))
            out.append(Held(f"{one} and {other} board turned", degrees, HEADS_DEG, "degrees", len(shared)))
    return out
