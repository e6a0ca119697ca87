"""Node ``perception``: captures from ``frames`` become bay scans in the ledger.

Evidence pictures are written before the event that names them. A capture whose scan is in the ledger is skipped, so a
restarted node takes up what was in flight and nothing is counted twice.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Iterator

from shelfscan_msgs.msg import BayScan, HeadFrame

from shelfscan.adapters.frame_msgs import CaptureCollector
from shelfscan.bootstrap import make_pipeline, open_ledger
from shelfscan.errors import SensorError, ShelfscanError
from shelfscan.model.imaging import FrameBundle
from shelfscan.ports import Event
from shelfscan.ros import qos
from shelfscan.ros.convert_results import bay_scan_msg
from shelfscan.ros.lifecycle import Level, ShelfscanNode, spin_node
from shelfscan.runfolder import write_evidence

#: Captures waiting for the worker; the mission lets fewer be in flight.
QUEUE = 8
#: A capture that took the process down so often is not tried again.
MAX_BEGUN = 2


class PerceptionNode(ShelfscanNode):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("perception")

    def acquire(self) -> None:
        bundle = self.load_store()
        self._ledger = open_ledger(self.run_dir, bundle.store.site, self.load_settings())
        self._heads = len(bundle.robot.rig.heads)
        self._collector = CaptureCollector(limit=QUEUE)
        self._queue: queue.Queue[FrameBundle | None] = queue.Queue(maxsize=QUEUE)
        self._done: set[str] = set()
        self._seen: set[tuple[str, str]] = set()
        self._begun: dict[str, int] = {}
        self._halting = threading.Event()
        for stored in self._ledger.read(kinds=("bay_scan", "scan.begun")):
            self._note(stored.event)
        self._scans = self.create_publisher(BayScan, "bay_scan", qos.stream())
        # Models and gallery take seconds: the node is ready when they are.
        self._pipeline = make_pipeline(bundle, self.load_settings())

    def begin(self) -> None:
        self._halting.clear()
        self._worker = self.start_thread(self._work, "perception worker")
        self._frames = self.create_subscription(HeadFrame, "frames", self._on_frame, qos.frames(self._heads))
        self.report(Level.OK, "waiting for captures")

    def halt(self) -> None:
        self._halting.set()
        self.destroy_subscription(self._frames)
        try:
            # What still waits is taken up by the next start, so the worker need not finish it.
            while True:
                self._queue.get_nowait()
        except queue.Empty:
            pass
        self._queue.put(None)
        self._worker.join(timeout=5.0)

    def release(self) -> None:
        self._pipeline.close()
        self._ledger.close()
        self.destroy_publisher(self._scans)

    def _on_frame(self, msg: HeadFrame) -> None:
        try:
            bundle = self._collector.add(msg)
        except SensorError as e:
            self.report(Level.ERROR, f"capture {msg.capture_id}: {e}", captures=len(self._done))
            return
        if bundle is None or self._superfluous(bundle):
            return
        try:
            self._queue.put_nowait(bundle)
        except queue.Full:
            # The mission sees no scan, and captures the viewpoint again.
            self.report(Level.WARN, f"capture {bundle.capture_id} dropped: {QUEUE} are waiting", captures=len(self._done))

    def _work(self) -> None:
        idle = self._pipeline.prepare()
        while (bundle := self._next(idle)) is not None:
            if self._superfluous(bundle):
                continue
            began = time.monotonic()
            try:
                if self._begun.get(_scan_key(bundle), 0) >= MAX_BEGUN:
                    raise SensorError(f"processing ended the process {MAX_BEGUN} times; given up")
                self._append("scan.begun", bundle, number=self._begun.get(_scan_key(bundle), 0) + 1)
                result = self._pipeline.process(bundle)
            except Exception as e:  # noqa: BLE001 - one capture that cannot be processed must not stop the others
                if self._halting.is_set():
                    # What it works with is gone; the next start takes the capture up.
                    return
                self._failed_scan(bundle, e)
                continue
            write_evidence(self.run_dir, result.evidence)
            event = Event("bay_scan", _scan_key(bundle), bundle.stamp_ns, result.scan.to_json())
            self._ledger.append([event])
            self._note(event)
            self._scans.publish(bay_scan_msg(result.scan))
            took_s = time.monotonic() - began
            warnings = "; ".join(result.scan.warnings)
            self.report(
                Level.WARN if warnings else Level.OK,
                warnings or "working",
                captures=len(self._done),
                waiting=self._queue.qsize(),
                last=bundle.capture_id,
                seconds=round(took_s, 3),
            )

    def _next(self, idle: Iterator[None]) -> FrameBundle | None:
        """The next capture; until there is one, what later ones would have to wait for is done."""
        while True:
            try:
                return self._queue.get_nowait()
            except queue.Empty:
                try:
                    next(idle)
                except StopIteration:
                    return self._queue.get()
                except Exception as e:  # noqa: BLE001 - what comes of it is told of a capture
                    self.get_logger().warning(f"preparing: {type(e).__name__}: {e}")
                    return self._queue.get()

    def _superfluous(self, bundle: FrameBundle) -> bool:
        """The ledger has this capture's scan, or one of another capture of the same viewpoint."""
        return _scan_key(bundle) in self._done or (bundle.mission_id, bundle.viewpoint_id) in self._seen

    def _failed_scan(self, bundle: FrameBundle, error: Exception) -> None:
        text = str(error) if isinstance(error, ShelfscanError) else f"{type(error).__name__}: {error}"
        self.report(Level.ERROR, f"capture {bundle.capture_id}: {text}", captures=len(self._done))
        # The mission need not wait for its timeout to know.
        reason = f"sensor: capture {bundle.capture_id} could not be processed: {text}"
        self._append("viewpoint.failed", bundle, what="scan", reason=reason)

    def _append(self, kind: str, bundle: FrameBundle, **payload: object) -> None:
        now = time.time_ns()
        body = {
            "mission_id": bundle.mission_id,
            "viewpoint_id": bundle.viewpoint_id,
            "capture_id": bundle.capture_id,
            **payload,
        }
        event = Event(kind, f"{kind}/{bundle.mission_id}/{bundle.capture_id}/{now}", now, body)
        self._ledger.append([event])
        self._note(event)

    def _note(self, event: Event) -> None:
        key = f"bay_scan/{event.payload['mission_id']}/{event.payload['capture_id']}"
        if event.kind == "bay_scan":
            self._done.add(key)
            self._seen.add((str(event.payload["mission_id"]), str(event.payload["viewpoint_id"])))
        elif event.kind == "scan.begun":
            self._begun[key] = self._begun.get(key, 0) + 1


def _scan_key(bundle: FrameBundle) -> str:
    return f"bay_scan/{bundle.mission_id}/{bundle.capture_id}"


def main() -> None:
    """Entry point."""
    sys.exit(spin_node(PerceptionNode))


if __name__ == "__main__":
    main()
