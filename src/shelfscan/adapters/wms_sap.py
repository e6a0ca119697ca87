"""SAP S/4HANA, inventory management (MM-IM), over OData version 2.

Each count line becomes a physical inventory document with one item. SAP keeps the book quantity of the moment a count is
entered and later posts counted minus that, as a difference. So the version is compared before a document is made and before
the count is entered, and a count is posted if and only if its book quantity is the one the decision was made on. Then the
difference is right whenever it is posted, also by a request that arrives late: what moved meanwhile stays moved.

A count is entered with the item's ETag, so of two entries one is refused. A document that was begun is gone on with: made
but not counted, counted but not posted. SAP's number is given by SAP, so a doubled request could make two; SAP refuses the
second while the first is open, and one that comes after the posting is never counted.

A line that cannot be posted may leave an open document behind, for SAP's service deletes none: the answer names it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

import httpx

from shelfscan.adapters.sap_inventory import SapInventory, Sheet, fingerprint
from shelfscan.adapters.sap_odata import SapOData, SapRefused
from shelfscan.adapters.sap_stock import Have, Master, SapStock, bare, told
from shelfscan.adapters.sap_tasks import tasks_of, theirs
from shelfscan.adapters.store_day import StoreDays
from shelfscan.adapters.wms_http import local_writer
from shelfscan.errors import WmsError, WmsRateLimited, WmsRejected, WmsTransient, WmsUnknown
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.gtin import gtin14
from shelfscan.wms.document import CountDocument, CountLine
from shelfscan.wms.port import Capabilities, Health, LineStatus, Movement, Receipt, StockRow, WmsPlace, WmsProduct
from shelfscan.wms.tasks import CountTask

ROUNDS = 6
#: Pieces as SAP's languages write them.
PIECES = ("EA", "PC", "ST")


class SapWms:
    """A `WmsClient` of one SAP client. ``rows``: what the store maps; scopes come from there."""

    def __init__(
        self,
        url: str,
        client: str,
        user: str,
        password: str,
        rows: Sequence[WmsLocation],
        *,
        plant: str,
        zone: tzinfo,
        token: str = "",
        units: Sequence[str] = PIECES,
        timeout_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._sap = SapOData(url, client, user, password, token=token, timeout_s=timeout_s, transport=transport)
        self._read, self._sheets = SapStock(self._sap, rows, plant, zone), SapInventory(self._sap)
        self._scope = {r.location_code: r.scope for r in rows}
        self._rules = _Rules(self._scope, {(r.location_code, r.sku) for r in rows}, tuple(units), zone)

    def capabilities(self) -> Capabilities:
        """See `WmsClient.capabilities`. One line a document: a refusal leaves no trace in SAP that could answer for a part."""
        return Capabilities("sap", unique_key=False, checks_version=True, max_lines=1)

    def pull_locations(self) -> list[WmsPlace]:
        """See `WmsClient.pull_locations`."""
        codes = sorted(self._read.master(products=False).places)
        return [WmsPlace(c, "site" if self._scope.get(c) == "site" else "shelf") for c in codes]

    def pull_products(self) -> list[WmsProduct]:
        """See `WmsClient.pull_products`."""
        out = []
        for sku, p in sorted(self._read.master().products.items()):
            texts = {str(t["Language"]): str(t["ProductDescription"]) for t in p["to_Description"]["results"]}
            name = texts.get("EN") or next(iter(texts.values()), sku)
            out.append(WmsProduct(sku, gtin14(str(p["ProductStandardID"] or "")), name))
        return out

    def pull_stock(self) -> list[StockRow]:
        """See `WmsClient.pull_stock`."""
        master = self._read.master(products=False)
        since = self._rules.today() - timedelta(days=1)
        mapped = {c: p for c, p in master.places.items() if c in self._scope}
        found = self._read.stock(since, set(mapped.values()))
        have = {(self._read.code(place), self._read.sku(m)): h for (place, m), h in found.items()}
        here = {pair for pair in master.kept if pair[0] in mapped}
        rows = [(c, s, have.get((c, s), Have(since))) for c, s in sorted(here | set(have))]
        return [StockRow(c, s, h.on_hand, h.version) for c, s, h in rows]

    def pull_movements(self, since_ns: int) -> list[Movement]:
        """See `WmsClient.pull_movements`."""
        places = {self._read.place(c) for c in self._scope}
        return self._read.movements(since_ns, places, self._sheets)

    def find(self, key: str) -> Receipt | None:
        """See `WmsClient.find`: a document whose every line is posted."""
        ours = self._sheets.of(key)
        done = {s.line_no for s in ours if s.posted}
        if not done or len(done) < ours[0].lines:
            return None
        return Receipt(key, key, tuple(LineStatus(n, "applied") for n in sorted(done)))

    def status(self, receipt_id: str) -> Receipt | None:
        """See `WmsClient.status`; the receipt's number is the key."""
        return self.find(receipt_id)

    def submit(self, doc: CountDocument) -> Receipt:
        """See `WmsClient.submit`."""
        if any(s.digest != fingerprint(doc) for s in self._sheets.of(doc.doc_id)):
            raise WmsRejected(f"key {doc.doc_id} belongs to another count document")
        try:
            said = [_Line(self._read, self._sheets, self._rules, doc, x).settle() for x in doc.lines]
        except (WmsRejected, WmsTransient, WmsRateLimited) as e:
            # What came before the request that failed may have been done.
            raise WmsUnknown(f"count {doc.doc_id}: {e}") from e
        # Without a number of its own an answer is looked up again: a document left open may yet be posted.
        sure = all(s.result == "applied" for s in said) or not any(not s.posted for s in self._sheets.of(doc.doc_id))
        return Receipt(doc.doc_id, doc.doc_id if sure else "", tuple(said))

    def health(self) -> Health:
        """See `WmsClient.health`."""
        try:
            self._sheets.ping()
            count = len(self._read.master(products=False).places)
        except WmsError as e:
            return Health(False, str(e))
        return Health(True, f"SAP client {self._sap.client} at {self._sap.url}: {count} storage locations")

    def pull_tasks(self) -> list[CountTask]:
        """See `TaskSource.pull_tasks`: documents of planners that wait for a count. None can be closed by us."""
        asked = self._sheets.asked({self._read.place(c) for c in self._scope})
        return tasks_of(asked, self._read, StoreDays(self._rules.zone))

    def close_task(self, ref: str, text: str) -> None:
        """See `TaskSource.close_task`; always `WmsRejected`."""
        raise WmsRejected(theirs(ref))

    def writer(self) -> AbstractContextManager[None]:
        """See `WmsClient.writer`. SAP has no such lock: it holds for this computer."""
        return local_writer(f"sap {self._sap.url}/{self._sap.client}")


