"""A night of faults against a stand-in for Odoo: a fault between client and server at every request."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from datetime import date

import httpx

from shelfscan.adapters.odoo_rpc import Api
from shelfscan.adapters.store_day import StoreDays
from shelfscan.adapters.wms_odoo import OdooWms
from shelfscan.errors import WmsRejected
from shelfscan.evaluation.faulty_wms import FaultyTransport
from shelfscan.evaluation.night_line import NightLine, OnALine, night_url
from shelfscan.evaluation.odoo_models import OdooDatabase
from shelfscan.evaluation.odoo_stub import DATABASE, KEY, USER, OdooStub
from shelfscan.evaluation.sync_campaign import FaultNight
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.catalogue import Catalogue
from shelfscan.ports import Ledger


class OdooTill(OdooWms):
    """A client of a stand-in, and the till beside it."""

    def __init__(
        self,
        odoo: OdooDatabase,
        rows: Sequence[WmsLocation],
        api: Api = "json2",
        key: str = KEY,
        line: Callable[[OdooStub], httpx.BaseTransport] = lambda stub: stub,
        days: StoreDays | None = None,
    ) -> None:
        self.odoo, self.rows, self.api = odoo, tuple(rows), api
        transport = line(OdooStub(odoo, 19 if api == "json2" else 17))
        url = night_url("odoo")
        super().__init__(url, DATABASE, key, rows, api=api, user=USER, days=days, transport=transport)

    @classmethod
    def of(
        cls, rows: Sequence[WmsLocation], catalogue: Catalogue, clock: Callable[[], int] = time.time_ns, api: Api = "json2"
    ) -> OdooTill:
        """A new stand-in with this stock."""
        return cls(OdooDatabase(rows, catalogue, clock), rows, api)

    def post_movement(self, location_code: str, sku: str, delta: float, *, moved_at_ns: int | None = None) -> None:
        """Pieces come or go. Raises `WmsRejected`."""
        try:
            self.odoo.sell(location_code, sku, delta, moved_at_ns)
        except LookupError as e:
            raise WmsRejected(f"no stock of {sku} at {location_code}") from e

    def ask(self, location_code: str) -> list[str]:
        """*Request a Count* of all that is kept there; the tasks' names."""
        day = date.today().isoformat()
        skus = [r.sku for r in self.rows if r.location_code == location_code]
        return [f"{self.odoo.request_count(location_code, sku, day)}@{day}" for sku in skus]


class _Line(NightLine):
    """Most faults where a count is set and applied, and there more is doubled and late."""

    KINDS = (*FaultyTransport.KINDS, "doubled", "doubled", "late", "late", "nonsense before", "nonsense after")

    def weigh(self, request: httpx.Request) -> tuple[float, int]:
        """See `NightLine`: a submit is some twenty requests."""
        text = request.url.path.encode() + request.read()
        if b"action_apply" in text or (b"inventory_quantity_set" in text and b"write" in text):
            return 1, self.SALES
        return (10 if b"search_read" in text else 2), 0


class FaultyOdoo(OnALine, OdooTill):
    """The same system over a line that fails."""

    def __init__(self, till: OdooTill, rng: random.Random, p_fault: float, meanwhile: Callable[[], None]) -> None:
        def line(stub: OdooStub) -> _Line:
            return self.runs_over(_Line(rng, p_fault, meanwhile, stub))

        super().__init__(till.odoo, till.rows, till.api, line=line)


def night(seed: int, ledger: Ledger) -> FaultNight:
    """A night; every other one over JSON-RPC."""
    api: Api = "jsonrpc" if seed % 2 else "json2"

    def build(rows: tuple[WmsLocation, ...], catalogue: Catalogue, clock: Callable[[], int]) -> OdooTill:
        return OdooTill.of(rows, catalogue, clock, api)

    return FaultNight(seed, build, ledger, FaultyOdoo)
