"""What a lens does: Zhang's calibration (TPAMI 2000; OpenCV's ``calibrateCamera``), and whether the pictures can tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from shelfscan.calibration.board import Board
from shelfscan.calibration.corners import View, coverage
from shelfscan.errors import BadInput
from shelfscan.model.geometry import Array, transform
from shelfscan.model.imaging import Intrinsics

#: Fewer pictures leave lens and place of the board undecided.
LEAST_PICTURES = 8
#: Two pictures must show the board turned against each other by this much: from one angle alone a longer focal length and a
#: board further away look the same.
LEAST_TURN_DEG = 20.0
#: Less of the picture than this says nothing about the rest of it.
LEAST_COVERAGE, GOOD_COVERAGE = 0.3, 0.6
#: Corners further from where they should be are of another board, or of a bent one.
MOST_RMS_PX = 1.0
#: A focal length less sure than this (one standard deviation) is not written down.
MOST_SIGMA = 0.003
#: A picture this many times further off than the middle one is an outlier, when it is also this far off.
OUTLIER_SHARE, OUTLIER_PX = 3.0, 0.5


@dataclass(frozen=True)
class LensFit:
    """A camera's lens. ``rms_of``: per picture, pixels; ``sigma_fx``: standard deviation of fx as a share of it."""

    intrinsics: Intrinsics
    rms_px: float
    rms_of: dict[str, float]
    corners: int
    coverage: float
    turn_deg: float
    sigma_fx: float
    left_out: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """What is poor and still accepted."""
        if self.coverage < GOOD_COVERAGE:
            return [f"corners cover {self.coverage:.0%} of the picture; hold the board into its corners too (60 % is good)"]
        return []


def fit_lens(name: str, views: Sequence[View], board: Board, nominal: Intrinsics, *, rectified: bool) -> LensFit:
    """The lens of one camera, or of a rectified pair, whose cameras share one.

    ``rectified``: the pictures have no distortion any more, so none is fitted. Raises `BadInput` with every reason why these
    pictures cannot tell; ``name`` is the camera's in them.
    """
    problems = size_problems(name, views, nominal)
    if problems:
        raise BadInput(problems)
    if len(views) < LEAST_PICTURES:
        raise BadInput(f"{name}: {len(views)} usable pictures of the board; at least {LEAST_PICTURES} are needed")
    turn = board_turn_deg(views, board, nominal)
    if turn < LEAST_TURN_DEG:
        problems.append(
            f"{name}: the board is at about one angle in all {len(views)} pictures (within {turn:.0f} degrees); tilt it by "
            f"{LEAST_TURN_DEG:.0f} degrees or more, to the left, to the right, up and down"
        )
    covered = coverage(views)
    if covered < LEAST_COVERAGE:
        problems.append(f"{name}: corners cover {covered:.0%} of the picture; at least {LEAST_COVERAGE:.0%} is needed")
    if problems:
        raise BadInput(problems)
    kept, left_out = list(views), []
    fit = _fit(kept, board, nominal, rectified)
    middle = float(np.median(list(fit.rms_of.values())))
    gate = max(OUTLIER_PX, OUTLIER_SHARE * middle)
    bad = [v for v in kept if fit.rms_of[v.source] > gate]
    if bad and len(kept) - len(bad) >= LEAST_PICTURES:
        left_out = [f"{v.source}: corners {fit.rms_of[v.source]:.2f} px off, {middle:.2f} in the others" for v in bad]
        kept = [v for v in kept if v not in bad]
        fit = _fit(kept, board, nominal, rectified)
    if fit.rms_px > MOST_RMS_PX:
        problems.append(
            f"{name}: corners are {fit.rms_px:.1f} px from where a board {board} has them; at most {MOST_RMS_PX:g} is right. "
            "Is the board flat, and are its squares, their number and the size of its markers as given?"
        )
    elif fit.sigma_fx > MOST_SIGMA:
        problems.append(
            f"{name}: these pictures leave the focal length unsure by {fit.sigma_fx:.1%} (at most {MOST_SIGMA:.1%}); take "
            "more, nearer and more tilted"
        )
    if problems:
        raise BadInput(problems)
    return replace(fit, turn_deg=turn, left_out=tuple(left_out))


