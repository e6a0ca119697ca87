"""What SAP's inventory management does with stock, movements and physical inventory documents, as far as counts need it.

What is reproduced is what SAP's public documentation says, and where that is silent the stricter reading; it is no SAP.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from shelfscan.model.bundle import WmsLocation
from shelfscan.model.catalogue import Catalogue

NS = 1_000_000_000
ITEMS = "to_PhysicalInventoryDocumentItem"
#: How long texts may be.
LENGTHS = {"PhysInventoryReferenceNumber": 16, "PhysicalInventoryNumber": 16, "PhysicalInventoryDocumentDesc": 40}
SETTABLE = {
    *LENGTHS,
    *("Plant", "StorageLocation", "DocumentDate", "PhysInventoryPlannedCountDate", ITEMS),
    *("PostingIsBlockedForPhysInvtry", "PhysInvtryDocHasQtySnapshot"),
}
COUNTABLE = {"QuantityInUnitOfEntry", "UnitOfEntry", "PhysicalInventoryItemIsZero", "Material", "Batch"}
Key = tuple[str, str, str]


class SapError(Exception):
    """What SAP answers with instead of doing something."""

    def __init__(self, code: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.code, self.status = code, status


class SapSystem:
    """One client with the storage locations, materials and stock of ``rows``; ``deletes``: whether documents can be."""

    def __init__(
        self,
        rows: Sequence[WmsLocation],
        catalogue: Catalogue,
        clock: Callable[[], int] = time.time_ns,
        *,
        plant: str = "1010",
        zone: str = "UTC",
        deletes: bool = False,
    ) -> None:
        self._clock, self.plant, self.deletes = clock, plant, deletes
        self.zone: tzinfo = ZoneInfo(zone)
        self.products: dict[str, dict[str, Any]] = {
            p.sku: {
                "Product": p.sku,
                "ProductStandardID": p.gtin,
                "BaseUnit": "PC",
                "IsBatchManagementRequired": False,
                "to_Description": {"results": [{"Product": p.sku, "Language": "EN", "ProductDescription": p.name}]},
            }
            for p in catalogue.values()
        }
        #: Unrestricted stock by material, plant and storage location; ``others``: rows of other kinds of stock.
        self.stock: dict[Key, float] = {(r.sku, *self.place(r.location_code)): float(r.on_hand) for r in rows}
        self.others: list[dict[str, Any]] = []
        self.heads: list[dict[str, Any]] = []
        self.moves: list[dict[str, Any]] = []
        self.documents: dict[str, dict[str, Any]] = {}
        #: Materials that another user has open.
        self.locked: set[str] = set()
        self.calls: list[str] = []
        self._changes = 0

    def place(self, code: str) -> tuple[str, str]:
        """Plant and storage location of a location code."""
        plant, slash, location = code.partition("/")
        return (plant, location) if slash else (self.plant, code)

    def sell(self, location_code: str, sku: str, delta: float, moved_at_ns: int | None = None) -> None:
        """What a till or a delivery does. Raises `SapError`."""
        key = (sku, *self.place(location_code))
        if key not in self.stock:
            raise SapError("M7/001", f"material {sku} is not maintained there")
        if any(d["PostingIsBlockedForPhysInvtry"] and not _done(d) and _at(d) == key for d in self.documents.values()):
            raise SapError("M7/012", f"goods movement not possible: material {sku} is blocked by a physical inventory")
        self.move(key, delta, "101" if delta > 0 else "251", moved_at_ns)

    def move(self, key: Key, delta: float, kind: str, at_ns: int | None = None, stock_type: str = "01") -> tuple[str, str]:
        """A material document with one item. Raises `SapError` where stock would be less than nothing."""
        if stock_type == "01" and self.stock[key] + delta < 0:
            raise SapError("M7/021", f"Deficit of SL Unrestricted-use {-(self.stock[key] + delta):g} PC : {key[0]} {key[1]}")
        at = datetime.fromtimestamp((self._clock() if at_ns is None else at_ns) // NS, self.zone)
        # Numbers come from a buffer for each server: a later document may have a smaller one.
        n = len(self.heads)
        year, number = f"{at.year}", f"{4_900_000_000 + (n ^ 5)}"
        name = {"MaterialDocumentYear": year, "MaterialDocument": number}
        self.heads.append({**name, "CreationDate": _date(at), "CreationTime": f"PT{at:%H}H{at:%M}M{at:%S}S"})
        facts = {"Material": key[0], "Plant": key[1], "StorageLocation": key[2], "GoodsMovementType": kind}
        sign = {"DebitCreditCode": "S" if delta > 0 else "H", "QuantityInBaseUnit": f"{abs(delta):.3f}"}
        types = {"InventoryStockType": stock_type, "InventorySpecialStockType": ""}
        self.moves.append({**name, "MaterialDocumentItem": "1", **facts, **sign, **types})
        if stock_type == "01":
            self.stock[key] += delta
        return year, number

    # Physical inventory documents

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A document with the items of the deep insert."""
        self.calls.append("create")
        if set(body) - SETTABLE:
            raise SapError("/IWBEP/CM_MGW_RT/021", f"Property {sorted(set(body) - SETTABLE)[0]} is unknown or read only")
        for name, most in LENGTHS.items():
            if len(str(body.get(name, ""))) > most:
                raise SapError("/IWBEP/CX_MGW_BUSI", f"Property {name} is longer than {most}")
        year = str(body["PhysInventoryPlannedCountDate"])[:4]
        items = body.get(ITEMS) or []
        if not items:
            raise SapError("M7/725", "A physical inventory document needs an item")
        for i in items:
            key = (str(i["Material"]), str(body["Plant"]), str(body["StorageLocation"]))
            self._free(key[0])
            if key not in self.stock:
                raise SapError("M7/001", f"material {key[0]} is not maintained in {key[1]} {key[2]}")
            for d in self.documents.values():
                if _at(d) == key and not _done(d):
                    raise SapError("M7/701", f"Material {key[0]} is already in active physical inventory document {d['n']}")
        n = f"{100_000_000 + len(self.documents) + 1}"
        head = {name: body.get(name, "") for name in LENGTHS}
        flags = {k: bool(body.get(k)) for k in ("PostingIsBlockedForPhysInvtry", "PhysInvtryDocHasQtySnapshot")}
        made = {"n": n, "FiscalYear": year, "PhysicalInventoryDocument": n, **head, **flags, "gone": False}
        places = {"Plant": body["Plant"], "StorageLocation": body["StorageLocation"]}
        planned = datetime.fromisoformat(str(body["PhysInventoryPlannedCountDate"]))
        made |= {
            "PhysInventoryPlannedCountDate": _date(planned),
            **places,
            "etag": self._etag(),
            ITEMS: [self._item(year, n, places, items[0]["Material"])],
        }
        self.documents[n] = made
        return made

    def _item(self, year: str, n: str, places: Mapping[str, Any], material: str) -> dict[str, Any]:
        return {
            "FiscalYear": year,
            "PhysicalInventoryDocument": n,
            "PhysicalInventoryDocumentItem": "1",
            "Material": material,
            **places,
            "MaterialBaseUnit": self.products[material]["BaseUnit"],
            **dict.fromkeys(("PhysicalInventoryItemIsCounted", "PhysInvtryDifferenceIsPosted"), False),
            **dict.fromkeys(("PhysInvtryItemIsDeleted", "PhysInvtryItemIsRecounted", "PhysicalInventoryItemIsZero"), False),
            **dict.fromkeys(("QuantityInUnitOfEntry", "BookQtyBfrCountInMatlBaseUnit"), "0.000"),
            **dict.fromkeys(("MaterialDocument", "MaterialDocumentYear", "UnitOfEntry"), ""),
            "etag": self._etag(),
        }

    def count(self, n: str, body: Mapping[str, Any], etag: str) -> None:
        """Enter a count. The book quantity is that of the first entry; changing a count does not change it."""
        self.calls.append("count")
        d = self._document(n)
        i = d[ITEMS][0]
        _matches(etag, i["etag"])
        self._free(i["Material"])
        if i["PhysInvtryDifferenceIsPosted"]:
            raise SapError("M7/706", f"Differences of document {n} are already posted")
        units, zero = body.get("QuantityInUnitOfEntry", "0"), body.get("PhysicalInventoryItemIsZero", False)
        if set(body) - COUNTABLE or not isinstance(units, str) or not isinstance(zero, bool):
            raise SapError("/IWBEP/CM_MGW_RT/176", "The request body holds a property of a wrong type or name")
        if body.get("UnitOfEntry") != i["MaterialBaseUnit"] or float(units) < 0 or (zero and float(units)):
            raise SapError("M7/708", "Quantity, unit and zero count do not agree")
        if not zero and not float(units):
            return  # not a count, and no error either
        if not i["PhysicalInventoryItemIsCounted"]:
            i["BookQtyBfrCountInMatlBaseUnit"] = f"{self.stock[_at(d)]:.3f}"
        i |= {"PhysicalInventoryItemIsCounted": True, "PhysicalInventoryItemIsZero": zero, "etag": self._etag()}
        i |= {"QuantityInUnitOfEntry": f"{float(units):.3f}", "UnitOfEntry": body["UnitOfEntry"]}

    def post(self, year: str, n: str) -> dict[str, Any]:
        """Post the difference; one of nothing makes no material document."""
        self.calls.append("post")
        d = self._document(n)
        i = d[ITEMS][0]
        if d["FiscalYear"] != year or not i["PhysicalInventoryItemIsCounted"]:
            raise SapError("M7/704", f"Document {n} {year} has no counted item to post")
        if i["PhysInvtryDifferenceIsPosted"]:
            raise SapError("M7/706", f"Differences of document {n} are already posted")
        self._free(i["Material"])
        delta = float(i["QuantityInUnitOfEntry"]) - float(i["BookQtyBfrCountInMatlBaseUnit"])
        if delta:
            made = self.move(_at(d), delta, "701" if delta > 0 else "702")
            i |= {"MaterialDocumentYear": made[0], "MaterialDocument": made[1]}
        i |= {"PhysInvtryDifferenceIsPosted": True, "etag": self._etag()}
        return d

    def delete(self, n: str, etag: str) -> None:
        """Where this release can, and only before a count."""
        self.calls.append("delete")
        if not self.deletes:
            raise SapError("/IWFND/CM_MGW/096", "Method 'DELETE' is not supported", 405)
        d = self._document(n)
        _matches(etag, d["etag"])
        if d[ITEMS][0]["PhysicalInventoryItemIsCounted"]:
            raise SapError("M7/710", f"Document {n} has counted items")
        d["gone"] = True

    def _document(self, n: str) -> dict[str, Any]:
        d = self.documents.get(n)
        if d is None or d["gone"]:
            raise SapError("/IWBEP/CM_MGW_RT/020", f"Resource not found for PhysInventoryDoc {n}", 404)
        return d

    def _free(self, material: str) -> None:
        if material in self.locked:
            raise SapError("M3/024", f"Material {material} is locked by user ANNA")

    def _etag(self) -> str:
        self._changes += 1
        return f"W/\"datetimeoffset'{self._changes:08d}'\""

    # Reading

    def table(self, entity: str) -> list[dict[str, Any]]:
        """An entity set's records."""
        there = [d for d in self.documents.values() if not d["gone"]]
        match entity:
            case "A_Product":
                return list(self.products.values())
            case "A_ProductStorageLocation":
                return [{"Product": m, "Plant": p, "StorageLocation": s} for m, p, s in self.stock]
            case "A_MatlStkInAcctMod":
                kind = {"Batch": "", "InventoryStockType": "01", "InventorySpecialStockType": ""}
                # What is nothing has no row.
                rows = [{**_place(k), **kind, "MatlWrhsStkQtyInMatlBaseUnit": f"{v:.3f}"} for k, v in self.stock.items() if v]
                return rows + self.others
            case "A_MaterialDocumentHeader":
                return self.heads
            case "A_MaterialDocumentItem":
                return self.moves
            case "A_PhysInventoryDocHeader":
                return there
            case "A_PhysInventoryDocItem":
                return [i for d in there for i in d[ITEMS]]
        raise SapError("/IWFND/CM_MGW/008", f"Resource not found for segment '{entity}'", 404)


def _place(key: Key) -> dict[str, str]:
    return {"Material": key[0], "Plant": key[1], "StorageLocation": key[2]}


def _at(d: Mapping[str, Any]) -> Key:
    return d[ITEMS][0]["Material"], d["Plant"], d["StorageLocation"]


def _done(d: Mapping[str, Any]) -> bool:
    i = d[ITEMS][0]
    return bool(d["gone"] or i["PhysInvtryDifferenceIsPosted"] or i["PhysInvtryItemIsDeleted"])


def _matches(sent: str, have: str) -> None:
    if not sent:
        raise SapError("/IWFND/CM_MGW_RT/428", "The request has to be conditional. Try using If-Match", 428)
    if sent != have:
        raise SapError("/IWFND/CM_MGW_RT/412", "Precondition failed: the record was changed", 412)


def _date(at: datetime) -> str:
    return f"/Date({int(datetime(at.year, at.month, at.day, tzinfo=ZoneInfo('UTC')).timestamp()) * 1000})/"
