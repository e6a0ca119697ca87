"""Matching and availability: which places are taken, by what, and what that says of a bin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfscan.audit.availability import CELLS, Look, bin_state, findings_of
from shelfscan.audit.match import BinMatch, Seen, match_bin
from shelfscan.audit.units import estimate
from shelfscan.model.catalogue import Product
from shelfscan.model.detections import Candidate
from shelfscan.model.front import FaceFront
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.scan import PlaceCheck
from shelfscan.model.stock import BinStatus
from shelfscan.model.store import BinPlace

BOX = Product("BOX", "", "box", "b", "c", 0.10, 0.08, 0.20, 2.0)
OTHER = Product("OTHER", "", "other", "b", "c", 0.10, 0.08, 0.20, 3.0)
CATALOGUE = {"BOX": BOX, "OTHER": OTHER}
LINE = PlanogramLine("B", "BOX", 3, 1, 5)
PLACE = BinPlace("B", "S", "Y", "G", "A", 0.10, 0.42, 0.40, 0.70, 0.45, np.eye(4))
FULL = Look(seen=(1 << CELLS) - 1, stamp_ns=1)
PITCH = (PLACE.x1_m - PLACE.x0_m) / LINE.facings_wide


def middle(column: int) -> float:
    return PLACE.x0_m + (column + 0.5) * PITCH


def front(*columns_m: float) -> FaceFront:
    """A face whose three columns show these depths; NaN unknown."""
    depth = np.full((60, 60), 0.44, np.float32)
    for c, d in enumerate(columns_m):
        x0, x1 = round((PLACE.x0_m + c * PITCH) * 100), round((PLACE.x0_m + (c + 1) * PITCH) * 100)
        depth[:, x0:x1] = d
    return FaceFront(depth)


def box(column: int, depth_m: float, sku: str = "BOX", score: float = 0.8, similarity: float = 0.9) -> Seen:
    return Seen(f"o{column}", (middle(column), depth_m, 0.50), (0.10, 0.20), score, (Candidate(sku, similarity),), 2)


def check(column: int, depth_m: float, **candidates: float) -> PlaceCheck:
    ranked = tuple(Candidate(s, v) for s, v in sorted(candidates.items(), key=lambda c: -c[1]))
    return PlaceCheck("B", column, 0, "low", depth_m, 1.0, ranked)


def state(match: BinMatch, look: Look = FULL):  # type: ignore[no-untyped-def]
    return bin_state(PLACE, LINE, BOX, match, look, None, (0.0, 0.0, 0.0), "")


def test_depth_alone_finds_what_the_detector_missed() -> None:
    match = match_bin(PLACE, LINE, CATALOGUE, [], front(0.014, 0.44, 0.102))
    assert [(p.column, p.planned) for p in match.placed] == [(0, True), (2, True)]


def test_depth_of_chance_in_an_empty_place_is_no_product_that_nobody_saw() -> None:
    """Some cells of one depth, and looks that know nothing: neighbours' sides. A look that shows the product is believed."""
    ragged = front(0.44, 0.44, 0.44)
    cells = np.array(ragged.depth_m)
    cells[:, ::2], cells[:, 1::4], cells[:, 3::4] = 0.2, np.nan, 0.3
    unknown = PlaceCheck("B", 1, 0, "low", 0.2, 0.9, (), "other_side")
    placed = match_bin(PLACE, LINE, CATALOGUE, [], FaceFront(cells), [unknown]).placed
    assert 1 not in {p.column for p in placed}
    placed = match_bin(PLACE, LINE, CATALOGUE, [], FaceFront(cells), [unknown, check(1, 0.2, BOX=0.8)]).placed
    assert 1 in {p.column for p in placed}


def test_a_look_over_something_low_shows_what_is_behind_and_does_not_name_it() -> None:
    """A small stranger before the planned goods: its box says what it is, depth that it is lower than planned."""
    cells = np.array(front(0.15, 0.44, 0.44).depth_m)
    low = round((PLACE.z0_m + 0.1) / 0.02)
    cells[:low, round(PLACE.x0_m * 100) : round((PLACE.x0_m + PITCH) * 100)] = 0.014
    stranger = Seen("o0", (middle(0), 0.014, 0.45), (0.06, 0.10), 0.8, (Candidate("OTHER", 0.95),), 2)
    looks = [check(0, 0.014, BOX=0.6, OTHER=0.4)]
    assert [p.sku for p in match_bin(PLACE, LINE, CATALOGUE, [stranger], FaceFront(cells), looks).placed] == ["OTHER"]
    # As tall as planned, it is what the look says.
    tall = front(0.014, 0.44, 0.44)
    assert [p.sku for p in match_bin(PLACE, LINE, CATALOGUE, [stranger], tall, looks).placed] == ["BOX"]


