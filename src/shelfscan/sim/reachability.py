"""Which bins a robot could see in full at all: ray casts against the true scene, apart from any planner."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from shelfscan.model.geometry import Array, apply, inverse, planar
from shelfscan.model.grid import OccupancyGrid
from shelfscan.model.imaging import Camera
from shelfscan.model.robot import RobotModel
from shelfscan.model.store import BinPlace
from shelfscan.sim.people import blockers
from shelfscan.sim.scene import Scene, SceneBox

#: "In full" allows the face normal to be missed by this much (contract).
MAX_ANGLE_COS = math.cos(math.radians(35.0))
#: Points are kept off the bin's very border, where the shelf's own edge strip begins.
INSET_M = 0.01
SHIFTS_M = (0.0, 0.1, -0.1, 0.2, -0.2, 0.3, -0.3)
NEAR_M = 2.0


def reachable_bins(scene: Scene, places: Iterable[BinPlace], robot: RobotModel, grid: OccupancyGrid) -> dict[str, bool]:
    """Per bin, whether some allowed pose of the robot sees its whole front within 35° and unoccluded.

    Allowed: standoff within the robot's limits, the footprint on free cells, heads facing the shelf.
    """
    boxes = _Boxes((*scene.boxes, *blockers(scene.people)))
    standoffs = sorted({robot.standoff_m, robot.standoff_min_m, robot.standoff_max_m}, key=lambda s: abs(s - robot.standoff_m))
    out: dict[str, bool] = {}
    for place in places:
        points = _front(place)
        near = boxes.near(points.mean(axis=0))
        stations = ((shift, s) for s in standoffs for shift in SHIFTS_M)
        out[place.bin_id] = any(_sees(place, points, near, robot, grid, shift, s) for shift, s in stations)
    return out


def _front(place: BinPlace) -> Array:
    """A 7 x 5 grid over the bin's front in ``map``; (35, 3)."""
    x = np.linspace(place.x0_m + INSET_M, place.x1_m - INSET_M, 7)
    z = np.linspace(place.z0_m + INSET_M, place.z1_m - INSET_M, 5)
    gx, gz = np.meshgrid(x, z)
    return apply(place.T_map_face, np.stack([gx.ravel(), np.zeros(gx.size), gz.ravel()], axis=-1))


class _Boxes:
    """Furniture and obstacles as arrays, for slab tests."""

    def __init__(self, boxes: tuple[SceneBox, ...]) -> None:
        self.centre = np.array([[b.x_m, b.y_m, b.z_m] for b in boxes])
        self.half = np.array([[b.half_x_m, b.half_y_m, b.half_z_m] for b in boxes])
        self.yaw = np.array([b.yaw_rad for b in boxes])

    def near(self, point: Array) -> tuple[Array, Array, Array]:
        """Those whose rectangle comes within `NEAR_M` of a point."""
        reach = np.linalg.norm(self.half[:, :2], axis=1) + NEAR_M
        keep = np.linalg.norm(self.centre[:, :2] - point[:2], axis=1) < reach
        return self.centre[keep], self.half[keep], self.yaw[keep]


def _blocked(eye: Array, points: Array, boxes: tuple[Array, Array, Array]) -> NDArray[np.bool_]:
    """Whether something lies between the eye and each point (P, 3), up to 5 mm before the point; (P,)."""
    centre, half, yaw = boxes
    c, s = np.cos(yaw), np.sin(yaw)

    def local(v: Array) -> Array:
        return np.stack([c * v[..., 0] + s * v[..., 1], -s * v[..., 0] + c * v[..., 1], v[..., 2]], axis=-1)

    origin = local(eye[None] - centre)  # (B, 3)
    ray = points - eye  # (P, 3)
    length = np.linalg.norm(ray, axis=1)
    direction = local(np.broadcast_to(ray[:, None], (len(points), len(centre), 3)))  # (P, B, 3)
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (-half - origin)[None] / direction, (half - origin)[None] / direction
    enter = np.nanmax(np.minimum(a, b), axis=-1)
    leave = np.nanmin(np.maximum(a, b), axis=-1)
    hit = (enter <= leave) & (leave > 0) & (enter < 1 - 0.005 / length[:, None])
    return np.asarray(hit.any(axis=1))


def _sees(
    place: BinPlace,
    points: Array,
    boxes: tuple[Array, Array, Array],
    robot: RobotModel,
    grid: OccupancyGrid,
    shift_m: float,
    standoff_m: float,
) -> bool:
    normal = -place.T_map_face[:3, 1]
    yaw = math.atan2(place.T_map_face[1, 0], place.T_map_face[0, 0]) + math.pi / 2 - robot.look_rad
    eye = np.mean([h.rgb.T_base_optical[:2, 3] for h in robot.rig.heads], axis=0)
    front = apply(place.T_map_face, np.array([(place.x0_m + place.x1_m) / 2 + shift_m, -standoff_m, 0.0]))
    c, s = math.cos(yaw), math.sin(yaw)
    x, y = front[0] - (c * eye[0] - s * eye[1]), front[1] - (s * eye[0] + c * eye[1])
    if not all(
        grid.is_free(x + robot.footprint_radius_m * math.cos(t), y + robot.footprint_radius_m * math.sin(t))
        for t in np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ):
        return False
    T_map_base = planar(float(x), float(y), yaw)
    seen = np.zeros(len(points), dtype=bool)
    for head in robot.rig.heads:
        ok = np.ones(len(points), dtype=bool)
        for camera in (head.left, head.rgb):
            ok &= _in_picture(camera, T_map_base, points, normal)
        if ok.any():
            ok[ok] = ~_blocked((T_map_base @ head.rgb.T_base_optical)[:3, 3], points[ok], boxes)
        seen |= ok
    return bool(seen.all())


def _in_picture(camera: Camera, T_map_base: Array, points: Array, normal: Array) -> NDArray[np.bool_]:
    T = T_map_base @ camera.T_base_optical
    local = apply(inverse(T), points)
    px = camera.intrinsics.project(local)
    ray = T[:3, 3] - points
    cosine = ray @ normal / np.linalg.norm(ray, axis=1)
    with np.errstate(invalid="ignore"):
        inside = (
            (px[:, 0] >= 0)
            & (px[:, 0] < camera.intrinsics.width_px)
            & (px[:, 1] >= 0)
            & (px[:, 1] < camera.intrinsics.height_px)
        )
    return np.asarray(inside & (cosine >= MAX_ANGLE_COS))
