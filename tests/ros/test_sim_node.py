"""The simulator node to a client that knows only Nav2's actions and standard topics."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from geometry_msgs.msg import PoseStamped
from nav2_msgs.action import DockRobot, FollowWaypoints, NavigateThroughPoses, NavigateToPose, UndockRobot
from nav_msgs.msg import Goals, Odometry
from robot_processes import DEMO, Robot, result_of, until
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import BatteryState, CameraInfo, CompressedImage, Image, LaserScan
from std_srvs.srv import Trigger

from shelfscan.bundle import load_bundle
from shelfscan.model.geometry import Pose2D, pose2d_of
from shelfscan.ros import qos
from shelfscan.ros.actions import ActionClient
from shelfscan.ros.convert import gray_of, jpeg_of, stamp_ns_of, to_pose_stamped
from shelfscan.ros.tf import TfListener

pytestmark = pytest.mark.ros

START = Pose2D(-1.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    with Robot(tmp_path_factory.mktemp("sim"), "sim") as robot:
        yield robot


class Goal:
    """One goal of an action: its feedback, and its result when it comes."""

    def __init__(self, robot: Robot, kind: Any, name: str, goal: Any) -> None:
        self.feedback: list[Any] = []
        client = ActionClient(robot.node, kind, name)
        assert client.wait_for_server(timeout_sec=40.0), f"no action {name}"
        self.handle = result_of(client.send_goal_async(goal, feedback_callback=lambda m: self.feedback.append(m.feedback)))
        assert self.handle.accepted
        self._result = self.handle.get_result_async()

    def end(self) -> tuple[int, Any]:
        answer = result_of(self._result, 60.0)
        return answer.status, answer.result


def to(x: float, y: float, yaw: float = 0.0) -> PoseStamped:
    return to_pose_stamped(Pose2D(x, y, yaw))


def test_drives_where_it_is_sent_and_says_so(robot: Robot) -> None:
    listener = TfListener(robot.node)
    clocks: list[int] = []
    odometry: list[Odometry] = []
    scans: list[LaserScan] = []
    batteries: list[BatteryState] = []
    robot.node.create_subscription(Clock, "/clock", lambda m: clocks.append(stamp_ns_of(m.clock)), qos.sensor())
    robot.node.create_subscription(Odometry, "/odom", odometry.append, qos.sensor())
    robot.node.create_subscription(LaserScan, "/scan", scans.append, qos.sensor())
    robot.node.create_subscription(BatteryState, "/battery_state", batteries.append, qos.sensor())
    status, result = Goal(robot, UndockRobot, "/undock_robot", UndockRobot.Goal(max_undocking_time=30.0)).end()
    assert (status, result.success, result.error_code) == (GoalStatus.STATUS_SUCCEEDED, True, 0)

    goal = Goal(robot, NavigateToPose, "/navigate_to_pose", NavigateToPose.Goal(pose=to(0.278, 0.05)))
    status, result = goal.end()
    assert (status, result.error_code, result.error_msg) == (GoalStatus.STATUS_SUCCEEDED, 0, "")
    assert goal.feedback, "a client's heartbeat"
    distances = [f.distance_remaining for f in goal.feedback]
    assert distances[0] > distances[-1]
    assert goal.feedback[-1].navigation_time.sec + goal.feedback[-1].navigation_time.nanosec > 0

    until(lambda: listener.buffer.newest_ns("map", "base_link"))
    pose = pose2d_of(listener.buffer.newest("map", "base_link"))
    assert math.hypot(pose.x_m - 0.278, pose.y_m - 0.05) < 0.05
    assert abs(pose.yaw_rad) < math.radians(2)
    camera = load_bundle(DEMO).robot.rig.head("high").rgb
    np.testing.assert_allclose(listener.buffer.newest("base_link", "high_rgb_optical_frame"), camera.T_base_optical, atol=1e-9)
    until(lambda: len(clocks) > 5 and scans and batteries)
    assert clocks == sorted(clocks)
    # Odometry starts at the dock and does not know the map; localisation puts the two together.
    last = odometry[-1]
    assert last.header.frame_id == "odom" and last.child_frame_id == "base_link"
    assert abs(last.pose.pose.position.x - (pose.x_m - START.x_m)) < 0.1
    ranges = np.array(scans[-1].ranges)
    assert len(ranges) == 360 and 0.2 < ranges[90] < 3.0, "a shelf stands to its left"
    assert 0.0 < batteries[-1].percentage <= 1.0
    listener.close()


def test_cameras_answer_a_trigger_with_pictures_of_one_stamp(robot: Robot) -> None:
    got: dict[str, list[Any]] = {}
    rig = load_bundle(DEMO).robot.rig
    for head in rig.heads:
        for topic, kind in (
            (f"/{head.name}/left/image_raw", Image),
            (f"/{head.name}/right/image_raw", Image),
            (f"/{head.name}/rgb/image_raw/compressed", CompressedImage),
            (f"/{head.name}/left/camera_info", CameraInfo),
            (f"/{head.name}/right/camera_info", CameraInfo),
            (f"/{head.name}/rgb/camera_info", CameraInfo),
        ):
            got[topic] = []
            robot.node.create_subscription(kind, topic, got[topic].append, qos.sensor())
    until(lambda: all(robot.node.count_publishers(t) for t in got), 40.0)
    for n in range(1, 4):
        answer = robot.call(Trigger, "/shelfscan/trigger_cameras", Trigger.Request(), 40.0)
        assert answer.success, answer.message
        # Best effort, and yet nothing may be lost on one machine.
        until(lambda n=n: all(len(m) == n for m in got.values()))
        assert {stamp_ns_of(m[-1].header.stamp) for m in got.values()} == {int(answer.message)}
    for head in rig.heads:
        left, right = (gray_of(got[f"/{head.name}/{side}/image_raw"][-1]) for side in ("left", "right"))
        assert left.shape == right.shape == (720, 1280)
        assert left.std() > 15 and right.std() > 15 and not np.array_equal(left, right)
        info = got[f"/{head.name}/right/camera_info"][-1]
        assert -info.p[3] / info.p[0] == pytest.approx(0.10, abs=1e-6)
        assert len(jpeg_of(got[f"/{head.name}/rgb/image_raw/compressed"][-1])) > 100_000


def test_goals_that_cannot_be_driven_end_with_a_reason(robot: Robot) -> None:
    status, result = Goal(robot, NavigateToPose, "/navigate_to_pose", NavigateToPose.Goal(pose=to(50.0, 0.0))).end()
    assert status == GoalStatus.STATUS_ABORTED
    assert (result.error_code, result.error_msg) == (9000, "blocked: no path to the goal")

    elsewhere = to(0.3, 0.05)
    elsewhere.header.frame_id = "odom"
    _, result = Goal(robot, NavigateToPose, "/navigate_to_pose", NavigateToPose.Goal(pose=elsewhere)).end()
    assert (result.error_code, result.error_msg) == (9002, "goal in frame 'odom'; expected 'map'")

    goal = NavigateToPose.Goal(pose=to(0.3, 0.05), behavior_tree="mine.xml")
    _, result = Goal(robot, NavigateToPose, "/navigate_to_pose", goal).end()
    assert result.error_code == 9001

    goal = NavigateToPose.Goal(pose=to(float("nan"), 0.0))
    _, result = Goal(robot, NavigateToPose, "/navigate_to_pose", goal).end()
    assert result.error_code == 9000

    dock = DockRobot.Goal(use_dock_id=False, dock_pose=to(0.5, 0.0))
    status, result = Goal(robot, DockRobot, "/dock_robot", dock).end()
    assert (status, result.success, result.error_code) == (GoalStatus.STATUS_ABORTED, False, 902)


def test_a_newer_goal_takes_over_and_a_cancelled_one_stops(robot: Robot) -> None:
    first = Goal(robot, NavigateToPose, "/navigate_to_pose", NavigateToPose.Goal(pose=to(0.8534, 0.05)))
    second = Goal(robot, NavigateToPose, "/navigate_to_pose", NavigateToPose.Goal(pose=to(-0.5, 0.0)))
    status, result = first.end()
    assert (status, result.error_msg) == (GoalStatus.STATUS_ABORTED, "preempted by a newer goal")
    assert second.end()[0] == GoalStatus.STATUS_SUCCEEDED

    third = Goal(robot, NavigateToPose, "/navigate_to_pose", NavigateToPose.Goal(pose=to(0.8534, 0.05)))
    until(lambda: third.feedback)
    assert result_of(third.handle.cancel_goal_async()).goals_canceling
    status, result = third.end()
    assert (status, result.error_msg) == (GoalStatus.STATUS_CANCELED, "cancelled")
    twists: list[float] = []
    robot.node.create_subscription(Odometry, "/odom", lambda m: twists.append(m.twist.twist.linear.x), qos.sensor())
    until(lambda: len(twists) > 20)
    assert abs(twists[-1]) < 0.02


def test_way_points_one_after_the_other_and_home(robot: Robot) -> None:
    poses = [to(-0.5, 0.0), to(0.1, 0.05)]
    goal = Goal(robot, NavigateThroughPoses, "/navigate_through_poses", NavigateThroughPoses.Goal(poses=Goals(goals=poses)))
    status, result = goal.end()
    assert status == GoalStatus.STATUS_SUCCEEDED
    assert [s.waypoint_status for s in result.waypoint_statuses] == [1, 1]
    assert {f.number_of_poses_remaining for f in goal.feedback} <= {1, 2}

    follow = FollowWaypoints.Goal(poses=[to(50.0, 0.0), to(-0.5, 0.0)])
    goal = Goal(robot, FollowWaypoints, "/follow_waypoints", follow)
    status, result = goal.end()
    assert status == GoalStatus.STATUS_SUCCEEDED
    assert [s.waypoint_index for s in result.missed_waypoints] == [0]
    assert [f.current_waypoint for f in goal.feedback] == [0, 1]

    states: list[int] = []
    robot.node.create_subscription(BatteryState, "/battery_state", lambda m: states.append(m.power_supply_status), qos.sensor())
    until(lambda: states)
    assert states[-1] == BatteryState.POWER_SUPPLY_STATUS_DISCHARGING
    status, result = Goal(robot, DockRobot, "/dock_robot", DockRobot.Goal(use_dock_id=True, dock_id="home_dock")).end()
    assert (status, result.success) == (GoalStatus.STATUS_SUCCEEDED, True)
    until(lambda: states[-1] == BatteryState.POWER_SUPPLY_STATUS_CHARGING)


def test_wrong_input_ends_the_node_with_one_clear_line(tmp_path: Path, robot: Robot) -> None:
    import subprocess
    import sys

    for words, line in (
        ([], "parameter 'store' is not set"),
        (["-p", f"store:={tmp_path / 'nowhere'}"], str(tmp_path / "nowhere")),
        (["-p", f"store:={DEMO}", "-p", f"faults:={tmp_path / 'no.yaml'}"], "no such fault file"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "shelfscan.ros.sim", "--ros-args", "-r", "__ns:=/other", *words],
            env=robot.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 2, done.stderr
        assert line in done.stderr and "Traceback" not in done.stderr
