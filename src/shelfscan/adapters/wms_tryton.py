"""Tryton (8.0) over JSON-RPC.

Each count line becomes an inventory of its own, whose number is ``<document key>/<line>``: Tryton applies an inventory or none
of it, so a line's state is its inventory's (done: applied; cancelled: conflict or rejected, the reason in the number).

Tryton posts differences: counted minus expected, as expected was when the inventory was saved. So a draft is confirmed only
if its expected quantity is the one the decision was made on and nothing moved since; what moves *after* that was after the
observation, and a difference is right for it. The number is not unique in Tryton: every submit begins by looking it up, there
is one writer, and of drafts that a doubled request left behind the oldest is used and the others are cancelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone

import httpx

from shelfscan.adapters.store_day import StoreDays
from shelfscan.adapters.tryton_rpc import TrytonRpc, ns_of, written
from shelfscan.adapters.tryton_stock import NOTHING, TrytonStock
from shelfscan.adapters.tryton_tasks import OURS, TrytonTasks
from shelfscan.adapters.wms_http import local_writer
from shelfscan.errors import WmsError, WmsRejected, WmsUnknown
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


@dataclass(frozen=True, slots=True)
class _Inventory:
    """One of ours, as Tryton has it."""

    inventory_id: int
    line_no: int
    state: str
    said: LineResult | None
    message: str


class TrytonWms:
    """A `WmsClient` of one Tryton database. ``rows``: what the store maps; scopes come from there. ``days``: the store's."""

    def __init__(
        self,
        url: str,
        database: str,
        user: str,
        password: str,
        rows: Sequence[WmsLocation],
        *,
        days: StoreDays | None = None,
        timeout_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.rpc = TrytonRpc(url, database, user, password, timeout_s=timeout_s, transport=transport)
        self._read, self._tasks = TrytonStock(self.rpc), TrytonTasks(self.rpc, days or StoreDays())
        self._scope = {r.location_code: r.scope for r in rows}
        self._pairs = {(r.location_code, r.sku) for r in rows}

    def capabilities(self) -> Capabilities:
        """See `WmsClient.capabilities`."""
        return Capabilities("tryton", unique_key=False, checks_version=True, max_lines=100)

    def pull_locations(self) -> list[WmsPlace]:
        """See `WmsClient.pull_locations`."""
        codes, _ = self.known(fresh=True)
        return [WmsPlace(c, "site" if self._scope.get(c) == "site" else "shelf") for c in sorted(codes)]

    def pull_products(self) -> list[WmsProduct]:
        """See `WmsClient.pull_products`."""
        rows = self.rpc.read("product.product", [["code", "!=", None]], ["code", "name"])
        pages = self.rpc.read("product.identifier", [["type", "=", "ean"]], ["product", "code"])
        codes = {int(r["product"]): str(r["code"]) for r in pages if r["product"]}
        return [WmsProduct(str(r["code"]), gtin14(codes.get(int(r["id"]), "")), str(r["name"])) for r in rows if r["code"]]

    def pull_stock(self) -> list[StockRow]:
        """See `WmsClient.pull_stock`; a version is the number of the last move, or of the period that it is closed in."""
        codes, products = self.known(fresh=True)
        stock = self._read.stock()
        here = {p for p in self._pairs if p[0] in codes and p[1] in products}
        return [StockRow(c, s, *stock.get((c, s), NOTHING)) for c, s in sorted(here | set(stock))]

    def pull_movements(self, since_ns: int) -> list[Movement]:
        """See `WmsClient.pull_movements`; a move's time is when it was last written."""
        since = datetime.fromtimestamp(since_ns / 1e9, timezone.utc)
        # Tryton keeps whole seconds or less: a second earlier is asked for, and what is older is left out here.
        domain = ["OR", [["write_date", ">=", written(since, -2)]], [["create_date", ">=", written(since, -2)]]]
        found = list(self._read.moves([domain]))
        names = self._read.references([row for *_, row in found])
        out = []
        for _, (code, sku), delta, row in found:
            number = names.get(str(row["origin"] or ""), "")
            ours = OURS.match(number)
            stamp = ns_of(row["write_date"] or row["create_date"])
            if stamp >= since_ns:
                kind, reference = ("count", ours[1]) if ours else ("inventory" if number else "move", number)
                out.append(Movement(code, sku, delta, stamp, kind, reference))
        return out

    def find(self, key: str) -> Receipt | None:
        """See `WmsClient.find`: a document whose every line is done or cancelled."""
        return self._receipt(key, self._ours(key))

    def status(self, receipt_id: str) -> Receipt | None:
        """See `WmsClient.status`; the receipt's number is the key."""
        return self.find(receipt_id)

    def submit(self, doc: CountDocument) -> Receipt:
        """See `WmsClient.submit`."""
        ours = self._ours(doc.doc_id)
        if ours:
            self._check_same(doc, ours)
        else:
            self._create(doc)
            ours = self._ours(doc.doc_id)
        try:
            self._settle(doc, ours)
        except WmsRejected as e:
            # A request that was stuck on the line may have been quicker: a draft that we meant to cancel is then done.
            if any(i.state != "draft" for i in self._ours(doc.doc_id) if i.said is None):
                raise WmsUnknown(f"count {doc.doc_id}: {e}") from e
            raise
        receipt = self._receipt(doc.doc_id, self._ours(doc.doc_id))
        if receipt is None:
            raise WmsUnknown(f"count {doc.doc_id}: Tryton shows lines that are neither done nor cancelled")
        return receipt

    def health(self) -> Health:
        """See `WmsClient.health`."""
        try:
            version = self.rpc.version()
            self.rpc.call("model.res.user.get_preferences", True, changes=False)
        except WmsError as e:
            return Health(False, str(e))
        return Health(True, f"Tryton {version} at {self.rpc.url}")

    def pull_tasks(self) -> list[CountTask]:
        """See `TaskSource.pull_tasks`: draft inventories that people made."""
        return self._tasks.open(*self.known(fresh=True))

    def close_task(self, ref: str, text: str) -> None:
        """See `TaskSource.close_task`."""
        self._tasks.close(ref, text)

    def writer(self) -> AbstractContextManager[None]:
        """See `WmsClient.writer`. Tryton has no such lock: it holds for this computer."""
        return local_writer(f"tryton {self.rpc.url}/{self.rpc.database}")

    # Inventories

    def _ours(self, key: str) -> list[_Inventory]:
        rows = self.rpc.read("stock.inventory", [["number", "like", f"{key}/%"]], ["number", "state"])
        out = []
        for row in rows:
            m = OURS.match(str(row["number"]))
            if m and m[1] == key:
                said: LineResult | None = "conflict" if m[3] == "conflict" else "rejected" if m[3] else None
                out.append(_Inventory(int(row["id"]), int(m[2]), str(row["state"]), said, m[4] or ""))
        return sorted(out, key=lambda i: i.inventory_id)

    def _receipt(self, key: str, ours: Sequence[_Inventory]) -> Receipt | None:
        lines: dict[int, LineStatus] = {}
        for i in ours:
            if i.state == "done":
                lines[i.line_no] = LineStatus(i.line_no, "applied")
            elif i.state == "cancelled" and i.said is not None and i.line_no not in lines:
                lines[i.line_no] = LineStatus(i.line_no, i.said, i.message)
        if not ours or {i.line_no for i in ours} != set(lines):
            return None
        return Receipt(key, key, tuple(lines[n] for n in sorted(lines)))

    def _check_same(self, doc: CountDocument, ours: Sequence[_Inventory]) -> None:
        """A known key must be this very document's. Raises `WmsRejected`."""
        quantities = {
            int(r["inventory"]): float(r["quantity"] or 0)
            for r in self.rpc.read(
                "stock.inventory.line", [["inventory", "in", [i.inventory_id for i in ours]]], ["inventory", "quantity"]
            )
        }
        wanted = {x.line_no: x.qty for x in doc.lines}
        same = {i.line_no for i in ours} == set(wanted)
        if not same or any(quantities.get(i.inventory_id, wanted[i.line_no]) != wanted[i.line_no] for i in ours):
            raise WmsRejected(f"key {doc.doc_id} belongs to another count document")

    def _create(self, doc: CountDocument) -> None:
        """All lines' inventories in one call, which Tryton makes wholly or not at all; wrong lines as cancelled ones."""
        codes, products = self.known(fresh=True)
        company = self.rpc.company()
        values = []
        for x in doc.lines:
            wrong = self._wrong(x, codes, products)
            # Without a date, for Tryton's own today: it expects what was there at the end of an inventory's day, and another
            # computer's day would leave out what moved since midnight, or lie in the future or in a closed period.
            base = {"company": company, "empty_quantity": "keep"}
            if wrong:
                number = f"{doc.doc_id}/{x.line_no} rejected: {wrong}"
                values.append({**base, "number": number, "location": next(iter(codes.values()))})
            else:
                line = {"product": products[x.sku], "quantity": float(x.qty)}
                location = codes[x.location_code]
                values.append(
                    {**base, "number": f"{doc.doc_id}/{x.line_no}", "location": location, "lines": [["create", [line]]]}
                )
        self.rpc.call("model.stock.inventory.create", values, changes=True)

    def _wrong(self, x: CountLine, codes: Mapping[str, int], products: Mapping[str, int]) -> str:
        if x.location_code not in codes:
            return f"no storage location {x.location_code}"
        if x.sku not in products:
            return f"no product {x.sku}"
        if self._scope.get(x.location_code) == "site":
            return f"{x.location_code} is the whole site; a shelf count would erase its backroom"
        if (x.location_code, x.sku) not in self._pairs:
            return f"{x.sku} is not kept at {x.location_code}"
        return ""

    def _settle(self, doc: CountDocument, ours: Sequence[_Inventory]) -> None:
        """Confirm the drafts that may be, cancel the others; safe to repeat."""
        drafts = [i for i in ours if i.state == "draft"]
        if not drafts:
            return
        settled = {i.line_no for i in ours if i.state == "done" or (i.state == "cancelled" and i.said)}
        expected = {
            int(r["inventory"]): float(r["expected_quantity"] or 0)
            for r in self.rpc.read(
                "stock.inventory.line",
                [["inventory", "in", [i.inventory_id for i in drafts]]],
                ["inventory", "expected_quantity"],
            )
        }
        stock = self._read.stock({(x.location_code, x.sku) for x in doc.lines})
        lines = {x.line_no: x for x in doc.lines}
        codes, _ = self.known()
        busy = self._tasks.busy({codes[x.location_code] for x in doc.lines if x.location_code in codes})
        confirm, cancel, rename = [], [], {}
        for i in drafts:
            x = lines[i.line_no]
            if i.said is not None or i.line_no in settled:
                cancel.append(i.inventory_id)  # a wrong line, or a second draft of one
                continue
            settled.add(i.line_no)
            have, version = expected.get(i.inventory_id, 0.0), stock.get((x.location_code, x.sku), NOTHING)[1]
            theirs = busy.get(codes.get(x.location_code, 0))
            if theirs is None and have == x.expected_qty and version == x.expected_version:
                confirm.append(i.inventory_id)
                continue
            cancel.append(i.inventory_id)
            why = f"on hand was {have:g} when it was saved, {x.expected_qty:g} was read"
            if theirs is not None:
                why = f"somebody counts there in inventory {theirs}, not confirmed yet; both would post the difference"
            rename[i.inventory_id] = f"{doc.doc_id}/{i.line_no} conflict: {why}"
        if rename:
            # One call: either all carry their reason or none does.
            pairs = [part for i, number in rename.items() for part in ([i], {"number": number})]
            self.rpc.call("model.stock.inventory.write", *pairs, changes=True)
        if cancel:
            self.rpc.call("model.stock.inventory.cancel", cancel, changes=True)
        if confirm:
            self.rpc.call("model.stock.inventory.confirm", confirm, changes=True)
            posted = {lines[i.line_no].location_code for i in drafts if i.inventory_id in confirm}
            with suppress(WmsError):  # the counts are posted; that they are must not be in doubt for this
                self._tasks.refresh({codes[c] for c in posted if c in codes})

    def known(self, fresh: bool = False) -> tuple[dict[str, int], dict[str, int]]:
        """Ids of storage locations by code, and of products by code."""
        return self._read.known(fresh)
