"""What InvenTree says about locations, parts and stock items, and the tokens that are spent on a change."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from shelfscan.adapters.inventree_api import InvenTreeApi, InvenTreeRefused, Record
from shelfscan.errors import WmsTransient

#: Statuses whose pieces InvenTree itself does not count as stock: destroyed, rejected, lost, quarantined.
UNAVAILABLE = frozenset({60, 65, 70, 75})
QUARANTINED = 75
#: What the batch of a token begins with.
OURS = "shelfscan "
TRIES = 4
_GONE = ("customer", "sales_order", "belongs_to", "consumed_by")
Pair = tuple[int, int]


@dataclass(frozen=True)
class Names:
    """Locations and parts by the names that the store uses, and the other way round."""

    places: dict[str, int] = field(default_factory=dict)
    parts: dict[str, Record] = field(default_factory=dict)

    @property
    def codes(self) -> dict[int, str]:
        """Location codes by InvenTree's number."""
        return {pk: code for code, pk in self.places.items()}

    @property
    def skus(self) -> dict[int, str]:
        """SKUs by InvenTree's number of the part."""
        return {int(p["pk"]): sku for sku, p in self.parts.items()}


class InvenTreeStock:
    """Reads one server. ``mapped``: the location codes the store knows."""

    def __init__(self, api: InvenTreeApi, mapped: Collection[str]) -> None:
        self._api, self._mapped = api, mapped
        self._names: Names | None = None

    def names(self, *, fresh: bool = False) -> Names:
        """Locations by name, or by path where the store maps that or the name is not unique; parts by IPN."""
        if self._names is None or fresh:
            places = [r for r in self._api.rows("/api/stock/location/") if r["structural"] is not True]
            paths = {str(r["pathstring"]): int(r["pk"]) for r in places}
            named = _unique([(str(r["name"]), int(r["pk"])) for r in places])
            taken = {code: paths[code] for code in self._mapped if code in paths}
            taken |= {n: pk for n, pk in named.items() if n not in taken and pk not in taken.values()}
            taken |= {path: pk for path, pk in paths.items() if path not in taken and pk not in taken.values()}
            parts = _unique([(str(r["IPN"]), r) for r in self._api.rows("/api/part/") if r["IPN"]])
            self._names = Names(taken, parts)
        return self._names

    def rows(self, pair: Pair | None = None) -> dict[Pair, list[Record]]:
        """Stock items by location and part, tokens and what is not in the house left out; all of them, or one pair's."""
        params: dict[str, Any] = {"part_detail": "false", "location_detail": "false"}
        if pair is not None:
            # Without these two, sub-locations and variants come along.
            params |= {"location": pair[0], "part": pair[1], "cascade": "false", "include_variants": "false"}
        out: dict[Pair, list[Record]] = {}
        for row in self._api.rows("/api/stock/", **params):
            here = (int(row["location"] or 0), int(row["part"]))
            if here[0] and present(row) and (pair is None or here == pair):
                out.setdefault(here, []).append(row)
        return out

    def fence(self) -> bool:
        """Take the power from every earlier request of ours that may still be on its way, of any document; whether any had it.

        A token that is used up twice is refused, so whichever comes first, the change or this, the other does nothing. Only a
        change that InvenTree is carrying out at this moment may yet take effect.
        """
        for n in range(TRIES):
            rows = self._api.rows("/api/stock/", status=QUARANTINED, part_detail="false", location_detail="false")
            tokens = [r for r in rows if str(r["batch"] or "").startswith(OURS)]
            if not tokens:
                return n > 0
            for row in tokens:
                try:
                    self._api.change("/api/stock/remove/", {"items": [{"pk": row["pk"], "quantity": row["quantity"]}]})
                except InvenTreeRefused:
                    continue  # spent meanwhile; the next reading tells
        raise WmsTransient(f"{self._api.url}: stock items with a batch {OURS}… cannot be removed")

    def change(self, target: Record, units: float, batch: str, notes: str) -> None:
        """Put ``units`` pieces more into a stock item, or take off fewer than nothing; as a difference, and once.

        A token is made, a quarantined stock item that ceases to be when it is empty, and the change uses it up. So the same
        request does nothing a second time: InvenTree looks at all items of a request before it changes the first. The target
        comes first: who then finds the token has read the target before it was used up, so that of two copies carried out at
        the same moment both write the same number.
        """
        place, part = int(target["location"]), int(target["part"])
        token = {"part": part, "location": place, "quantity": units if units > 0 else 1, "batch": batch, "status": QUARANTINED}
        pk = self._api.create("/api/stock/", {**token, "delete_on_deplete": True, "notes": "made and used up by shelfscan"})
        if units > 0:
            items = [{"item": target["pk"]}, {"item": pk}]
            body = {"items": items, "location": place, "allow_mismatched_suppliers": True, "allow_mismatched_status": True}
            self._api.change("/api/stock/merge/", {**body, "notes": notes})
        else:
            items = [{"pk": target["pk"], "quantity": -units}, {"pk": pk, "quantity": 1}]
            self._api.change("/api/stock/remove/", {"items": items, "notes": notes})


def present(row: Record) -> bool:
    """Whether a stock item's pieces stand at its location; a token's never do."""
    gone = row["is_building"] is True or any(row[name] for name in _GONE)
    return not gone and int(row["status"]) not in UNAVAILABLE and not str(row["batch"] or "").startswith(OURS)


def on_hand(rows: Sequence[Record]) -> float:
    """Pieces of several stock items."""
    return sum(float(r["quantity"]) for r in rows)


def version(rows: Sequence[Record]) -> str:
    """Changes with each entry in the history of one of them, and with their number."""
    parts = [f"{r['pk']}.{r['tracking_items']}.{float(r['quantity']):g}" for r in sorted(rows, key=lambda r: int(r["pk"]))]
    return parts[0] if len(parts) == 1 else hashlib.sha256(",".join(parts).encode()).hexdigest()[:16]


def unfit(sku: str, location_code: str, rows: Sequence[Record]) -> str:
    """Why these stock items cannot take a count."""
    if not rows:
        return f"InvenTree has no stock item of {sku} at {location_code}; one that was deleted took its history along"
    for row in rows:
        name = f"stock item {row['pk']}"
        if row["serial"] or row["batch"]:
            what = f"serial number {row['serial']}" if row["serial"] else f"batch {row['batch']}"
            return f"{name} has {what}; a count of pieces does not say which"
        if row["delete_on_deplete"] is True:
            return f"{name} would be deleted at zero, and its history with it: switch off its Delete on Deplete"
    return ""


def _unique(named: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """By name; a name that two records bear names neither."""
    out: dict[str, Any] = {}
    twice = set()
    for name, value in named:
        twice |= {name} & out.keys()
        out[name] = value
    return {k: v for k, v in out.items() if k not in twice}
