"""Nav2's action servers in front of the simulated robot: same names, feedback, cancelling and error codes.

One robot, one drive: the newest goal of whichever action takes over and the one before ends aborted, as Nav2 does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from builtin_interfaces.msg import Duration
from nav2_msgs.action import DockRobot, FollowWaypoints, NavigateThroughPoses, NavigateToPose, UndockRobot
from nav2_msgs.msg import WaypointStatus
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup

from shelfscan.errors import SensorError
from shelfscan.model.geometry import Array, Pose2D, pose2d_of
from shelfscan.ros.convert import pose2d_from, to_pose_stamped
from shelfscan.ros.lifecycle import ShelfscanNode
from shelfscan.ros.sim_worker import SimulatorStopped, SimWorker
from shelfscan.sim.simulator import DriveState, Simulator

POLL_S = 0.05
FEEDBACK_S = 0.2
#: Simulated seconds in which the mast comes to rest; a result before that would promise a sharp picture.
SETTLE_S = 0.3
UNKNOWN, NO_TREE, TF_ERROR = 9000, 9001, 9002
NO_WAYPOINTS = 602
DOCK_NOT_VALID, FAILED_TO_STAGE = 902, 903
DOCK_NEAR_M = 0.2
CANCELLED, PREEMPTED = "cancelled", "preempted by a newer goal"


@dataclass(frozen=True, slots=True)
class _Look:
    """What the driving loop sees of the simulator at one moment."""

    mine: bool
    state: DriveState
    error: tuple[int, str]
    elapsed_s: float
    driving_s: float
    now_ns: int
    T_map_base: Array
    distance_m: float
    speed_mps: float


class SimNav:
    """The five action servers. Destroy with `close`."""

    def __init__(self, node: ShelfscanNode, worker: SimWorker) -> None:
        self._node, self._worker = node, worker
        # Of the goal that drives, and when it took the wheel; only touched in the simulator's thread.
        self._ticket, self._since_s = 0, 0.0
        group = ReentrantCallbackGroup()
        self._servers = [
            ActionServer(
                node,
                kind,
                name,
                self._loud(execute),
                goal_callback=lambda goal: GoalResponse.ACCEPT,
                cancel_callback=lambda handle: CancelResponse.ACCEPT,
                callback_group=group,
            )
            for kind, name, execute in (
                (NavigateToPose, "/navigate_to_pose", self._to_pose),
                (NavigateThroughPoses, "/navigate_through_poses", self._through_poses),
                (FollowWaypoints, "/follow_waypoints", self._follow_waypoints),
                (DockRobot, "/dock_robot", self._dock),
                (UndockRobot, "/undock_robot", self._undock),
            )
        ]

    def close(self) -> None:
        """Give the servers back."""
        for server in self._servers:
            server.destroy()

    def _loud(self, execute: Callable[[ServerGoalHandle], Any]) -> Callable[[ServerGoalHandle], Any]:
        # rclpy turns what an execution raises into an empty result; a broken simulator must not look like a failed drive.
        def run(handle: ServerGoalHandle) -> Any:
            try:
                return execute(handle)
            except SimulatorStopped:
                handle.abort()
                return None
            except Exception as e:
                self._node.fail(e)
                raise

        return run

    # -- the actions ----------------------------------------------------------------------------------------------

    def _to_pose(self, handle: ServerGoalHandle) -> Any:
        code, message = self._tree(handle.request.behavior_tree)
        ticket = self._claim()
        if not code:
            code, message = self._leg(handle, ticket, handle.request.pose, lambda look: self._feedback(handle, look))
        result = NavigateToPose.Result(error_code=code, error_msg=message)
        return self._close_goal(handle, message, result, ok=not code)

    def _through_poses(self, handle: ServerGoalHandle) -> Any:
        poses = handle.request.poses.goals
        statuses = _statuses(poses)
        code, message = self._tree(handle.request.behavior_tree)
        ticket = self._claim()
        for n, pose in enumerate(poses):
            if code:
                break

            def tell(look: _Look, left: int = len(poses) - n) -> None:
                self._feedback(handle, look, number_of_poses_remaining=left, waypoint_statuses=statuses)

            code, message = self._leg(handle, ticket, pose, tell)
            _mark(statuses[n], code, message)
        result = NavigateThroughPoses.Result(error_code=code, error_msg=message, waypoint_statuses=statuses)
        return self._close_goal(handle, message, result, ok=not code)

    def _follow_waypoints(self, handle: ServerGoalHandle) -> Any:
        poses = handle.request.poses
        statuses = _statuses(poses)
        ticket = self._claim()
        end = ""
        for _ in range(max(1, handle.request.number_of_loops)):
            for n in range(min(handle.request.goal_index, len(poses)), len(poses)):
                handle.publish_feedback(FollowWaypoints.Feedback(current_waypoint=n))
                code, message = self._leg(handle, ticket, poses[n], lambda look: None)
                # A way point that cannot be reached is missed; the others are still driven to.
                _mark(statuses[n], code, message)
                if message in (CANCELLED, PREEMPTED):
                    end = message
                    break
            if end:
                break
        missed = [s for s in statuses if s.waypoint_status == WAYPOINT_FAILED]
        code, message = (NO_WAYPOINTS, "no waypoints given") if not poses else (600 if end else 0, end)
        result = FollowWaypoints.Result(missed_waypoints=missed, error_code=code, error_msg=message)
        return self._close_goal(handle, message, result, ok=not code)

    def _dock(self, handle: ServerGoalHandle) -> Any:
        ticket = self._claim()
        dock = self._worker.call(lambda s: s.robot.dock)
        code, message = 0, ""
        if not handle.request.use_dock_id:
            wanted = pose2d_from(handle.request.dock_pose.pose)
            if math.hypot(wanted.x_m - dock.x_m, wanted.y_m - dock.y_m) > DOCK_NEAR_M:
                code, message = DOCK_NOT_VALID, f"the dock is at ({dock.x_m:.2f}, {dock.y_m:.2f})"
        if not code:

            def tell(look: _Look) -> None:
                handle.publish_feedback(DockRobot.Feedback(state=1, docking_time=_duration(look.driving_s)))

            code, message = self._leg(handle, ticket, to_pose_stamped(dock), tell)
            if code and message not in (CANCELLED, PREEMPTED):
                code = FAILED_TO_STAGE
        if not code:
            self._worker.call(_set_docked)
        result = DockRobot.Result(success=not code, error_code=code, error_msg=message)
        return self._close_goal(handle, message, result, ok=not code)

    def _undock(self, handle: ServerGoalHandle) -> Any:
        self._claim()

        def leave(simulator: Simulator) -> None:
            simulator.cancel()
            simulator.docked = False

        self._worker.call(leave)
        return self._close_goal(handle, "", UndockRobot.Result(success=True), ok=True)

    # -- driving --------------------------------------------------------------------------------------------------

    def _claim(self) -> int:
        """Take the wheel; whoever had it finds out at its next look."""

        def take(simulator: Simulator) -> int:
            simulator.cancel()
            self._ticket += 1
            self._since_s = simulator.elapsed_s
            return self._ticket

        return self._worker.call(take)

    def _leg(self, handle: ServerGoalHandle, ticket: int, target: Any, tell: Callable[[_Look], None]) -> tuple[int, str]:
        """Drive to one pose; Nav2's error code (0: arrived) and what happened. Blocks."""
        if target.header.frame_id.lstrip("/") not in ("map", ""):
            return TF_ERROR, f"goal in frame {target.header.frame_id!r}; expected 'map'"
        try:
            pose = pose2d_from(target.pose)
        except SensorError as e:
            return UNKNOWN, str(e)
        if not all(math.isfinite(v) for v in (pose.x_m, pose.y_m, pose.yaw_rad)):
            return UNKNOWN, "the goal is not a number"
        self._worker.call(lambda s: self._set_goal(s, ticket, pose))
        told, arrived_s = 0.0, math.nan
        while True:
            look = self._worker.call(lambda s: self._look(s, ticket))
            if not look.mine:
                return UNKNOWN, PREEMPTED
            if handle.is_cancel_requested:
                self._worker.call(lambda s: self._give_up(s, ticket))
                return UNKNOWN, CANCELLED
            if look.state is DriveState.ARRIVED:
                arrived_s = look.elapsed_s if math.isnan(arrived_s) else arrived_s
                if look.elapsed_s - arrived_s >= SETTLE_S:
                    return 0, ""
            elif look.state is not DriveState.DRIVING:
                return look.error[0] or UNKNOWN, look.error[1] or "not driving"
            if time.monotonic() - told > FEEDBACK_S:
                told = time.monotonic()
                tell(look)
            time.sleep(POLL_S)

    def _set_goal(self, simulator: Simulator, ticket: int, pose: Pose2D) -> None:
        if ticket == self._ticket:
            simulator.set_goal(pose)

    def _give_up(self, simulator: Simulator, ticket: int) -> None:
        if ticket == self._ticket:
            simulator.cancel()

    def _look(self, s: Simulator, ticket: int) -> _Look:
        return _Look(
            ticket == self._ticket, s.drive_state, s.drive_error, s.elapsed_s, s.elapsed_s - self._since_s,
            s.now_ns, s.pose_estimate(), s.distance_to_goal_m, s.robot.max_speed_mps,
        )  # fmt: skip

    def _feedback(self, handle: ServerGoalHandle, look: _Look, **more: Any) -> None:
        kind = NavigateThroughPoses if more else NavigateToPose
        feedback = kind.Feedback(
            current_pose=to_pose_stamped(pose2d_of(look.T_map_base), look.now_ns),
            navigation_time=_duration(look.driving_s),
            estimated_time_remaining=_duration(look.distance_m / look.speed_mps),
            distance_remaining=float(look.distance_m),
            **more,
        )
        handle.publish_feedback(feedback)

    def _tree(self, name: str) -> tuple[int, str]:
        return (NO_TREE, f"no behaviour tree {name!r}: the simulator drives without one") if name else (0, "")

    def _close_goal(self, handle: ServerGoalHandle, message: str, result: Any, *, ok: bool) -> Any:
        if ok:
            handle.succeed()
        elif message == CANCELLED:
            handle.canceled()
        else:
            handle.abort()
        return result


WAYPOINT_DONE, WAYPOINT_FAILED = 1, 3


def _statuses(poses: Any) -> list[WaypointStatus]:
    return [WaypointStatus(waypoint_index=n, waypoint_pose=p) for n, p in enumerate(poses)]


def _mark(status: WaypointStatus, code: int, message: str) -> None:
    status.waypoint_status = WAYPOINT_FAILED if code else WAYPOINT_DONE
    status.error_code, status.error_msg = code, message


def _set_docked(simulator: Simulator) -> None:
    simulator.docked = True


def _duration(seconds: float) -> Duration:
    ns = max(0, int(seconds * 1e9))
    return Duration(sec=ns // 1_000_000_000, nanosec=ns % 1_000_000_000)
