"""An action client that may be made while its node spins.

rclpy's own adds itself to the node before it has its lock; an executor in another thread that wakes in between dies of
``AttributeError: 'ActionClient' object has no attribute '_lock'`` (seen with rclpy 9.1, rarely), and with it
everything that node would ever hear.
"""

from __future__ import annotations

import threading
from typing import Any

from rclpy import action
from rclpy.node import Node


class ActionClient(action.ActionClient):
    """`rclpy.action.ActionClient`, whole from the first moment an executor sees it."""

    def __init__(self, node: Node, action_type: Any, action_name: str, **options: Any) -> None:
        self._lock = threading.Lock()  # replaced by rclpy's a moment later; nothing is shared under either by then
        super().__init__(node, action_type, action_name, **options)
