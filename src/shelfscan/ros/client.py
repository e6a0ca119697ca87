"""A command line's own ears and voice on ROS: it starts a mission, and nothing else.

What became of the mission is in the ledger; a killed action server never answers, so nobody waits for a result.
"""

from __future__ import annotations

import threading
from collections.abc import Collection

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from shelfscan_msgs.action import ScanStore
from std_srvs.srv import Trigger

from shelfscan.ros.actions import ActionClient
from shelfscan.ros.nodes import NAMESPACE


def trigger(name: str, timeout_s: float) -> tuple[bool, str]:
    """Call a service without arguments (``pause``, ``resume``, ``cancel``); (whether it did it, what it says)."""
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node("shelfscan_order", namespace=NAMESPACE, context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        client = node.create_client(Trigger, name)
        if not client.wait_for_service(timeout_sec=timeout_s):
            return False, f"the mission node is not there ({timeout_s:.0f} s)"
        future = client.call_async(Trigger.Request())
        executor.spin_until_future_complete(future, timeout_sec=timeout_s)
        if not future.done():
            return False, f"the mission node gave no answer ({timeout_s:.0f} s)"
        answer = future.result()
        return bool(answer.success), str(answer.message)
    finally:
        rclpy.try_shutdown(context=context)


class MissionClient:
    """Sends `ScanStore` goals. Also a context manager. The environment must be prepared (`ros.env.prepare`)."""

    def __init__(self) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("shelfscan_cli", namespace=NAMESPACE, context=self._context)
        self._client = ActionClient(self._node, ScanStore, "scan_store")
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="ros client", daemon=True)
        self._thread.start()

    def start(
        self,
        mission_id: str,
        *,
        resume: bool,
        timeout_s: float,
        aisles: Collection[str] = (),
        bins: Collection[str] = (),
    ) -> bool:
        """Ask for a mission, of these aisles and bins alone where any are named; whether the mission node took it on in time.

        Asking twice starts it once.
        """
        if not self._client.wait_for_server(timeout_sec=timeout_s):
            return False
        answered = threading.Event()
        future = self._client.send_goal_async(
            ScanStore.Goal(mission_id=mission_id, resume=resume, aisles=list(aisles), bins=list(bins))
        )
        future.add_done_callback(lambda _: answered.set())
        return answered.wait(timeout_s) and bool(future.result().accepted)

    def close(self) -> None:
        """Leave ROS."""
        self._stop.set()
        self._thread.join(timeout=5.0)
        self._client.destroy()
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def __enter__(self) -> MissionClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _spin(self) -> None:
        while not self._stop.is_set():
            self._executor.spin_once(timeout_sec=0.2)
