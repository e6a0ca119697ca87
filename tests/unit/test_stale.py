"""Shelf or planogram: which of the two is the likelier one to be wrong, and what is counted where the planogram is."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfscan.audit.match import Seen
from shelfscan.audit.stale import in_bins, runs, shelf_as_seen, verdicts
from shelfscan.audit.tags import BinTag
from shelfscan.model.catalogue import Product
from shelfscan.model.detections import Candidate
from shelfscan.model.front import FaceFront
from shelfscan.model.geometry import Pose2D
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.store import Aisle, Bay, Bin, Gondola, Shelf, Store

BINS = 6
SKUS = [f"S{n}" for n in range(2 * BINS)]
CATALOGUE = {s: Product(s, "4006381333931", s, "b", "c", 0.09, 0.08, 0.2, 1.0 + n) for n, s in enumerate(SKUS)}
SHELF = Shelf("S", 0.3, 0.35, 0.45, tuple(Bin(f"b{n}", 0.2 * n, 0.2) for n in range(BINS)))
STORE = Store("s", (Aisle("A", (Gondola("G", Pose2D(0, 1, 0), 0.5, 1.2, (Bay("B", 0, 1.2, (SHELF,)),)),)),))
PLACES = list(STORE.places.values())
PLANOGRAM = {f"b{n}": PlanogramLine(f"b{n}", f"S{n}", 2, 1, 5) for n in range(BINS)}
NOTHING = FaceFront(np.full((60, 130), np.nan, np.float32))


def goods(names: list[str]) -> list[Seen]:
    """Two items a bin, of the SKU that is named for it."""
    return [
        Seen(f"{n}.{c}", (0.2 * n + 0.05 + 0.1 * c, 0.014, 0.4), (0.09, 0.2), 0.9, (Candidate(s, 0.9), Candidate("S0", 0.1)), 2)
        for n, s in enumerate(names)
        for c in range(2)
    ]


def tagged(names: list[str]) -> dict[str, BinTag]:
    return {f"b{n}": BinTag(2, f"{CATALOGUE[s].price:.2f}", "", 0.95) for n, s in enumerate(names)}


def verdict(names: list[str], tags: list[str]) -> object:
    return verdicts(PLACES, PLANOGRAM, CATALOGUE, in_bins(goods(names), PLACES), tagged(tags))["B"]


PLANNED = [f"S{n}" for n in range(BINS)]
RESET = [f"S{BINS + n}" for n in range(BINS)]


@settings(max_examples=60, deadline=None)
@given(stray=st.integers(0, BINS - 1))
def test_a_stray_is_the_shelf_and_a_reset_bay_the_planogram(stray: int) -> None:
    one = list(PLANNED)
    one[stray] = RESET[stray]
    assert not verdict(one, PLANNED).stale
    assert not verdict(PLANNED, one).stale  # a wrong price tag is no reset
    assert verdict(RESET, RESET).stale
    assert verdict(RESET, RESET).confidence > 0.95


def test_nothing_seen_is_no_reason_to_doubt_the_planogram() -> None:
    assert not verdicts(PLACES, PLANOGRAM, CATALOGUE, {}, {})["B"].stale


def test_runs_follow_the_goods_and_not_the_plan() -> None:
    row = [RESET[0]] * 3 + [RESET[1]] * 5 + [RESET[2]] * 4
    seen = [Seen(str(n), (0.05 + 0.1 * n, 0.014, 0.4), (0.09, 0.2), 0.9, (Candidate(s, 0.9),), 2) for n, s in enumerate(row)]
    found = runs(seen, CATALOGUE, set(), [])
    assert [(r.sku, len(r.seen)) for r in found] == [(RESET[0], 3), (RESET[1], 5), (RESET[2], 4)]
    assert [(r.sku, len(r.seen)) for r in runs(seen[::-1], CATALOGUE, set(), [])] == [(r.sku, len(r.seen)) for r in found]


def test_one_wrong_name_in_a_run_is_smoothed_away() -> None:
    row = [RESET[0]] * 6
    seen = [
        Seen(
            str(n),
            (0.05 + 0.1 * n, 0.014, 0.4),
            (0.09, 0.2),
            0.9,
            (Candidate(RESET[0] if n != 3 else RESET[1], 0.6), Candidate(RESET[0], 0.5)),
            2,
        )
        for n, s in enumerate(row)
    ]
    assert [r.sku for r in runs(seen, CATALOGUE, set(), [])] == [RESET[0]]


def test_each_item_of_a_reset_shelf_counts_once_where_it_stands() -> None:
    out = shelf_as_seen(PLACES, PLANOGRAM, CATALOGUE, goods(RESET), set(), [], NOTHING)
    placed = [p for m in out.values() for p in m.placed]
    assert len(placed) == len({p.key for p in placed}) == 2 * BINS
    assert {b: {p.sku for p in m.placed} for b, m in out.items()} == {f"b{n}": {s} for n, s in enumerate(RESET)}
    assert not any(p.planned for p in placed)
