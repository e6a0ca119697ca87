"""A warehouse system in memory that keeps the port's rules, and lines to any of them on which everything goes wrong.

`FaultyLine` fails between the bridge and a client; `FaultyTransport` fails between a client and a server behind HTTP.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx

from shelfscan.errors import WmsConflict, WmsRejected, WmsTransient, WmsUnknown
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.catalogue import Catalogue
from shelfscan.wms.document import CountDocument
from shelfscan.wms.port import (
    Capabilities,
    Health,
    LineStatus,
    Movement,
    Receipt,
    StockRow,
    WmsClient,
    WmsPlace,
    WmsProduct,
)

#: What of an answer's head a line hands on.
KEPT_HEADERS = ("content-type", "location", "set-cookie", "x-csrf-token", "sap-message", "etag")


class Killed(BaseException):
    """The process is gone: nothing that runs in it may catch this."""


class MemoryWms:
    """Keeps keys, versions and scopes as the port demands."""

    def __init__(self, rows: tuple[WmsLocation, ...], catalogue: Catalogue, clock: Callable[[], int]) -> None:
        self._clock = clock
        self.scopes = {r.location_code: r.scope for r in rows}
        self.stock = {(r.location_code, r.sku): StockRow(r.location_code, r.sku, r.on_hand, "1", r.backroom) for r in rows}
        self.products = [WmsProduct(p.sku, "", p.name) for p in catalogue.values()]
        self.movements: list[Movement] = []
        self.counts: dict[str, tuple[str, Receipt]] = {}
        self._writing = False

    def capabilities(self) -> Capabilities:
        return Capabilities("memory", unique_key=True, checks_version=True, max_lines=3)

    def pull_locations(self) -> list[WmsPlace]:
        return [WmsPlace(c, "site" if s == "site" else "shelf") for c, s in self.scopes.items()]

    def pull_products(self) -> list[WmsProduct]:
        return list(self.products)

    def pull_stock(self) -> list[StockRow]:
        return list(self.stock.values())

    def pull_movements(self, since_ns: int) -> list[Movement]:
        return [m for m in self.movements if m.moved_at_ns >= since_ns]

    def find(self, key: str) -> Receipt | None:
        return self.counts[key][1] if key in self.counts else None

    def status(self, receipt_id: str) -> Receipt | None:
        return next((r for _, r in self.counts.values() if r.receipt_id == receipt_id), None)

    def submit(self, doc: CountDocument) -> Receipt:
        if doc.doc_id in self.counts:
            digest, receipt = self.counts[doc.doc_id]
            if digest != doc.digest:
                raise WmsRejected("the key belongs to another document")
            return receipt
        statuses = []
        for line in doc.lines:
            row = self.stock.get((line.location_code, line.sku))
            if row is None or self.scopes[line.location_code] == "site":
                statuses.append(LineStatus(line.line_no, "rejected", "not a shelf with this product"))
            elif row.version != line.expected_version:
                statuses.append(LineStatus(line.line_no, "conflict", "moved"))
            else:
                statuses.append(LineStatus(line.line_no, "applied"))
                self._change(line.location_code, line.sku, line.qty - row.on_hand, "count", doc.doc_id)
        receipt = Receipt(doc.doc_id, f"R{len(self.counts)}", tuple(statuses))
        self.counts[doc.doc_id] = (doc.digest, receipt)
        return receipt

    def post_movement(self, location_code: str, sku: str, delta: float, *, moved_at_ns: int | None = None) -> None:
        if (location_code, sku) not in self.stock:
            raise WmsRejected("no such stock")
        self._change(location_code, sku, delta, "sale", "", moved_at_ns)

    def health(self) -> Health:
        return Health(True, "fine")

    @contextmanager
    def writer(self) -> Iterator[None]:
        if self._writing:
            raise WmsTransient("another process is writing")
        self._writing = True
        try:
            yield
        finally:
            self._writing = False

    def _change(self, code: str, sku: str, delta: float, kind: str, reference: str, at_ns: int | None = None) -> None:
        row = self.stock[code, sku]
        self.stock[code, sku] = replace(row, on_hand=row.on_hand + delta, version=str(int(row.version) + 1))
        self.movements.append(Movement(code, sku, delta, self._clock() if at_ns is None else at_ns, kind, reference))


class FaultyLine:
    """A `WmsClient` that reaches ``inner`` over a line on which requests and answers are lost, doubled and delayed."""

    def __init__(self, inner: WmsClient, rng: random.Random, p_fault: float, meanwhile: Callable[[], None]) -> None:
        self._inner, self._rng, self._p, self._meanwhile = inner, rng, p_fault, meanwhile
        self.late: list[CountDocument] = []
        self.faults = 0

    def capabilities(self) -> Capabilities:
        return self._inner.capabilities()

    def pull_locations(self) -> object:
        return self._ask(self._inner.pull_locations)

    def pull_products(self) -> object:
        return self._ask(self._inner.pull_products)

    def pull_stock(self) -> object:
        return self._ask(self._inner.pull_stock)

    def pull_movements(self, since_ns: int) -> object:
        return self._ask(lambda: self._inner.pull_movements(since_ns))

    def find(self, key: str) -> object:
        return self._ask(lambda: self._inner.find(key))

    def status(self, receipt_id: str) -> object:
        return self._ask(lambda: self._inner.status(receipt_id))

    def health(self) -> Health:
        return self._inner.health()

    def writer(self) -> object:
        return self._inner.writer()

    def submit(self, doc: CountDocument) -> Receipt:
        self._meanwhile()
        if self._rng.random() >= self._p:
            return self._inner.submit(doc)
        self.faults += 1
        match self._rng.choice(
            ("refused", "lost request", "lost answer", "doubled", "late", "kill before", "kill after", "conflict")
        ):
            case "refused":
                raise WmsTransient("503")
            case "lost request":
                raise WmsUnknown("timeout")
            case "lost answer":
                self._inner.submit(doc)
                raise WmsUnknown("timeout")
            case "doubled":
                self._inner.submit(doc)
                self._meanwhile()
                return self._inner.submit(doc)
            case "late":
                self.late.append(doc)
                raise WmsUnknown("timeout")
            case "kill before":
                raise Killed
            case "kill after":
                self._inner.submit(doc)
                raise Killed
            case _:
                raise WmsConflict("somebody else was quicker")

    def deliver_late(self) -> None:
        """What was stuck on the line arrives after all."""
        for doc in self.late:
            self._inner.submit(doc)
        self.late.clear()

    def _ask(self, question: Callable[[], object]) -> object:
        self._meanwhile()
        if self.late and self._rng.random() < 0.5:
            self.deliver_late()
        if self._rng.random() < self._p / 3:
            self.faults += 1
            raise self._rng.choice((WmsTransient("503"), Killed()))
        return question()


class FaultyTransport(httpx.BaseTransport):
    """HTTP on which requests and answers are lost, doubled, delayed and refused, seeded; to a server, or to ``inner``."""

    KINDS: tuple[str, ...] = (
        *("refused", "lost request", "lost answer", "doubled", "late", "kill before", "kill after"),
        *("429", "503 before", "503 after", "not json"),
    )

    def __init__(
        self, rng: random.Random, p_fault: float, meanwhile: Callable[[], None], inner: httpx.BaseTransport | None = None
    ) -> None:
        self._inner = inner or httpx.HTTPTransport()
        self._rng, self._p, self._meanwhile = rng, p_fault, meanwhile
        self.late: list[httpx.Request] = []
        self.faults = 0
        self.kinds: dict[str, int] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it, or let something happen to it."""
        request.read()
        self._meanwhile()
        if self.late and self._rng.random() < 0.3:
            self.deliver_late()
        if self._rng.random() >= self._p:
            return self._send(request)
        self.faults += 1
        kind = self._rng.choice(self.KINDS)
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if kind in ("lost answer", "doubled", "kill after", "503 after", "not json", "nonsense after", "409 after"):
            response = self._send(request)
            if kind == "doubled":
                self._meanwhile()
                return self._send(request)
            if kind == "kill after":
                raise Killed
            if kind == "503 after":
                return httpx.Response(503, text="upstream timed out", request=request)
            if kind == "409 after":
                return httpx.Response(409, json={"title": "is there already"}, request=request)
            if kind == "not json":
                return httpx.Response(200, text="<html>please log in</html>", request=request)
            if kind == "nonsense after":
                return httpx.Response(200, json={}, request=request)
            raise httpx.ReadTimeout(f"the answer was lost ({response.status_code})", request=request)
        match kind:
            case "refused":
                raise httpx.ConnectError("connection refused", request=request)
            case "429":
                return httpx.Response(429, text="slow down", request=request)
            case "409 before":
                return httpx.Response(409, json={"title": "somebody else was quicker"}, request=request)
            case "503 before":
                return httpx.Response(503, text="maintenance", request=request)
            case "nonsense before":
                return httpx.Response(200, json={}, request=request)
            case "kill before":
                raise Killed
            case "late":
                self.late.append(request)
        raise httpx.ReadTimeout("no answer", request=request)

    def deliver_late(self) -> None:
        """What was stuck on the line arrives after all."""
        waiting, self.late = self.late, []
        for request in waiting:
            self._send(request)

    def _send(self, request: httpx.Request) -> httpx.Response:
        copy = httpx.Request(request.method, request.url, headers=request.headers, content=request.content)
        for attempt in range(5):
            try:
                response = self._inner.handle_request(copy)
                response.read()
                kept = {k: response.headers[k] for k in KEPT_HEADERS if k in response.headers}
                return httpx.Response(response.status_code, headers=kept, content=response.content, request=request)
            except httpx.TransportError:
                # The server itself is slow or closes a kept connection: no fault of this night.
                if attempt == 4:
                    raise
                time.sleep(0.05)
        raise AssertionError

    def close(self) -> None:
        """Give the connections back."""
        self._inner.close()
