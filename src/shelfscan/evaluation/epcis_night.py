"""A night of faults against a stand-in for an EPCIS repository, and what its reader then takes the shelves to hold.

A repository keeps no stock: who reads it replays its events, and that is what is compared. `EpcisBooks` is such a reader: for
each place, in the order of ``eventTime``, a count says what there is and a sale takes something off. In that order, for a count
that is captured hours after the look must not undo what was sold in between; an event that told the time of its sending would.

Every fourth night the repository is of another kind: as the standard says; one that carries captures out late and shows events
late; one that refuses an event that it has, and more than three at once; and one that keeps whatever it is sent, on a line that
doubles and delays nothing, so that every event which is there twice is the bridge's doing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import httpx

from shelfscan.adapters.epcis_http import HttpCarrier
from shelfscan.adapters.wms_epcis import EpcisWms
from shelfscan.evaluation.epcis_stub import TOKEN, EpcisRepository
from shelfscan.evaluation.epcis_ways import by_folder, by_mqtt
from shelfscan.evaluation.night_line import NightLine, OnALine, night_url
from shelfscan.evaluation.sync_campaign import SITE, FaultNight
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.catalogue import Catalogue
from shelfscan.model.gtin import gtin14
from shelfscan.model.stock import BinStatus
from shelfscan.ports import Ledger
from shelfscan.wms import outbox
from shelfscan.wms.epcis import DOCUMENT, Places, iso_ms, observation
from shelfscan.wms.port import Movement, StockRow
from shelfscan.wms.report import SyncReport
from shelfscan.wms.rules import Decision
from shelfscan.wms.sync import decide

HOUR_NS = 3_600_000_000_000
_OTHERS = "urn:uuid:00000000-0000-4000-8000-{:012d}"


class EpcisBooks:
    """A repository's reader, and the others that write to it: a till, and who counted the day before.

    A shelf place is ``urn:shelfscan:SITE:BIN``. A location that is the whole site has a place of its own beside, where the day
    before says what there is of a product, backroom included.
    """

    def __init__(
        self, repository: EpcisRepository, rows: Sequence[WmsLocation], catalogue: Catalogue, clock: Callable[[], int]
    ) -> None:
        self.repository, self.rows, self._clock = repository, tuple(rows), clock
        self._gtin = {r.sku: gtin14(catalogue[r.sku].gtin) for r in rows}
        self._numbers = count(1)
        before = clock() - 12 * HOUR_NS
        for r in rows:
            shelf = r.on_hand - (r.backroom if r.scope == "site" else 0)
            self._capture(r.bin_id, r.sku, shelf, before, "OBSERVE")
            if r.scope == "site":
                self._capture(r.location_code, r.sku, r.on_hand, before, "OBSERVE")
        self.others = {k: dict(e) for k, e in repository.events.items()}

    def pull_stock(self) -> list[StockRow]:
        """What a reader takes each location's shelf place to hold, and as its backroom what it takes the whole site to hold."""
        return [
            StockRow(r.location_code, r.sku, self._replayed(r.bin_id), "", self._replayed(r.location_code)) for r in self.rows
        ]

    def pull_movements(self, since_ns: int) -> list[Movement]:
        """None: the events themselves are looked at."""
        return []

    def post_movement(self, location_code: str, sku: str, delta: float) -> None:
        """The till sells."""
        row = next(r for r in self.rows if r.location_code == location_code)
        identity = self._capture(row.bin_id, sku, -delta, self._clock(), "DELETE")
        self.others[identity] = dict(self.repository.events[identity])

    def ours(self) -> Iterator[dict[str, Any]]:
        """The bridge's events."""
        return (e for e in self.repository.events.values() if DOCUMENT in e)

    def _capture(self, place: str, sku: str, units: float, at_ns: int, action: str) -> str:
        identity, at = _OTHERS.format(next(self._numbers)), iso_ms(at_ns)
        event = observation(identity, at, self._gtin[sku], int(units), Places().of(SITE, place), kind="stock_taking")
        if action == "DELETE":
            event |= {"action": action, "bizStep": "retail_selling", "disposition": "retail_sold"}
        self.repository.keep(event)
        return identity

    def _replayed(self, place: str) -> float:
        there = [e for e in self.repository.events.values() if e["readPoint"]["id"] == read_point(place)]
        units = 0.0
        for e in sorted(there, key=lambda e: str(e["eventTime"])):
            amount = float(e["quantityList"][0]["quantity"])
            units = amount if e["action"] == "OBSERVE" else units - amount
        return units


def read_point(place: str) -> str:
    """How a place is called in events."""
    return Places().of(SITE, place)[0]


class _Line(NightLine):
    """Somebody is also said to be in the way (409), before or after the capture; jobs and look-ups fail less often."""

    KINDS = (*NightLine.KINDS, "409 before", "409 after")

    def weigh(self, request: httpx.Request) -> tuple[float, int]:
        """See `NightLine`."""
        return (2, self.SALES) if request.method == "POST" else (6, 0)


