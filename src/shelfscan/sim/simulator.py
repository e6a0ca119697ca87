"""The simulated robot as one object: physics, driving, cameras, battery. Also its two ports for direct runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from shelfscan.errors import SensorError
from shelfscan.model.geometry import Array, Pose2D
from shelfscan.model.grid import OccupancyGrid
from shelfscan.model.imaging import Camera, FrameBundle, HeadFrame, Rgb
from shelfscan.model.robot import RobotModel
from shelfscan.ports import NavResult
from shelfscan.sim.faults import Faults
from shelfscan.sim.nav import Follower, Planner
from shelfscan.sim.night import add_highlights, highlights
from shelfscan.sim.render import Renderer, SensorModel, capture_head
from shelfscan.sim.robot import STEP_S, Localiser, RobotBody
from shelfscan.sim.scene import Scene
from shelfscan.sim.world import build_world

#: Above this many items only the surroundings of the robot are rendered.
WHOLE_STORE_ITEMS = 6000
NEAR_X_M, NEAR_Y_M = 3.2, 1.8
STUCK_S = 6.0


class DriveState(str, Enum):
    """What the robot's driving is up to."""

    __str__ = str.__str__

    IDLE = "idle"
    DRIVING = "driving"
    ARRIVED = "arrived"
    FAILED = "failed"