def size_problems(name: str, views: Sequence[View], nominal: Intrinsics) -> list[str]:
    """Pictures of another size than the robot's file says."""
    want = (nominal.width_px, nominal.height_px)
    wrong = [v for v in views if (v.width_px, v.height_px) != want]
    if not wrong:
        return []
    v = wrong[0]
    turned = " (turned? pictures are taken as the sensor has them)" if (v.height_px, v.width_px) == want else ""
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return [f"{v.source}{more}: {v.width_px}x{v.height_px}; robot.yaml says {want[0]}x{want[1]} for {name}{turned}"]


def board_turn_deg(views: Sequence[View], board: Board, nominal: Intrinsics) -> float:
    """The largest angle between the board's normals in two views, degrees, by a lens as robot.yaml has it."""
    normals = np.array([board_pose(v, board, nominal)[:3, 2] for v in views])
    return float(np.degrees(np.arccos(np.clip((normals @ normals.T).min(), -1.0, 1.0))))


def board_pose(view: View, board: Board, lens: Intrinsics) -> Array:
    """``T_camera_board`` of one view, (4, 4): OpenCV's IPPE for planes (Collins and Bartoli, 2014), refined."""
    points, pixels = board.corners_m[view.ids], view.pixels.reshape(-1, 1, 2)
    K, d = lens.matrix(), np.array(lens.distortion)
    _, rvec, tvec = cv2.solvePnP(points, pixels, K, d, flags=cv2.SOLVEPNP_IPPE)
    rvec, tvec = cv2.solvePnPRefineLM(points, pixels, K, d, rvec, tvec)
    return transform(np.asarray(cv2.Rodrigues(rvec)[0], dtype=np.float64), np.asarray(tvec, dtype=np.float64).ravel())


def reprojection_rms(view: View, board: Board, lens: Intrinsics) -> float:
    """How far a view's corners are from where a lens has them, at the board's best pose; pixels."""
    T = board_pose(view, board, lens)
    rvec = cv2.Rodrigues(T[:3, :3])[0]
    at, _ = cv2.projectPoints(board.corners_m[view.ids], rvec, T[:3, 3], lens.matrix(), np.array(lens.distortion))
    return float(np.sqrt(((at.reshape(-1, 2) - view.pixels) ** 2).sum(axis=1).mean()))


def _fit(views: Sequence[View], board: Board, nominal: Intrinsics, rectified: bool) -> LensFit:
    flags = cv2.CALIB_USE_INTRINSIC_GUESS
    if rectified:
        # A rectified picture is one of a plain pinhole with square pixels.
        flags |= (
            cv2.CALIB_FIX_ASPECT_RATIO | cv2.CALIB_ZERO_TANGENT_DIST | cv2.CALIB_FIX_K1 | cv2.CALIB_FIX_K2 | cv2.CALIB_FIX_K3
        )
        fit, _ = _solved(views, board, nominal, flags)
        return fit
    fit, sigma_k3 = _solved(views, board, nominal, flags)
    if abs(fit.intrinsics.distortion[4]) < 3 * sigma_k3:
        # What cannot be told from nought bends the picture's corners, where nothing was seen.
        fit, _ = _solved(views, board, nominal, flags | cv2.CALIB_FIX_K3)
    return fit


def _solved(views: Sequence[View], board: Board, nominal: Intrinsics, flags: int) -> tuple[LensFit, float]:
    points = [board.corners_m[v.ids].astype(np.float32) for v in views]
    pixels = [v.pixels.astype(np.float32).reshape(-1, 1, 2) for v in views]
    size = (nominal.width_px, nominal.height_px)
    f = (nominal.fx_px + nominal.fy_px) / 2
    start = np.array([[f, 0, (size[0] - 1) / 2], [0, f, (size[1] - 1) / 2], [0, 0, 1]])
    rms, K, d, _, _, sigmas, _, of_view = cv2.calibrateCameraExtended(points, pixels, size, start, np.zeros(5), flags=flags)
    distortion = tuple(float(x) for x in np.ravel(d)[:5])
    lens = Intrinsics(*size, float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]), distortion)
    rms_of = {v.source: round(float(e), 4) for v, e in zip(views, np.ravel(of_view), strict=True)}
    # OpenCV's standard deviations already hold the residual's own size.
    s = np.ravel(sigmas)
    corners = sum(len(v.ids) for v in views)
    return LensFit(lens, float(rms), rms_of, corners, coverage(views), 0.0, float(s[0]) / lens.fx_px), float(s[8])
