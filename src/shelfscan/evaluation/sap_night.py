"""A night of faults against a stand-in for SAP: a fault between client and server at every request."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from zoneinfo import ZoneInfo

import httpx

from shelfscan.adapters.wms_sap import SapWms
from shelfscan.errors import WmsRejected
from shelfscan.evaluation.night_line import NightLine, OnALine, night_url
from shelfscan.evaluation.sap_models import ITEMS, SapError, SapSystem
from shelfscan.evaluation.sap_stub import CLIENT, PASSWORD, USER, SapStub
from shelfscan.evaluation.sync_campaign import FaultNight
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.catalogue import Catalogue
from shelfscan.ports import Ledger


class SapTill(SapWms):
    """A client of a stand-in, and the till beside it."""

    def __init__(
        self,
        sap: SapSystem,
        rows: Sequence[WmsLocation],
        line: Callable[[SapStub], httpx.BaseTransport] = lambda stub: stub,
        *,
        password: str = PASSWORD,
        page: int = 1000,
    ) -> None:
        self.system, self.rows, self.stub = sap, tuple(rows), SapStub(sap, page)
        url, zone = night_url("sap"), ZoneInfo(str(sap.zone))
        super().__init__(url, CLIENT, USER, password, rows, plant=sap.plant, zone=zone, transport=line(self.stub))

    @classmethod
    def of(
        cls,
        rows: Sequence[WmsLocation],
        catalogue: Catalogue,
        clock: Callable[[], int] = time.time_ns,
        *,
        deletes: bool = False,
        page: int = 1000,
    ) -> SapTill:
        """A new stand-in with this stock."""
        return cls(SapSystem(rows, catalogue, clock, deletes=deletes), rows, page=page)

    def post_movement(self, location_code: str, sku: str, delta: float, *, moved_at_ns: int | None = None) -> None:
        """Pieces come or go. Raises `WmsRejected`."""
        try:
            self.system.sell(location_code, sku, delta, moved_at_ns)
        except SapError as e:
            raise WmsRejected(str(e)) from e

    def ask(self, location_code: str) -> list[str]:
        """A planner makes a document for all that is kept there, one a material; the tasks' names."""
        plant, location = self.system.place(location_code)
        head = {"Plant": plant, "StorageLocation": location, "PhysInventoryPlannedCountDate": "2030-01-01T00:00:00"}
        skus = [r.sku for r in self.rows if r.location_code == location_code]
        made = [self.system.create({**head, ITEMS: [{"Material": sku}]}) for sku in skus]
        return [f"{d['n']}/{d['FiscalYear']}" for d in made]


class _Line(NightLine):
    """Most faults where something changes; sessions end, and another user has the material open."""

    def __init__(self, rng: random.Random, p_fault: float, meanwhile: Callable[[], None], stub: SapStub) -> None:
        super().__init__(rng, p_fault, meanwhile, stub)
        self._stub = stub

    def weigh(self, request: httpx.Request) -> tuple[float, int]:
        """See `NightLine`: a sync is some fifty requests, most of which read."""
        return (20, 0) if request.method == "GET" else (1, self.SALES)

    def disturb(self, request: httpx.Request) -> None:
        """See `NightLine`."""
        if request.method == "GET":
            return
        chance = self._rng.random()
        if chance < self._p / 10:
            self._stub.expire()
        elif chance < self._p / 5:
            self._stub.system.locked |= set(self._stub.system.products)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it, or let something happen to it."""
        try:
            return super().handle_request(request)
        finally:
            self._stub.system.locked.clear()


class FaultySap(OnALine, SapTill):
    """The same system over a line that fails."""

    def __init__(self, till: SapTill, rng: random.Random, p_fault: float, meanwhile: Callable[[], None]) -> None:
        def line(stub: SapStub) -> _Line:
            return self.runs_over(_Line(rng, p_fault, meanwhile, stub))

        super().__init__(till.system, till.rows, line, page=5)


def night(seed: int, ledger: Ledger) -> FaultNight:
    """A night; every other one where documents can be deleted."""

    def build(rows: tuple[WmsLocation, ...], catalogue: Catalogue, clock: Callable[[], int]) -> SapTill:
        return SapTill.of(rows, catalogue, clock, deletes=bool(seed % 2))

    return FaultNight(seed, build, ledger, FaultySap)
