"""What InvenTree 1.x does with stock, as its public source says, traps included; see `inventree_stub` for the interface.

Quantities are floored at nothing without a word, an item that is used up is deleted together with its history when its flag
says so, a count overwrites whatever is there, and a merge takes the item to the location in the request.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone, tzinfo
from typing import Any

from shelfscan.model.bundle import WmsLocation
from shelfscan.model.catalogue import Catalogue

CREATED, COUNT, ADD, REMOVE, MOVE, SPLIT_FROM, SPLIT_OFF, MERGED, SHIPPED = 1, 10, 11, 12, 20, 40, 42, 45, 60
UNAVAILABLE = (60, 65, 70, 75)
#: OK, attention needed, damaged, and what is no stock.
STATUSES = (10, 50, 55, *UNAVAILABLE)
EDITED = 5
Row = dict[str, Any]


class InvenTreeError(Exception):
    """A request that is refused: status and body of the answer."""

    def __init__(self, body: Any, status: int = 400) -> None:
        super().__init__(str(body))
        self.body, self.status = body, status


class InvenTreeSystem:
    """Parts, locations, stock items and their history. ``deletes``: which of the shelves' items are deleted when used up;
    ``told``: of which the history says that they were made, a month ago.

    A place that is ``site`` is a location with a room below it, whose items show when somebody asks for the location alone.
    """

    def __init__(
        self,
        rows: Sequence[WmsLocation],
        catalogue: Catalogue,
        clock: Callable[[], int] = time.time_ns,
        *,
        deletes: Callable[[int], bool] = lambda pk: False,
        told: Callable[[int], bool] = lambda pk: False,
        zone: tzinfo = timezone.utc,
    ) -> None:
        self._clock, self.zone = clock, zone
        self.parts: dict[int, Row] = {}
        self.locations: dict[int, Row] = {}
        self.items: dict[int, Row] = {}
        self.track: dict[int, Row] = {}
        self._next = {"stock": 1, "track": 1}
        #: Statuses of the store's own: by their key, the one whose meaning they have.
        self.custom: dict[int, int] = {}
        store = self.add_location("Store", None, structural=True)
        for sku in dict.fromkeys(r.sku for r in rows):
            name = catalogue[sku].name if sku in catalogue else sku
            self.add_part(sku, name)
        for r in rows:
            code = r.location_code.rpartition("/")[2]
            place = next((p for p, x in self.locations.items() if x["name"] == code), 0) or self.add_location(code, store)
            part = next(p for p, x in self.parts.items() if x["IPN"] == r.sku)
            # Not every item's history begins with where it was made: those of an import have none.
            pk = self.make(part, place, r.on_hand, tell=False, delete_on_deplete=deletes(self._next["stock"]))
            if told(pk):
                at = self._clock() - 30 * 86_400_000_000_000
                self.note(pk, CREATED, {"status": 10, "quantity": float(r.on_hand), "location": place}, at_ns=at)

    def add_part(self, ipn: str, name: str, **facts: Any) -> int:
        """A part's number."""
        pk = 100 + len(self.parts)
        self.parts[pk] = {"pk": pk, "IPN": ipn, "name": name, "trackable": False, "virtual": False, "variant_of": None, **facts}
        return pk

    def add_location(self, name: str, parent: int | None, *, structural: bool = False) -> int:
        """A location's number."""
        pk = 1 + len(self.locations)
        path = f"{self.locations[parent]['pathstring']}/{name}" if parent else name
        row = {"pk": pk, "name": name, "pathstring": path, "parent": parent, "structural": structural, "external": False}
        self.locations[pk] = row
        return pk

    def make(self, part: int, place: int | None, quantity: float, *, tell: bool = True, **facts: Any) -> int:
        """A stock item's number; numbers are never given twice."""
        pk = self._next["stock"]
        self._next["stock"] += 1
        row = {
            **dict.fromkeys(("serial", "batch", "customer", "sales_order", "belongs_to", "consumed_by", "status_custom_key")),
            **dict.fromkeys(("delete_on_deplete", "is_building"), False),
        }
        row |= {"pk": pk, "part": part, "location": place, "quantity": float(quantity), "status": 10}
        self.items[pk] = {**row, **facts}
        if tell:
            said = {"status": self.items[pk]["status"], "quantity": float(quantity), **({"location": place} if place else {})}
            self.note(pk, CREATED, said)
        return pk

    def note(self, item: int, code: int, deltas: Mapping[str, Any], notes: str = "", at_ns: int | None = None) -> None:
        """An entry in an item's history."""
        pk = self._next["track"]
        self._next["track"] += 1
        at = self._clock() if at_ns is None else at_ns
        date = f"{datetime.fromtimestamp(at // 1_000_000_000, self.zone):%Y-%m-%d %H:%M}"
        row = {"pk": pk, "item": item, "tracking_type": code, "label": f"Code {code}", "deltas": dict(deltas)}
        self.track[pk] = {**row, "notes": notes, "date": date, "at_ns": at}

    def delete(self, item: int) -> None:
        """An item goes, and its history with it."""
        del self.items[item]
        self.track = {k: t for k, t in self.track.items() if t["item"] != item}

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        kept = copy.deepcopy((self.items, self.track))
        try:
            yield
        except BaseException:
            self.items, self.track = kept
            raise

    def checked(self, items: Any, name: str = "pk", *, quantities: bool = True) -> list[tuple[int, float]]:
        """The items of a request; every one is looked at before the first is changed."""
        if not isinstance(items, list) or not items:
            raise InvenTreeError({"items": ["This field is required."]})
        errors: list[Row] = []
        for i in items:
            wrong: Row = {}
            if i.get(name) not in self.items:
                wrong[name] = [f'Invalid pk "{i.get(name)}" - object does not exist.']
            elif any(self.items[i[name]][k] for k in ("customer", "sales_order", "belongs_to", "consumed_by")):
                wrong[name] = ["Stock item is not in stock"]
            if quantities and (not isinstance(i.get("quantity"), int | float) or i["quantity"] < 0):
                wrong["quantity"] = ["Ensure this value is greater than or equal to 0."]
            errors.append(wrong)
        if any(errors):
            raise InvenTreeError({"items": errors})
        return [(i[name], float(i.get("quantity", 0))) for i in items]

    def _update(self, item: int, quantity: float) -> bool:
        row = self.items[item]
        if row["serial"] and row["quantity"] == 1:
            return False
        row["quantity"] = max(0.0, quantity)
        if row["quantity"] == 0 and row["delete_on_deplete"]:
            self.delete(item)
            return False
        return True

    def adjust(self, what: str, items: Any, notes: str, at_ns: int | None = None) -> None:
        """``count``, ``add`` or ``remove``; of an item that was deleted no entry is left."""
        with self.transaction():
            for item, quantity in self.checked(items):
                if item not in self.items:
                    continue
                have = self.items[item]["quantity"]
                wanted = {"count": quantity, "add": have + quantity, "remove": have - quantity}[what]
                if (quantity <= 0 and what != "count") or not self._update(item, wanted):
                    continue
                told = {"count": {}, "add": {"added": quantity}, "remove": {"removed": quantity}}[what]
                code = {"count": COUNT, "add": ADD, "remove": REMOVE}[what]
                self.note(item, code, {**told, "quantity": self.items[item]["quantity"]}, notes, at_ns)

    def merge(self, items: Any, place: Any, notes: str, mismatched: bool) -> None:
        """The first item takes the others in, goes to the location, and their histories are lost."""
        if place not in self.locations or self.locations[place]["structural"]:
            raise InvenTreeError({"location": [f'Invalid pk "{place}" - object does not exist.']})
        pks = [pk for pk, _ in self.checked(items, "item", quantities=False)]
        if len(pks) < 2 or len(set(pks)) < len(pks):
            raise InvenTreeError({"non_field_errors": ["At least two stock items must be provided"]})
        base, others = self.items[pks[0]], [self.items[p] for p in pks[1:]]
        if any(o["part"] != base["part"] for o in others):
            raise InvenTreeError({"non_field_errors": ["Stock items must refer to the same part"]})
        if any(o["status"] != base["status"] for o in others) and not mismatched:
            raise InvenTreeError({"non_field_errors": ["Stock status codes must match"]})
        if any(self.items[p]["serial"] for p in pks):
            raise InvenTreeError({"items": [{"item": ["Serialized stock cannot be merged"]}]})
        for o in others:
            base["quantity"] += o["quantity"]
            self.delete(o["pk"])
        base["location"] = place
        self.note(base["pk"], MERGED, {"location": place, "quantity": base["quantity"]}, notes)

    def change_status(self, items: Any, status: Any, note: str, at_ns: int | None = None) -> None:
        """Give stock items another status; those that have it already stay as they are, and nothing is asked of the old one."""
        if not isinstance(items, list) or not items:
            raise InvenTreeError({"items": ["No stock items selected"]})
        if status not in STATUSES and status not in self.custom:
            raise InvenTreeError({"status": [f'"{status}" is not a valid choice.']})
        wrong = [i for i in items if i not in self.items]
        if wrong:
            raise InvenTreeError({"items": [f'Invalid pk "{wrong[0]}" - object does not exist.']})
        for item in items:
            row = self.items[item]
            if (row["status_custom_key"] or row["status"]) != status:
                own = status if status in self.custom else None
                row |= {"status": self.custom.get(status, status), "status_custom_key": own}
                self.note(item, EDITED, {"status": status}, note, at_ns)

    def transfer(self, item: int, place: int, quantity: float) -> None:
        """Some of an item go to another location as an item of their own, or the item itself."""
        row = self.items[item]
        if quantity >= row["quantity"]:
            row["location"] = place
            self.note(item, MOVE, {"location": place})
            return
        facts = {k: row[k] for k in ("batch", "status", "delete_on_deplete")}
        new = self.make(row["part"], place, quantity, tell=False, **facts)
        self.note(new, SPLIT_FROM, {"stockitem": item, "quantity": quantity, "location": place})
        row["quantity"] -= quantity
        self.note(item, SPLIT_OFF, {"removed": quantity, "quantity": row["quantity"], "location": place, "stockitem": new})

    def ship(self, item: int) -> None:
        """An item goes to a customer as a whole; the entry has no quantity."""
        self.items[item] |= {"customer": 1, "location": None}
        self.note(item, SHIPPED, {"customer": 1, "salesorder": 1})

    def at(self, location_code: str, sku: str) -> list[Row]:
        """Stock items of a part at a location, by the names of the store; tokens are none."""
        name = location_code.rpartition("/")[2]
        places = {p for p, x in self.locations.items() if x["name"] == name}
        parts = {p for p, x in self.parts.items() if x["IPN"] == sku}
        rows = [r for r in self.items.values() if r["location"] in places and r["part"] in parts]
        return [r for r in rows if r["status"] not in UNAVAILABLE]

    def sell(self, location_code: str, sku: str, delta: float, at_ns: int | None = None) -> None:
        """Pieces come or go at the till. Raises `InvenTreeError`."""
        rows = sorted(self.at(location_code, sku), key=lambda r: -r["quantity"])
        if not rows or rows[0]["quantity"] + delta < 0:
            raise InvenTreeError({"detail": f"no such stock of {sku} at {location_code}"})
        items = [{"pk": rows[0]["pk"], "quantity": abs(delta)}]
        self.adjust("add" if delta > 0 else "remove", items, "till", at_ns)
