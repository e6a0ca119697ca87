"""Node ``stock``: follows the ledger and publishes the stock map, findings and markers; answers for bins and products."""

from __future__ import annotations

import sys
import threading
import time

from shelfscan_msgs.msg import BayScan, Finding, StockMap
from shelfscan_msgs.srv import GetBin, GetStock
from visualization_msgs.msg import MarkerArray

from shelfscan.audit.health import Sickness
from shelfscan.bootstrap import check_health, make_projector, open_ledger
from shelfscan.model import stock as beliefs
from shelfscan.ros import qos
from shelfscan.ros.convert_results import bin_state_msg, finding_msg, markers_msg, stock_map_msg
from shelfscan.ros.lifecycle import Level, ShelfscanNode, spin_node
from shelfscan.stock.follow import MapFollower
from shelfscan.stock.project import iso_utc

#: The ledger is looked at when a scan was published, and so often for all else.
POLL_S = 0.3
#: At most this share of a core's time goes into projecting, however large the store.
MAX_LOAD = 0.25
#: Findings a late subscriber still gets.
FINDINGS_KEPT = 500


class StockNode(ShelfscanNode):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("stock")

    def acquire(self) -> None:
        self._bundle = bundle = self.load_store()
        self._store = bundle.store
        self._judged, self._sick = 0, list[Sickness]()
        self._ledger = open_ledger(self.run_dir, bundle.store.site, self.load_settings())
        self._follower = MapFollower(self._ledger, lambda mission_id: make_projector(bundle, mission_id))
        self._map: beliefs.StockMap | None = None
        self._told: set[tuple[str, str]] = set()
        self._stop = threading.Event()
        self._news = threading.Event()
        self._maps = self.create_publisher(StockMap, "stock_map", qos.latched())
        self._markers = self.create_publisher(MarkerArray, "markers", qos.latched())
        self._findings = self.create_publisher(Finding, "findings", qos.latched(FINDINGS_KEPT))
        self._answering = (
            self.create_service(GetBin, "get_bin", self._on_get_bin),
            self.create_service(GetStock, "get_stock", self._on_get_stock),
        )

    def begin(self) -> None:
        self._stop.clear()
        self._news.set()
        # A scan is in the ledger before it is published: there is no need to wait until the ledger is looked at again.
        self._scans = self.create_subscription(BayScan, "bay_scan", lambda _: self._news.set(), qos.stream(), raw=True)
        self._worker = self.start_thread(self._follow, "stock worker")
        self.report(Level.OK, "following the ledger")

    def halt(self) -> None:
        self.destroy_subscription(self._scans)
        self._stop.set()
        self._news.set()
        self._worker.join(timeout=5.0)

    def release(self) -> None:
        self._ledger.close()

    def _follow(self) -> None:
        rest_s = 0.0
        while not self._stop.wait(rest_s):
            self._news.wait(POLL_S)
            self._news.clear()
            if self._stop.is_set():
                break
            rest_s = 0.0
            if not self._follower.poll():
                continue
            began, cpu = time.monotonic(), time.thread_time()
            self._map = self._follower.stock_map(time.time_ns())
            if self._map is not None:
                self._publish(self._map)
            took_s = time.monotonic() - began
            # By the time that it took of a core: where others keep it waiting, findings need not wait four times as long again.
            rest_s = (time.thread_time() - cpu) / MAX_LOAD
            if self._follower.ended_seq > self._judged:
                self._judged = self._follower.ended_seq
                self._sick = self._judge()
            facts = {"mission": self._follower.mission_id, "seconds": round(took_s, 3)}
            if self._sick:
                self.report(Level.WARN, "; ".join(f"{s.kind} ({s.where}): {s.text}" for s in self._sick), **facts)
            else:
                self.report(Level.OK, "following the ledger", **facts)

    def _judge(self) -> list[Sickness]:
        """Whether the mission that ended shows a sick robot; each sickness is told as a finding that names camera or aisle."""
        mission_id = self._follower.mission_id
        _, sick = check_health(self._bundle, self._ledger, mission_id)
        for s in sick:
            name = f"health/{s.kind}/{s.where}"
            finding = beliefs.Finding(name, "", s.kind, "sensor", 0.95, 0.0, f"{s.where}: {s.text}")
            self._findings.publish(finding_msg(finding, iso_utc(time.time_ns())))
        return sick

    def _publish(self, stock_map: beliefs.StockMap) -> None:
        for finding in stock_map.findings:
            # Once a mission: the next one may find the same again.
            key = (stock_map.mission_id, finding.finding_id)
            if key not in self._told:
                self._told.add(key)
                self._findings.publish(finding_msg(finding, stock_map.created_at))
        # Findings first: in a large store the map takes a while to be told.
        self._maps.publish(stock_map_msg(stock_map))
        self._markers.publish(markers_msg(stock_map, self._store))

    def _on_get_bin(self, request: GetBin.Request, response: GetBin.Response) -> GetBin.Response:
        if self._map is None:
            response.message = "no mission has started yet"
            return response
        for state in self._map.bins:
            if state.bin_id == request.bin_id:
                response.found, response.bin = True, bin_state_msg(state)
                return response
        response.message = f"store {self._store.site} has no bin {request.bin_id!r}"
        return response

    def _on_get_stock(self, request: GetStock.Request, response: GetStock.Response) -> GetStock.Response:
        if self._map is None:
            response.message = "no mission has started yet"
            return response
        if not request.sku:
            response.found, response.map = True, stock_map_msg(self._map)
            return response
        units = self._map.units_of(request.sku)
        if units is None:
            response.message = f"SKU {request.sku!r} is planned in no bin of store {self._store.site}"
            return response
        response.found = True
        unseen = [b.bin_id for b in self._map.bins if b.sku == request.sku and b.status is beliefs.BinStatus.UNSEEN]
        if unseen:
            response.message = f"not seen in full, which is not the same as empty: {', '.join(unseen)}"
        response.units, response.units_low, response.units_high = float(units[0]), units[1], units[2]
        return response


def main() -> None:
    """Entry point."""
    sys.exit(spin_node(StockNode))


if __name__ == "__main__":
    main()
