"""A warehouse system behind a plain REST service of your own: JSON in, JSON out, field names as you have them.

For an integration layer (an iPaaS flow, a small service beside an ERP). It gets ``POST {url}{submit}`` with the count document
as JSON and our key as ``Idempotency-Key``, and answers per line; ``GET`` of the other paths gives locations, products, stock,
movements, and what was answered to a key. What it must keep: a key it knows is answered again and applied no second time; a
line whose ``expected_version`` is not the stock's any more is a conflict.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

import httpx

from shelfscan.adapters.webhook_body import Body
from shelfscan.adapters.wms_http import HttpSystem, local_writer
from shelfscan.errors import WmsError, WmsRejected, WmsUnknown
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.gtin import gtin14
from shelfscan.model.times import from_iso, ns_of
from shelfscan.wms.document import CountDocument
from shelfscan.wms.port import (
    Capabilities,
    Health,
    LineResult,
    LineStatus,
    Movement,
    Receipt,
    StockRow,
    WmsPlace,
    WmsProduct,
)
from shelfscan.wms.tasks import CountTask

PATHS: Mapping[str, str] = {
    "locations": "/locations",
    "products": "/products",
    "stock": "/stock",
    "movements": "/movements?since={since}",
    "submit": "/counts",
    "find": "/counts/{key}",
    "tasks": "/tasks",
    "close_task": "/tasks/{ref}/close",
}
#: What the fields are called unless the configuration says otherwise; a name with dots goes into objects.
FIELDS: Mapping[str, str] = {
    name: name
    for name in (
        *("location_code", "scope", "sku", "gtin", "name", "on_hand", "backroom", "version"),
        *("delta", "moved_at", "kind", "reference", "lines", "line_no", "result", "message", "ref", "due_at"),
        *("asked_at", "note"),
    )
}
_RESULTS: tuple[LineResult, ...] = ("applied", "conflict", "rejected")


class WebhookWms:
    """A `WmsClient` of such a service. ``rows``: what the store maps; ``paths`` and ``fields`` over the defaults; ``body``: how
    a document is written, when not as plain JSON.
    """

    def __init__(
        self,
        url: str,
        token: str,
        rows: Sequence[WmsLocation],
        *,
        paths: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        body: Body | None = None,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = HttpSystem(url, timeout_s=timeout_s, headers=headers, transport=transport)
        self._paths, self._fields = {**PATHS, **(paths or {})}, {**FIELDS, **(fields or {})}
        self._scope, self._body = {r.location_code: r.scope for r in rows}, body

    def capabilities(self) -> Capabilities:
        """See `WmsClient.capabilities`."""
        return Capabilities("webhook", unique_key=True, checks_version=True, max_lines=200)

    def pull_locations(self) -> list[WmsPlace]:
        """See `WmsClient.pull_locations`; a location is site-wide when either side says so."""
        out = []
        for row in self._list("locations"):
            code = self._text(row, "location_code", "locations")
            site = "site" in (str(self._get(row, "scope") or ""), self._scope.get(code, ""))
            out.append(WmsPlace(code, "site" if site else "shelf"))
        return out

    def pull_products(self) -> list[WmsProduct]:
        """See `WmsClient.pull_products`."""
        return [
            WmsProduct(
                self._text(r, "sku", "products"), gtin14(str(self._get(r, "gtin") or "")), str(self._get(r, "name") or "")
            )
            for r in self._list("products")
        ]

    def pull_stock(self) -> list[StockRow]:
        """See `WmsClient.pull_stock`."""
        return [
            StockRow(
                self._text(r, "location_code", "stock"),
                self._text(r, "sku", "stock"),
                self._number(r, "on_hand", "stock"),
                self._text(r, "version", "stock"),
                self._number(r, "backroom", "stock") if self._get(r, "backroom") is not None else 0.0,
            )
            for r in self._list("stock")
        ]

    def pull_movements(self, since_ns: int) -> list[Movement]:
        """See `WmsClient.pull_movements`."""
        since = datetime.fromtimestamp(since_ns / 1e9, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        found = [
            Movement(
                self._text(r, "location_code", "movements"),
                self._text(r, "sku", "movements"),
                self._number(r, "delta", "movements"),
                self._time(r, "moved_at", "movements"),
                self._text(r, "kind", "movements"),
                str(self._get(r, "reference") or ""),
            )
            for r in self._list("movements", since=quote(since))
        ]
        return [m for m in found if m.moved_at_ns >= since_ns]

    def find(self, key: str) -> Receipt | None:
        """See `WmsClient.find`; 404 or an empty answer: it never got the document."""
        try:
            answer = self._http.call("GET", self._paths["find"].format(key=quote(key, safe="")), changes=False)
        except WmsRejected as e:
            if ": 404" in str(e):
                return None
            raise
        return self._receipt(key, answer) if answer else None

    def status(self, receipt_id: str) -> Receipt | None:
        """See `WmsClient.status`; the receipt's number is the key."""
        return self.find(receipt_id)

    def submit(self, doc: CountDocument) -> Receipt:
        """See `WmsClient.submit`."""
        headers = {"Idempotency-Key": doc.doc_id, "Content-Type": "application/json"}
        content = json.dumps({**doc.to_json(), "digest": doc.digest}).encode()
        if self._body is not None:
            headers["Content-Type"], content = self._body.content_type, self._body.render(doc)
        answer = self._http.call("POST", self._paths["submit"], changes=True, content=content, headers=headers)
        if not answer:
            raise WmsUnknown(f"{self._http.url}: no answer per line; it is looked up")
        return self._receipt(doc.doc_id, answer)

    def pull_tasks(self) -> list[CountTask]:
        """See `TaskSource.pull_tasks`; 404: the service asks for no counts."""
        try:
            rows = self._list("tasks")
        except WmsRejected as e:
            if ": 404" in str(e):
                return []
            raise
        return [
            CountTask(
                self._text(r, "ref", "tasks"),
                self._text(r, "location_code", "tasks"),
                str(self._get(r, "sku") or ""),
                self._time(r, "due_at", "tasks") if self._get(r, "due_at") else 0,
                str(self._get(r, "note") or ""),
                asked_ns=self._time(r, "asked_at", "tasks") if self._get(r, "asked_at") else 0,
            )
            for r in rows
        ]

    def close_task(self, ref: str, text: str) -> None:
        """See `TaskSource.close_task`."""
        path = self._paths["close_task"].format(ref=quote(ref, safe=""))
        try:
            self._http.call("POST", path, changes=True, json={self._fields["message"]: text})
        except WmsRejected as e:
            if ": 404" not in str(e):  # the service has forgotten it
                raise

    def health(self) -> Health:
        """See `WmsClient.health`."""
        began = time.monotonic()
        try:
            rows = len(self._list("locations"))
        except WmsError as e:
            return Health(False, str(e))
        return Health(True, f"{self._http.url}: {rows} locations in {time.monotonic() - began:.1f} s")

    def writer(self) -> AbstractContextManager[None]:
        """See `WmsClient.writer`."""
        return local_writer(f"webhook {self._http.url}", busy_s=0.5)

    def _list(self, what: str, **values: str) -> list[Mapping[str, Any]]:
        answer = self._http.call("GET", self._paths[what].format(**values), changes=False)
        if not isinstance(answer, list) or not all(isinstance(r, dict) for r in answer):
            raise WmsError(f"{self._http.url}: {what}: expected a list of objects, found {str(answer)[:80]}")
        return answer

    def _receipt(self, key: str, answer: Any) -> Receipt:
        rows = self._get(answer, "lines") if isinstance(answer, dict) else None
        if not isinstance(rows, list) or not rows:
            raise WmsUnknown(f"{self._http.url}: an answer without lines: {str(answer)[:120]}")
        lines = []
        for r in rows:
            result = next((x for x in _RESULTS if x == self._get(r, "result")), None) if isinstance(r, dict) else None
            number = self._get(r, "line_no") if isinstance(r, dict) else None
            if result is None or not isinstance(number, int):
                raise WmsUnknown(f"{self._http.url}: a line that is neither {', '.join(_RESULTS)}: {str(r)[:120]}")
            lines.append(LineStatus(number, result, str(self._get(r, "message") or "")))
        return Receipt(key, key, tuple(sorted(lines, key=lambda s: s.line_no)))

    def _get(self, row: Any, field: str) -> Any:
        for part in self._fields[field].split("."):
            row = row.get(part) if isinstance(row, dict) else None
        return row

    def _text(self, row: Mapping[str, Any], field: str, where: str) -> str:
        value = self._get(row, field)
        if value is None or isinstance(value, (dict, list)) or str(value) == "":
            raise WmsError(f"{self._http.url}: {where}: {self._fields[field]} is missing in {str(row)[:120]}")
        return str(value)

    def _number(self, row: Mapping[str, Any], field: str, where: str) -> float:
        try:
            return float(self._text(row, field, where))
        except ValueError:
            raise WmsError(f"{self._http.url}: {where}: {self._fields[field]} is no number in {str(row)[:120]}") from None

    def _time(self, row: Mapping[str, Any], field: str, where: str) -> int:
        text = self._text(row, field, where)
        try:
            return ns_of(from_iso(text))
        except ValueError:
            said = f"{where}: {self._fields[field]} is {text!r}; expected an ISO-8601 time with its zone"
            raise WmsError(f"{self._http.url}: {said}") from None
