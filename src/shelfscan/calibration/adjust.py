"""Where cameras are, all views at once: a bundle adjustment over poses of bodies and of the board.

A *body* is what moves as one: one camera when a pair is measured, a whole head when it is put on the robot. Lenses are known.
Levenberg and Marquardt (scipy's ``least_squares``) over small motions from a first guess by single views.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import least_squares

from shelfscan.calibration.board import Board
from shelfscan.calibration.corners import View
from shelfscan.calibration.intrinsics import board_pose
from shelfscan.errors import BadInput
from shelfscan.model.geometry import Array, inverse, transform
from shelfscan.model.imaging import Intrinsics

#: Residuals beyond this many pixels count linearly, not squared (Huber).
ROBUST_PX = 1.0
STEP = 1e-6


@dataclass(frozen=True)
class Mount:
    """A camera: the body it sits on, its pose on it ``T_body_camera`` (4, 4), and its lens."""

    body: str
    T_body_camera: Array
    lens: Intrinsics


@dataclass(frozen=True)
class Adjusted:
    """Poses of bodies and boards in the world, (4, 4) each; ``sigma``: of a free body's place (metres) and turn (degrees)."""

    bodies: dict[str, Array]
    boards: dict[str, Array]
    sigma: dict[str, tuple[float, float]]
    rms_px: float
    rms_of: dict[str, float]


def adjust(
    views: Sequence[View],
    board: Board,
    mounts: Mapping[tuple[str, str], Mount],
    bodies: Mapping[str, Array],
    boards: Mapping[str, Array],
) -> Adjusted:
    """Poses that bring all corners nearest to where they were seen.

    ``mounts`` by (head, camera); ``bodies`` and ``boards`` (by key) are the poses that are known: those stay. Raises `BadInput`
    naming the bodies that share no picture with a known one.
    """
    views = [v for v in views if (v.head, v.camera) in mounts]
    solver = _Solver(views, board, mounts, dict(bodies), dict(boards))
    return solver.solve()


def _moved(T: Array, d: Array) -> Array:
    return T @ transform(np.asarray(cv2.Rodrigues(d[:3])[0], dtype=np.float64), d[3:])


class _Solver:
    def __init__(
        self,
        views: Sequence[View],
        board: Board,
        mounts: Mapping[tuple[str, str], Mount],
        bodies: dict[str, Array],
        boards: dict[str, Array],
    ) -> None:
        self._views, self._board, self._mounts = views, board, mounts
        self._bodies, self._boards = self._first_guess(bodies, boards)
        free = [("body", b) for b in sorted(self._bodies) if b not in bodies]
        free += [("board", k) for k in sorted(self._boards) if k not in boards]
        self._column = {name: 6 * n for n, name in enumerate(free)}
        ends = np.cumsum([2 * len(v.ids) for v in views])
        self._rows = [slice(int(e) - 2 * len(v.ids), int(e)) for v, e in zip(views, ends, strict=True)]
        self._height = int(ends[-1]) if len(ends) else 0

    def _first_guess(self, bodies: dict[str, Array], boards: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        """What is known carried on from view to view, those of most corners first."""
        bodies, boards = dict(bodies), dict(boards)
        ordered = sorted(self._views, key=lambda v: (-len(v.ids), v.source))
        poses = {v.source: board_pose(v, self._board, self._mounts[v.head, v.camera].lens) for v in ordered}
        grown = True
        while grown:
            grown = False
            for v in ordered:
                m = self._mounts[v.head, v.camera]
                T_body_board = m.T_body_camera @ poses[v.source]
                if m.body in bodies and v.key not in boards:
                    boards[v.key] = bodies[m.body] @ T_body_board
                elif m.body not in bodies and v.key in boards:
                    bodies[m.body] = boards[v.key] @ inverse(T_body_board)
                else:
                    continue
                grown = True
        lost = sorted({m.body for m in self._mounts.values()} - set(bodies))
        if lost:
            raise BadInput(f"{', '.join(lost)}: no picture of the board together with a camera whose place is known")
        self._views = [v for v in self._views if v.key in boards]
        return bodies, boards

    def _residual(self, v: View, T_body: Array, T_board: Array) -> Array:
        m = self._mounts[v.head, v.camera]
        T = inverse(T_body @ m.T_body_camera) @ T_board
        points = self._board.corners_m[v.ids]
        rvec = cv2.Rodrigues(T[:3, :3])[0]
        at, _ = cv2.projectPoints(points, rvec, T[:3, 3], m.lens.matrix(), np.array(m.lens.distortion))
        return np.asarray((at.reshape(-1, 2) - v.pixels).ravel(), dtype=np.float64)

    def _pose(self, name: tuple[str, str], x: Array) -> Array:
        T = (self._bodies if name[0] == "body" else self._boards)[name[1]]
        c = self._column.get(name)
        return T if c is None else _moved(T, x[c : c + 6])

    def _residuals(self, x: Array) -> Array:
        out = np.zeros(self._height)
        for v, rows in zip(self._views, self._rows, strict=True):
            body = ("body", self._mounts[v.head, v.camera].body)
            out[rows] = self._residual(v, self._pose(body, x), self._pose(("board", v.key), x))
        return out

    def _jacobian(self, x: Array) -> Array:
        """By central differences; a view depends on one body and one board only."""
        out = np.zeros((self._height, len(x)))
        for v, rows in zip(self._views, self._rows, strict=True):
            body, key = ("body", self._mounts[v.head, v.camera].body), ("board", v.key)
            for name in (body, key):
                for k in range(6) if name in self._column else ():
                    c = self._column[name] + k
                    ends = []
                    for step in (-STEP, STEP):
                        y = x.copy()
                        y[c] += step
                        ends.append(self._residual(v, self._pose(body, y), self._pose(key, y)))
                    out[rows, c] = (ends[1] - ends[0]) / (2 * STEP)
        return out

    def solve(self) -> Adjusted:
        x = np.zeros(6 * len(self._column))
        r = self._residuals(x)
        sigma: dict[str, tuple[float, float]] = {}
        if len(x):
            found = least_squares(self._residuals, x, self._jacobian, loss="huber", f_scale=ROBUST_PX, x_scale="jac")
            x, r = np.asarray(found.x), self._residuals(found.x)
            J = self._jacobian(x)
            variance = float(r @ r) / max(1, len(r) - len(x))
            covariance = np.linalg.pinv(J.T @ J) * variance
            for (kind, name), c in self._column.items():
                if kind == "body":
                    s = np.sqrt(np.clip(np.diag(covariance)[c : c + 6], 0, None))
                    sigma[name] = (float(np.linalg.norm(s[3:])), float(np.degrees(np.linalg.norm(s[:3]))))
        return Adjusted(
            {b: self._pose(("body", b), x) for b in self._bodies},
            {k: self._pose(("board", k), x) for k in self._boards},
            sigma,
            _rms(r),
            {v.source: round(_rms(r[rows]), 4) for v, rows in zip(self._views, self._rows, strict=True)},
        )


def _rms(r: Array) -> float:
    """Of the corners' distances, pixels."""
    return float(np.sqrt(2 * (r @ r) / max(1, len(r))))
