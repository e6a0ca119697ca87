"""The recorder node: what is on the wire, and the mission's facts, to an MCAP bag in the run folder."""

from __future__ import annotations

import importlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.qos import QoSProfile

from shelfscan.adapters.bag_record import BagRecording
from shelfscan.adapters.frames_cdr import EVENT_TYPE, EVENTS_TOPIC, FRAME_TYPE, encode_event, scan_done
from shelfscan.adapters.ledger_place import find_ledger, has_ledger
from shelfscan.errors import LedgerError
from shelfscan.mission.machine import KINDS
from shelfscan.ports import Event, Ledger
from shelfscan.ros import qos
from shelfscan.ros.lifecycle import Level, ShelfscanNode, spin_node

#: Messages waiting for the disk. Pictures are 2.5 MB each, so this is also a bound on memory.
QUEUED = 64
POLL_S = 0.3


@dataclass(frozen=True, slots=True)
class Recorded:
    """A topic and how it is listened to. Relative names are below the node's namespace."""

    name: str
    type_name: str
    qos: Callable[[], QoSProfile]


TOPICS = (
    Recorded("frames", FRAME_TYPE, lambda: qos.latched(QUEUED)),
    Recorded("bay_scan", "shelfscan_msgs/msg/BayScan", lambda: qos.stream(50)),
    Recorded("mission", "shelfscan_msgs/msg/MissionState", lambda: qos.latched(1)),
    Recorded("stock_map", "shelfscan_msgs/msg/StockMap", lambda: qos.latched(1)),
    Recorded("/tf", "tf2_msgs/msg/TFMessage", lambda: qos.stream(100)),
    Recorded("/tf_static", "tf2_msgs/msg/TFMessage", lambda: qos.latched(10)),
    # A best-effort subscriber hears reliable publishers, too.
    Recorded("/odom", "nav_msgs/msg/Odometry", lambda: qos.sensor(50)),
    Recorded("/battery_state", "sensor_msgs/msg/BatteryState", lambda: qos.sensor(10)),
    Recorded("/clock", "rosgraph_msgs/msg/Clock", lambda: qos.sensor(1)),
    Recorded("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", lambda: qos.stream(50)),
)
#: Simulated clocks tick hundreds of times a second; a few a second tell as much.
EVERY_NS = {"/clock": 250_000_000}


def message_class(type_name: str) -> Any:
    """The Python class of ``package/msg/Name``."""
    package, kind, name = type_name.split("/")
    return getattr(importlib.import_module(f"{package}.{kind}"), name)


def _recorded(event: Event) -> Event:
    """The event as the bag keeps it: of a scan, that there is one."""
    if event.kind != "bay_scan":
        return event
    p = event.payload
    return scan_done(str(p["mission_id"]), str(p["viewpoint_id"]), str(p["capture_id"]), event.stamp_ns)


class RecorderNode(ShelfscanNode):
    """Callback -> queue -> writer. Parameters besides the common ones: ``min_free_mib`` (disk that is left alone)."""

    def __init__(self) -> None:
        super().__init__("recorder", hears_much=True)
        self.declare_parameter("min_free_mib", 512)
        self._queue: queue.Queue[tuple[str, str, bytes, int]] = queue.Queue(QUEUED)
        self._stop = threading.Event()
        self._lost = 0
        self._seq = 0
        self._recording: BagRecording | None = None
        self._ledger: Ledger | None = None
        self._threads: list[threading.Thread] = []
        self._subscribed: list[Any] = []

    def acquire(self) -> None:
        self._recording = BagRecording(
            self.run_dir / "bag", min_free_bytes=int(self.get_parameter("min_free_mib").value) * 2**20, every_ns=EVERY_NS
        )
        self._seq = 0

    def begin(self) -> None:
        self._stop.clear()
        self._threads = [self.start_thread(self._write, "write"), self.start_thread(self._follow, "follow")]
        # Reentrant, where callbacks come several at once: megabytes of picture must not make a state on another topic wait.
        group = ReentrantCallbackGroup()
        for topic in TOPICS:
            self._subscribed.append(
                self.create_subscription(
                    message_class(topic.type_name),
                    topic.name,
                    self._receiver(self.resolve_topic_name(topic.name), topic.type_name),
                    topic.qos(),
                    callback_group=group,
                    raw=True,
                )
            )
        assert self._recording is not None
        self.report(Level.OK, "recording", file=self._recording.file.name)

    def halt(self) -> None:
        for subscription in self._subscribed:
            self.destroy_subscription(subscription)
        self._subscribed.clear()
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def release(self) -> None:
        if self._recording is not None:
            self._recording.close()
            self._recording = None
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def _receiver(self, topic: str, type_name: str) -> Callable[[bytes], None]:
        def received(data: bytes) -> None:
            try:
                self._queue.put_nowait((topic, type_name, data, time.time_ns()))
            except queue.Full:
                self._lost += 1

        return received

    def _follow(self) -> None:
        """Copies the mission's facts from the ledger; all of them again after a restart, readers take each once."""
        last = False
        while not last:
            # One more look after the stop: the mission's end is often the last thing that happened.
            last = self._stop.wait(POLL_S)
            try:
                for stored in self._read_ledger():
                    event = _recorded(stored.event)
                    self._queue.put((EVENTS_TOPIC, EVENT_TYPE, encode_event(event), time.time_ns()), timeout=10.0)
                    self._seq = stored.seq
            except queue.Full:
                # The disk hangs; what was not queued is read again.
                continue
        self._queue.put(("", "", b"", 0), timeout=10.0)

    def _read_ledger(self) -> list[Any]:
        if self._ledger is None:
            if not has_ledger(self.run_dir):
                return []
            try:
                self._ledger = find_ledger(self.run_dir)
            except LedgerError:
                # Being made at this moment by the mission; there again in a moment.
                return []
        return self._ledger.read(after=self._seq, kinds=KINDS)

    def _write(self) -> None:
        recording = self._recording
        assert recording is not None
        while True:
            try:
                topic, type_name, data, log_ns = self._queue.get(timeout=1.0)
            except queue.Empty:
                recording.flush()
                continue
            if not topic:
                return
            recording.record(topic, type_name, data, log_ns)
            self._tell(recording)

    def _tell(self, recording: BagRecording) -> None:
        facts = {
            "file": recording.file.name,
            "messages": recording.written,
            "pictures": recording.pictures,
            "pictures_not_recorded": recording.dropped,
            "lost": self._lost,
        }
        if recording.problem:
            self.report(Level.ERROR if "stopped" in recording.problem else Level.WARN, recording.problem, **facts)
        elif self._lost:
            self.report(Level.WARN, "the disk is too slow: messages were lost", **facts)
        else:
            self.report(Level.OK, "recording", **facts)


def main() -> None:
    """Entry point of the node."""
    raise SystemExit(spin_node(RecorderNode))


if __name__ == "__main__":
    main()