@dataclass(frozen=True)
class _Rules:
    """What no line gets past."""

    scope: Mapping[str, str]
    pairs: Collection[tuple[str, str]]
    units: Sequence[str]
    zone: tzinfo

    def today(self) -> date:
        """SAP's day."""
        return datetime.now(self.zone).date()

    def wrong(self, x: CountLine, master: Master) -> str:
        """Why a line can never be posted."""
        product = master.products.get(x.sku)
        if self.scope.get(x.location_code) == "site":
            return f"{x.location_code} is the whole site; a shelf count would erase its backroom"
        if (x.location_code, x.sku) not in self.pairs:
            return f"{x.sku} is not kept at {x.location_code}"
        if (x.location_code, x.sku) not in master.kept or product is None:
            return f"SAP keeps no record of {x.sku} at {x.location_code}"
        if product["IsBatchManagementRequired"] is True:
            return f"{x.sku} is managed in batches; SAP would not take a count without one"
        if product["BaseUnit"] not in self.units:
            return f"{x.sku} is kept in {product['BaseUnit']}; pieces are {', '.join(self.units)}"
        return ""


class _Line:
    """One line on its way through SAP; every step starts from what SAP has, so it can be repeated."""

    def __init__(self, read: SapStock, sheets: SapInventory, rules: _Rules, doc: CountDocument, line: CountLine) -> None:
        self._read, self._sheets, self._rules = read, sheets, rules
        self._doc, self._x = doc, line
        self._cleared = False

    def settle(self) -> LineStatus:
        """Raises `WmsTransient` when somebody is in the way at every try."""
        for _ in range(ROUNDS):
            s = self._own()
            if s is not None and s.posted:
                return self._said("applied")
            status = self._post(s) if s is not None and s.counted else self._count(s)
            if status is not None:
                return status
        raise WmsTransient(f"{self._x.line_id}: its physical inventory document changed at every try")

    def _own(self) -> Sheet | None:
        return next((s for s in self._sheets.of(self._doc.doc_id) if s.line_no == self._x.line_no), None)

    def _post(self, s: Sheet) -> LineStatus | None:
        x, read = self._x, told(self._x.expected_version)
        if s.qty != x.qty:
            return self._said("conflict", f"somebody counted {s.qty:g} in it", s)
        if read is None or s.book != read[1]:
            return self._said("conflict", f"on hand was {s.book:g} when it was entered, {x.expected_qty:g} was read", s)
        try:
            self._sheets.post(s)
        except SapRefused as e:
            self._later(e)
            now = self._own()
            # Twice is refused; whatever it says, the item tells whether it is posted.
            return None if now is None or now.posted else self._said("conflict", f"SAP does not post it: {e}", now)
        return None

    def _count(self, s: Sheet | None) -> LineStatus | None:
        x = self._x
        master = self._read.master((x.location_code, x.sku))
        wrong = self._rules.wrong(x, master)
        if wrong:
            return self._give_up("rejected", wrong, s)
        (plant, location), material = master.places[x.location_code], master.forms[x.sku]
        read = told(x.expected_version)
        since = read[0] if read else self._rules.today()
        found = self._read.stock(since, {(plant, location)}, material)
        have = found.get(((plant, location), bare(material)), Have(since))
        if have.version != x.expected_version:
            return self._give_up("conflict", f"on hand is {have.on_hand:g} now, {x.expected_qty:g} was read", s)
        try:
            if s is None:
                self._sheets.create(self._doc, x, plant, location, material, self._rules.today())
            else:
                self._sheets.count(s, x.qty)
        except SapRefused as e:
            self._later(e)
            if e.stale or (s is None and (self._own() is not None or self._clear(material, plant, location))):
                return None
            return self._give_up("rejected", f"SAP refused it: {e}", self._own())
        return None

    def _clear(self, material: str, plant: str, location: str) -> bool:
        """Whether a document of ours that nobody went on with stood in the way and is gone now."""
        if self._cleared:
            return False
        self._cleared = True
        ours = [s for s in self._sheets.open_for(material, plant, location) if s.key and not s.counted]
        gone = [self._sheets.delete(s) for s in ours]
        return bool(gone) and all(gone)

    def _give_up(self, result: str, why: str, s: Sheet | None) -> LineStatus:
        return self._said(result, why, None if s is None or self._sheets.delete(s) else s)

    def _later(self, e: SapRefused) -> None:
        if e.locked:
            raise WmsTransient(str(e)) from e

    def _said(self, result: str, why: str = "", left: Sheet | None = None) -> LineStatus:
        if left is not None:
            why += f"; physical inventory document {left.name} stays open, delete it in SAP"
        assert result in ("applied", "conflict", "rejected")
        return LineStatus(self._x.line_no, result, why)  # type: ignore[arg-type]
