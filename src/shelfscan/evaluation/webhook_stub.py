"""The other side of `adapters.wms_webhook`: a service that keeps keys and versions, and has field names of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, unquote

import httpx

from shelfscan.adapters.wms_webhook import WebhookWms
from shelfscan.errors import WmsRejected
from shelfscan.evaluation.faulty_wms import FaultyTransport, MemoryWms
from shelfscan.evaluation.night_line import OnALine, night_url
from shelfscan.evaluation.sync_campaign import FaultNight
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.catalogue import Catalogue
from shelfscan.model.times import from_iso
from shelfscan.ports import Ledger
from shelfscan.wms.document import CountDocument
from shelfscan.wms.port import Receipt

TOKEN = "stub-token"
#: The stub's own names, which the client is told of.
FIELDS = {"location_code": "place.code", "on_hand": "qty.shelf", "backroom": "qty.back", "version": "rev"}


class WebhookService(httpx.BaseTransport):
    """Keeps the rules of `MemoryWms` behind HTTP."""

    def __init__(self, rows: Sequence[WmsLocation], catalogue: Catalogue, clock: Callable[[], int]) -> None:
        self.books, self._catalogue = MemoryWms(tuple(rows), catalogue, clock), catalogue
        #: Counts that are asked for, by number; and what was said to those that are done.
        self.tasks: dict[str, dict[str, Any]] = {}
        self.closed: dict[str, list[str]] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return httpx.Response(401, json={"error": "who are you?"})
        path = request.url.path
        if request.method == "POST" and path == "/counts":
            return self._count(request)
        if request.method == "POST" and path.startswith("/tasks/") and path.endswith("/close"):
            ref = unquote(path.removeprefix("/tasks/").removesuffix("/close"))
            if ref not in self.tasks:
                return httpx.Response(404, json={"error": f"no task {ref}"})
            self.closed.setdefault(ref, []).append(str(json.loads(request.content)["message"]))
            return httpx.Response(204)
        if request.method != "GET":
            return httpx.Response(405, json={"error": "GET or POST"})
        if path.startswith("/counts/"):
            receipt = self.books.find(unquote(path.removeprefix("/counts/")))
            return httpx.Response(200, json=_said(receipt)) if receipt else httpx.Response(404, json={"error": "no such key"})
        query = {k: v[0] for k, v in parse_qs(request.url.query.decode()).items()}
        rows = self._rows(path, query)
        return httpx.Response(404, json={"error": path}) if rows is None else httpx.Response(200, json=rows)

    def _rows(self, path: str, query: dict[str, str]) -> list[dict[str, Any]] | None:
        b = self.books
        if path == "/locations":
            return [{"place": {"code": c}, "scope": s} for c, s in b.scopes.items()]
        if path == "/tasks":
            return [{"ref": ref, **t} for ref, t in self.tasks.items() if ref not in self.closed]
        if path == "/products":
            return [{"sku": p.sku, "gtin": p.gtin, "name": p.name} for p in self._catalogue.values()]
        if path == "/stock":
            return [
                {
                    "place": {"code": s.location_code},
                    "sku": s.sku,
                    "rev": s.version,
                    "qty": {"shelf": s.on_hand, "back": s.backroom},
                }
                for s in b.stock.values()
            ]
        if path == "/movements" and "since" in query:
            since = from_iso(query["since"])
            return [
                {
                    "place": {"code": m.location_code},
                    "sku": m.sku,
                    "delta": m.delta,
                    "moved_at": _iso(m.moved_at_ns),
                    "kind": m.kind,
                    "reference": m.reference,
                }
                for m in b.movements
                if _at(m.moved_at_ns) >= since
            ]
        return None

    def _count(self, request: httpx.Request) -> httpx.Response:
        data = json.loads(request.content)
        if request.headers.get("idempotency-key") != data.get("doc_id"):
            return httpx.Response(400, json={"error": "Idempotency-Key is not the document's"})
        data.pop("digest", None)
        try:
            return httpx.Response(200, json=_said(self.books.submit(CountDocument.from_json(data))))
        except WmsRejected as e:
            return httpx.Response(422, json={"error": str(e)})


class WebhookTill(WebhookWms):
    """A client of the stub, and the till beside it."""

    def __init__(
        self,
        service: WebhookService,
        rows: Sequence[WmsLocation],
        line: Callable[[httpx.BaseTransport], httpx.BaseTransport] = lambda t: t,
        token: str = TOKEN,
    ) -> None:
        self.service, self.rows = service, tuple(rows)
        super().__init__(night_url("webhook"), token, rows, fields=FIELDS, transport=line(service))

    def post_movement(self, location_code: str, sku: str, delta: float, *, moved_at_ns: int | None = None) -> None:
        """Pieces come or go. Raises `WmsRejected`."""
        self.service.books.post_movement(location_code, sku, delta, moved_at_ns=moved_at_ns)

    def ask(self, location_code: str) -> list[str]:
        """Staff ask for a count; the task's name."""
        self.service.tasks[f"T/{location_code}"] = {"place": {"code": location_code}}
        return [f"T/{location_code}"]


def night(seed: int, ledger: Ledger) -> FaultNight:
    """A night in which requests and answers are lost, doubled, delayed and refused on the way to the service."""
    made: list[WebhookTill] = []

    def build(rows: tuple[WmsLocation, ...], catalogue: Catalogue, clock: Callable[[], int]) -> WebhookTill:
        made.append(WebhookTill(WebhookService(rows, catalogue, clock), rows))
        return made[0]

    def line(inner: Any, rng: Any, p_fault: float, meanwhile: Callable[[], None]) -> Any:
        return _OnALine(made[0], rng, p_fault, meanwhile)

    return FaultNight(seed, build, ledger, line)


class _OnALine(OnALine, WebhookTill):
    """The same service over a line that fails."""

    def __init__(self, till: WebhookTill, rng: Any, p_fault: float, meanwhile: Callable[[], None]) -> None:
        def line(service: httpx.BaseTransport) -> httpx.BaseTransport:
            return self.runs_over(FaultyTransport(rng, p_fault, meanwhile, service))

        super().__init__(till.service, till.rows, line)


def _said(receipt: Receipt) -> dict[str, Any]:
    return {"lines": [{"line_no": s.line_no, "result": s.result, "message": s.message} for s in receipt.lines]}


def _at(stamp_ns: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=stamp_ns // 1000)


def _iso(stamp_ns: int) -> str:
    return _at(stamp_ns).isoformat(timespec="microseconds").replace("+00:00", "Z")
