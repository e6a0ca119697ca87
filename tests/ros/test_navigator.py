"""Nav2Navigator against the simulator's action servers, and against servers that die, refuse or fall silent."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nav2_msgs.action import NavigateToPose
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from robot_processes import Robot, until

from shelfscan.model.geometry import Pose2D
from shelfscan.ros.navigator import Nav2Navigator

pytestmark = pytest.mark.ros


def test_a_trip_through_the_store_and_a_robot_that_dies_on_the_way(tmp_path: Path) -> None:
    with Robot(tmp_path, "sim") as robot:
        navigator = Nav2Navigator(robot.node, server_s=40.0, heartbeat_s=5.0)
        assert navigator.undock(40.0).ok
        result = navigator.go_to(Pose2D(0.278, 0.05, 0.0), 60.0)
        assert result.ok and result.error_code == 0
        assert result.pose is not None
        assert math.hypot(result.pose.x_m - 0.278, result.pose.y_m - 0.05) < 0.035

        result = navigator.go_to(Pose2D(40.0, 0.0, 0.0), 60.0)
        assert (result.ok, result.error_code, result.message) == (False, 9000, "blocked: no path to the goal")

        stopper = threading.Timer(0.5, navigator.stop)
        stopper.start()
        result = navigator.go_to(Pose2D(-0.6, 0.0, math.pi), 60.0)
        assert (result.ok, result.message) == (False, "stopped")

        result = navigator.go_to(Pose2D(0.8534, 0.05, 0.0), 0.5)
        assert (result.ok, result.error_code, result.message) == (False, 9003, "timeout after 0 s")
        assert navigator.dock(60.0).ok

        killer = threading.Timer(0.5, robot.kill, ["sim"])
        killer.start()
        begun = time.monotonic()
        result = navigator.go_to(Pose2D(0.8534, 0.05, 0.0), 120.0)
        killer.join()
        assert not result.ok
        assert time.monotonic() - begun < 0.5 + 5.0 + 3.0 + 3.0, "heartbeat, and a cancel nobody answers"
        assert "neither feedback nor movement for 5 s" in result.message

        robot.start("sim")
        until(lambda: navigator.undock(20.0).ok, 60.0)
        assert navigator.go_to(Pose2D(0.278, 0.05, 0.0), 60.0).ok
        navigator.close()


class Server:
    """A ``navigate_to_pose`` server of a bad kind, in the test's own process."""

    def __init__(self, robot: Robot, *, accept: bool = True, feedback: bool = False) -> None:
        self._feedback = feedback
        self.cancelled = threading.Event()
        self.over = threading.Event()
        self._server = ActionServer(
            robot.node,
            NavigateToPose,
            "/navigate_to_pose",
            self._execute,
            goal_callback=lambda goal: GoalResponse.ACCEPT if accept else GoalResponse.REJECT,
            cancel_callback=self._on_cancel,
            callback_group=ReentrantCallbackGroup(),
        )

    def _on_cancel(self, handle: Any) -> CancelResponse:
        self.cancelled.set()
        return CancelResponse.ACCEPT

    def _execute(self, handle: Any) -> NavigateToPose.Result:
        while not self.cancelled.wait(0.1) and not self.over.is_set():
            if self._feedback:
                handle.publish_feedback(NavigateToPose.Feedback(distance_remaining=1.0))
        handle.canceled() if self.cancelled.is_set() else handle.abort()
        return NavigateToPose.Result()

    def close(self) -> None:
        self.over.set()
        self._server.destroy()


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Robot]:
    with Robot(tmp_path) as robot:
        yield robot


def test_nobody_there(bare: Robot) -> None:
    navigator = Nav2Navigator(bare.node, server_s=0.5)
    for result, name in (
        (navigator.go_to(Pose2D(0, 0, 0), 60.0), "/navigate_to_pose"),
        (navigator.undock(60.0), "/undock_robot"),
        (navigator.dock(60.0), "/dock_robot"),
    ):
        assert (result.ok, result.error_code, result.pose) == (False, 9003, None)
        assert result.message.startswith(f"no action server {name} for")
    navigator.close()


def test_a_refusal_a_silent_server_and_one_that_never_arrives(bare: Robot) -> None:
    navigator = Nav2Navigator(bare.node, heartbeat_s=1.0)
    server = Server(bare, accept=False)
    result = navigator.go_to(Pose2D(0, 0, 0), 60.0)
    assert (result.ok, result.message) == (False, "/navigate_to_pose rejected the goal")
    server.close()

    server = Server(bare)
    begun = time.monotonic()
    result = navigator.go_to(Pose2D(0, 0, 0), 60.0)
    assert "neither feedback nor movement for 1 s" in result.message
    assert time.monotonic() - begun < 6.0
    assert server.cancelled.is_set(), "a server that is alive after all is told to stop"
    server.close()

    server = Server(bare, feedback=True)
    begun = time.monotonic()
    result = navigator.go_to(Pose2D(0, 0, 0), 3.0)
    assert (result.error_code, result.message) == (9003, "timeout after 3 s")
    assert 3.0 <= time.monotonic() - begun < 8.0
    assert server.cancelled.is_set()
    server.close()
    navigator.close()


def test_a_server_whose_answers_never_come_is_asked_again_by_a_new_participant(bare: Robot) -> None:
    """Half a discovery leaves a server that is seen and never heard; here one that sits on every goal of the first client."""
    navigator = Nav2Navigator(bare.node, heartbeat_s=5.0)
    deaf = threading.Event()
    server = Server(bare)
    take = server._server._goal_callback
    server._server.register_goal_callback(lambda goal: (deaf.wait(30.0), take(goal))[1])
    result = navigator.go_to(Pose2D(0, 0, 0), 60.0)
    assert (result.ok, result.error_code) == (False, 9003) and "did not answer the goal" in result.message
    deaf.set()
    server.over.set()
    result = navigator.go_to(Pose2D(0, 0, 0), 60.0)
    assert result.message == "aborted", "the new client is answered"
    server.close()
    navigator.close()
