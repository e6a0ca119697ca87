"""What SAP says about storage locations, products, stock and material documents."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Any

from shelfscan.adapters.sap_inventory import SapInventory
from shelfscan.adapters.sap_odata import NS, SapOData, any_of, chunks, equals, filter_day, number, stamp_of
from shelfscan.model.bundle import WmsLocation
from shelfscan.wms.port import Movement

PRODUCT, STOCK, DOCUMENT = "API_PRODUCT_SRV", "API_MATERIAL_STOCK_SRV", "API_MATERIAL_DOCUMENT_SRV"
#: Goods movements that physical inventory makes: 701 and 702 for unrestricted stock.
COUNTED = ("701", "702")
_ITEM = (
    "MaterialDocumentYear,MaterialDocument,MaterialDocumentItem,Material,Plant,StorageLocation,GoodsMovementType,"
    "InventoryStockType,InventorySpecialStockType,QuantityInBaseUnit,DebitCreditCode"
)
#: Plant and storage location.
Place = tuple[str, str]
#: A place and a material without its leading zeros.
Pair = tuple[Place, str]


@dataclass(slots=True)
class Have:
    """Unrestricted stock of one material at one place, and its movements since a day."""

    since: date
    on_hand: float = 0.0
    moves: int = 0
    last: str = ""

    @property
    def version(self) -> str:
        """Numbers of documents are given out in blocks, so the last one alone could stay the same."""
        return f"{self.since.isoformat()}/{self.moves}/{self.last}/{self.on_hand:.3f}"


@dataclass(slots=True)
class Master:
    """Places by location code, and materials and their products by SKU. ``kept``: which material has a record where."""

    places: dict[str, Place] = field(default_factory=dict)
    forms: dict[str, str] = field(default_factory=dict)
    products: dict[str, dict[str, Any]] = field(default_factory=dict)
    kept: set[tuple[str, str]] = field(default_factory=set)


class SapStock:
    """Reads one SAP client. ``plant``: of location codes that name none; ``zone``: SAP's own clock's."""

    def __init__(self, sap: SapOData, rows: Sequence[WmsLocation], plant: str, zone: tzinfo) -> None:
        self._sap, self._plant, self._zone = sap, plant, zone
        self._codes: dict[Place, str] = {}
        for r in rows:
            self._codes.setdefault(self.place(r.location_code), r.location_code)
        self._skus = {bare(r.sku): r.sku for r in rows}

    def place(self, code: str) -> Place:
        """What ``1010/101A``, or ``101A`` in the configured plant, means."""
        plant, slash, location = code.partition("/")
        return (plant, location) if slash else (self._plant, code)

    def code(self, place: Place) -> str:
        """The store's name of a place, or SAP's where it has none."""
        return self._codes.get(place) or "/".join(place)

    def sku(self, material: str) -> str:
        """The store's name of a material, whose leading zeros may be missing on either side."""
        return self._skus.get(bare(material), bare(material))

    def master(self, only: tuple[str, str] | None = None, *, products: bool = True) -> Master:
        """Everything in the mapped plants, or one location code and SKU; with ``products`` those that the store maps."""
        out = Master()
        if only is None:
            plants = sorted({p for p, _ in self._codes} | {self._plant})
            where = any_of([equals(Plant=p) for p in plants])
        else:
            plant, location = self.place(only[0])
            material = any_of([equals(Product=m) for m in dict.fromkeys((only[1], bare(only[1]).zfill(18))) if m])
            where = f"{equals(Plant=plant, StorageLocation=location)} and {material}"
        fields = "Product,Plant,StorageLocation"
        for row in self._sap.rows(PRODUCT, "A_ProductStorageLocation", fields, where=where, select=fields):
            place, form = (str(row["Plant"]), str(row["StorageLocation"])), str(row["Product"])
            code, sku = self.code(place), self.sku(form)
            out.places[code] = place
            out.kept.add((code, sku))
            if bare(form) in self._skus:
                out.forms[sku] = form
        names = [equals(Product=f) for f in sorted(out.forms.values())] if products else []
        for chunk in chunks(names):
            rows = self._sap.rows(PRODUCT, "A_Product", "Product", where=any_of(chunk), expand="to_Description")
            out.products |= {self.sku(str(r["Product"])): r for r in rows}
        return out

    def stock(self, since: date, places: Collection[Place], material: str = "") -> dict[Pair, Have]:
        """Movements before stock: what happens between the two readings leaves a version that is gone, so a conflict."""
        out: dict[Pair, Have] = {}
        for row in self._items(self._documents(since), places, material):
            have = out.setdefault(_pair(row), Have(since))
            have.moves += 1
            name = "/".join(str(row[k]) for k in ("MaterialDocumentYear", "MaterialDocument", "MaterialDocumentItem"))
            have.last = max(have.last, name)
        only = {"Material": material} if material else {}
        key = "Material,Plant,StorageLocation,Batch,InventoryStockType,InventorySpecialStockType"
        for plant, location in sorted(places):
            kind = equals(Plant=plant, StorageLocation=location, InventoryStockType="01", InventorySpecialStockType="", **only)
            for row in self._sap.rows(STOCK, "A_MatlStkInAcctMod", key, where=kind):
                out.setdefault(_pair(row), Have(since)).on_hand += number(row["MatlWrhsStkQtyInMatlBaseUnit"])
        return out

    def movements(self, since_ns: int, places: Collection[Place], inventory: SapInventory) -> list[Movement]:
        """See `WmsClient.pull_movements`."""
        first = datetime.fromtimestamp(since_ns // NS, timezone.utc).astimezone(self._zone) - timedelta(seconds=2)
        documents = self._documents(first.date())
        found = [r for r in self._items(documents, places) if documents[_document(r)] >= since_ns]
        counts = inventory.behind(sorted({_document(r) for r in found if r["GoodsMovementType"] in COUNTED}))
        out = []
        for row in found:
            place, material = _pair(row)
            units = number(row["QuantityInBaseUnit"])
            delta = units if row["DebitCreditCode"] == "S" else -units
            name = _document(row)
            kind, reference = counts.get(name, ("move", name[1]))
            out.append(Movement(self.code(place), self.sku(material), delta, documents[name], kind, reference))
        return sorted(out, key=lambda m: m.moved_at_ns)

    def _documents(self, since: date) -> dict[tuple[str, str], int]:
        """Year, number and time of every material document since a day. Only its head has a time, and no place."""
        key = "MaterialDocumentYear,MaterialDocument"
        where = f"CreationDate ge {filter_day(since)}"
        select = f"{key},CreationDate,CreationTime"
        rows = self._sap.rows(DOCUMENT, "A_MaterialDocumentHeader", key, where=where, select=select)
        return {_document(r): stamp_of(r["CreationDate"], r["CreationTime"], self._zone) for r in rows}

    def _items(
        self, documents: Mapping[tuple[str, str], int], places: Collection[Place], material: str = ""
    ) -> list[dict[str, Any]]:
        """The documents' items of unrestricted stock at these places."""
        out = []
        for year in sorted({y for y, _ in documents}):
            numbers = [n for y, n in documents if y == year]
            span = f"MaterialDocument ge '{min(numbers)}' and MaterialDocument le '{max(numbers)}'"
            only = {"Material": material} if material else {}
            for plant, location in sorted(places):
                where = f"{equals(MaterialDocumentYear=year, Plant=plant, StorageLocation=location, **only)} and {span}"
                order = "MaterialDocumentYear,MaterialDocument,MaterialDocumentItem"
                rows = self._sap.rows(DOCUMENT, "A_MaterialDocumentItem", order, where=where, select=_ITEM)
                out += [r for r in rows if _document(r) in documents and _unrestricted(r)]
        return out


def bare(material: str) -> str:
    """A material number without leading zeros, which SAP shows here and hides there."""
    return material.lstrip("0") or material if material.isdigit() else material


def told(version: str) -> tuple[date, float] | None:
    """The day since which a version counts and what was on hand; None for what is no version of ours."""
    try:
        return date.fromisoformat(version.partition("/")[0]), float(version.rpartition("/")[2])
    except ValueError:
        return None


def _unrestricted(row: Mapping[str, Any]) -> bool:
    return row["InventoryStockType"] == "01" and not row["InventorySpecialStockType"]


def _pair(row: Mapping[str, Any]) -> Pair:
    return (str(row["Plant"]), str(row["StorageLocation"])), bare(str(row["Material"]))


def _document(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row["MaterialDocumentYear"]), str(row["MaterialDocument"])
