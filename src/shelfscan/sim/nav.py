"""What Nav2 would do on a real robot: a path on the occupancy map, and a controller that follows it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from skimage.graph import MCP_Geometric

from shelfscan.model.geometry import Array, Pose2D
from shelfscan.model.grid import OccupancyGrid
from shelfscan.model.robot import RobotModel

ARRIVED_M, ARRIVED_RAD = 0.02, math.radians(1.0)
LOOKAHEAD_M = 0.25


class Planner:
    """Shortest paths that keep clear of obstacles where there is room."""

    def __init__(self, grid: OccupancyGrid, robot: RobotModel, blocked: tuple[tuple[float, float, float], ...] = ()) -> None:
        self._grid = grid
        free = grid.cells == 0
        rows, cols = free.shape
        for x, y, radius in blocked:
            r, c = grid.index_of(x, y)
            reach = math.ceil(radius / grid.resolution_m)
            free[max(0, r - reach) : min(rows, r + reach + 1), max(0, c - reach) : min(cols, c + reach + 1)] = False
        clear = np.asarray(distance_transform_edt(free)) * grid.resolution_m
        self._passable = clear > robot.footprint_radius_m
        cost = 1.0 + 4.0 * np.clip(1.0 - (clear - robot.footprint_radius_m) / 0.4, 0.0, 1.0)
        self._cost: NDArray[np.float64] = np.where(self._passable, cost, -1.0)

    def path(self, start: Pose2D, goal: Pose2D) -> Array | None:
        """Way points (N, 2) in ``map`` ending at the goal, or None when there is no way."""
        a, b = self._grid.index_of(start.x_m, start.y_m), self._grid.index_of(goal.x_m, goal.y_m)
        rows, cols = self._cost.shape
        if not (0 <= b[0] < rows and 0 <= b[1] < cols) or not self._passable[b] or not (0 <= a[0] < rows and 0 <= a[1] < cols):
            return None
        cost = self._cost.copy()
        cost[a] = max(cost[a], 1.0)  # a robot that stands too near to something may leave
        search = MCP_Geometric(cost)
        totals, _ = search.find_costs([a], [b])
        if not np.isfinite(totals[b]):
            return None
        cells = np.array(search.traceback(b), dtype=np.float64)
        if len(cells) == 1:
            # A goal in the robot's own cell: a path is a line all the same.
            return np.array([[start.x_m, start.y_m], [goal.x_m, goal.y_m]])
        points = np.stack([cells[:, 1] + 0.5, cells[:, 0] + 0.5], axis=-1) * self._grid.resolution_m + self._grid.origin_m
        points[0], points[-1] = (start.x_m, start.y_m), (goal.x_m, goal.y_m)
        return self._pull(points)

    def _pull(self, points: Array) -> Array:
        """Straighten: drop way points between which the straight line costs no more clearance."""
        kept = [0]
        while kept[-1] < len(points) - 1:
            i, best = kept[-1], kept[-1] + 1
            for j in range(len(points) - 1, i + 1, -max(1, (len(points) - i) // 24)):
                if self._straight(points[i], points[j]):
                    best = j
                    break
            kept.append(best)
        return np.asarray(points[kept])

    def _straight(self, a: Array, b: Array) -> bool:
        n = max(2, math.ceil(float(np.linalg.norm(b - a)) / (self._grid.resolution_m / 2)))
        for t in np.linspace(0, 1, n):
            p = a + (b - a) * t
            if not self._passable[self._grid.index_of(float(p[0]), float(p[1]))]:
                return False
        return True


def wrap(angle: float) -> float:
    """Into (-pi, pi]."""
    return math.atan2(math.sin(angle), math.cos(angle))


class Follower:
    """Regulated pure pursuit to a goal pose: turn on the spot, follow, creep in, turn to the final heading."""

    def __init__(self, path: Array, goal: Pose2D, robot: RobotModel) -> None:
        self._path, self._goal, self._robot = path, goal, robot
        self._index = 1
        self._arrived_xy = False
        self._v = 0.0

    def command(self, pose: Pose2D, dt_s: float) -> tuple[float, float] | None:
        """The twist (m/s, rad/s) to drive now, or None at the goal."""
        goal = self._goal
        distance = math.hypot(goal.x_m - pose.x_m, goal.y_m - pose.y_m)
        if distance < ARRIVED_M:
            self._arrived_xy = True
        if self._arrived_xy:
            error = wrap(goal.yaw_rad - pose.yaw_rad)
            if abs(error) < ARRIVED_RAD:
                return None
            return 0.0, self._turn(error)
        target = self._target(pose)
        bearing = wrap(math.atan2(target[1] - pose.y_m, target[0] - pose.x_m) - pose.yaw_rad)
        if abs(bearing) > (0.5 if distance > 0.15 else 0.9) and not (distance < 0.15 and abs(bearing) > 2.2):
            self._v = 0.0
            return 0.0, self._turn(bearing)
        sign = 1.0
        if distance < 0.15 and abs(bearing) > 2.2:
            # Just overshot: back up rather than turn round twice.
            sign, bearing = -1.0, wrap(bearing + math.pi)
        limit = min(self._robot.max_speed_mps, 0.04 + 1.1 * distance, self._robot.max_speed_mps * (1.1 - abs(bearing)))
        self._v = min(max(0.03, limit), self._v + 0.8 * dt_s)
        w = max(-self._robot.max_turn_radps, min(self._robot.max_turn_radps, 2.5 * bearing))
        return sign * self._v, w

    def _turn(self, error: float) -> float:
        speed = min(self._robot.max_turn_radps, 0.06 + 2.0 * abs(error))
        return math.copysign(speed, error)

    def _target(self, pose: Pose2D) -> Array:
        while self._index < len(self._path) - 1:
            if math.hypot(self._path[self._index][0] - pose.x_m, self._path[self._index][1] - pose.y_m) > LOOKAHEAD_M:
                break
            self._index += 1
        a, b = self._path[self._index - 1], self._path[self._index]
        along = b - a
        length = float(np.linalg.norm(along))
        if length < 1e-6:
            return np.asarray(b)
        t = float(np.dot([pose.x_m - a[0], pose.y_m - a[1]], along)) / length**2
        return np.asarray(a + along * min(1.0, max(0.0, t) + LOOKAHEAD_M / length))
