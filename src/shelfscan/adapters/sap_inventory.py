"""Physical inventory documents of SAP: ours, found by their reference, and what can be done with one.

A document has one item. Its reference is made of the count document's key and can be searched; its text is the key and the
line's number, its inventory number the count document's number of lines and fingerprint.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from shelfscan.adapters.sap_odata import SapOData, SapRefused, any_of, chunks, equals, number, quoted
from shelfscan.wms.document import CountDocument, CountLine

SERVICE = "API_PHYSICAL_INVENTORY_DOC_SRV"
HEADER, ITEM, ITEMS = "A_PhysInventoryDocHeader", "A_PhysInventoryDocItem", "to_PhysicalInventoryDocumentItem"
_KEY = "FiscalYear,PhysicalInventoryDocument"
_OURS = re.compile(r"^(\S{1,36})/(\d{1,3})$")
_SIZE = re.compile(r"^(\d+)-([0-9a-f]+)$")


@dataclass(frozen=True, slots=True)
class Sheet:
    """One document with its item. ``key`` is empty when it is not ours; ``book``: what SAP had when it was counted."""

    year: str
    number: str
    key: str
    line_no: int
    lines: int
    digest: str
    item: str
    etag: str
    header_etag: str
    material: str
    unit: str
    counted: bool
    posted: bool
    qty: float
    book: float

    @property
    def name(self) -> str:
        """What a person looks it up by."""
        return f"{self.number}/{self.year}"

    @property
    def rank(self) -> tuple[bool, bool, str, str]:
        """Which of several for one line counts: what is furthest on, then the oldest."""
        return not self.posted, not self.counted, self.year, self.number


def reference(key: str) -> str:
    """A key in the sixteen characters of a reference."""
    return hashlib.sha256(key.encode()).hexdigest()[:16].upper()


class SapInventory:
    """Reads and changes physical inventory documents of one SAP client."""

    def __init__(self, sap: SapOData) -> None:
        self._sap = sap
        self._deletes = True

    def of(self, key: str) -> list[Sheet]:
        """The documents of a count document, the one that counts for a line first."""
        rows = self._headers([equals(PhysInventoryReferenceNumber=reference(key))])
        return sorted((s for r in rows for s in _sheets(r) if s.key == key), key=lambda s: s.rank)

    def open_for(self, material: str, plant: str, location: str) -> list[Sheet]:
        """Documents that keep others from being made: not posted and not deleted."""
        where = equals(Material=material, Plant=plant, StorageLocation=location)
        where = f"{where} and PhysInvtryDifferenceIsPosted eq false and PhysInvtryItemIsDeleted eq false"
        rows = self._sap.rows(SERVICE, ITEM, f"{_KEY},PhysicalInventoryDocumentItem", where=where)
        names = dict.fromkeys((str(r["FiscalYear"]), str(r["PhysicalInventoryDocument"])) for r in rows)
        found = self._headers([equals(FiscalYear=y, PhysicalInventoryDocument=n) for y, n in names])
        return [s for r in found for s in _sheets(r) if not s.posted]

    def asked(self, places: Collection[tuple[str, str]]) -> list[tuple[dict[str, Any], list[Sheet]]]:
        """Documents of others at these plants and storage locations that wait for a count, with the items that do."""
        names: dict[tuple[str, str], None] = {}
        waits = "PhysicalInventoryItemIsCounted eq false and PhysInvtryDifferenceIsPosted eq false"
        waits += " and PhysInvtryItemIsDeleted eq false"
        for chunk in chunks([equals(Plant=p, StorageLocation=s) for p, s in sorted(places)]):
            where = f"{any_of(chunk)} and {waits}"
            for r in self._sap.rows(SERVICE, ITEM, f"{_KEY},PhysicalInventoryDocumentItem", where=where):
                names[str(r["FiscalYear"]), str(r["PhysicalInventoryDocument"])] = None
        heads = self._headers([equals(FiscalYear=y, PhysicalInventoryDocument=n) for y, n in names])
        found = ((h, [s for s in _sheets(h) if not s.counted and not s.posted]) for h in heads if not _ours(h)[0])
        return [(h, sheets) for h, sheets in found if sheets]

    def behind(self, documents: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, str]]:
        """Kind and reference of movements by material document: counts of ours by their key, of others by their number."""
        terms = [equals(MaterialDocumentYear=y, MaterialDocument=n) for y, n in documents]
        order, names = f"{_KEY},PhysicalInventoryDocumentItem", {}
        for chunk in chunks(terms):
            for r in self._sap.rows(SERVICE, ITEM, order, where=any_of(chunk)):
                made = (str(r["MaterialDocumentYear"]), str(r["MaterialDocument"]))
                names[made] = (str(r["FiscalYear"]), str(r["PhysicalInventoryDocument"]))
        wanted = [equals(FiscalYear=y, PhysicalInventoryDocument=n) for y, n in sorted(set(names.values()))]
        keys = {(str(h["FiscalYear"]), str(h["PhysicalInventoryDocument"])): _ours(h)[0] for h in self._headers(wanted)}
        said = {made: (keys.get(name, ""), name[1]) for made, name in names.items()}
        return {made: ("count", key) if key else ("inventory", name) for made, (key, name) in said.items()}

    def create(self, doc: CountDocument, x: CountLine, plant: str, location: str, material: str, day: date) -> None:
        """Make a line's document. Goods go on moving meanwhile: nothing is blocked and no book quantity frozen."""
        at = f"{day.isoformat()}T00:00:00"
        body = {
            "Plant": plant,
            "StorageLocation": location,
            "DocumentDate": at,
            "PhysInventoryPlannedCountDate": at,
            "PhysInventoryReferenceNumber": reference(doc.doc_id),
            "PhysicalInventoryNumber": f"{len(doc.lines)}-{fingerprint(doc)}",
            "PhysicalInventoryDocumentDesc": f"{doc.doc_id}/{x.line_no}",
            "PostingIsBlockedForPhysInvtry": False,
            "PhysInvtryDocHasQtySnapshot": False,
            ITEMS: [{"Material": material}],
        }
        self._sap.change("POST", SERVICE, HEADER, body=body)

    def count(self, s: Sheet, units: int) -> None:
        """Enter a count; a zero is one only with its flag."""
        name = f"{_name(s)},PhysicalInventoryDocumentItem={quoted(s.item)}"
        body = {"QuantityInUnitOfEntry": str(units), "UnitOfEntry": s.unit, "PhysicalInventoryItemIsZero": units == 0}
        self._sap.change("PATCH", SERVICE, f"{ITEM}({name})", body=body, etag=s.etag)

    def post(self, s: Sheet) -> None:
        """Post the difference between the count and the book quantity of that moment."""
        params = {"FiscalYear": quoted(s.year), "PhysicalInventoryDocument": quoted(s.number)}
        self._sap.change("POST", SERVICE, "PostDifferences", params=params)

    def delete(self, s: Sheet) -> bool:
        """Whether a document is gone now. SAP's published service deletes none; what is counted is never deleted."""
        if s.counted or not self._deletes:
            return False
        try:
            self._sap.change("DELETE", SERVICE, f"{HEADER}({_name(s)})", etag=s.header_etag)
        except SapRefused as e:
            self._deletes = e.status not in (405, 501)
            return e.status == 404
        return True

    def ping(self) -> None:
        """Raises what keeps this user from the service."""
        self._sap.ping(SERVICE)

    def _headers(self, terms: Sequence[str]) -> list[dict[str, Any]]:
        out = []
        for chunk in chunks(terms):
            out += self._sap.rows(SERVICE, HEADER, _KEY, where=any_of(chunk), expand=ITEMS)
        return out


