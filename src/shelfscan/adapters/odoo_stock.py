"""What Odoo says about locations, products, stock and moves."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from shelfscan.adapters.odoo_rpc import OdooRpc
from shelfscan.wms.port import Movement

OURS = re.compile(r"^shelfscan (\S+)(?: \(.*\))?$", re.DOTALL)  # Odoo may add the name of who was to count
_QUANT = ("product_id", "location_id", "quantity", "inventory_quantity", "inventory_quantity_set")
Pair = tuple[int, int]


@dataclass(slots=True)
class Have:
    """Stock of one product at one location: its quants, and its done moves."""

    quants: list[dict[str, Any]] = field(default_factory=list)
    last: int = 0
    moves: int = 0

    @property
    def on_hand(self) -> float:
        """Over all quants: parallel counts can leave two."""
        return sum(float(q["quantity"] or 0) for q in self.quants)

    @property
    def version(self) -> str:
        """A move line's number is older than its being done, so the last number alone could stay the same."""
        return f"{self.last}.{self.moves}.{self.on_hand:g}"

    def targets(self, units: int) -> dict[int, float]:
        """The count of each quant that has to change for all of them to make ``units``."""
        biggest = sorted(self.quants, key=lambda q: -float(q["quantity"] or 0))
        more = units - self.on_hand
        if more >= 0:
            return {int(q["id"]): float(q["quantity"] or 0) + more for q in biggest[:1]}
        out = {}
        for q in biggest:
            less = min(-more, float(q["quantity"] or 0))
            if less > 0:
                out[int(q["id"])] = float(q["quantity"]) - less
                more += less
        return out


class OdooStock:
    """Reads one Odoo database. ``mapped``: the location codes the store knows."""

    def __init__(self, odoo: OdooRpc, mapped: Collection[str]) -> None:
        self._odoo, self._mapped = odoo, mapped

    def places(self) -> dict[str, int]:
        """Internal locations by barcode, or by full name where there is none or the store maps that."""
        rows = self._odoo.read("stock.location", [["usage", "=", "internal"]], ["barcode", "complete_name"])
        names = [(str(r["complete_name"]), r) for r in rows if r["complete_name"] in self._mapped]
        names += [(str(r["barcode"] or r["complete_name"]), r) for r in rows if r["complete_name"] not in self._mapped]
        return {code: int(r["id"]) for code, r in _unique(names).items()}

    def products(self) -> dict[str, dict[str, Any]]:
        """Products by internal reference."""
        rows = self._odoo.read(
            "product.product", [["default_code", "!=", False]], ["default_code", "barcode", "name", "tracking"]
        )
        return _unique([(str(r["default_code"]), r) for r in rows])

    def stock(self, places: Collection[int], products: Collection[int]) -> dict[Pair, Have]:
        """Moves before quants: what happens between the two readings leaves a version that is gone, so a conflict."""
        out: dict[Pair, Have] = {}
        for row in self.moves(places, products, [], []):
            for side in ("location_id", "location_dest_id"):
                if ident(row[side]) in places:
                    have = out.setdefault((ident(row[side]), ident(row["product_id"])), Have())
                    have.last, have.moves = max(have.last, int(row["id"])), have.moves + 1
        domain = [["location_id", "in", list(places)], ["product_id", "in", list(products)]]
        for row in self._odoo.read("stock.quant", domain, _QUANT):
            out.setdefault((ident(row["location_id"]), ident(row["product_id"])), Have()).quants.append(row)
        return out

    def moves(
        self, places: Collection[int], products: Collection[int], domain: Sequence[Any], fields: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Done moves that begin or end there, by number."""
        here = ["|", ["location_id", "in", list(places)], ["location_dest_id", "in", list(places)]]
        wanted = [["state", "=", "done"], ["product_id", "in", list(products)], *domain, *here]
        return self._odoo.read("stock.move.line", wanted, ["product_id", "location_id", "location_dest_id", *fields])

    def applied(self, key: str) -> set[tuple[str, str]]:
        """Location and product of every move that carries a document's key."""
        codes, skus = self._names()
        out = set()
        for row in self.moves(codes, skus, [["reference", "=like", f"{named(key)}%"]], ["reference"]):
            ours = OURS.match(str(row["reference"] or ""))
            if ours and ours[1] == key:
                place = codes.get(ident(row["location_id"])) or codes.get(ident(row["location_dest_id"]), "")
                out.add((place, skus[ident(row["product_id"])]))
        return out

    def movements(self, since_ns: int) -> list[Movement]:
        """See `WmsClient.pull_movements`."""
        codes, skus = self._names()
        since = datetime.fromtimestamp(since_ns // 1_000_000_000, timezone.utc) - timedelta(seconds=2)
        late = ["date", ">=", f"{since:%Y-%m-%d %H:%M:%S}"]
        out = []
        for row in self.moves(codes, skus, [late], ["date", "quantity_product_uom", "reference"]):
            at = datetime.strptime(str(row["date"]), "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
            # Odoo cuts off parts of a second: the end of the second never makes a movement look older than it is.
            stamp = int(at.timestamp()) * 1_000_000_000 + 999_999_999
            reference, units = str(row["reference"] or ""), float(row["quantity_product_uom"] or 0)
            ours = OURS.match(reference)
            kind, name = ("count", ours[1]) if ours else ("move", reference)
            for side, sign in (("location_id", -1.0), ("location_dest_id", 1.0)):
                if ident(row[side]) in codes and units and stamp >= since_ns:
                    place, sku = codes[ident(row[side])], skus[ident(row["product_id"])]
                    out.append(Movement(place, sku, sign * units, stamp, kind, name))
        return sorted(out, key=lambda m: m.moved_at_ns)

    def _names(self) -> tuple[dict[int, str], dict[int, str]]:
        codes = {number: code for code, number in self.places().items()}
        return codes, {int(p["id"]): sku for sku, p in self.products().items()}


def named(key: str) -> str:
    """What moves, packages, wizards and attachments of a document are named."""
    return f"shelfscan {key}"


def _unique(named: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """By name; a name that two records bear names neither."""
    out: dict[str, dict[str, Any]] = {}
    twice = set()
    for name, row in named:
        twice |= {name} & out.keys()
        out[name] = row
    return {k: v for k, v in out.items() if k not in twice}


def ident(value: Any) -> int:
    """The number of what a field points to: Odoo writes [number, name], or False."""
    return int(value[0]) if isinstance(value, list) and value else int(value or 0)
