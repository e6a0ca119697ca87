"""A night of faults against a stand-in for InvenTree: a fault between client and server at every request."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

import httpx

from shelfscan.adapters.wms_inventree import InvenTreeWms
from shelfscan.errors import WmsRejected
from shelfscan.evaluation.inventree_models import InvenTreeError, InvenTreeSystem
from shelfscan.evaluation.inventree_stub import TOKEN, InvenTreeStub
from shelfscan.evaluation.night_line import NightLine, OnALine, night_url
from shelfscan.evaluation.sync_campaign import MINUTE, T0, FaultNight
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.catalogue import Catalogue
from shelfscan.ports import Ledger
from shelfscan.wms.port import StockRow

#: The status that asks for a count here.
ATTENTION = 50


class InvenTreeTill(InvenTreeWms):
    """A client of a stand-in, and the till beside it."""

    def __init__(
        self,
        system: InvenTreeSystem,
        rows: Sequence[WmsLocation],
        line: Callable[[InvenTreeStub], httpx.BaseTransport] = lambda stub: stub,
        *,
        token: str = TOKEN,
        page: int = 2000,
        listed: bool = True,
        ask_status: int = ATTENTION,
    ) -> None:
        self.system, self.rows, self.listed = system, tuple(rows), listed
        self.stub = InvenTreeStub(system, listed=listed)
        url = night_url("inventree")
        super().__init__(
            *(url, token, rows),
            zone=system.zone,
            ask_status=ask_status,
            transport=line(self.stub),
            page=page,
            sleep=self.waited,
        )

    def waited(self, seconds: float) -> None:
        """Nothing happens while it waits for a change that is being carried out: here each is done when it is answered."""

    @classmethod
    def of(
        cls, rows: Sequence[WmsLocation], catalogue: Catalogue, clock: Callable[[], int] = time.time_ns, *, listed: bool = True
    ) -> InvenTreeTill:
        """A new stand-in with this stock."""
        return cls(InvenTreeSystem(rows, catalogue, clock), rows, listed=listed)

    def post_movement(self, location_code: str, sku: str, delta: float, *, moved_at_ns: int | None = None) -> None:
        """Pieces come or go. Raises `WmsRejected`."""
        try:
            self.system.sell(location_code, sku, delta, moved_at_ns)
        except InvenTreeError as e:
            raise WmsRejected(str(e)) from e

    def ask(self, location_code: str, *skus: str, at_ns: int = T0 - 10 * MINUTE) -> list[str]:
        """Staff set the status of all that is kept there, before the robot looks; the tasks' names."""
        kept = skus or [r.sku for r in self.rows if r.location_code == location_code]
        items = [int(row["pk"]) for sku in kept for row in self.system.at(location_code, sku)]
        self.system.change_status(items, ATTENTION, "please", at_ns)
        told = {t["item"]: pk for pk, t in sorted(self.system.track.items()) if t["deltas"].get("status") == ATTENTION}
        return [f"{pk}.{told[pk]}" for pk in items]

    def dropped(self, ref: str) -> bool:
        """Whether a task went with its stock item, which was sold out and deleted."""
        return int(ref.partition(".")[0]) not in self.system.items


class _Books(InvenTreeTill):
    """What a night compares with: a place whose stock item was deleted when it was sold out has nothing."""

    def pull_stock(self) -> list[StockRow]:
        """Every mapped pair, and what it has."""
        found = {(s.location_code, s.sku): s for s in super().pull_stock()}
        return [found.get((r.location_code, r.sku), StockRow(r.location_code, r.sku, 0.0, "")) for r in self.rows]


class _Line(NightLine):
    """Most faults where something changes: a line is some twenty requests, most of which read."""

    def weigh(self, request: httpx.Request) -> tuple[float, int]:
        """See `NightLine`."""
        return (10, 0) if request.method == "GET" else (1, self.SALES)


class FaultyInvenTree(OnALine, InvenTreeTill):
    """The same system over a line that fails."""

    def __init__(self, till: InvenTreeTill, rng: random.Random, p_fault: float, meanwhile: Callable[[], None]) -> None:
        def line(stub: InvenTreeStub) -> _Line:
            return self.runs_over(_Line(rng, p_fault, meanwhile, stub))

        super().__init__(till.system, till.rows, line, page=7, listed=till.listed)


def night(seed: int, ledger: Ledger) -> FaultNight:
    """A night; in every third some stock items are deleted when they are sold out."""

    def build(rows: tuple[WmsLocation, ...], catalogue: Catalogue, clock: Callable[[], int]) -> InvenTreeTill:
        deletes, told = (lambda pk: seed % 3 == 0 and pk % 2 == 0), (lambda pk: pk % 3 == 0)
        system = InvenTreeSystem(rows, catalogue, clock, deletes=deletes, told=told)
        return _Books(system, rows, listed=bool(seed % 2))

    return FaultNight(seed, build, ledger, FaultyInvenTree, floor=True)
