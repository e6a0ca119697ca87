"""InvenTree's history of stock items: our own entries in it, and every movement.

An entry says what a stock item has *after* it, and not always what came or went: a count and a merge give only the new
quantity, a transfer only the new location, and a removal of more than there was gives the number asked for. So movements come
from each moved item's whole history, step by step. Times are whole minutes of the server's clock; a movement is taken to be as
late as it can have been.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo

from shelfscan.adapters.inventree_api import InvenTreeApi, InvenTreeRefused, Record
from shelfscan.adapters.inventree_stock import UNAVAILABLE, Names
from shelfscan.errors import WmsTransient
from shelfscan.wms.document import CountDocument, CountLine
from shelfscan.wms.port import Movement

TRACK = "/api/stock/track/"
NS = 1_000_000_000
_NOTES = re.compile(r"^shelfscan (\S+) (\d+)/(\d+) ([0-9a-f]{12}) ([+-][0-9.]+)$")
#: Another stock item was split off: its entry names the other one's location.
_SPLIT_OFF = 42
_MOVED = 20
#: A location nobody can tell: the item was moved before its history says where it was.
_SOMEWHERE = -1
#: Made, split off, built, received.
_MADE = frozenset({1, 40, 50, 55, 70})
#: Built in, consumed, shipped, handed over: gone as a whole, unless a quantity says how many went.
_LEAVES = frozenset({30, 57, 60, 100})


@dataclass(frozen=True, slots=True)
class Ours:
    """One line of a count document that took effect. ``lines``: how many its document has; ``delta``: pieces, as asked for."""

    key: str
    line_no: int
    lines: int
    digest: str
    delta: float


@dataclass(frozen=True, slots=True)
class _Item:
    """Where a stock item is and what it holds; None: the history does not say."""

    place: int | None = None
    units: float | None = None
    status: int = 10

    @property
    def here(self) -> bool:
        return self.place is not None and self.status not in UNAVAILABLE


def notes(doc: CountDocument, x: CountLine, delta: float) -> str:
    """What the entry of a line says; the only place in InvenTree for a key."""
    return f"shelfscan {doc.doc_id} {x.line_no}/{len(doc.lines)} {doc.digest[:12]} {delta:+.5f}"


class InvenTreeHistory:
    """Reads one server's history. ``zone``: of its clock; ``pairs``: location codes and SKUs that the store maps."""

    def __init__(self, api: InvenTreeApi, zone: tzinfo, pairs: Collection[tuple[str, str]]) -> None:
        self._api, self._zone, self._pairs = api, zone, pairs

    def of(self, key: str) -> list[Ours]:
        """What of a document took effect."""
        found = (_ours(r) for r in self._api.rows(TRACK, search=key))
        return sorted({o for o in found if o is not None and o.key == key}, key=lambda o: o.line_no)

    def movements(self, since_ns: int, names: Names) -> list[Movement]:
        """See `WmsClient.pull_movements`."""
        skus, items = names.skus, dict[int, Record]()
        for row in self._api.rows(TRACK, ordering="-date", item_detail="true", until=lambda r: self.at(r) < since_ns):
            if row["item"]:
                items[int(row["item"])] = Record(row["item_detail"])
        out: list[tuple[int, Movement]] = []
        for pk, item in items.items():
            if int(item["part"]) not in skus:
                continue
            try:
                history = self._api.rows(TRACK, item=pk)
            except InvenTreeRefused:
                history = []
            if not history:
                continue  # deleted meanwhile, and its history with it
            sku = skus[int(item["part"])]
            out += self._steps(sorted(history, key=lambda r: int(r["pk"])), item["location"], names.codes, sku, since_ns)
        return [m for _, m in sorted(out, key=lambda x: (x[1].moved_at_ns, x[0]))]

    def _steps(
        self, history: Sequence[Record], place: int | None, codes: Mapping[int, str], sku: str, since_ns: int
    ) -> Iterator[tuple[int, Movement]]:
        """What each entry since then took from one location and brought to another. ``place``: where the item is now."""
        state = _Item(_first(history, place))
        for row in history:
            before, state = state, _after(state, row)
            at, ours = self.at(row), _ours(row)
            kind, reference = ("count", ours.key) if ours else (str(row.get("label") or "move"), str(row["pk"]))
            if at < since_ns:
                continue
            for at_place, delta in _difference(before, state, row):
                if at_place in codes:
                    yield int(row["pk"]), Movement(codes[at_place], sku, delta, at, kind, reference)
                elif at_place == _SOMEWHERE:
                    # Perhaps here: no count of it may be posted over that.
                    for code in sorted(c for c, s in self._pairs if s == sku):
                        yield int(row["pk"]), Movement(code, sku, 0.0, at, kind, reference)

    def at(self, row: Record) -> int:
        """The last moment of an entry's minute, on the later of a clock's two equal hours."""
        try:
            at = datetime.strptime(str(row["date"])[:16].replace("T", " "), "%Y-%m-%d %H:%M")
        except ValueError:
            raise WmsTransient(f"InvenTree: {row['date']!r} is not a time such as 2030-01-31 22:05") from None
        return int(at.replace(tzinfo=self._zone, fold=1).timestamp()) * NS + 60 * NS - 1


def _first(history: Sequence[Record], now: int | None) -> int | None:
    """Where an item was before its first entry; not every history begins with where it was made. ``now``: where it is."""
    if int(history[0]["tracking_type"]) in _MADE:
        return None
    for row in history:
        place, code = (row["deltas"] or {}).get("location"), int(row["tracking_type"])
        if place and code != _SPLIT_OFF:
            return _SOMEWHERE if code == _MOVED else int(place)
    return now


def _ours(row: Record) -> Ours | None:
    found = _NOTES.match(str(row["notes"] or ""))
    return Ours(found[1], int(found[2]), int(found[3]), found[4], float(found[5])) if found else None


def _after(state: _Item, row: Record) -> _Item:
    """A stock item after one entry of its history."""
    deltas, code = row["deltas"] or {}, int(row["tracking_type"])
    if isinstance(deltas.get("status"), int):
        state = replace(state, status=deltas["status"])
    if "quantity" in deltas:
        state = replace(state, units=float(deltas["quantity"]))
    elif code in _LEAVES and "removed" not in deltas:
        return replace(state, place=None)
    if isinstance(deltas.get("location"), int) and code != _SPLIT_OFF:
        state = replace(state, place=deltas["location"])
    return state


def _difference(before: _Item, after: _Item, row: Record) -> list[tuple[int, float]]:
    """What moved at which locations. A number that is not known is 0: that something moved is what counts."""
    deltas, ours = row["deltas"] or {}, _ours(row)
    told = ours.delta if ours else float(deltas.get("added") or 0) - float(deltas.get("removed") or 0)
    if before.here and after.here and before.place == after.place:
        if before.units is not None and after.units is not None:
            change = after.units - before.units
            return [(after.place or 0, change)] if change else []
        return [(after.place or 0, told)] if told or "quantity" in deltas else []
    out = []
    if before.here:
        out.append((before.place or 0, -(before.units or 0.0)))
    if after.here:
        out.append((after.place or 0, after.units or 0.0))
    return out
