"""`Navigator` on Nav2's actions alone, so the simulator and a real Nav2 are the same to it.

A killed action server never answers, so nothing here waits for an answer alone: a drive ends when its result comes,
when its time is up, or when neither feedback nor movement has been seen for a while.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from action_msgs.msg import GoalStatus
from nav2_msgs.action import DockRobot, NavigateToPose, UndockRobot
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from shelfscan.model.geometry import Array, Pose2D, pose2d_of
from shelfscan.ports import NavResult
from shelfscan.ros.actions import ActionClient
from shelfscan.ros.convert import to_pose_stamped
from shelfscan.ros.link import Link
from shelfscan.ros.tf import TfListener

#: Nav2's codes for what is found out on this side.
UNKNOWN, TIMEOUT = 9000, 9003
ACCEPT_S = 3.0
ACCEPT_TRIES = 3
CANCEL_S = 3.0
MOVED_M = 0.002
_STATUS = {
    GoalStatus.STATUS_ABORTED: "aborted",
    GoalStatus.STATUS_CANCELED: "cancelled",
    GoalStatus.STATUS_UNKNOWN: "the server does not know the goal",
}


class Nav2Navigator:
    """Drives through ``navigate_to_pose``, ``dock_robot`` and ``undock_robot``.

    The node must be spinning in another thread. ``server_s``: how long to wait for an action server to be there;
    ``heartbeat_s``: how long a drive may show neither feedback nor movement; both wall time. ``prefix`` is put before
    Nav2's names ("/robot1" for a namespaced Nav2), ``dock_id`` is the dock's name in Nav2's docking server.
    """

    def __init__(
        self, node: Node, *, server_s: float = 10.0, heartbeat_s: float = 8.0, prefix: str = "", dock_id: str = "home_dock"
    ) -> None:
        self._server_s, self._heartbeat_s, self._dock_id = server_s, heartbeat_s, dock_id
        names = {NavigateToPose: "navigate_to_pose", DockRobot: "dock_robot", UndockRobot: "undock_robot"}
        self._names = {kind: f"{prefix}/{name}" for kind, name in names.items()}
        self._node = node
        self._link: Link | None = None
        self._links = 0
        self._clients = self._made(node)
        self._tf = TfListener(node)
        self._stop = threading.Event()

    @property
    def pose(self) -> Pose2D | None:
        """Where the base is in ``map`` by the newest transforms, or None."""
        T = self._tf.buffer.newest("map", "base_link")
        return None if T is None else pose2d_of(T)

    def go_to(self, pose: Pose2D, timeout_s: float) -> NavResult:
        """Drive to a pose in ``map``; blocks."""
        return self._drive(NavigateToPose, NavigateToPose.Goal(pose=to_pose_stamped(pose)), timeout_s)

    def undock(self, timeout_s: float) -> NavResult:
        """Leave the dock; blocks."""
        return self._drive(UndockRobot, UndockRobot.Goal(max_undocking_time=float(timeout_s)), timeout_s)

    def dock(self, timeout_s: float) -> NavResult:
        """Drive to the dock and onto it; blocks."""
        goal = DockRobot.Goal(
            use_dock_id=True, dock_id=self._dock_id, max_staging_time=float(timeout_s), navigate_to_staging_pose=True
        )
        return self._drive(DockRobot, goal, timeout_s)

    def stop(self) -> None:
        """Cancel what is being driven; returns at once."""
        self._stop.set()

    def close(self) -> None:
        """Give clients and listener back."""
        self._tf.close()
        for client in self._clients.values():
            client.destroy()
        if self._link is not None:
            self._link.close()

    def _made(self, node: Node) -> dict[Any, ActionClient]:
        group = ReentrantCallbackGroup()
        return {kind: ActionClient(node, kind, name, callback_group=group) for kind, name in self._names.items()}

    def _renew(self) -> None:
        """Talk to the servers as a new participant: see `ros.link`."""
        self._links += 1
        self._node.get_logger().warning(f"the navigation servers do not answer: asked by a new participant ({self._links})")
        link = Link(self._node, self._links)
        self._clients = self._made(link.node)
        if self._link is not None:
            self._link.close()
        self._link = link

    def _drive(self, kind: Any, goal: Any, timeout_s: float) -> NavResult:
        self._stop.clear()
        client, name = self._clients[kind], self._names[kind]
        end = time.monotonic() + timeout_s
        patience = min(self._server_s, timeout_s)
        if not client.wait_for_server(timeout_sec=patience):
            return self._failed(TIMEOUT, f"no action server {name} for {patience:.0f} s")
        alive = _Alive(self._tf)
        for _ in range(ACCEPT_TRIES):
            # A server that was discovered a moment ago may not know its client yet: its answer is then lost, and only
            # asking again helps. A goal that was taken twice is the same drive: the later one preempts the earlier.
            accepted = _Answer(client.send_goal_async(goal, feedback_callback=alive.hear))
            if accepted.wait(min(ACCEPT_S, timeout_s)):
                break
            # If it is accepted after all, nobody wants it any more.
            accepted.then(_let_go)
        else:
            self._renew()
            asked = f"{ACCEPT_TRIES} times {min(ACCEPT_S, timeout_s):.0f} s"
            return self._failed(TIMEOUT, f"{name} did not answer the goal within {asked}")
        handle = accepted.value
        if not handle.accepted:
            return self._failed(UNKNOWN, f"{name} rejected the goal")
        result = _Answer(handle.get_result_async())
        why: tuple[int, str] | None = None
        while why is None and not result.wait(0.1):
            if self._stop.is_set():
                why = UNKNOWN, "stopped"
            elif time.monotonic() > end:
                why = TIMEOUT, f"timeout after {timeout_s:.0f} s"
            elif alive.silent_s() > self._heartbeat_s:
                why = TIMEOUT, f"{name}: neither feedback nor movement for {self._heartbeat_s:.0f} s"
        if why is not None:
            handle.cancel_goal_async()
            # A live server says that it stopped; a dead one is not waited for.
            result.wait(CANCEL_S)
            return self._failed(*why)
        return self._ended(result.value)

    def _ended(self, answer: Any) -> NavResult:
        result = answer.result
        code, message = int(result.error_code), str(result.error_msg)
        ok = answer.status == GoalStatus.STATUS_SUCCEEDED and code == 0 and bool(getattr(result, "success", True))
        if ok:
            return NavResult(True, self.pose)
        said = _STATUS.get(answer.status, f"status {answer.status}")
        return self._failed(code or UNKNOWN, message or said)

    def _failed(self, code: int, message: str) -> NavResult:
        return NavResult(False, self.pose, code, message)


def _let_go(handle: Any) -> None:
    if handle.accepted:
        handle.cancel_goal_async()


class _Alive:
    """When a drive last showed that somebody is driving."""

    def __init__(self, tf: TfListener) -> None:
        self._tf = tf
        self._heard = time.monotonic()
        self._last = tf.buffer.newest("map", "base_link")

    def hear(self, feedback: Any) -> None:
        """Feedback came."""
        self._heard = time.monotonic()

    def silent_s(self) -> float:
        """Seconds without feedback or movement."""
        now: Array | None = self._tf.buffer.newest("map", "base_link")
        if now is not None and (self._last is None or float(np.abs(now - self._last).max()) > MOVED_M):
            self._last, self._heard = now, time.monotonic()
        return time.monotonic() - self._heard


class _Answer:
    """The future of a request as something a thread can wait for."""

    def __init__(self, future: Any) -> None:
        self._future = future
        self._done = threading.Event()
        future.add_done_callback(lambda _: self._done.set())

    def wait(self, timeout_s: float) -> bool:
        """Whether it came."""
        return self._done.wait(timeout_s)

    @property
    def value(self) -> Any:
        """What came."""
        return self._future.result()

    def then(self, call: Callable[[Any], object]) -> None:
        """Call with what came, whenever it comes."""
        self._future.add_done_callback(lambda f: call(f.result()))
