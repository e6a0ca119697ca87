"""What Odoo's stock module does with quants, counts and moves, traps included, as far as counts need it.

What is reproduced was measured or is what Odoo's source says; it is no Odoo.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from typing import Any

from shelfscan.evaluation.odoo_domain import matches, shown
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.catalogue import Catalogue

WIZARD = "stock.inventory.adjustment.name"
FIELDS: dict[str, dict[str, Any]] = {
    "res.company": {"annual_inventory_month": "12", "annual_inventory_day": 31},
    "stock.location": {
        "complete_name": "",
        "barcode": False,
        "usage": "internal",
        "company_id": False,
        "cyclic_inventory_frequency": 0,
    },
    "product.product": {"default_code": False, "barcode": False, "name": "", "tracking": "none"},
    "stock.quant": {
        **dict.fromkeys(("product_id", "location_id", "lot_id", "package_id", "user_id", "inventory_quantity_set"), False),
        "inventory_date": False,
        **dict.fromkeys(("quantity", "inventory_quantity", "inventory_diff_quantity"), 0.0),
    },
    "stock.move.line": {
        **dict.fromkeys(("product_id", "location_id", "location_dest_id", "reference"), False),
        "quantity_product_uom": 0.0,
        "date": "",
        "state": "done",
    },
    "ir.attachment": {"name": "", "description": False},
    "stock.package": {"name": "", "quant_ids": []},
    WIZARD: {"quant_ids": [], "inventory_adjustment_name": "Physical Inventory"},
}
#: What a stock manager may delete.
UNLINK = ("ir.attachment", "stock.package")
METHODS = {
    "stock.quant": ("action_apply_inventory", "action_clear_inventory_quantity"),
    WIZARD: ("action_apply",),
}
ARGUMENTS = {
    "search_read": ("domain", "fields", "offset", "limit", "order"),
    "search_count": ("domain",),
    "create": ("vals_list",),
    "write": ("vals",),
}


class OdooError(Exception):
    """What Odoo's server answers with instead of a result."""

    def __init__(self, status: int, name: str, message: str) -> None:
        super().__init__(message)
        self.status, self.name = status, name


