"""What a count tells a warehouse besides the count: refill, reorder, phantom inventory, shrinkage. Suggestions; nothing is
posted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shelfscan.model.catalogue import Catalogue
from shelfscan.model.planogram import Planogram
from shelfscan.model.stock import BinState, BinStatus
from shelfscan.wms.rules import ReconcileLine, WmsView

#: A status has to be this sure before anybody is sent, or anything is bought, for it.
SURE = 0.9
#: Phantom inventory and shrinkage accuse the books: they have to be surer, and of more than one unit.
VERY_SURE, LEAST_LOSS = 0.95, 2


@dataclass(frozen=True, slots=True)
class Signal:
    """``kind``: refill | reorder | phantom_inventory | shrinkage. ``units``: to bring, to order, on the books only, or gone;
    ``value``: of these units at the catalogue's price; ``confidence``: that it is so."""

    kind: str
    location_code: str
    sku: str
    bins: tuple[str, ...]
    units: int
    value: float
    confidence: float
    text: str


def signals_of(
    lines: Sequence[ReconcileLine], view: WmsView, states: Mapping[str, BinState], planogram: Planogram, catalogue: Catalogue
) -> list[Signal]:
    """The signals of a reconciliation, the most valuable first; what was not seen gives none.

    A product is reordered once, however many places it has, and only when its backroom is empty too.
    """
    backroom: dict[str, float] = {}
    for (_, sku), row in view.stock.items():
        backroom[sku] = max(backroom.get(sku, 0.0), row.backroom)
    out: list[Signal] = []
    ordered: set[str] = set()
    for x in lines:
        seen = [states[b] for b in x.bins if b in states]
        if not seen or len(seen) < len(x.bins) or any(s.status is BinStatus.UNSEEN or s.sku != x.sku for s in seen):
            continue
        price = catalogue[x.sku].price if x.sku in catalogue else 0.0
        sure = min(s.confidence for s in seen)
        short = [s for s in seen if s.status in (BinStatus.OUT_OF_STOCK, BinStatus.LOW)]
        if short and sure >= SURE:
            room = sum(max(0, planogram[s.bin_id].most_units - round(s.units)) for s in short)
            there = int(backroom.get(x.sku, 0.0))
            if there > 0 and room > 0:
                units = min(room, there)
                text = f"bring {units} of the {there} in the backroom; {room} fit"
                out.append(_signal("refill", x, units, price, sure, text))
            elif room > 0 and x.sku not in ordered and x.sku in {sku for _, sku in view.stock}:
                ordered.add(x.sku)
                out.append(_signal("reorder", x, room, price, sure, f"none in the backroom: order {room}, as many fit"))
        out += _against_the_books(x, view, seen, sure, price)
    return sorted(out, key=lambda s: (-s.value * s.confidence, s.kind, s.location_code, s.sku))


def _against_the_books(x: ReconcileLine, view: WmsView, seen: Sequence[BinState], sure: float, price: float) -> list[Signal]:
    row = view.stock.get((x.location_code, x.sku))
    if row is None or sure < VERY_SURE:
        return []
    empty = all(s.status is BinStatus.OUT_OF_STOCK and s.units_high == 0 for s in seen)
    then = x.on_hand_then if x.on_hand_then is not None else row.on_hand
    if empty and x.scope == "shelf" and then >= 1:
        text = f"seen empty, and the books have {then:g} here: nothing is reordered for them"
        return [_signal("phantom_inventory", x, round(then), price, sure, text)]
    if empty and x.scope == "site" and row.on_hand >= 1 and row.backroom <= 0:
        text = f"every shelf seen empty, nothing in the backroom, and the books have {row.on_hand:g}"
        return [_signal("phantom_inventory", x, round(row.on_hand), price, sure, text)]
    if x.scope == "shelf" and x.counted_high is not None and then - x.counted_high >= LEAST_LOSS:
        gone = round(then - x.counted_high)
        text = f"{gone} fewer than the books have at least, and no movement tells of them"
        return [_signal("shrinkage", x, gone, price, sure, text)]
    return []


def _signal(kind: str, x: ReconcileLine, units: int, price: float, sure: float, text: str) -> Signal:
    return Signal(kind, x.location_code, x.sku, x.bins, units, round(units * price, 2), round(sure, 3), text)