def fingerprint(doc: CountDocument) -> str:
    """Of what the document says, in what is left of sixteen characters."""
    return doc.digest[:12]


def _name(s: Sheet) -> str:
    return f"FiscalYear={quoted(s.year)},PhysicalInventoryDocument={quoted(s.number)}"


def _ours(header: Mapping[str, Any]) -> tuple[str, int]:
    """Key and line of a document that is ours."""
    found = _OURS.match(str(header.get("PhysicalInventoryDocumentDesc") or ""))
    if found and reference(found[1]) == header.get("PhysInventoryReferenceNumber"):
        return found[1], int(found[2])
    return "", 0


def _sheets(h: Mapping[str, Any]) -> list[Sheet]:
    """A document's items that are neither deleted nor replaced by a recount."""
    key, line_no = _ours(h)
    size = _SIZE.match(str(h.get("PhysicalInventoryNumber") or ""))
    return [
        Sheet(
            year=str(h["FiscalYear"]),
            number=str(h["PhysicalInventoryDocument"]),
            key=key,
            line_no=line_no,
            lines=int(size[1]) if size else 0,
            digest=size[2] if size else "",
            item=str(i["PhysicalInventoryDocumentItem"]),
            etag=str(i["__metadata"].get("etag", "")),
            header_etag=str(h["__metadata"].get("etag", "")),
            material=str(i["Material"]),
            unit=str(i["MaterialBaseUnit"]),
            counted=i["PhysicalInventoryItemIsCounted"] is True,
            posted=i["PhysInvtryDifferenceIsPosted"] is True,
            qty=number(i["QuantityInUnitOfEntry"]),
            book=number(i["BookQtyBfrCountInMatlBaseUnit"]),
        )
        for i in h[ITEMS]["results"]
        if i["PhysInvtryItemIsDeleted"] is not True and i["PhysInvtryItemIsRecounted"] is not True
    ]
