"""Nights of faults between the bridge and a warehouse system, and whether every count took effect once or not at all.

A night has a store, its counts, and sales before, during and after the sync. Requests, answers and processes are lost at
random, seeded; the sync is called again and again, as a supervisor does, until it goes through; then whatever was stuck on the
line arrives; then once more. What the system holds at the end says what was lost, applied twice or overwritten.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from shelfscan.adapters.ledger_place import LedgerPlace, server_of
from shelfscan.adapters.ledger_sqlite import SqliteLedger
from shelfscan.adapters.wms_builtin import BuiltinWms
from shelfscan.errors import BadInput, WmsRejected
from shelfscan.evaluation.asked import Asked, faulty_line
from shelfscan.evaluation.faulty_wms import Killed, MemoryWms
from shelfscan.model.bundle import Bundle, WmsLocation
from shelfscan.model.catalogue import Catalogue, Product
from shelfscan.model.geometry import Pose2D
from shelfscan.model.grid import OccupancyGrid
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.stock import BinState, BinStatus, StockMap
from shelfscan.model.store import Aisle, Bay, Bin, Gondola, Shelf, Store
from shelfscan.ports import Ledger, OneWriter
from shelfscan.stock.project import iso_utc
from shelfscan.wms import outbox
from shelfscan.wms.report import SyncReport
from shelfscan.wms.rules import ApprovalPolicy
from shelfscan.wms.sync import Retry, sync_run

#: 2030-01-01 00:00 UTC: when simulated nights are.
T0 = 1_893_456_000_000_000_000
MINUTE = 60_000_000_000
SITE = "store-1"
#: Modules whose ``night`` needs nothing but a seed and a ledger.
_STANDINS = {
    "epcis": "epcis_night",
    "inventree": "inventree_night",
    "odoo": "odoo_night",
    "sap": "sap_night",
    "webhook": "webhook_stub",
}
_EPCIS = ("epcis-folder", "epcis-mqtt")
#: What must not happen.
WRONG = ("doubled", "overwritten", "lost", "erased", "unseen", "wrong", "left", "misanswered")


class Till(Protocol):
    """A warehouse system as a night needs it: the port, and sales."""

    def pull_stock(self) -> Any: ...

    def pull_movements(self, since_ns: int) -> Any: ...

    def post_movement(self, location_code: str, sku: str, delta: float) -> None: ...


Build = Callable[[tuple[WmsLocation, ...], Catalogue, Callable[[], int]], Any]
MakeLedger = Callable[[int], Ledger]
MakeLine = Callable[[Any, random.Random, float, Callable[[], None]], Any]


class BuiltinTill(BuiltinWms):
    """The built-in system, whose staff ask for counts."""

    def ask(self, location_code: str) -> list[str]:
        """Ask for a count of all that is kept there; the task's name."""
        return [str(self.post_task(location_code))]


class DyingLedger:
    """A ledger whose process dies around a write, now and then."""

    def __init__(self, inner: Ledger, rng: random.Random, p_fault: float) -> None:
        self._inner, self._rng, self._p = inner, rng, p_fault

    def append(self, events: Any) -> int:
        """As the ledger's, or the end of the process, before or after."""
        dies = self._rng.random() < self._p
        if dies and self._rng.random() < 0.5:
            raise Killed
        last = self._inner.append(events)
        if dies:
            raise Killed
        return last

    def read(self, after: int = 0, kinds: Any = None) -> Any:
        """As the ledger's."""
        return self._inner.read(after, kinds)

    def writer(self, wms: str) -> AbstractContextManager[None]:
        """As the ledger's, where it has one."""
        return self._inner.writer(wms) if isinstance(self._inner, OneWriter) else nullcontext()

    def close(self) -> None:
        """Nothing: the next process opens the same one."""


