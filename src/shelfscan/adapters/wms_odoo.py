"""Odoo (17 or later) over JSON-2 or JSON-RPC.

A count is set on the quants (``inventory_quantity``) and applied by the wizard *Inventory Adjustment Reason*, which names the
moves ``shelfscan <document key>``: a line with such a move is applied. The wizard, and not ``action_apply_inventory`` itself,
because that one applied twice counts zero: it takes a quant without a count for one counted as nothing.

Odoo refuses to apply when stock moved after the count was *set*. So the version (last move, number of moves, on hand) is
compared after setting and before applying; what moves later makes Odoo refuse the whole batch, in an answer that is no error.

Requests can arrive late, and a late setting or applying would undo what happened since. So each try sets through a package
record of its own (a command on its quants) and applies through a wizard of its own; the next try first takes both away:
writing to a record that is gone fails, and a wizard without quants applies nothing.

What was sent, and conflicts and refusals, which leave no move, are kept as attachments named after the key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import httpx

from shelfscan.adapters.odoo_rpc import Api, OdooRpc
from shelfscan.adapters.odoo_stock import Have, OdooStock, Pair, named
from shelfscan.adapters.odoo_tasks import OdooTasks
from shelfscan.adapters.store_day import StoreDays
from shelfscan.adapters.wms_http import local_writer
from shelfscan.errors import WmsConflict, WmsError, WmsRateLimited, WmsRejected, WmsTransient, WmsUnknown
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.gtin import gtin14
from shelfscan.wms.document import CountDocument, CountLine
from shelfscan.wms.port import Capabilities, Health, LineStatus, Movement, Receipt, StockRow, WmsPlace, WmsProduct
from shelfscan.wms.tasks import CountTask

WIZARD = "stock.inventory.adjustment.name"
ROUNDS = 4


class OdooWms:
    """A `WmsClient` of one Odoo database. ``rows``: what the store maps; scopes come from there. ``days``: the store's."""

    def __init__(
        self,
        url: str,
        database: str,
        key: str,
        rows: Sequence[WmsLocation],
        *,
        api: Api = "json2",
        user: str = "",
        days: StoreDays | None = None,
        timeout_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._odoo = OdooRpc(url, database, user, key, api=api, timeout_s=timeout_s, transport=transport)
        self._read = OdooStock(self._odoo, {r.location_code for r in rows})
        self._tasks = OdooTasks(self._odoo, self._read, self._fence, self._package, days or StoreDays())
        self._scope = {r.location_code: r.scope for r in rows}
        self._pairs = {(r.location_code, r.sku) for r in rows}

    def capabilities(self) -> Capabilities:
        """See `WmsClient.capabilities`."""
        return Capabilities("odoo", unique_key=False, checks_version=True, max_lines=100)

    def pull_locations(self) -> list[WmsPlace]:
        """See `WmsClient.pull_locations`."""
        return [WmsPlace(c, "site" if self._scope.get(c) == "site" else "shelf") for c in sorted(self._read.places())]

    def pull_products(self) -> list[WmsProduct]:
        """See `WmsClient.pull_products`."""
        found = sorted(self._read.products().items())
        return [WmsProduct(sku, gtin14(str(p["barcode"] or "")), str(p["name"])) for sku, p in found]

    def pull_stock(self) -> list[StockRow]:
        """See `WmsClient.pull_stock`."""
        places, products = self._read.places(), self._read.products()
        codes = {v: k for k, v in places.items()}
        skus = {int(p["id"]): s for s, p in products.items()}
        have = {(codes[a], skus[b]): h for (a, b), h in self._read.stock(codes, skus).items()}
        here = {p for p in self._pairs if p[0] in places and p[1] in products}
        rows = [(c, s, have.get((c, s), Have())) for c, s in sorted(here | set(have))]
        return [StockRow(c, s, h.on_hand, h.version) for c, s, h in rows]

    def pull_movements(self, since_ns: int) -> list[Movement]:
        """See `WmsClient.pull_movements`."""
        return self._read.movements(since_ns)

    def find(self, key: str) -> Receipt | None:
        """See `WmsClient.find`: a document whose every line has its move, or an answer that was kept."""
        kept = self._kept(key, "sent")
        return self._receipt(key, kept["lines"]) if kept else None

    def status(self, receipt_id: str) -> Receipt | None:
        """See `WmsClient.status`; the receipt's number is the key."""
        return self.find(receipt_id)

    def submit(self, doc: CountDocument) -> Receipt:
        """See `WmsClient.submit`."""
        kept = self._kept(doc.doc_id, "sent")
        if kept is None:
            lines = [[x.line_no, x.location_code, x.sku] for x in doc.lines]
            self._keep(doc.doc_id, "sent", {"digest": doc.digest, "lines": lines})
            kept = self._kept(doc.doc_id, "sent") or {}
        if kept.get("digest") != doc.digest:
            raise WmsRejected(f"key {doc.doc_id} belongs to another count document")
        try:
            return self._receipt(doc.doc_id, kept["lines"]) or self._settle(doc)
        except (WmsRejected, WmsTransient, WmsRateLimited, WmsConflict) as e:
            # A request of a document that is under way failed: some of its lines may be applied.
            raise WmsUnknown(f"count {doc.doc_id}: {e}") from e

    def health(self) -> Health:
        """See `WmsClient.health`."""
        try:
            version = self._odoo.version()
            count = self._odoo.call("stock.location", "search_count", changes=False, domain=[["usage", "=", "internal"]])
        except WmsError as e:
            return Health(False, str(e))
        return Health(True, f"Odoo {version} at {self._odoo.url}: {count} locations")

    def pull_tasks(self) -> list[CountTask]:
        """See `TaskSource.pull_tasks`: quants whose scheduled date has come."""
        return self._tasks.open()

    def close_task(self, ref: str, text: str) -> None:
        """See `TaskSource.close_task`; Odoo has no place for ``text``."""
        self._tasks.close(ref)

    def writer(self) -> AbstractContextManager[None]:
        """See `WmsClient.writer`. Odoo has no such lock: it holds for this computer."""
        return local_writer(f"odoo {self._odoo.url}/{self._odoo.database}")

    # A document

    def _settle(self, doc: CountDocument) -> Receipt:
        """Apply what may be applied, keep why the rest was not; safe to repeat."""
        for _ in range(ROUNDS):
            self._fence()
            places, products, done = self._read.places(), self._read.products(), self._read.applied(doc.doc_id)
            stock = self._read.stock(
                {places[x.location_code] for x in doc.lines if x.location_code in places},
                {int(products[x.sku]["id"]) for x in doc.lines if x.sku in products},
            )
            said: dict[int, tuple[str, str]] = {}
            leave: list[int] = []
            go: dict[Pair, CountLine] = {}
            for x in doc.lines:
                wrong = self._wrong(x, places, products)
                if (x.location_code, x.sku) in done:
                    continue
                if wrong:
                    said[x.line_no] = ("rejected", wrong)
                    continue
                pair = (places[x.location_code], int(products[x.sku]["id"]))
                have = stock.get(pair, Have())
                if have.version != x.expected_version:
                    said[x.line_no] = ("conflict", f"on hand is {have.on_hand:g} now, {x.expected_qty:g} was read")
                    # A count that was set before the stock moved must not wait there for somebody to apply it.
                    leave += [
                        int(q["id"]) for q in have.quants if q["inventory_quantity_set"] and q["inventory_quantity"] == x.qty
                    ]
                elif have.on_hand == x.qty:
                    said[x.line_no] = ("applied", "")  # no difference: nothing to be changed
                else:
                    go[pair] = x
            if not go:
                return self._answer(doc, said, leave)
            self._post(doc.doc_id, go, stock)
        raise WmsTransient("stock moved at every try")

    def _wrong(self, x: CountLine, places: Mapping[str, int], products: Mapping[str, Mapping[str, Any]]) -> str:
        if x.location_code not in places:
            return f"no internal location, or more than one, with the barcode or name {x.location_code}"
        if x.sku not in products:
            return f"no product, or more than one, with the reference {x.sku}"
        if products[x.sku]["tracking"] != "none":
            return f"{x.sku} is tracked by {products[x.sku]['tracking']}; Odoo would take a count without one"
        if self._scope.get(x.location_code) == "site":
            return f"{x.location_code} is the whole site; a shelf count would erase its backroom"
        if (x.location_code, x.sku) not in self._pairs:
            return f"{x.sku} is not kept at {x.location_code}"
        return ""

    def _post(self, key: str, go: Mapping[Pair, CountLine], stock: Mapping[Pair, Have]) -> None:
        """Set and apply one batch: what did not move in between is applied, or nothing is."""
        new = [p for p in go if p not in stock or not stock[p].quants]
        if new:
            self._odoo.create("stock.quant", [{"location_id": place, "product_id": product} for place, product in new])
            stock = self._read.stock({p for p, _ in go}, {p for _, p in go})
        token = self._odoo.create(self._package(), [{"name": named(key)}])
        wanted = {pair: stock[pair].targets(x.qty) for pair, x in go.items() if pair in stock}
        commands = [
            [1, q, {"inventory_quantity": v, "inventory_quantity_set": True}] for t in wanted.values() for q, v in t.items()
        ]
        self._odoo.change(self._package(), "write", token, vals={"quant_ids": commands})
        stock = self._read.stock({p for p, _ in go}, {p for _, p in go})
        ready: list[int] = []
        for pair, targets in wanted.items():
            have = stock.get(pair, Have())
            counts = {int(q["id"]): q["inventory_quantity"] for q in have.quants if q["inventory_quantity_set"]}
            if have.version == go[pair].expected_version and all(counts.get(q) == v for q, v in targets.items()):
                ready += targets
        if ready:
            values = {"quant_ids": [[6, 0, ready]], "inventory_adjustment_name": named(key)}
            # Whatever it answers, the moves tell: an answer that is not empty is a conflict, and then there are none.
            self._odoo.call(WIZARD, "action_apply", self._odoo.create(WIZARD, [values]), changes=True)

    def _fence(self) -> None:
        """Take the power from every earlier request, of any document, that may still be on its way."""
        mine = named("%")
        old = self._odoo.read(WIZARD, [["inventory_adjustment_name", "=like", mine], ["quant_ids", "!=", False]], [])
        if old:
            self._odoo.change(WIZARD, "write", [int(r["id"]) for r in old], vals={"quant_ids": [[5, 0, 0]]})
        for row in self._odoo.read(self._package(), [["name", "=like", mine]], []):
            self._odoo.change(self._package(), "unlink", [int(row["id"])])

    def _package(self) -> str:
        return "stock.package" if self._odoo.version() >= 19 else "stock.quant.package"

    def _answer(self, doc: CountDocument, said: Mapping[int, tuple[str, str]], leave: Sequence[int]) -> Receipt:
        if leave:
            self._odoo.call("stock.quant", "action_clear_inventory_quantity", leave, changes=True)
        if said:
            self._keep(doc.doc_id, "answer", {str(n): list(s) for n, s in said.items()})
        receipt = self._receipt(doc.doc_id, [[x.line_no, x.location_code, x.sku] for x in doc.lines])
        if receipt is None:
            raise WmsUnknown(f"count {doc.doc_id}: Odoo shows lines without a move or an answer")
        return receipt

    def _receipt(self, key: str, lines: Iterable[Sequence[Any]]) -> Receipt | None:
        done, kept = self._read.applied(key), self._kept(key, "answer") or {}
        out = []
        for number, place, sku in lines:
            if (place, sku) in done:
                out.append(LineStatus(int(number), "applied"))
            elif str(number) in kept:
                result, message = kept[str(number)]
                out.append(LineStatus(int(number), result, message))
            else:
                return None
        return Receipt(key, key, tuple(out))

    def _keep(self, key: str, what: str, said: Any) -> None:
        self._odoo.create("ir.attachment", [{"name": f"{named(key)} {what}", "description": json.dumps(said)}])

    def _kept(self, key: str, what: str) -> dict[str, Any] | None:
        """The first one: whatever a doubled request or a late one adds says nothing new."""
        rows = self._odoo.read("ir.attachment", [["name", "=", f"{named(key)} {what}"]], ["description"])
        return dict(json.loads(rows[0]["description"])) if rows else None