def test_what_stands_on_the_shelf_is_as_high_as_it_is_whatever_its_box_takes_in() -> None:
    merged = Seen("o0", (middle(0), 0.014, 0.56), (0.10, 0.21), 0.8, (Candidate("BOX", 0.9),), 2)
    (placed,) = match_bin(PLACE, LINE, CATALOGUE, [merged], front(0.014, 0.44, 0.44)).placed
    assert placed.face_m[2] == pytest.approx(PLACE.z0_m + BOX.height_m / 2)
    near = Seen("o0", (middle(0), 0.014, 0.51), (0.10, 0.20), 0.8, (Candidate("BOX", 0.9),), 2)
    (placed,) = match_bin(PLACE, LINE, CATALOGUE, [near], front(0.014, 0.44, 0.44)).placed
    assert placed.face_m[2] == pytest.approx(0.51)


def test_what_is_lower_than_its_name_by_box_and_by_depth_is_another_that_looks_like_it() -> None:
    """A smaller pack of the same design; where depth goes on above the box, the box is cut, and the item as high as it is."""
    cells = np.array(front(0.44, 0.44, 0.44).depth_m)
    columns = slice(round(PLACE.x0_m * 100), round((PLACE.x0_m + PITCH) * 100))
    cells[: round((PLACE.z0_m + 0.12) / 0.02), columns] = 0.014
    small = Seen("o0", (middle(0), 0.014, 0.46), (0.10, 0.12), 0.8, (Candidate("BOX", 0.9),), 2)
    (placed,) = match_bin(PLACE, LINE, CATALOGUE, [small], FaceFront(cells)).placed
    assert placed.face_m[2] == pytest.approx(0.46)
    (placed,) = match_bin(PLACE, LINE, CATALOGUE, [small], front(0.014, 0.44, 0.44)).placed
    assert placed.face_m[2] == pytest.approx(PLACE.z0_m + BOX.height_m / 2)


def test_what_stands_before_the_shelf_is_no_goods_and_hides_what_is_behind() -> None:
    """Neither a facing nor an empty place: the bin was not seen. A box says that it is goods that jut out."""
    before = match_bin(PLACE, LINE, CATALOGUE, [], front(0.005, 0.44, 0.014))
    assert before.hidden and [p.column for p in before.placed] == [2]
    jutting = match_bin(PLACE, LINE, CATALOGUE, [box(0, 0.005)], front(0.005, 0.44, 0.014))
    assert not jutting.hidden and [p.column for p in jutting.placed] == [0, 2]
    assert not match_bin(PLACE, LINE, CATALOGUE, [], front(0.014, 0.44, 0.014)).hidden


def test_depth_denies_a_box_that_is_not_there() -> None:
    match = match_bin(PLACE, LINE, CATALOGUE, [box(1, 0.014)], front(0.44, 0.44, 0.44))
    assert match.placed == ()


def test_a_sure_box_counts_where_depth_has_a_hole() -> None:
    hole = float("nan")
    match = match_bin(PLACE, LINE, CATALOGUE, [box(1, 0.02), box(2, 0.02, score=0.45)], front(hole, hole, hole))
    assert [p.column for p in match.placed] == [1]


def test_a_look_alike_does_not_displace_the_plan() -> None:
    looks = [check(0, 0.014, OTHER=0.86, BOX=0.84)]
    match = match_bin(PLACE, LINE, CATALOGUE, [box(0, 0.014, "OTHER", similarity=0.86)], front(0.014, 0.44, 0.44), looks)
    assert [p.sku for p in match.placed] == ["BOX"]


def test_a_stranger_is_named_and_is_no_facing() -> None:
    looks = [check(0, 0.014, OTHER=0.92, BOX=0.1)]
    match = match_bin(PLACE, LINE, CATALOGUE, [box(0, 0.014, "OTHER")], front(0.014, 0.014, 0.014), looks)
    assert [(p.sku, p.planned) for p in match.placed] == [("OTHER", False), ("BOX", True), ("BOX", True)]
    result = state(match)
    assert result.misplaced
    assert result.facings == 2


def test_a_stranger_before_everything_is_no_proof_of_an_empty_bin() -> None:
    line = PlanogramLine("B", "BOX", 1, 1, 5)
    place = BinPlace("B", "S", "Y", "G", "A", 0.10, 0.21, 0.40, 0.70, 0.45, np.eye(4))
    match = match_bin(place, line, CATALOGUE, [], front(0.014), [check(0, 0.014, OTHER=0.92, BOX=0.1)])
    result = bin_state(place, line, BOX, match, FULL, None, (0.0, 0.0, 0.0), "")
    assert result.status is not BinStatus.OUT_OF_STOCK
    assert (result.units_low, result.units_high) == (0, 4)
    assert result.confidence < 0.8