class FaultNight:
    """Seeded: a store, its counts, sales before, during and after the sync, and a line that fails.

    ``wall``: the system keeps its own clock, so the night is now and not in 2030. ``floor``: the system stops at nothing
    when more goes than it has, so where more was sold since the look than was counted, nothing is what must be left.
    """

    def __init__(
        self,
        seed: int,
        build: Build,
        ledger: Ledger,
        line: MakeLine = faulty_line,
        *,
        wall: bool = False,
        prefix: str = "L",
        floor: bool = False,
    ) -> None:
        self.rng = rng = random.Random(seed)
        self._wall, self._floor = wall, floor
        self.now = T0 + 30 * MINUTE
        rows: list[WmsLocation] = []
        drawn: list[tuple[int, int]] = []
        for i in range(rng.randint(4, 12)):
            scope = "site" if rng.random() < 0.2 else "shelf"
            on_hand, backroom = rng.randint(0, 12), rng.randint(0, 5)
            rows.append(
                WmsLocation(f"{prefix}{i}", scope, f"b{i}", f"S{i}", on_hand + (backroom if scope == "site" else 0), backroom)
            )
            drawn.append((i, max(0, on_hand + rng.choice((0, 0, -3, -1, 1, 2, 9)))))
        self.bundle = small_bundle(tuple(rows))
        self.wms = build(tuple(rows), self.bundle.catalogue, self.tick)
        self.asked = Asked(self.wms, rows, seed)
        self.begin_ns = time.time_ns() if wall else T0
        bins = [bin_state(f"b{i}", f"S{i}", units, self.begin_ns) for i, units in drawn]
        hidden = {"status": BinStatus.UNSEEN, "reason": "occluded", "units": 0.0, "units_low": 0}
        bins = [replace(b, **hidden) if rng.random() < 0.15 else b for b in bins]  # type: ignore[arg-type]
        self.bins = {b.bin_id.replace("b", prefix): b for b in bins}
        made = self.begin_ns if wall else T0 + 5 * MINUTE
        self.map = StockMap(SITE, "m1", iso_utc(made), tuple(bins))
        self.first = {s.location_code: s for s in self.wms.pull_stock() if s.location_code in self.bins}
        self.sold: Counter[str] = Counter()
        p = rng.choice((0.1, 0.3, 0.6))
        self.p_sale = rng.choice((0.0, 0.02, 0.15))
        self.line = line(self.wms, rng, p, self.sale)
        self.store_ledger = ledger
        self.ledger = DyingLedger(ledger, rng, p / 4)
        for _ in range(rng.randint(0, 3)):
            self.sale(sure=True)

    def tick(self) -> int:
        """The time; it always goes on."""
        self.now = time.time_ns() if self._wall else self.now + 1_000_000
        return self.now

    def sale(self, sure: bool = False) -> None:
        """Perhaps something is sold just now."""
        if sure or self.rng.random() < self.p_sale:
            code = self.rng.choice(sorted(self.first))
            try:
                self.wms.post_movement(code, self.first[code].sku, -1)
            except WmsRejected:
                return  # nothing left to sell
            self.sold[code] -= 1

    def sync(self) -> SyncReport:
        """One try."""
        policy = ApprovalPolicy(auto_post=True, **({"movement_margin_s": 0.0} if self._wall else {}))
        retry = Retry(attempts=3, wait_s=0, max_wait_s=0)
        args = (self.map, self.bundle, self.ledger, self.line, policy)
        return sync_run(*args, mission_id="m1", now_ns=self.tick(), retry=retry, sleep=lambda s: None)

    def run(self) -> SyncReport:
        """Sync again and again, as a supervisor does, until it went through; then everything late arrives; once more."""
        self._through()
        self.line.deliver_late()
        return self._through()

    def _through(self) -> SyncReport:
        for _ in range(400):
            try:
                report = self.sync()
                if report.ok:
                    return report
            except Killed:
                continue
        raise AssertionError("never came to an end")

    def check(self, report: SyncReport) -> Counter[str]:
        """What went wrong, and how much happened at all."""
        counted = {x.location_code: x for x in report.lines}
        moves = self.wms.pull_movements(self.begin_ns if self._wall else 0)
        stock = {s.location_code: s for s in self.wms.pull_stock()}
        found: Counter[str] = Counter()
        for code, first in self.first.items():
            mine = [m for m in moves if m.location_code == code]
            counts = [i for i, m in enumerate(mine) if m.kind == "count"]
            expected = (self.bins[code].units if counts else first.on_hand) + self.sold[code]
            if self._floor:
                expected = max(0, expected)
            wrong = stock[code].on_hand != expected
            found["doubled"] += len(counts) > 1
            # Whatever was sold between the look and the count must still be gone after it.
            found["overwritten"] += wrong and bool(counts) and any(m.kind != "count" for m in mine[: counts[0]])
            found["lost"] += (counted[code].outcome == "posted") != bool(counts)
            found["erased"] += stock[code].backroom != first.backroom or (bool(counts) and counted[code].scope == "site")
            found["unseen"] += bool(counts) and self.bins[code].status is BinStatus.UNSEEN
            found["wrong"] += wrong
            found["posted"] += len(counts)
            found["held"] += counted[code].outcome in ("held", "recount")
        found["left"] += sum(not e.final for e in outbox.entries(self.store_ledger.read(), "m1", report.wms).values())
        found.update(self.asked.check(report, self.bins, self.first))
        found["faults"] += self.line.faults
        return found


