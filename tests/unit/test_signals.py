"""What a sync suggests besides counts: never from what was not seen, never against a backroom that nobody looked into."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from shelfscan.model.catalogue import Product
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.stock import BinState, BinStatus
from shelfscan.wms.port import StockRow
from shelfscan.wms.rules import Outcome, ReconcileLine, WmsView
from shelfscan.wms.signals import Signal, signals_of

CATALOGUE = {"A": Product("A", "4006381333931", "Tea", "B", "C", 0.1, 0.1, 0.1, 2.5)}
PLANOGRAM = {"b1": PlanogramLine("b1", "A", 2, 1, 4)}


def told(
    status: BinStatus = BinStatus.OUT_OF_STOCK,
    units: int = 0,
    high: int | None = None,
    *,
    confidence: float = 0.97,
    on_hand: float = 0.0,
    backroom: float = 0.0,
    scope: str = "shelf",
    sku: str = "A",
) -> list[Signal]:
    high = units if high is None else high
    state = BinState("b1", sku, status, False, 1, units, units, high, confidence, "", (0, 0, 0), "")
    facts: dict[str, Any] = {"counted": units, "counted_low": units, "counted_high": high, "on_hand_then": on_hand}
    line = ReconcileLine("L1", "A", scope, ("b1",), Outcome.HOLD, "", **facts)
    view = WmsView({"L1": scope}, {"A": ""}, {("L1", "A"): StockRow("L1", "A", on_hand, "1", backroom)}, {})
    return signals_of([line], view, {"b1": state}, PLANOGRAM, CATALOGUE)


def test_an_empty_shelf_with_a_backroom_is_refilled_and_without_one_reordered() -> None:
    (refill,) = told(backroom=5)
    assert (refill.kind, refill.units, refill.value) == ("refill", 5, 12.5)
    (reorder,) = told()
    assert (reorder.kind, reorder.units) == ("reorder", 8)
    assert [s.units for s in told(BinStatus.LOW, 2, backroom=50)] == [6], "no more than fit"


def test_books_that_have_what_nobody_sees() -> None:
    kinds = {s.kind: s for s in told(on_hand=6, backroom=3)}
    assert kinds["phantom_inventory"].units == 6 and "refill" in kinds
    assert "phantom_inventory" not in {s.kind for s in told(on_hand=6, confidence=0.93)}
    assert "phantom_inventory" not in {s.kind for s in told(on_hand=6, high=1)}, "it may hide something"
    site = {s.kind for s in told(on_hand=6, scope="site", backroom=0)}
    assert "phantom_inventory" in site
    assert "phantom_inventory" not in {s.kind for s in told(on_hand=6, scope="site", backroom=6)}, "it is in the backroom"


def test_shrinkage_is_what_the_interval_cannot_explain() -> None:
    (gone,) = told(BinStatus.OK, 3, 4, on_hand=8)
    assert (gone.kind, gone.units) == ("shrinkage", 4)
    assert told(BinStatus.OK, 3, 7, on_hand=8) == []
    assert told(BinStatus.OK, 3, 4, on_hand=8, scope="site") == [], "a shelf's count says nothing of a site's loss"


@settings(max_examples=80, deadline=None)
@given(on_hand=st.floats(0, 30), backroom=st.floats(0, 30), scope=st.sampled_from(["shelf", "site"]))
def test_what_was_not_seen_or_is_another_product_gives_no_signal(on_hand: float, backroom: float, scope: str) -> None:
    assert told(BinStatus.UNSEEN, confidence=1.0, on_hand=on_hand, backroom=backroom, scope=scope) == []
    assert told(on_hand=on_hand, backroom=backroom, scope=scope, sku="B") == []
    assert told(confidence=0.5, on_hand=on_hand, backroom=backroom, scope=scope) == []