class OdooDatabase:
    """One database with the locations, products and stock of ``rows``."""

    def __init__(
        self,
        rows: Sequence[WmsLocation],
        catalogue: Catalogue,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._clock = clock
        self._next = 1
        self.tables: dict[str, dict[int, dict[str, Any]]] = {model: {} for model in FIELDS}
        self.calls: list[tuple[str, str]] = []
        self.company = self.add("res.company")
        self.loss = self.add("stock.location", complete_name="Virtual/Inventory adjustment", usage="inventory")
        self.customers = self.add("stock.location", complete_name="Partners/Customers", usage="customer")
        places: dict[str, int] = {}
        skus = {p.sku: self.add("product.product", default_code=p.sku, barcode=p.gtin, name=p.name) for p in catalogue.values()}
        for r in rows:
            if r.location_code not in places:
                places[r.location_code] = self.add(
                    "stock.location", complete_name=f"WH/Stock/{r.location_code}", barcode=r.location_code
                )
            if r.sku in skus:
                self.add("stock.quant", product_id=skus[r.sku], location_id=places[r.location_code], quantity=float(r.on_hand))

    def add(self, model: str, **values: Any) -> int:
        """A record, as its defaults have it."""
        number, self._next = self._next, self._next + 1
        row = {"id": number, **copy.deepcopy(FIELDS[model]), **values}
        self.tables[model][number] = row
        if model == "stock.location":
            row["company_id"] = self.company
        if model == "stock.quant" and not row["inventory_date"] and row["location_id"]:
            row["inventory_date"] = self._next_date(row["location_id"])
        return number

    def _next_date(self, place: int) -> str:
        """When what is at a location is counted next: after its cycle, or at the end of the year."""
        days = self.tables["stock.location"][place]["cyclic_inventory_frequency"]
        today = datetime.fromtimestamp(self._clock() // 1_000_000_000, timezone.utc).date()
        year_end = date(today.year, 12, 31)
        annual = year_end if year_end > today else date(today.year + 1, 12, 31)
        return (today + timedelta(days=days) if days else annual).isoformat()

    def request_count(self, location_code: str, sku: str, day: str, user: int | bool = False) -> int:
        """What *Request a Count* does; the quant's number. Raises `LookupError`."""
        place = self.one("stock.location", barcode=location_code)["id"]
        quant = self.one("stock.quant", product_id=self.one("product.product", default_code=sku)["id"], location_id=place)
        quant.update(inventory_date=day, user_id=user)
        return int(quant["id"])

    def one(self, model: str, **values: Any) -> dict[str, Any]:
        """The first record with these values. Raises `LookupError`."""
        for row in self.tables[model].values():
            if all(row[k] == v for k, v in values.items()):
                return row
        raise LookupError(f"no {model} with {values}")

    def sell(self, location_code: str, sku: str, delta: float, moved_at_ns: int | None = None) -> None:
        """What a till or a delivery does. Raises `LookupError`."""
        place = self.one("stock.location", barcode=location_code)["id"]
        product = self.one("product.product", default_code=sku)["id"]
        self.one("stock.quant", product_id=product, location_id=place)
        ends = (place, self.customers) if delta < 0 else (self.customers, place)
        self._move(product, ends, abs(delta), "S00042", moved_at_ns)

    # Calls

    def transaction(self, model: str, method: str, ids: Sequence[int], values: dict[str, Any], context: dict[str, Any]) -> Any:
        if model not in self.tables:
            raise OdooError(404, "werkzeug.exceptions.NotFound", f"the model {model!r} does not exist")
        if method not in (*ARGUMENTS, "unlink", *METHODS.get(model, ())):
            raise OdooError(404, "werkzeug.exceptions.NotFound", f"the method '{model}.{method}' does not exist")
        if set(values) - set(ARGUMENTS.get(method, ())) or (ids and method in ("create", "search_read", "search_count")):
            raise OdooError(422, "builtins.TypeError", f"{model}.{method}: got unexpected arguments")
        self.calls.append((model, method))
        if method == "search_count":
            return len(self._search(model, **values))
        if method == "search_read":
            names = ["id", *values.pop("fields", [])]
            return [{n: self._shown(model, row, n) for n in names} for row in self._search(model, **values)]
        before, number = copy.deepcopy(self.tables), self._next
        try:
            if method == "create":
                return [self._create(model, v, context) for v in values["vals_list"]]
            rows = self._rows(model, ids)
            match method:
                case "write":
                    return self._write(model, rows, values["vals"])
                case "unlink":
                    if model not in UNLINK:
                        raise OdooError(403, "odoo.exceptions.AccessError", f"You are not allowed to delete {model}")
                    for row in rows:
                        del self.tables[model][row["id"]]
                    return True
                case "action_apply":
                    quants = self._rows("stock.quant", [q for row in rows for q in row["quant_ids"]])
                    name = rows[0]["inventory_adjustment_name"]
                    return self._apply([q for q in quants if q["inventory_quantity_set"]], {"inventory_name": name})
                case "action_apply_inventory":
                    return self._apply(rows, context)
                case _:
                    for row in rows:
                        self._clear(row)
                    return None
        except OdooError:
            self.tables, self._next = before, number
            raise

    def _search(
        self, model: str, domain: Sequence[Any] = (), limit: int | None = None, order: str = "id", offset: int = 0
    ) -> Any:
        try:
            found = [row for _, row in sorted(self.tables[model].items()) if matches(row, domain)]
        except (KeyError, ValueError, TypeError) as e:
            raise OdooError(422, "builtins.ValueError", f"Invalid domain {domain}: {e}") from e
        if "desc" in order:
            found.reverse()
        return found[offset:][:limit]

    def _shown(self, model: str, row: Mapping[str, Any], name: str) -> Any:
        if name not in row:
            raise OdooError(422, "builtins.ValueError", f"Invalid field {name!r} on {model!r}")
        return shown(name, row[name])

    def _rows(self, model: str, ids: Iterable[int]) -> list[dict[str, Any]]:
        try:
            return [self.tables[model][i] for i in ids]
        except KeyError as e:
            text = f"Record does not exist or has been deleted. (Record: {model}({e}), User: 2)"
            raise OdooError(404, "odoo.exceptions.MissingError", text) from e

    def _create(self, model: str, values: dict[str, Any], context: Mapping[str, Any]) -> int:
        units = values.get("inventory_quantity")
        if model == "stock.quant" and context.get("inventory_mode") and units is not None:
            # In inventory mode a quant that is there is counted; only where there is none another is made.
            same = {k: values.get(k, False) for k in ("product_id", "location_id", "lot_id", "package_id")}
            try:
                row = self.one(model, **same)
            except LookupError:
                row = self.tables[model][self.add(model, **same)]
            self._write(model, [row], {"inventory_quantity": units, "user_id": 2})
            return int(row["id"])
        links = {k: v for k, v in values.items() if k == "quant_ids"}
        number = self.add(model)
        self._write(model, [self.tables[model][number]], {k: v for k, v in values.items() if k not in links})
        self._write(model, [self.tables[model][number]], links)
        return number

    def _write(self, model: str, rows: Sequence[dict[str, Any]], values: Mapping[str, Any]) -> bool:
        for row in rows:
            for name, value in values.items():
                if name not in FIELDS[model]:
                    raise OdooError(422, "builtins.ValueError", f"Invalid field {name!r} on {model!r}")
                if name == "quant_ids":
                    self._command(model, row, value)
                else:
                    row[name] = value
            if model == "stock.quant" and {"inventory_quantity", "inventory_quantity_set"} & set(values):
                # Both are computed from the count; writing the mark alone computes the difference anew too.
                row["inventory_quantity_set"] = values.get("inventory_quantity_set", True)
                counted = row["inventory_quantity_set"]
                row["inventory_diff_quantity"] = row["inventory_quantity"] - row["quantity"] if counted else 0.0
        return True

    def _command(self, model: str, row: dict[str, Any], commands: Sequence[Sequence[Any]]) -> None:
        for command in commands:
            match command[0]:
                case 1:  # whether the quant is among the record's or not
                    self._write("stock.quant", self._rows("stock.quant", [command[1]]), command[2])
                case 5:
                    row["quant_ids"] = []
                case 6:
                    row["quant_ids"] = [q["id"] for q in self._rows("stock.quant", command[2])]
                case _:
                    raise OdooError(422, "builtins.ValueError", f"{model}: the stub has no command {command}")

    def _apply(self, quants: Sequence[dict[str, Any]], context: Mapping[str, Any]) -> dict[str, Any] | None:
        outdated = [
            q["id"]
            for q in quants
            if q["inventory_quantity_set"] and q["inventory_quantity"] - q["inventory_diff_quantity"] != q["quantity"]
        ]
        if outdated:
            # An answer like any other, status 200, and nothing of the batch is applied.
            window = {"name": "Conflict in Inventory Adjustment", "type": "ir.actions.act_window", "target": "new"}
            return {**window, "res_model": "stock.inventory.conflict", "context": {"default_quant_to_fix_ids": outdated}}
        for q in quants:
            if not q["inventory_quantity_set"]:
                self._write("stock.quant", [q], {"inventory_quantity_set": True})  # counted as nothing
            units, name = q["inventory_diff_quantity"], context.get("inventory_name")
            name = name or ("Product Quantity Updated" if units else "Product Quantity Confirmed")
            name += " (Stock Manager)" if q["user_id"] else ""
            ends = (self.loss, q["location_id"]) if units > 0 else (q["location_id"], self.loss)
            self._move(q["product_id"], ends, abs(units), name, quant=q)
            q["inventory_date"] = self._next_date(q["location_id"])
            self._clear(q)
        return None

    def _clear(self, quant: dict[str, Any]) -> None:
        quant.update(inventory_quantity=0.0, inventory_diff_quantity=0.0, inventory_quantity_set=False, user_id=False)

    def _move(
        self,
        product: int,
        ends: tuple[int, int],
        units: float,
        reference: str,
        at_ns: int | None = None,
        quant: dict[str, Any] | None = None,
    ) -> None:
        at = datetime.fromtimestamp((self._clock() if at_ns is None else at_ns) // 1_000_000_000, timezone.utc)
        facts = {"product_id": product, "location_id": ends[0], "location_dest_id": ends[1], "quantity_product_uom": units}
        self.add("stock.move.line", **facts, date=f"{at:%Y-%m-%d %H:%M:%S}", reference=reference)
        for place, change in zip(ends, (-units, units), strict=True):
            if self.tables["stock.location"][place]["usage"] == "internal":
                here = quant or self.one("stock.quant", product_id=product, location_id=place)
                here["quantity"] += change
