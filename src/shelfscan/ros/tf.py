"""Transforms by time. The buffer is plain Python; `TfListener` feeds it from ``/tf`` and ``/tf_static``."""

from __future__ import annotations

import bisect
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from shelfscan.adapters.frame_msgs import stamp_ns_of
from shelfscan.errors import SensorError
from shelfscan.model.geometry import Array, from_quaternion, inverse, transform

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.qos import QoSProfile

KEEP_S = 30.0
#: A stamp this much older than the newest one is a clock that was set back: what was known is of another time.
JUMP_S = 1.0


@dataclass
class _Edge:
    """``T_parent_child`` over time; ``stamps`` is empty when it never changes."""

    parent: str
    stamps: list[int] = field(default_factory=list)
    transforms: list[Array] = field(default_factory=list)


class TransformBuffer:
    """Remembers `KEEP_S` seconds of transforms and interpolates between them. Safe to use from several threads."""

    def __init__(self, keep_s: float = KEEP_S) -> None:
        self._keep_ns = int(keep_s * 1e9)
        self._edges: dict[str, _Edge] = {}
        self._changed = threading.Condition()

    def add(self, parent: str, child: str, stamp_ns: int, T: Array, *, static: bool = False) -> None:
        """Learn ``T_parent_child``, (4, 4), at a time."""
        with self._changed:
            edge = self._edges.get(child)
            if edge is None or edge.parent != parent or static:
                edge = self._edges[child] = _Edge(parent)
            if static:
                edge.transforms = [T]
            else:
                if edge.stamps and stamp_ns < edge.stamps[-1] - int(JUMP_S * 1e9):
                    edge.stamps.clear()
                    edge.transforms.clear()
                at = bisect.bisect_left(edge.stamps, stamp_ns)
                if at < len(edge.stamps) and edge.stamps[at] == stamp_ns:
                    edge.transforms[at] = T
                else:
                    edge.stamps.insert(at, stamp_ns)
                    edge.transforms.insert(at, T)
                old = bisect.bisect_left(edge.stamps, edge.stamps[-1] - self._keep_ns)
                del edge.stamps[:old], edge.transforms[:old]
            self._changed.notify_all()

    def lookup(self, target: str, source: str, stamp_ns: int) -> Array:
        """``T_target_source``, (4, 4), at a time.

        Raises `SensorError` when the frames are not connected, or the time lies outside what was received.
        """
        with self._changed:
            up, down = self._between(source, target)
            return np.asarray(inverse(self._along(down, stamp_ns)) @ self._along(up, stamp_ns))

    def newest_ns(self, target: str, source: str) -> int | None:
        """The newest time `lookup` can answer for; 0 when all transforms between are static, None when there is none."""
        with self._changed:
            try:
                up, down = self._between(source, target)
            except SensorError:
                return None
            return min((self._edges[f].stamps[-1] for f in (*up, *down) if self._edges[f].stamps), default=0)

    def newest(self, target: str, source: str) -> Array | None:
        """``T_target_source`` at the newest time known, or None."""
        stamp_ns = self.newest_ns(target, source)
        try:
            return None if stamp_ns is None else self.lookup(target, source, stamp_ns)
        except SensorError:
            return None

    def wait(self, target: str, source: str, stamp_ns: int, timeout_s: float) -> Array:
        """`lookup`, waiting for what is on its way. Raises `SensorError` when it did not come; blocks."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                return self.lookup(target, source, stamp_ns)
            except SensorError:
                left = end - time.monotonic()
                if left <= 0:
                    raise
                with self._changed:
                    self._changed.wait(min(left, 0.1))

    def _ancestors(self, frame: str) -> list[str]:
        out = [frame]
        while out[-1] in self._edges and self._edges[out[-1]].parent not in out:
            out.append(self._edges[out[-1]].parent)
        return out

    def _between(self, source: str, target: str) -> tuple[list[str], list[str]]:
        """The frames below the nearest common ancestor, on the source's and on the target's side."""
        up, down = self._ancestors(source), self._ancestors(target)
        common = next((f for f in up if f in down), None)
        if common is None:
            raise SensorError(
                f"no transform from {source!r} to {target!r}: known are {', '.join(sorted(self._edges)) or 'none'}"
            )
        return up[: up.index(common)], down[: down.index(common)]

    def _along(self, children: list[str], stamp_ns: int) -> Array:
        """``T_ancestor_first`` through a chain of frames, each the child of the next."""
        out = np.eye(4)
        for child in children:
            out = self._at(child, stamp_ns) @ out
        return out

    def _at(self, child: str, stamp_ns: int) -> Array:
        edge = self._edges[child]
        if not edge.stamps:
            return edge.transforms[0]
        name, first, last = f"{edge.parent} -> {child}", edge.stamps[0], edge.stamps[-1]
        if stamp_ns > last:
            raise SensorError(f"transform {name}: asked {(stamp_ns - last) / 1e9:.3f} s after the newest one")
        if stamp_ns < first:
            raise SensorError(f"transform {name}: asked {(first - stamp_ns) / 1e9:.3f} s before the oldest one kept")
        i = bisect.bisect_left(edge.stamps, stamp_ns)
        if edge.stamps[i] == stamp_ns:
            return edge.transforms[i]
        return interpolate(
            edge.transforms[i - 1], edge.transforms[i], (stamp_ns - edge.stamps[i - 1]) / (edge.stamps[i] - edge.stamps[i - 1])
        )


def interpolate(a: Array, b: Array, t: float) -> Array:
    """The rigid transform at ``t`` (0..1) of the way from ``a`` to ``b``."""
    turn = Slerp([0.0, 1.0], Rotation.from_matrix(np.stack([a[:3, :3], b[:3, :3]])))(t).as_matrix()
    return transform(np.asarray(turn), a[:3, 3] + t * (b[:3, 3] - a[:3, 3]))


def topic_remaps(argv: list[str]) -> list[str]:
    """The command line's topic remappings for a second node of the process, without those of the node's own name."""
    rules = [b for a, b in pairwise(argv) if a in ("-r", "--remap") and not b.partition(":=")[0].startswith("__")]
    return ["--ros-args", *(word for rule in rules for word in ("-r", rule))] if rules else []


class TfListener:
    """Fills a `TransformBuffer` from ``/tf`` and ``/tf_static``, in a thread of its own as tf2's listener does.

    An executor in Python looks at everything its node has for each message, so what comes at 50 Hz is listened to
    by a small node beside: a fifth of the cost. `listen` adds other quick topics; callbacks run in that thread.
    """

    def __init__(self, node: Node, buffer: TransformBuffer | None = None) -> None:
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node as PlainNode
        from tf2_msgs.msg import TFMessage

        from shelfscan.ros import qos

        self.buffer = buffer or TransformBuffer()
        self._owner = node
        self._node = PlainNode(
            f"{node.get_name()}_listener",
            namespace=node.get_namespace(),
            context=node.context,
            use_global_arguments=False,
            cli_args=topic_remaps(sys.argv),
            start_parameter_services=False,
            enable_rosout=False,
        )
        self.listen(TFMessage, "/tf", lambda m: self._take(m, False), qos.sensor(100))
        self.listen(TFMessage, "/tf_static", lambda m: self._take(m, True), qos.latched(100))
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(self._node)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tf", daemon=True)
        self._thread.start()

    def listen(self, kind: Any, topic: str, callback: Callable[[Any], None], profile: QoSProfile) -> None:
        """Subscribe to one more topic."""
        self._node.create_subscription(kind, topic, callback, profile)

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        self._thread.join(timeout=2.0)
        self._executor.shutdown(timeout_sec=0)
        self._node.destroy_node()

    def _run(self) -> None:
        try:
            while not self._stop.is_set() and self._node.context.ok():
                self._executor.spin_once(timeout_sec=0.2)
        except Exception as e:
            if self._stop.is_set() or not self._node.context.ok():
                return  # the process is ending under this thread
            fail = getattr(self._owner, "fail", None)
            if fail is None:
                raise
            fail(e)

    def _take(self, message: Any, static: bool) -> None:
        for t in message.transforms:
            r, p = t.transform.rotation, t.transform.translation
            T = from_quaternion((r.x, r.y, r.z, r.w), (p.x, p.y, p.z))
            parent, child = t.header.frame_id.lstrip("/"), t.child_frame_id.lstrip("/")
            self.buffer.add(parent, child, stamp_ns_of(t.header.stamp), T, static=static)
