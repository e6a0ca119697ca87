"""What a head can see of a gondola face, by geometry alone (no pictures)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shelfscan.model.geometry import Array, apply, inverse
from shelfscan.model.imaging import Camera, Head
from shelfscan.model.robot import RobotModel
from shelfscan.model.scan import COVERAGE_COLUMNS, COVERAGE_ROWS
from shelfscan.model.store import BinPlace

#: A bin front counts as seen only within this angle of the face normal (contract).
MAX_VIEW_ANGLE_RAD = math.radians(35.0)
#: Pixels at a picture's border that are not relied upon (rectification, robot pose error).
BORDER_PX = 8.0


def front_points(place: BinPlace) -> Array:
    """Corners of all coverage cells of a bin's front in the face frame; (rows + 1, columns + 1, 3)."""
    x = np.linspace(place.x0_m, place.x1_m, COVERAGE_COLUMNS + 1)
    z = np.linspace(place.z0_m, place.z1_m, COVERAGE_ROWS + 1)
    grid = np.zeros((COVERAGE_ROWS + 1, COVERAGE_COLUMNS + 1, 3))
    grid[..., 0], grid[..., 2] = np.meshgrid(x, z)
    return grid


def inside(camera: Camera, T_optical_face: Array, points_face: Array) -> NDArray[np.bool_]:
    """Whether face points (..., 3) project into the camera's picture, clear of its border."""
    px = camera.intrinsics.project(apply(T_optical_face, points_face))
    with np.errstate(invalid="ignore"):
        return np.asarray(
            (px[..., 0] >= BORDER_PX)
            & (px[..., 0] <= camera.intrinsics.width_px - BORDER_PX)
            & (px[..., 1] >= BORDER_PX)
            & (px[..., 1] <= camera.intrinsics.height_px - BORDER_PX)
        )


def cells_in_view(head: Head, T_face_base: Array, points_face: Array) -> NDArray[np.bool_]:
    """Cells whose four corners the head's stereo *and* RGB cameras see within 35° of the face normal.

    ``points_face``: (..., R + 1, C + 1, 3) from `front_points`, of one or many bins; returns (..., R, C).
    """
    ok = np.ones(points_face.shape[:-1], dtype=bool)
    for camera in (head.left, head.rgb):
        T_face_optical = T_face_base @ camera.T_base_optical
        ray = points_face - T_face_optical[:3, 3]
        # The face normal is the face frame's y axis; the angle is that between it and the viewing ray.
        cosine = ray[..., 1] / np.maximum(np.linalg.norm(ray, axis=-1), 1e-9)
        ok &= inside(camera, inverse(T_face_optical), points_face) & (cosine >= math.cos(MAX_VIEW_ANGLE_RAD))
    return np.asarray(ok[..., :-1, :-1] & ok[..., 1:, :-1] & ok[..., :-1, 1:] & ok[..., 1:, 1:])


def base_on_face(robot: RobotModel, x_m: float, standoff_m: float) -> Array:
    """``T_face_base`` of a robot whose cameras are at ``x_m`` along the face, ``standoff_m`` before it."""
    yaw = math.pi / 2 - robot.look_rad
    c, s = math.cos(yaw), math.sin(yaw)
    cameras = np.mean([h.rgb.T_base_optical[:2, 3] for h in robot.rig.heads], axis=0)
    offset = np.array([[c, -s], [s, c]]) @ cameras
    return np.array(
        [[c, -s, 0, x_m - offset[0]], [s, c, 0, -standoff_m - offset[1]], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=np.float64
    )


def seen_cells(
    robot: RobotModel, T_face_base: Array, places: Sequence[BinPlace], fronts: Array | None = None
) -> NDArray[np.bool_]:
    """Per bin, the cells that any head sees from one base pose; (bins, R, C).

    ``fronts``: the `front_points` of all places, (bins, R + 1, C + 1, 3), where many poses are asked for.
    """
    out = np.zeros((len(places), COVERAGE_ROWS, COVERAGE_COLUMNS), dtype=bool)
    at = np.mean([(T_face_base @ h.left.T_base_optical)[:3, 3] for h in robot.rig.heads], axis=0)
    # Beyond this distance along the face the angle alone rules a cell out.
    reach = abs(float(at[1])) * math.tan(MAX_VIEW_ANGLE_RAD)
    near = [n for n, p in enumerate(places) if p.x1_m >= at[0] - reach and p.x0_m <= at[0] + reach]
    if near:
        points = fronts[near] if fronts is not None else np.stack([front_points(places[n]) for n in near])
        for head in robot.rig.heads:
            out[near] |= cells_in_view(head, T_face_base, points)
    return out
