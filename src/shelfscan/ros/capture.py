"""Node ``capture``: on request one synchronised, fresh capture of all heads, its pose fixed at the pictures' stamp.

The simulator's cameras are triggered; a real robot's stream, and the next complete set after the request is taken.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import cv2
import numpy as np
from nav_msgs.msg import Odometry
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from shelfscan_msgs.msg import HeadFrame
from shelfscan_msgs.srv import Capture
from std_srvs.srv import Trigger

from shelfscan.bootstrap import make_privacy
from shelfscan.errors import SensorError
from shelfscan.perception.privacy import MUCH_HIDDEN, most_hidden
from shelfscan.perception.quality import BlurGuard, sharpness_of
from shelfscan.ros import convert, qos
from shelfscan.ros.frame_sync import Arrived, FrameSync
from shelfscan.ros.lifecycle import Level, ShelfscanNode, spin_node
from shelfscan.ros.tf import TfListener

FRAMES_S = 5.0
#: Rendering two heads takes about a second of one core; a machine may be busy with more than this.
TRIGGER_S = 12.0
STILL_S, STILL_MPS, STILL_RADPS = 3.0, 0.02, 0.03
TF_S = 2.0
#: Odometry older than this says nothing about now.
ODOMETRY_AGE_S = 1.0
POLL_S = 0.02
#: A blurred capture is taken again so often, while that keeps within the mission's patience.
RETAKES, RETAKE_AFTER_S, RETAKE_WITHIN_S = 2, 0.3, 4.0
CAMERAS = ("left", "right", "rgb")


@dataclass(frozen=True, slots=True)
class _Motion:
    """The newest odometry: when it came, its stamp, and how fast the robot moves."""

    at_s: float
    stamp_ns: int
    speed_mps: float
    turn_radps: float


class CaptureNode(ShelfscanNode):
    """See the module's text. Parameter ``raw_rgb``: the RGB cameras publish raw pictures, encoded to JPEG here."""

    def __init__(self) -> None:
        super().__init__("capture", threads=6)
        self.declare_parameter("raw_rgb", False)

    def acquire(self) -> None:
        store, settings = self.load_store(), self.load_settings()
        self._heads = store.robot.rig.heads
        self._triggered = settings.ros.robot == "simulator"
        self._privacy = make_privacy(store.store, settings)
        raw = bool(self.get_parameter("raw_rgb").value)
        self._topics = {(h.name, c): t for h in self._heads for c, t in convert.camera_topics(h.name).items()}
        if raw:
            self._topics = {k: t.removesuffix("/compressed") for k, t in self._topics.items()}
        self._sync = FrameSync(list(self._topics))
        self._infos: dict[tuple[str, str], CameraInfo] = {}
        self._motion: _Motion | None = None
        self._taken = 0
        self._blur = BlurGuard()
        group = ReentrantCallbackGroup()
        for key, topic in self._topics.items():
            kind = CompressedImage if key[1] == "rgb" and not raw else Image
            self.create_subscription(kind, topic, partial(self._on_picture, key), qos.sensor(), callback_group=group)
            info = convert.info_topic(*key)
            self.create_subscription(CameraInfo, info, partial(self._on_info, key), qos.sensor(), callback_group=group)
        self._tf = TfListener(self)
        self._tf.listen(Odometry, "/odom", self._on_odometry, qos.sensor())
        self._frames = self.create_publisher(HeadFrame, "frames", qos.frames(len(self._heads)))
        self._trigger = self.create_client(Trigger, "trigger_cameras", callback_group=ReentrantCallbackGroup())

    def begin(self) -> None:
        self._service = self.create_service(
            Capture, "capture", self._on_capture, callback_group=MutuallyExclusiveCallbackGroup()
        )
        self.report(Level.OK, "ready", captures=0)

    def halt(self) -> None:
        self.destroy_service(self._service)

    def release(self) -> None:
        self._tf.close()

    # -- what comes in --------------------------------------------------------------------------------------------

    def _on_picture(self, key: tuple[str, str], message: Any) -> None:
        self._sync.add(key, convert.stamp_ns_of(message.header.stamp), message)

    def _on_info(self, key: tuple[str, str], message: CameraInfo) -> None:
        self._infos[key] = message

    def _on_odometry(self, message: Odometry) -> None:
        twist = message.twist.twist
        speed, turn = math.hypot(twist.linear.x, twist.linear.y), abs(twist.angular.z)
        self._motion = _Motion(time.monotonic(), convert.stamp_ns_of(message.header.stamp), speed, turn)

    # -- a capture ------------------------------------------------------------------------------------------------

    def _on_capture(self, request: Capture.Request, response: Capture.Response) -> Capture.Response:
        begun = time.monotonic()
        try:
            response.capture_id = self._capture(request.mission_id, request.viewpoint_id)
            response.ok = True
            self._taken += 1
            self.report(Level.OK, "ready", captures=self._taken, last_s=f"{time.monotonic() - begun:.2f}")
        except SensorError as e:
            response.reason = f"sensor: {e}"
            self.report(Level.ERROR, f"degraded: {response.reason}", captures=self._taken)
        return response

    def _capture(self, mission_id: str, viewpoint_id: str) -> str:
        begun = time.monotonic()
        for left in range(RETAKES, -1, -1):
            found = self._pictures()
            sharp = {h.name: _sharpness(found[h.name, "rgb"].message) for h in self._heads}
            blurred = [name for name, value in sharp.items() if self._blur.blurred(name, value)]
            if not blurred or not left or time.monotonic() - begun > RETAKE_WITHIN_S:
                break
            # A knock, somebody on the stairs: a moment later it is over.
            self.get_logger().info(f"{viewpoint_id}: {', '.join(blurred)} blurred, taken again")
            time.sleep(RETAKE_AFTER_S)
        for name, value in sharp.items():
            self._blur.taken(name, value)
        messages, share = self._messages(mission_id, viewpoint_id, found)
        if share > MUCH_HIDDEN and time.monotonic() - begun < RETAKE_WITHIN_S:
            self.get_logger().info(f"{viewpoint_id}: {share:.0%} hidden for somebody, taken again")
            time.sleep(RETAKE_AFTER_S)
            again, now = self._messages(mission_id, viewpoint_id, self._pictures())
            messages = again if now < share else messages
        for message in messages:
            self._frames.publish(message)
        return str(messages[0].capture_id)

    def _pictures(self) -> dict[tuple[str, str], Arrived]:
        """New pictures of all cameras at one instant, the robot standing."""
        asked_ns = self._wait_still()
        self._sync.clear()
        since_ns = self._trigger_cameras() if self._triggered else asked_ns
        found = self._sync.wait(since_ns, FRAMES_S)
        if found is None:
            silent = self._sync.missing(since_ns)
            missing = [topic for key, topic in self._topics.items() if key in silent]
            what = f"no {', '.join(missing)}" if missing else "no pictures of one instant (within 20 ms) from all cameras"
            raise SensorError(f"{what} for {FRAMES_S:.1f} s")
        return cast("dict[tuple[str, str], Arrived]", dict(found))

    def _wait_still(self) -> int:
        """Wait until the robot stands; the stamp of the odometry that says so."""
        begun = time.monotonic()
        while True:
            motion, now = self._motion, time.monotonic()
            if motion is None or now - motion.at_s > ODOMETRY_AGE_S:
                if now - begun > FRAMES_S:
                    raise SensorError(f"no /odom for {FRAMES_S:.1f} s")
            elif motion.speed_mps <= STILL_MPS and motion.turn_radps <= STILL_RADPS:
                return motion.stamp_ns
            elif now - begun > STILL_S:
                raise SensorError(f"the robot moves ({motion.speed_mps:.2f} m/s, {motion.turn_radps:.2f} rad/s)")
            time.sleep(POLL_S)

    def _trigger_cameras(self) -> int:
        """Make all cameras take a picture now; its stamp."""
        if not self._trigger.wait_for_service(timeout_sec=FRAMES_S):
            raise SensorError(f"no {self._trigger.srv_name} for {FRAMES_S:.1f} s")
        answered = threading.Event()
        future = self._trigger.call_async(Trigger.Request())
        future.add_done_callback(lambda _: answered.set())
        if not answered.wait(TRIGGER_S):
            self._trigger.remove_pending_request(future)
            raise SensorError(f"no answer from {self._trigger.srv_name} for {TRIGGER_S:.0f} s")
        answer = future.result()
        if not answer.success or not answer.message.isdigit():
            raise SensorError(f"cameras not triggered: {answer.message}")
        return int(answer.message)

    def _messages(self, mission_id: str, viewpoint_id: str, found: Any) -> tuple[list[Any], float]:
        """The capture, people made unreadable; and the share of a picture that was hidden for them, at most."""
        pictures: dict[tuple[str, str], Arrived] = dict(found)
        stamp_ns = pictures[self._heads[0].name, "rgb"].stamp_ns
        T_map_base = self._tf.buffer.wait("map", "base_link", stamp_ns, TF_S)
        capture_id = f"{viewpoint_id}-{stamp_ns}"
        messages = []
        for index, head in enumerate(self._heads):
            left, right, rgb = (pictures[head.name, c].message for c in CAMERAS)
            infos = {c: self._infos.get((head.name, c)) for c in CAMERAS}
            messages.append(
                convert.head_frame_msg(
                    mission_id=mission_id,
                    viewpoint_id=viewpoint_id,
                    capture_id=capture_id,
                    stamp_ns=stamp_ns,
                    T_map_base=T_map_base,
                    head=convert.calibrated(head, infos),
                    index=index,
                    heads=len(self._heads),
                    left=convert.to_mono8(left),
                    right=convert.to_mono8(right),
                    rgb=rgb if isinstance(rgb, CompressedImage) else convert.to_jpeg(rgb),
                )
            )
        # A capture nobody can read must fail here, where it can be taken again.
        bundle = convert.bundle_from_msgs(messages)
        share = 0.0
        if self._privacy is not None:
            # Nothing leaves this process before the people in it are unreadable.
            seen = self._privacy.apply(bundle)
            share = most_hidden(seen)
            for message, frame in zip(messages, seen.frames, strict=True):
                convert.replace_pictures(message, frame)
        return messages, share


def _sharpness(message: Any) -> float:
    """Of an RGB picture as it arrived, in an eighth of its size."""
    if isinstance(message, CompressedImage):
        gray = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_4)
        return sharpness_of(gray) if gray is not None else 0.0
    gray = convert.gray_of(convert.to_mono8(message))
    return sharpness_of(np.ascontiguousarray(gray[::4, ::4]))


def main() -> int:
    """Entry point of the node."""
    return spin_node(CaptureNode)


if __name__ == "__main__":
    sys.exit(main())