def bin_state(bin_id: str, sku: str, units: float, at_ns: int) -> BinState:
    """A bin that was seen in full and counted for sure."""
    n = int(units + 0.5)
    status = BinStatus.OUT_OF_STOCK if n == 0 else BinStatus.OK
    return BinState(bin_id, sku, status, False, 1, units, n, n, 0.99, "", (0.0, 0.0, 0.0), iso_utc(at_ns))


def small_bundle(rows: tuple[WmsLocation, ...]) -> Bundle:
    """A store with one shelf that has every bin the rows name."""
    ids = list(dict.fromkeys(r.bin_id for r in rows if r.bin_id))
    shelf = Shelf("S1", 0.5, 0.4, 0.4, tuple(Bin(b, 0.1 * i, 0.1) for i, b in enumerate(ids)))
    gondola = Gondola("G", Pose2D(0, 0, 0), 0.4, 2.0, (Bay("B", 0, 0.1 * max(1, len(ids)), (shelf,)),))
    skus = dict.fromkeys(r.sku for r in rows)
    products = {s: Product(s, "4006381333931", f"Tea {s}", "Brand", "tea", 0.1, 0.1, 0.1, 2.5) for s in skus}
    plan = {r.bin_id: PlanogramLine(r.bin_id, r.sku, 2, 1, 6) for r in rows if r.bin_id}
    grid = OccupancyGrid(np.zeros((2, 2), np.int8), 0.05, (0.0, 0.0))
    store = Store(SITE, (Aisle("A", (gondola,)),))
    return Bundle(Path("store"), store, products, plan, {}, grid, None, rows)  # type: ignore[arg-type]


def campaign(
    wms: str,
    runs: int,
    seed: int,
    report: Callable[[str, float], None] = lambda what, done: None,
    tryton: str = "",
    make_ledger: MakeLedger | None = None,
) -> dict[str, Any]:
    """``runs`` seeded nights against a system; counts of what went wrong, and of what happened.

    ``wms``: ``builtin`` (SQLite files and ledgers), ``memory``, ``tryton`` (a server, see `evaluation.tryton_night`), or a
    stand-in (see `evaluation.odoo_stub` and the like): ``epcis``, ``epcis-folder``, ``epcis-mqtt``, ``folder``, ``inventree``,
    ``odoo``, ``sap``, ``webhook``. ``make_ledger``: other ledgers than files. Raises `BadInput` for another name.
    """
    started = time.monotonic()
    total: Counter[str] = Counter(dict.fromkeys((*WRONG, "posted", "held", "asked", "answered", "faults"), 0))
    bad: list[int] = []
    with tempfile.TemporaryDirectory(prefix="shelfscan-campaign-") as folder:
        night_of = _nights(wms, Path(folder), tryton, make_ledger or _files_in(Path(folder)))
        for n in range(runs):
            night, close = night_of(seed + n)
            try:
                found = night.check(night.run())
                total.update(found)
                bad += [seed + n] if any(found[k] for k in WRONG) else []
            finally:
                close()
            report("running", (n + 1) / runs)
    return {"runs": runs, "wms": wms, **total, "bad_seeds": bad[:20], "seconds": round(time.monotonic() - started, 1)}