class _LosingLine(_Line):
    """Loses and refuses, but brings nothing twice and nothing late."""

    KINDS = tuple(k for k in _Line.KINDS if k not in ("doubled", "late"))


class FaultyEpcis(OnALine, EpcisWms):
    """The bridge's client over a line that fails."""

    def __init__(
        self, books: EpcisBooks, rng: random.Random, p_fault: float, meanwhile: Callable[[], None], log: bool = False
    ) -> None:
        line = self.runs_over((_LosingLine if log else _Line)(rng, p_fault, meanwhile, books.repository))
        carrier = HttpCarrier(night_url("epcis"), TOKEN, wait_s=5.0, poll_s=1.0, transport=line, sleep=lambda seconds: None)
        super().__init__(carrier, Places())

    def collect(self) -> None:
        """Nothing: a repository has what it took."""


def repository_of(seed: int) -> EpcisRepository:
    """One of the four kinds."""
    match seed % 4:
        case 0:
            return EpcisRepository()
        case 1:
            return EpcisRepository(lazy=4, lag=3)
        case 2:
            return EpcisRepository(strict=True, limit=3)
        case _:
            return EpcisRepository(log=True)


class EpcisNight(FaultNight):
    """A night against a repository. ``books``: its reader; ``make``: the client on its line; ``http``: it may refuse."""

    def __init__(self, seed: int, ledger: Ledger, make: Callable[..., Any] = FaultyEpcis, *, http: bool = True) -> None:
        self.repository = repository_of(seed) if http else EpcisRepository()

        def build(rows: tuple[WmsLocation, ...], catalogue: Catalogue, clock: Callable[[], int]) -> EpcisBooks:
            self.books = EpcisBooks(self.repository, rows, catalogue, clock)
            return self.books

        def line(books: EpcisBooks, rng: random.Random, p: float, meanwhile: Callable[[], None]) -> Any:
            return make(books, rng, p, meanwhile, self.repository.log)

        super().__init__(seed, build, ledger, line)
        own = random.Random(f"epcis {seed}")
        places = {code: b.bin_id for code, b in self.bins.items()}
        #: Places that the repository takes no event of.
        self.unknown = {code for code in places if own.random() < 0.06 and http}
        self.repository.unknown_places = {read_point(places[code]) for code in self.unknown}
        wms = self.line.capabilities().name
        for b in self.bins.values():
            if b.units == 0 and own.random() < 0.5:
                said = Decision(f"{b.bin_id}/{b.sku}", True, "anna", "looked", self.tick(), 0, 0.0)
                decide(ledger, "m1", wms, said)

    def run(self) -> SyncReport:
        """As any night; captures that were accepted and not yet carried out are, too, before the last sync."""
        self._through()
        self.line.deliver_late()
        self.repository.finish()
        return self._through()

    def check(self, report: SyncReport) -> Counter[str]:
        """What went wrong, in a repository's terms (docs/wms/epcis.md), and how much happened at all."""
        self.line.collect()
        counted = {x.bin_id: x for x in report.lines}
        ours: dict[str, list[dict[str, Any]]] = {}
        for e in self.books.ours():
            ours.setdefault(str(e["readPoint"]["id"]), []).append(e)
        stock = {s.location_code: s for s in self.books.pull_stock()}
        found: Counter[str] = Counter()
        for code, first in self.first.items():
            b = self.bins[code]
            mine, line = ours.pop(read_point(b.bin_id), []), counted[b.bin_id]
            wrong = stock[code].on_hand != (b.units if mine else first.on_hand) + self.sold[code]
            found["doubled"] += sum(self.repository.kept[e["eventID"]] for e in mine) > 1
            found["overwritten"] += wrong and bool(mine) and self.sold[code] < 0
            found["lost"] += (line.outcome == "posted") != bool(mine)
            found["refused"] += line.outcome == "rejected"
            # What nobody refuses arrives, and what is sure is not said to be anything else.
            found["lost"] += line.outcome in ("rejected", "conflict", "pending") and code not in self.unknown
            found["erased"] += stock[code].backroom != first.backroom
            found["unseen"] += bool(mine) and b.status is BinStatus.UNSEEN
            found["wrong"] += wrong
            found["posted"] += len(mine)
            found["held"] += line.outcome in ("held", "recount")
        # What is left is at no shelf place: a site's total, perhaps, given out as a shelf's.
        found["erased"] += len(ours)
        found["overwritten"] += sum(self.repository.events.get(k) != e for k, e in self.books.others.items())
        found["left"] += sum(not e.final for e in outbox.entries(self.store_ledger.read(), "m1", report.wms).values())
        found["again"] += self.repository.again
        found["faults"] += self.line.faults
        return found


def night(seed: int, ledger: Ledger) -> EpcisNight:
    """A night of one of four kinds."""
    return EpcisNight(seed, ledger)


def night_by(way: str, seed: int, ledger: Ledger) -> EpcisNight:
    """A night by ``folder`` or ``mqtt``."""
    return EpcisNight(seed, ledger, by_folder if way == "folder" else by_mqtt, http=False)
