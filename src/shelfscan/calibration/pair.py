"""How the cameras of a head sit to each other, and the rectified pair that is made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from shelfscan.calibration.adjust import Mount, adjust
from shelfscan.calibration.board import Board, Ids
from shelfscan.calibration.corners import View
from shelfscan.errors import BadInput
from shelfscan.model.geometry import Array, inverse, transform
from shelfscan.model.imaging import Intrinsics

#: So many instants must show the board to both cameras of a pair.
LEAST_PAIRS = 5
#: Rows of a rectified pair that are further apart than this are not matched any more.
MOST_EPIPOLAR_PX = 1.0
#: A baseline this far from the file's is told: squares of another size look like it.
BASELINE_SHARE = 0.1


@dataclass(frozen=True)
class PairFit:
    """A head's cameras to each other. ``lens``: of the rectified pair; ``T_left_rgb``: in the rectified left camera's frame.

    ``T_raw_left_right``: before rectification, None when the pictures were rectified already; ``turn_left``, ``turn_right``:
    the rotations (3, 3) that rectify.
    """

    lens: Intrinsics
    baseline_m: float
    T_left_rgb: Array | None
    T_raw_left_right: Array | None
    turn_left: Array
    turn_right: Array
    epipolar_rms_px: float
    rms_px: float
    rms_of: dict[str, float]
    pairs: int
    sigma_m: float
    sigma_deg: float


def fit_pair(head: str, views: Sequence[View], board: Board, lenses: Mapping[str, Intrinsics], *, rectified: bool) -> PairFit:
    """Measure a head. ``lenses`` by camera (left, right, and rgb where it has pictures), of the pictures as they are.

    Raises `BadInput` when too few instants show the board to both cameras, or when a pair said to be rectified is not.
    """
    here = [v for v in views if v.head == head and v.camera in lenses]
    keys = {c: {v.key for v in here if v.camera == c} for c in lenses}
    both = keys["left"] & keys["right"]
    if len(both) < LEAST_PAIRS:
        raise BadInput(
            f"{head}: {len(both)} instants at which left and right both show the board; at least {LEAST_PAIRS} are needed "
            "(pictures of one instant have the same name but for left and right)"
        )
    if "rgb" in lenses and len(keys["rgb"] & keys["left"]) < LEAST_PAIRS:
        raise BadInput(f"{head}: {len(keys['rgb'] & keys['left'])} instants at which left and rgb both show the board")
    mounts = {(head, c): Mount(c, np.eye(4), lens) for c, lens in lenses.items()}
    found = adjust([v for v in here if v.key in keys["left"]], board, mounts, {"left": np.eye(4)}, {})
    T_left_right = found.bodies["right"]
    T_left_rgb = found.bodies.get("rgb")
    left = lenses["left"]
    turns = (np.eye(3), np.eye(3))
    lens, baseline_m = left, float(np.linalg.norm(T_left_right[:3, 3]))
    if T_left_right[0, 3] < 0.7 * baseline_m:
        raise BadInput(f"{head}: the right camera lies {T_left_right[0, 3]:+.3f} m along left's x; are left and right swapped?")
    if not rectified:
        lens, turns, baseline_m = rectification(left, lenses["right"], T_left_right)
        if T_left_rgb is not None:
            T_left_rgb = transform(turns[0], np.zeros(3)) @ T_left_rgb
    epipolar = epipolar_rms(here, board, (left, lenses["right"]), lens, turns)
    if epipolar > MOST_EPIPOLAR_PX:
        hint = (
            "rows of left and right do not match; are these pictures rectified? If not, pass --raw"
            if rectified
            else ("left and right do not fit together; were they taken at one instant?")
        )
        raise BadInput(f"{head}: corners lie {epipolar:.2f} px apart across the rows (at most {MOST_EPIPOLAR_PX:g}): {hint}")
    return PairFit(
        lens,
        baseline_m,
        T_left_rgb,
        None if rectified else T_left_right,
        turns[0],
        turns[1],
        epipolar,
        found.rms_px,
        found.rms_of,
        len(both),
        *found.sigma["right"],
    )


def rectification(left: Intrinsics, right: Intrinsics, T_left_right: Array) -> tuple[Intrinsics, tuple[Array, Array], float]:
    """The rectified pair's lens, the rotations (3, 3) that rectify left and right, and the baseline (Bouguet's method)."""
    T_right_left = inverse(T_left_right)
    size = (left.width_px, left.height_px)
    R1, R2, P1, P2, *_ = cv2.stereoRectify(
        left.matrix(),
        np.array(left.distortion),
        right.matrix(),
        np.array(right.distortion),
        size,
        T_right_left[:3, :3],
        T_right_left[:3, 3:4],
        flags=cv2.CALIB_ZERO_DISPARITY,
        alpha=0,
    )
    lens = Intrinsics(*size, float(P1[0, 0]), float(P1[1, 1]), float(P1[0, 2]), float(P1[1, 2]))
    turns = (np.asarray(R1, dtype=np.float64), np.asarray(R2, dtype=np.float64))
    return lens, turns, float(-P2[0, 3] / P2[0, 0])


def undistorted_lens(raw: Intrinsics) -> Intrinsics:
    """The lens of one camera's undistorted pictures: all of them is valid (``alpha`` 0)."""
    size = (raw.width_px, raw.height_px)
    K, _ = cv2.getOptimalNewCameraMatrix(raw.matrix(), np.array(raw.distortion), size, 0)
    return Intrinsics(*size, float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]))


def rectified_corners(view: View, raw: Intrinsics, lens: Intrinsics, turn: Array) -> Array:
    """Where a view's corners (N, 2) lie in the rectified picture."""
    pixels = view.pixels.reshape(-1, 1, 2)
    at = cv2.undistortPoints(pixels, raw.matrix(), np.array(raw.distortion), R=turn, P=lens.matrix())
    return np.asarray(at, dtype=np.float64).reshape(-1, 2)


def matched(
    views: Sequence[View], raw: tuple[Intrinsics, Intrinsics], lens: Intrinsics, turns: tuple[Array, Array]
) -> list[tuple[str, Ids, Array, Array]]:
    """Per instant that both cameras saw: its key, numbers of shared corners, and their rectified pixels left and right."""
    by_key = {(v.camera, v.key): v for v in views}
    out = []
    for camera, key in sorted(by_key):
        right = by_key.get(("right", key))
        if camera != "left" or right is None:
            continue
        left = by_key["left", key]
        ids, a, b = np.intersect1d(left.ids, right.ids, return_indices=True)
        if len(ids):
            one = rectified_corners(left, raw[0], lens, turns[0])[a]
            other = rectified_corners(right, raw[1], lens, turns[1])[b]
            out.append((key, ids, one, other))
    return out


def epipolar_rms(
    views: Sequence[View], board: Board, raw: tuple[Intrinsics, Intrinsics], lens: Intrinsics, turns: tuple[Array, Array]
) -> float:
    """How far shared corners lie apart across the rows of the rectified pair, pixels; NaN when none is shared."""
    off = [(a[:, 1] - b[:, 1]) ** 2 for _, _, a, b in matched(views, raw, lens, turns)]
    return float(np.sqrt(np.concatenate(off).mean())) if off else float("nan")