class Simulator:
    """One robot in one store. Not thread-safe; rendering stays in the thread that captures first."""

    def __init__(
        self,
        scene: Scene,
        robot: RobotModel,
        grid: OccupancyGrid,
        *,
        seed: int,
        start_ns: int = 0,
        faults: Faults | None = None,
        start: Pose2D | None = None,
    ) -> None:
        self.robot, self.grid, self.scene = robot, grid, scene
        self._faults = faults or Faults()
        self._start_ns = start_ns
        self._ticks = 0
        self._first_drive: int | None = None
        self._body = RobotBody(scene, robot, start or robot.dock)
        self._localiser = Localiser(scene.sensing, seed)
        self._sensor = SensorModel(scene.sensing, seed)
        self._highlights = highlights(scene)
        self._renderer: Renderer | None = None
        self._around: tuple[float, float] | None = None
        self._follower: Follower | None = None
        self._captures = 0
        self._best_m = math.inf
        self._best_tick = 0
        self._goal = robot.dock
        self.drive_state = DriveState.IDLE
        self.drive_error: tuple[int, str] = (0, "")
        self.docked = start is None

    # -- time and state -------------------------------------------------------------------------------------------

    @property
    def elapsed_s(self) -> float:
        """Simulated seconds since the start."""
        return self._ticks * STEP_S

    @property
    def driven_s(self) -> float:
        """Simulated seconds since the robot was first sent somewhere, the time faults go by."""
        return 0.0 if self._first_drive is None else (self._ticks - self._first_drive) * STEP_S

    @property
    def now_ns(self) -> int:
        """The simulated clock."""
        return self._start_ns + int(self._ticks * STEP_S * 1e9)

    @property
    def true_pose(self) -> Pose2D:
        """Where the robot is. For physics and tests; the pipeline gets `pose_estimate`."""
        return self._body.pose

    def pose_estimate(self) -> Array:
        """``T_map_base`` as localisation believes it, (4, 4)."""
        return self._localiser.estimate(self._body.pose)

    @property
    def T_odom_base(self) -> Array:
        """Wheel odometry, (4, 4)."""
        return self._body.odometry.matrix()

    @property
    def twist(self) -> tuple[float, float]:
        """Forward m/s and turning rad/s."""
        return self._body.twist

    @property
    def battery(self) -> float:
        """Charge in 0..1."""
        if self._faults.active("battery_low", self.driven_s):
            return 0.1
        return self._body.battery_wh / self.robot.battery_wh

    @property
    def distance_to_goal_m(self) -> float:
        """Straight to the goal."""
        p = self._body.pose
        return math.hypot(self._goal.x_m - p.x_m, self._goal.y_m - p.y_m)

    def scan(self) -> NDArray[np.float32]:
        """Lidar ranges (see `RobotBody.scan`)."""
        return self._body.scan()

    # -- driving --------------------------------------------------------------------------------------------------

    def set_goal(self, goal: Pose2D) -> None:
        """Start driving to a pose; watch `drive_state`."""
        self._goal = goal
        if self._first_drive is None:
            self._first_drive = self._ticks
        blocked = tuple((f.x_m, f.y_m, f.radius_m) for f in self._faults.active("blocked", self.driven_s))
        path = Planner(self.grid, self.robot, blocked).path(self._body.pose, goal)
        if path is None:
            self._follower, self.drive_state = None, DriveState.FAILED
            self.drive_error = (9000, "blocked: no path to the goal")
            return
        self._follower, self.drive_state, self.drive_error = Follower(path, goal, self.robot), DriveState.DRIVING, (0, "")
        self._best_m, self._best_tick = math.inf, self._ticks
        self.docked = False

    def cancel(self) -> None:
        """Stop."""
        self._follower = None
        if self.drive_state is DriveState.DRIVING:
            self.drive_state, self.drive_error = DriveState.FAILED, (9000, "cancelled")

    def step(self, seconds: float) -> None:
        """Let simulated time pass, driving if there is a goal."""
        for _ in range(max(1, round(seconds / STEP_S))):
            self._tick()

    def _tick(self) -> None:
        self._ticks += 1
        command: tuple[float, float] | None = (0.0, 0.0)
        if self._follower is not None:
            command = self._follower.command(self._body.pose, STEP_S)
            if command is None:
                self._follower, self.drive_state, command = None, DriveState.ARRIVED, (0.0, 0.0)
            elif self._ticks % 50 == 0:
                self._watch()
        assert command is not None
        self._body.step(*command, charging=self.docked)

    def _watch(self) -> None:
        """A robot that comes no nearer and turns no further for a while is stuck."""
        left = self.distance_to_goal_m + 0.3 * abs(math.sin((self._goal.yaw_rad - self._body.pose.yaw_rad) / 2))
        if left < self._best_m - 0.01 or abs(self.twist[1]) > 0.05:
            self._best_m, self._best_tick = min(left, self._best_m), self._ticks
        elif (self._ticks - self._best_tick) * STEP_S > STUCK_S:
            self._follower, self.drive_state = None, DriveState.FAILED
            self.drive_error = (9000, "stuck: no progress")

    # -- cameras --------------------------------------------------------------------------------------------------

    def capture(self, mission_id: str, viewpoint_id: str) -> FrameBundle:
        """Render all heads now. Raises `SensorError` while a camera is silent."""
        silent = self.silent_heads
        if silent:
            raise SensorError(f"no pictures from {', '.join(silent)}")
        frames = self.look()
        capture_id = f"{viewpoint_id}-{self.now_ns}"
        return FrameBundle(mission_id, viewpoint_id, capture_id, self.now_ns, self.pose_estimate(), frames)

    @property
    def silent_heads(self) -> tuple[str, ...]:
        """Names of the heads whose cameras deliver nothing now."""
        off = [f.head for f in self._faults.active("camera_silent", self.driven_s)]
        return tuple(h.name for h in self.robot.rig.heads if h.name in off or "" in off)

    def look(self) -> tuple[HeadFrame, ...]:
        """What the heads that are not silent see now."""
        heads = [h for h in self.robot.rig.heads if h.name not in self.silent_heads]
        renderer = self._world()
        renderer.place(self._body.pose.matrix())
        self._captures += 1
        pose = self._body.pose.matrix()

        def shine(picture: Rgb, camera: Camera) -> Rgb:
            return add_highlights(picture, camera, pose, self._highlights)

        return tuple(capture_head(renderer, self._sensor, h, self._captures, shine) for h in heads)

    def warm_up(self) -> None:
        """Build the render world now, so that the first capture takes no longer than the next."""
        self._world()

    def _world(self) -> Renderer:
        """The render world of where the robot is, rebuilt when it has gone too far for the last one."""
        p = self._body.pose
        whole = len(self.scene.items) <= WHOLE_STORE_ITEMS
        moved = self._around is None or abs(p.x_m - self._around[0]) > NEAR_X_M / 3 or abs(p.y_m - self._around[1]) > 0.5
        if self._renderer is None or (not whole and moved):
            if self._renderer is not None:
                self._renderer.close()
            near = None if whole else [(p.x_m - NEAR_X_M, p.y_m - NEAR_Y_M, p.x_m + NEAR_X_M, p.y_m + NEAR_Y_M)]
            self._renderer = Renderer(build_world(self.scene, self.robot, near))
            self._around = (p.x_m, p.y_m)
        return self._renderer

    def close(self) -> None:
        """Give up the rendering context."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


class SimNavigator:
    """`Navigator` on the simulator: simulated time runs as fast as it computes; ``timeout_s`` is simulated."""

    def __init__(self, simulator: Simulator) -> None:
        self._sim = simulator
        self._stop = False

    def go_to(self, pose: Pose2D, timeout_s: float) -> NavResult:
        sim = self._sim
        self._stop = False
        sim.set_goal(pose)
        end = sim.elapsed_s + timeout_s
        while sim.drive_state is DriveState.DRIVING:
            if self._stop:
                sim.cancel()
            elif sim.elapsed_s > end:
                sim.cancel()
                return NavResult(False, sim.true_pose, 9003, f"timeout after {timeout_s:.0f} s")
            sim.step(0.1)
        sim.step(0.3)  # let the mast come to rest before anybody takes a picture
        code, message = sim.drive_error
        return NavResult(sim.drive_state is DriveState.ARRIVED, sim.true_pose, code, message)

    def undock(self, timeout_s: float) -> NavResult:
        self._sim.docked = False
        return NavResult(True, self._sim.true_pose)

    def dock(self, timeout_s: float) -> NavResult:
        result = self.go_to(self._sim.robot.dock, timeout_s)
        self._sim.docked = result.ok
        return result

    def stop(self) -> None:
        self._stop = True


class SimFrameSource:
    """`FrameSource` on the simulator's cameras."""

    def __init__(self, simulator: Simulator) -> None:
        self._sim = simulator

    def frames(self) -> Iterator[FrameBundle]:
        raise SensorError("a live robot has no recorded frames")

    def capture(self, mission_id: str, viewpoint_id: str) -> FrameBundle:
        return self._sim.capture(mission_id, viewpoint_id)
