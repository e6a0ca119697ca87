"""InvenTree (1.0 or later) over its REST interface.

InvenTree's own count is absolute and knows neither key nor version, so a late one would undo what happened since. Here a count
is posted as the difference between it and the stock it was compared with: what moves meanwhile stays moved. A difference that
takes effect twice would be worse, so each carries a token that InvenTree uses up with it (`InvenTreeStock.change`). Every try
takes the power from all earlier tokens first, then looks for the line's key in the history, and only then compares the version.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import tzinfo

import httpx

from shelfscan.adapters.inventree_api import InvenTreeApi, InvenTreeRefused
from shelfscan.adapters.inventree_history import InvenTreeHistory, notes
from shelfscan.adapters.inventree_stock import OURS, InvenTreeStock, Names, on_hand, unfit, version
from shelfscan.adapters.inventree_tasks import InvenTreeTasks
from shelfscan.adapters.wms_http import local_writer
from shelfscan.errors import WmsError, WmsRateLimited, WmsRejected, WmsTransient, WmsUnknown
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.gtin import gtin14
from shelfscan.wms.document import CountDocument, CountLine
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

ROUNDS = 4
REFUSALS = 2


class InvenTreeWms:
    """A `WmsClient` of one InvenTree server. ``rows``: what the store maps; scopes come from there. ``zone``: of its clock;
    ``settle_s``: longer than it takes to carry out one change; ``ask_status``: see `inventree_tasks`."""

    def __init__(
        self,
        url: str,
        token: str,
        rows: Sequence[WmsLocation],
        *,
        zone: tzinfo,
        timeout_s: float = 60.0,
        settle_s: float = 5.0,
        ask_status: int = 0,
        sleep: Callable[[float], None] = time.sleep,
        transport: httpx.BaseTransport | None = None,
        page: int = 2000,
    ) -> None:
        self._api = InvenTreeApi(url, token, timeout_s=timeout_s, transport=transport, page=page)
        self._read = InvenTreeStock(self._api, {r.location_code for r in rows})
        self._settle_s, self._sleep = settle_s, sleep
        self._scope = {r.location_code: r.scope for r in rows}
        self._pairs = {(r.location_code, r.sku) for r in rows}
        self._history = InvenTreeHistory(self._api, zone, self._pairs)
        self._tasks = InvenTreeTasks(self._api, self._read, self._history, ask_status)

    def capabilities(self) -> Capabilities:
        """See `WmsClient.capabilities`. One line a document: only what took effect leaves a trace in InvenTree."""
        return Capabilities("inventree", unique_key=False, checks_version=True, max_lines=1)

    def pull_locations(self) -> list[WmsPlace]:
        """See `WmsClient.pull_locations`."""
        codes = sorted(self._read.names(fresh=True).places)
        return [WmsPlace(c, "site" if self._scope.get(c) == "site" else "shelf") for c in codes]

    def pull_products(self) -> list[WmsProduct]:
        """See `WmsClient.pull_products`. InvenTree keeps no GTIN of a part; an IPN may be one."""
        parts = sorted(self._read.names(fresh=True).parts.items())
        return [WmsProduct(sku, gtin14(sku), str(p["name"])) for sku, p in parts]

    def pull_stock(self) -> list[StockRow]:
        """See `WmsClient.pull_stock`. A pair without a stock item is left out: its history is gone with the item."""
        names = self._read.names()
        codes, skus = names.codes, names.skus
        found = [((codes[a], skus[b]), rows) for (a, b), rows in self._read.rows().items() if a in codes and b in skus]
        return [StockRow(code, sku, on_hand(rows), version(rows)) for (code, sku), rows in sorted(found, key=lambda f: f[0])]

    def pull_movements(self, since_ns: int) -> list[Movement]:
        """See `WmsClient.pull_movements`."""
        return self._history.movements(since_ns, self._read.names())

    def find(self, key: str) -> Receipt | None:
        """See `WmsClient.find`: a document whose every line took effect."""
        ours = self._history.of(key)
        done = {o.line_no for o in ours}
        if not done or len(done) < ours[0].lines:
            return None
        return Receipt(key, key, tuple(LineStatus(n, "applied") for n in sorted(done)))

    def status(self, receipt_id: str) -> Receipt | None:
        """See `WmsClient.status`; the receipt's number is the key."""
        return self.find(receipt_id)

    def submit(self, doc: CountDocument) -> Receipt:
        """See `WmsClient.submit`."""
        if any(o.digest != doc.digest[:12] for o in self._history.of(doc.doc_id)):
            raise WmsRejected(f"key {doc.doc_id} belongs to another count document")
        try:
            said = tuple(self._settle(doc, x) for x in doc.lines)
        except (WmsRejected, WmsTransient, WmsRateLimited) as e:
            # What came before the request that failed may have been done.
            raise WmsUnknown(f"count {doc.doc_id}: {e}") from e
        return Receipt(doc.doc_id, doc.doc_id, said)

    def health(self) -> Health:
        """See `WmsClient.health`."""
        try:
            about, count = self._api.about(), len(self._read.names(fresh=True).places)
        except WmsError as e:
            return Health(False, str(e))
        return Health(True, f"{about} at {self._api.url}: {count} locations")

    def pull_tasks(self) -> list[CountTask]:
        """See `TaskSource.pull_tasks`; none unless a status is configured that asks for counts."""
        return self._tasks.open()

    def close_task(self, ref: str, text: str) -> None:
        """See `TaskSource.close_task`."""
        self._tasks.close(ref, text)

    def writer(self) -> AbstractContextManager[None]:
        """See `WmsClient.writer`. InvenTree has no such lock: it holds for this computer."""
        return local_writer(f"inventree {self._api.url}")

    # One line

    def _settle(self, doc: CountDocument, x: CountLine) -> LineStatus:
        """Every round starts from what InvenTree has, so it can be repeated. Whatever it answers, its history tells.

        Raises `WmsTransient` when something is in the way at every try.
        """
        refused: list[str] = []
        for _ in range(ROUNDS):
            if self._read.fence():
                self._sleep(self._settle_s)  # for one that is being carried out at this moment
            if any(o.line_no == x.line_no for o in self._history.of(doc.doc_id)):
                return _said(x, "applied")
            if len(refused) >= REFUSALS:
                return _said(x, "rejected", f"InvenTree refused it: {refused[-1]}")
            names = self._read.names()
            wrong = _unknown(x, names, self._scope, self._pairs)
            if wrong:
                return _said(x, "rejected", wrong)
            pair = names.places[x.location_code], int(names.parts[x.sku]["pk"])
            rows = self._read.rows(pair).get(pair, [])
            wrong = unfit(x.sku, x.location_code, rows)
            if wrong:
                return _said(x, "rejected", wrong)
            have, more = on_hand(rows), x.qty - on_hand(rows)
            if version(rows) != x.expected_version:
                return _said(x, "conflict", f"on hand is {have:g} now, {x.expected_qty:g} was read")
            if not more:
                return _said(x, "applied")  # no difference: nothing to be changed
            target = max(rows, key=lambda r: float(r["quantity"]))
            if -more > float(target["quantity"]):
                return _said(x, "rejected", f"{-more:g} would have to come off several stock items; merge them in InvenTree")
            try:
                self._read.change(target, more, f"{OURS}{doc.doc_id} {x.line_no}", notes(doc, x, more))
            except InvenTreeRefused as e:
                refused.append(str(e))
        raise WmsTransient(f"{x.line_id}: InvenTree did nothing at every try")


def _unknown(x: CountLine, names: Names, scope: Mapping[str, str], pairs: Collection[tuple[str, str]]) -> str:
    """Why a line can never be posted, from what the store and InvenTree know of location and part."""
    if scope.get(x.location_code) == "site":
        return f"{x.location_code} is the whole site; a shelf count would erase its backroom"
    if (x.location_code, x.sku) not in pairs:
        return f"{x.sku} is not kept at {x.location_code}"
    if x.location_code not in names.places:
        return f"no location of that name or path, or more than one: {x.location_code}"
    if x.sku not in names.parts:
        return f"no part, or more than one, with the IPN {x.sku}"
    if names.parts[x.sku]["trackable"] is True:
        return f"{x.sku} is trackable: its pieces have serial numbers, which a count from outside does not know"
    return ""


def _said(x: CountLine, result: LineResult, why: str = "") -> LineStatus:
    return LineStatus(x.line_no, result, why)
