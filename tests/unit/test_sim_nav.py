"""The simulator's planner and follower on a bare grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shelfscan.bundle import load_bundle
from shelfscan.model.geometry import Pose2D
from shelfscan.model.grid import OccupancyGrid
from shelfscan.sim.nav import Follower, Planner

ROBOT = load_bundle(Path(__file__).resolve().parents[2] / "maps" / "demo").robot
GRID = OccupancyGrid(np.zeros((80, 80), np.int8), 0.05, (0.0, 0.0))


@pytest.mark.parametrize("goal", [Pose2D(2.01, 2.01, 1.0), Pose2D(2.0, 2.0, 0.0), Pose2D(3.2, 1.1, -2.0)])
def test_every_goal_is_driven_to_also_one_in_the_robots_own_cell(goal: Pose2D) -> None:
    pose = Pose2D(2.0, 2.0, 0.0)
    path = Planner(GRID, ROBOT, ()).path(pose, goal)
    assert path is not None
    assert path.shape[0] >= 2
    follower = Follower(path, goal, ROBOT)
    x, y, yaw, dt = pose.x_m, pose.y_m, pose.yaw_rad, 0.02
    for _ in range(2000):
        command = follower.command(Pose2D(x, y, yaw), dt)
        if command is None:
            break
        v, w = command
        x, y, yaw = x + v * np.cos(yaw) * dt, y + v * np.sin(yaw) * dt, yaw + w * dt
    else:
        pytest.fail(f"still not there: {x, y, yaw}")
    assert np.hypot(x - goal.x_m, y - goal.y_m) < 0.05