def _files_in(folder: Path) -> MakeLedger:
    return lambda seed: SqliteLedger(folder / f"{seed}.ledger", site=SITE)


def ledgers_on(url: str, site: str = SITE) -> MakeLedger:
    """Ledgers in a PostgreSQL test database, the password from SHELFSCAN_LEDGER_PASSWORD where that is set."""
    from shelfscan.adapters.ledger_postgres import PostgresLedger

    password = "env:SHELFSCAN_LEDGER_PASSWORD" if "SHELFSCAN_LEDGER_PASSWORD" in os.environ else ""
    place = LedgerPlace.new(url, password, "auto", None, 30.0)
    server = server_of(place)
    return lambda seed: PostgresLedger(server, f"{place.run}/{seed}", site=site)


def _nights(
    wms: str, folder: Path, tryton: str, make_ledger: MakeLedger
) -> Callable[[int], tuple[FaultNight, Callable[[], None]]]:
    make = _maker(wms, folder, tryton)

    def night(seed: int) -> tuple[FaultNight, Callable[[], None]]:
        ledger = make_ledger(seed)
        made, clear = make(seed, ledger)

        def close() -> None:
            ledger.close()
            clear()
            for path in folder.glob(f"{seed}.*"):
                path.unlink()

        return made, close

    return night


def _maker(wms: str, folder: Path, tryton: str) -> Callable[[int, Ledger], tuple[FaultNight, Callable[[], None]]]:
    """What makes a night of a seed and a ledger, and clears up after it. Raises `BadInput`."""

    def builtin(seed: int, ledger: Ledger) -> tuple[FaultNight, Callable[[], None]]:
        def build(rows: tuple[WmsLocation, ...], catalogue: Catalogue, clock: Callable[[], int]) -> BuiltinTill:
            return BuiltinTill(folder / f"{seed}.sqlite", seed=(rows, catalogue), clock=clock)

        return FaultNight(seed, build, ledger), _nothing

    if wms == "builtin":
        return builtin
    if wms == "memory":
        return lambda seed, ledger: (FaultNight(seed, MemoryWms, ledger), _nothing)
    if wms == "tryton":
        from shelfscan.evaluation.tryton_night import TrytonServer

        server = TrytonServer.of(tryton)
        return lambda seed, ledger: (server.night(seed, ledger), _nothing)
    if wms in _STANDINS:
        standin = import_module(f"shelfscan.evaluation.{_STANDINS[wms]}").night
        return lambda seed, ledger: (standin(seed, ledger), _nothing)
    if wms in _EPCIS:
        from shelfscan.evaluation.epcis_night import night_by

        def by_way(seed: int, ledger: Ledger) -> tuple[FaultNight, Callable[[], None]]:
            made = night_by(wms.partition("-")[2], seed, ledger)
            return made, made.line.close

        return by_way
    if wms == "folder":
        from shelfscan.evaluation import folder_stub

        return lambda seed, ledger: folder_stub.night(seed, ledger, folder)
    known = ", ".join(sorted({"builtin", "folder", "memory", "tryton", *_STANDINS, *_EPCIS}))
    raise BadInput(f"--wms: no campaign against {wms!r}; known: {known}")


def _nothing() -> None:
    """Nothing is left to clear up."""
