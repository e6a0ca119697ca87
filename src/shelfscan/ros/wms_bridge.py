"""Node ``wms_bridge``: once a mission has ended, brings its counts to the warehouse system through the outbox.

A warehouse system that is down makes the state degraded and is tried again; the outbox in the ledger loses nothing.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from shelfscan_msgs.msg import SyncState

from shelfscan.bootstrap import make_policy, make_projector, make_wms, open_ledger
from shelfscan.ports import Event
from shelfscan.ros import qos
from shelfscan.ros.convert_results import sync_state_msg
from shelfscan.ros.lifecycle import Level, ShelfscanNode, spin_node
from shelfscan.stock.follow import MapFollower
from shelfscan.wms.outbox import REPORT, SYNCED
from shelfscan.wms.report import OUTCOMES
from shelfscan.wms.sync import sync_run

POLL_S = 0.5
#: Pauses between tries while the warehouse system is down.
FIRST_RETRY_S, LONGEST_RETRY_S = 10.0, 300.0


class WmsBridgeNode(ShelfscanNode):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("wms_bridge")

    def acquire(self) -> None:
        self._bundle = bundle = self.load_store()
        config = self.load_settings()
        self._ledger = open_ledger(self.run_dir, bundle.store.site, config)
        self._client = make_wms(bundle, self.run_dir, config)
        self._policy = make_policy(config.wms.approval)
        self._wms = config.wms.name
        self._follower = MapFollower(self._ledger, lambda mission_id: make_projector(bundle, mission_id))
        self._stop = threading.Event()
        self._states = self.create_publisher(SyncState, "sync", qos.latched())

    def begin(self) -> None:
        self._stop.clear()
        self._synced, self._pause_s, self._next = self._known_synced(), FIRST_RETRY_S, 0.0
        self._worker = self.start_thread(self._work, "bridge worker")
        self.report(Level.OK, "waiting for a mission's end")

    def halt(self) -> None:
        self._stop.set()
        # A sync that is cut off goes on with the next start; the outbox knows what was sent.
        self._worker.join(timeout=4.0)

    def release(self) -> None:
        self._ledger.close()

    def _work(self) -> None:
        self._publish(self._last_report() or self._blank("idle", "no mission has ended yet"))
        if self._client is None:
            self.report(Level.OK, "no warehouse system is configured")
            return
        while not self._stop.wait(POLL_S):
            self._follower.poll()
            ended = self._follower.ended_seq
            if ended and ended not in self._synced and time.monotonic() >= self._next:
                self._sync(ended)

    def _sync(self, ended: int) -> None:
        """One try; afterwards the end counts as synced, or there is a time for the next try."""
        assert self._client is not None
        stock_map = self._follower.stock_map(time.time_ns())
        assert stock_map is not None
        mission_id, now_ns = stock_map.mission_id, self._follower.date(time.time_ns())
        self._publish(self._blank("syncing", f"mission {mission_id}"))
        report = sync_run(
            stock_map,
            self._bundle,
            self._ledger,
            self._client,
            self._policy,
            mission_id=mission_id,
            now_ns=now_ns,
            sleep=self._sleep,
        )
        self._publish(report.to_json(equal=False))
        payload = {"mission_id": mission_id, "ended_seq": ended, "wms": self._wms, "state": report.state, "text": report.text}
        self._ledger.append([Event(SYNCED, f"{SYNCED}/{mission_id}/{ended}/{report.state}", now_ns, payload)])
        if report.ok:
            self._synced.add(ended)
            self._pause_s = FIRST_RETRY_S
            self.report(Level.OK, f"synced: {report.text}", mission=mission_id)
        else:
            self._next = time.monotonic() + self._pause_s
            self.report(Level.WARN, report.text, mission=mission_id, next_try_s=self._pause_s)
            self._pause_s = min(2 * self._pause_s, LONGEST_RETRY_S)

    def _sleep(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def _known_synced(self) -> set[int]:
        events = [s.event.payload for s in self._ledger.read(kinds=(SYNCED,))]
        return {int(p["ended_seq"]) for p in events if p["state"] == "done"}

    def _last_report(self) -> dict[str, Any] | None:
        events = self._ledger.read(kinds=(REPORT,))
        return dict(events[-1].event.payload["report"]) if events else None

    def _blank(self, state: str, text: str) -> dict[str, Any]:
        counts = dict.fromkeys(OUTCOMES, 0)
        return {
            "mission_id": self._follower.mission_id,
            "wms": self._wms,
            "state": state,
            "text": text,
            "counts": counts,
            "lines": [],
        }

    def _publish(self, report: dict[str, Any]) -> None:
        self._states.publish(sync_state_msg(report, stamp_ns=time.time_ns()))


def main() -> None:
    """Entry point."""
    sys.exit(spin_node(WmsBridgeNode))


if __name__ == "__main__":
    main()