LOW = Product("LOW", "", "low", "b", "c", 0.10, 0.08, 0.10, 2.0)
STACKED = PlanogramLine("B", "LOW", 1, 2, 4)
STACK = BinPlace("B", "S", "Y", "G", "A", 0.10, 0.21, 0.40, 0.70, 0.45, np.eye(4))


def before_a_stack(behind_m: float, tall_m: float) -> tuple[FaceFront, Seen]:
    """A slim stranger at the edge, and a stack of two this far behind the edge."""
    depth = np.full((60, 60), 0.44, np.float32)
    depth[:30, 10:21] = behind_m
    depth[: round((0.40 + tall_m) * 50), 13:18] = 0.014
    seen = Seen("o", (0.155, 0.014, 0.40 + tall_m / 2), (0.05, tall_m), 0.8, (Candidate("OTHER", 0.9),), 2)
    return FaceFront(depth), seen


def test_a_tall_stranger_is_no_second_row_of_what_stands_behind_it() -> None:
    catalogue = {**CATALOGUE, "LOW": LOW}
    face, stranger = before_a_stack(0.18, 0.19)
    for seen, looks in (([stranger], []), ([stranger], [check(0, 0.014, OTHER=0.92, LOW=0.1)])):
        placed = match_bin(STACK, STACKED, catalogue, seen, face, looks).placed
        assert [(p.sku, p.row) for p in placed] == [("OTHER", 0), ("LOW", 1)]
        assert placed[0].face_m[1] == pytest.approx(0.014, abs=1e-3)
        assert placed[1].face_m[1] == pytest.approx(0.18, abs=1e-3)
    # One that is no higher than a row hides nothing of the next.
    face, stranger = before_a_stack(0.014, 0.10)
    placed = match_bin(STACK, STACKED, catalogue, [stranger], face).placed
    assert placed[1].face_m[1] == pytest.approx(0.014, abs=1e-3)


def test_a_part_of_a_larger_stranger_is_no_turned_item() -> None:
    """Cut out as large as what is planned it looks like nothing at all; its box knows its name and its size."""
    catalogue = {**CATALOGUE, "LOW": LOW}
    face, stranger = before_a_stack(0.18, 0.19)
    turned = PlaceCheck("B", 0, 0, "low", 0.014, 1.0, (Candidate("LOW", 0.1),), "other_side")
    assert match_bin(STACK, STACKED, catalogue, [stranger], face, [turned]).placed[0].sku == "OTHER"
    # A box as large as what is planned says nothing against a turned one.
    alike = Seen("o", (0.155, 0.014, 0.45), (0.10, 0.10), 0.8, (Candidate("OTHER", 0.9),), 2)
    assert match_bin(STACK, STACKED, catalogue, [alike], face, [turned]).placed[0].sku == "LOW"


def test_an_empty_bin_is_out_of_stock_only_when_seen_in_full() -> None:
    empty = match_bin(PLACE, LINE, CATALOGUE, [], front(0.44, 0.44, 0.44))
    assert state(empty).status is BinStatus.OUT_OF_STOCK
    part = Look(seen=(1 << (CELLS - 20)) - 1, stamp_ns=1)
    assert state(empty, part).status is BinStatus.UNSEEN
    assert state(empty, part).units_high == LINE.capacity_units


@given(st.integers(0, (1 << CELLS) - 1))
def test_whatever_was_not_seen_in_full_is_never_called_empty(seen: int) -> None:
    empty = match_bin(PLACE, LINE, CATALOGUE, [], front(0.44, 0.44, 0.44))
    look = Look(seen=seen, stamp_ns=1)
    result = state(empty, look)
    assert (result.status is BinStatus.OUT_OF_STOCK) == look.in_full
    assert result.status is not BinStatus.UNSEEN or result.reason
    assert not (findings_of(PLACE, LINE, BOX, empty, look, None, result) and not look.in_full)


@given(st.lists(st.integers(0, 5), min_size=3, max_size=3), st.integers(0, 2))
def test_one_item_more_never_lowers_the_count(missing: list[int], column: int) -> None:
    """``missing``: rows taken from each column's front; five leave it empty."""

    def units(rows: list[int]) -> float:
        depth = [0.44 if r == 5 else 0.014 + r * 0.084 for r in rows]
        return estimate(match_bin(PLACE, LINE, CATALOGUE, [], front(*depth)).placed, LINE, BOX).best

    more = [max(0, r - (c == column)) for c, r in enumerate(missing)]
    assert units(more) >= units(missing)
    assert units(missing) == pytest.approx(sum(5 - r for r in missing))


def test_the_interval_of_a_front_at_the_edge_holds_the_faced_up_case() -> None:
    match = match_bin(PLACE, LINE, CATALOGUE, [], front(0.014, 0.014, 0.014))
    result = state(match)
    assert result.units == 15
    assert result.units_low <= 5
