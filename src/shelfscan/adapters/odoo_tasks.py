"""Counts that Odoo asks for: quants whose scheduled date has come (*Request a Count*, a location's cycle, the yearly count).

Applying a count gives its quant the next date, so a task whose count was posted is closed by that. One whose count agrees gets
the next date by a write, as Odoo would reckon it. The write goes through a package record of its own, as counts are set: one
that arrives late fails, and does not close what was asked for since. A task is named after quant and date. Odoo does not keep
when it was asked: a count of the day or later answers it.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

from shelfscan.adapters.odoo_rpc import OdooRpc
from shelfscan.adapters.odoo_stock import OdooStock, ident, named
from shelfscan.adapters.store_day import StoreDays
from shelfscan.errors import WmsConflict
from shelfscan.wms.tasks import CountTask

_QUANT = ("product_id", "location_id", "lot_id", "inventory_date", "inventory_quantity_set", "user_id")
_LOCATION = ("complete_name", "cyclic_inventory_frequency", "company_id")


class OdooTasks:
    """Tasks of one database. ``fence`` takes the power from earlier requests; ``package``: the name of that model."""

    def __init__(
        self, odoo: OdooRpc, read: OdooStock, fence: Callable[[], None], package: Callable[[], str], days: StoreDays
    ) -> None:
        self._odoo, self._read, self._fence, self._package, self._days = odoo, read, fence, package, days

    def open(self) -> list[CountTask]:
        """What is due today or was before, the oldest first."""
        codes = {number: code for code, number in self._read.places().items()}
        products = {int(p["id"]): (sku, p) for sku, p in self._read.products().items()}
        inside = {int(r["id"]): r for r in self._odoo.read("stock.location", [["usage", "=", "internal"]], _LOCATION)}
        due = [["inventory_date", "<=", self._days.today().isoformat()], ["inventory_quantity_set", "=", False]]
        rows = [q for q in self._odoo.read("stock.quant", due, _QUANT) if ident(q["location_id"]) in inside]
        out = []
        for q in sorted(rows, key=lambda q: (str(q["inventory_date"]), int(q["id"]))):
            place, (sku, product) = ident(q["location_id"]), products.get(ident(q["product_id"]), ("", {}))
            problem = ""
            if place not in codes:
                problem = "its location's barcode or name is that of another one too"
            elif not sku:
                problem = f"its product ({_name(q['product_id'])}) has no reference, or that of another one too"
            elif product["tracking"] != "none" or q["lot_id"]:
                problem = f"{sku} is tracked by {product['tracking']}; counts of it are not posted"
            code = codes.get(place, str(inside[place]["complete_name"]))
            asked = f"assigned to {_name(q['user_id'])}" if q["user_id"] else ""
            day = self._days.begin_ns(date.fromisoformat(str(q["inventory_date"])))
            out.append(CountTask(_ref(q), code, sku, day, asked, asked_ns=day, problem=problem))
        return out

    def close(self, ref: str) -> None:
        """Give the quant its next date, if it still has the one that the task is named after.

        Raises `WmsConflict` where somebody has set a count and not applied it.
        """
        self._fence()
        number = int(ref.partition("@")[0])
        found = [q for q in self._odoo.read("stock.quant", [["id", "=", number]], _QUANT) if _ref(q) == ref]
        if not found:
            return
        if found[0]["inventory_quantity_set"]:
            raise WmsConflict("a counted quantity stands on it in Odoo that nobody has applied")
        values = {"inventory_date": self._next(ident(found[0]["location_id"])), "user_id": False}
        token = self._odoo.create(self._package(), [{"name": named(f"task {ref}")}])
        self._odoo.change(self._package(), "write", token, vals={"quant_ids": [[1, number, values]]})
        self._odoo.change(self._package(), "unlink", token)

    def _next(self, place: int) -> str | bool:
        """When a location is counted again, as Odoo reckons it after a count; False for never."""
        today = self._days.today()
        (location,) = self._odoo.read("stock.location", [["id", "=", place]], _LOCATION)
        if location["cyclic_inventory_frequency"]:
            return (today + timedelta(days=int(location["cyclic_inventory_frequency"]))).isoformat()
        fields = ("annual_inventory_month", "annual_inventory_day")
        companies = self._odoo.read("res.company", [["id", "=", ident(location["company_id"])]], fields)
        if not companies or not companies[0]["annual_inventory_month"]:
            return False
        month, day = int(companies[0]["annual_inventory_month"]), max(1, int(companies[0]["annual_inventory_day"] or 0))
        days = (date(y, month, min(day, calendar.monthrange(y, month)[1])) for y in (today.year, today.year + 1))
        return next(d for d in days if d > today).isoformat()


def _ref(quant: dict[str, Any]) -> str:
    return f"{quant['id']}@{quant['inventory_date']}"


def _name(value: Any) -> str:
    return str(value[1]) if isinstance(value, list) and len(value) > 1 else str(value)
