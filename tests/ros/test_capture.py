"""The capture node on the simulated robot: whole captures with the right pose, or a clear reason in bounded time."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from robot_processes import DEMO, Robot, until
from shelfscan_msgs.msg import HeadFrame
from shelfscan_msgs.srv import Capture
from std_srvs.srv import Trigger

from shelfscan.adapters.frame_msgs import CaptureCollector
from shelfscan.bundle import load_bundle
from shelfscan.model.geometry import Pose2D, pose2d_of
from shelfscan.model.imaging import FrameBundle
from shelfscan.ros import qos
from shelfscan.ros.frame_sync import FrameSync
from shelfscan.ros.navigator import Nav2Navigator

pytestmark = pytest.mark.ros

HERE = Pose2D(0.278, 0.05, 0.0)


class Heard:
    """Captures on ``frames`` and what the capture node says of itself."""

    def __init__(self, robot: Robot) -> None:
        self.captures: list[FrameBundle] = []
        self.diagnostics: list[tuple[int, str]] = []
        self._collector = CaptureCollector()
        self._lock = threading.Lock()
        robot.node.create_subscription(HeadFrame, "/shelfscan/frames", self._on_frame, qos.frames(2))
        robot.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_frame(self, message: HeadFrame) -> None:
        with self._lock:
            bundle = self._collector.add(message)
        if bundle is not None:
            self.captures.append(bundle)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics += [(s.level[0], s.message) for s in message.status if s.name == "shelfscan/capture"]


def take(robot: Robot, viewpoint_id: str = "V1") -> Any:
    return robot.call(Capture, "/shelfscan/capture", Capture.Request(mission_id="m", viewpoint_id=viewpoint_id), 40.0)


def test_a_capture_is_whole_sharp_and_where_the_robot_is(tmp_path: Path) -> None:
    rig = load_bundle(DEMO).robot.rig
    with Robot(tmp_path, "sim", "capture") as robot:
        heard = Heard(robot)
        navigator = Nav2Navigator(robot.node, server_s=40.0)
        assert navigator.undock(40.0).ok
        assert navigator.go_to(HERE, 60.0).ok
        answers = [take(robot) for _ in range(2)]
        assert [a.ok for a in answers] == [True, True], answers
        until(lambda: len(heard.captures) == 2)
        assert [c.capture_id for c in heard.captures] == [a.capture_id for a in answers]
        assert answers[0].capture_id != answers[1].capture_id
        for capture in heard.captures:
            assert capture.capture_id == f"V1-{capture.stamp_ns}"
            assert (capture.mission_id, capture.viewpoint_id) == ("m", "V1")
            pose = pose2d_of(capture.T_map_base)
            # The controller arrives within 2 cm; localisation adds its 3 mm at most.
            assert math.hypot(pose.x_m - HERE.x_m, pose.y_m - HERE.y_m) < 0.035
            assert abs(pose.yaw_rad) < math.radians(1.6)
            for frame, head in zip(capture.frames, rig.heads, strict=True):
                assert frame.head.name == head.name
                for camera in ("left", "right", "rgb"):
                    got, want = getattr(frame.head, camera), getattr(head, camera)
                    assert got.intrinsics == want.intrinsics
                    np.testing.assert_allclose(got.T_base_optical, want.T_base_optical, atol=1e-9)
                assert frame.left.std() > 15
                picture = cv2.imdecode(np.frombuffer(frame.rgb_jpeg, np.uint8), cv2.IMREAD_COLOR)
                assert picture.shape == (1944, 2592, 3) and picture.std() > 15

        # Somebody who comes late, such as a restarted perception, gets what is in flight.
        late = Heard(robot)
        until(lambda: len(late.captures) == 2)
        assert [c.capture_id for c in late.captures] == [c.capture_id for c in heard.captures]
        np.testing.assert_array_equal(late.captures[0].frames[1].left, heard.captures[0].frames[1].left)

        # While it drives there is no capture: the pose would not be that of the pictures.
        drive = threading.Thread(target=navigator.go_to, args=(Pose2D(-0.6, 0.0, math.pi), 60.0))
        drive.start()
        until(lambda: navigator.pose is not None and navigator.pose.x_m < 0.2)
        answer = take(robot, "V2")
        drive.join()
        if answer.ok:
            assert pose2d_of(until(lambda: heard.captures[2:])[0].T_map_base).x_m == pytest.approx(-0.6, abs=0.05)
        else:
            assert "the robot moves" in answer.reason
        navigator.close()


def test_a_silent_camera_is_named_within_six_seconds_and_forgotten_when_it_is_back(tmp_path: Path) -> None:
    faults = "[{kind: camera_silent, head: high, for_s: 40}]"
    with Robot(tmp_path, "sim", "capture", faults=faults) as robot:
        heard = Heard(robot)
        until(lambda: heard.diagnostics, 40.0)
        # The other head is rendered all the same; how long that takes is the machine's business.
        begun = time.monotonic()
        assert robot.call(Trigger, "/shelfscan/trigger_cameras", Trigger.Request(), 60.0).success
        rendering_s = time.monotonic() - begun
        begun = time.monotonic()
        answer = take(robot)
        assert time.monotonic() - begun < 6.0 + 2 * rendering_s
        assert not answer.ok
        assert answer.reason == (
            "sensor: no /high/left/image_raw, /high/right/image_raw, /high/rgb/image_raw/compressed for 5.0 s"
        )
        until(lambda: any(level == 2 and "degraded" in text for level, text in heard.diagnostics))
        assert not heard.captures
        # Faults go by the time since the first drive.
        navigator = Nav2Navigator(robot.node, server_s=40.0)
        assert navigator.undock(40.0).ok
        assert navigator.go_to(HERE, 60.0).ok
        until(lambda: take(robot).ok, 60.0)
        navigator.close()
        until(lambda: heard.diagnostics[-1][0] == 0)
        assert len(heard.captures) == 1


def test_a_killed_simulator_is_a_reason_and_a_restarted_one_is_used(tmp_path: Path) -> None:
    with Robot(tmp_path, "sim", "capture") as robot:
        assert take(robot).ok
        robot.kill("sim")
        begun = time.monotonic()
        answer = take(robot)
        assert time.monotonic() - begun < 18.0
        assert not answer.ok and answer.reason.startswith("sensor: no "), answer.reason
        # The new one's clock starts at the wall's again, which is earlier than the old one's.
        robot.start("sim")
        until(lambda: take(robot).ok, 40.0)


def test_pictures_of_different_instants_are_not_mixed() -> None:
    sync = FrameSync(["a", "b"])
    sync.add("a", 1_000_000_000, "a1")
    sync.add("b", 1_030_000_000, "b1")
    assert sync.wait(0, 0.05) is None
    sync.add("a", 1_040_000_000, "a2")
    found = sync.wait(0, 0.05)
    assert found is not None and (found["a"].message, found["b"].message) == ("a2", "b1")
    assert sync.wait(1_035_000_000, 0.05) is None, "b's picture is older than the request"
    assert sync.missing(1_035_000_000) == ["b"]
    threading.Timer(0.1, lambda: sync.add("b", 1_041_000_000, "b2")).start()
    late = sync.wait(1_035_000_000, 5.0)
    assert late is not None and late["b"].message == "b2"
    sync.clear()
    assert sync.missing(0) == ["a", "b"]
