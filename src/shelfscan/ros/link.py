"""A participant of its own for clients whose servers do not answer.

When client and server come up at the same moment (both killed, both restarted), discovery is now and then left half done: the
server is seen, and its answers never come, however often it is asked (seen with Fast DDS 3.2, once in some fifty kills). A new
participant is discovered from the beginning, which heals it; a new client on the old participant is not relied upon.
"""

from __future__ import annotations

import threading

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions


class Link:
    """A node in a context of its own, spun in a thread of its own. Same domain and namespace as ``like``."""

    def __init__(self, like: Node, number: int) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        name = f"{like.get_name()}_link{number}"
        self.node = Node(name, context=self._context, namespace=like.get_namespace(), use_global_arguments=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leave the graph; what is still waited for never comes."""
        self._stop.set()
        self._thread.join(timeout=5.0)
        self._executor.shutdown(timeout_sec=1.0)
        rclpy.try_shutdown(context=self._context)

    def _spin(self) -> None:
        while not self._stop.is_set():
            self._executor.spin_once(timeout_sec=0.2)
