"""Space that is not used as planned: each rule in both directions, and everything that keeps it silent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfscan.audit.availability import CELLS, Look, bin_state, findings_of
from shelfscan.audit.confidence import UNTRIED, ConfidenceModel
from shelfscan.audit.match import BinMatch, Placed, Seen
from shelfscan.audit.sizes import WrongSize
from shelfscan.audit.space import CARRYING, SELDOM, Taken, layers, match_layers, spread, standing, troubles_of_space
from shelfscan.audit.units import Units, estimate
from shelfscan.model.catalogue import Product
from shelfscan.model.detections import Candidate
from shelfscan.model.front import FaceFront
from shelfscan.model.planogram import PlanogramLine, emptied_by_chance
from shelfscan.model.stock import Finding
from shelfscan.model.store import BinPlace

BOX = Product("BOX", "", "box", "b", "c", 0.10, 0.08, 0.12, 2.0)
JAR = replace(BOX, sku="JAR", price=3.0)
CATALOGUE = {"BOX": BOX, "JAR": JAR}
#: Three columns of boxes, and right of them two of jars, on one shelf with room for two layers.
B = BinPlace("B", "S", "Y", "G", "A", 0.10, 0.424, 0.40, 0.70, 0.45, np.eye(4))
J = replace(B, bin_id="J", x0_m=0.424, x1_m=0.640)
PLAN = {"B": PlanogramLine("B", "BOX", 3, 1, 5), "J": PlanogramLine("J", "JAR", 2, 1, 5)}
PITCH = 0.108
FULL = Look(seen=(1 << CELLS) - 1, stamp_ns=1, evidence=("evidence/b.jpg",))
EDGE_M, BACK_M = 0.014, 0.44


def placed(place: BinPlace, column: int, sku: str, depth_m: float = EDGE_M, *, row: int = 0, moved_m: float = 0.0) -> Placed:
    x = place.x0_m + (column + 0.5) * PITCH + moved_m
    face = (x, depth_m, place.z0_m + (row + 0.5) * BOX.height_m)
    planned = sku == PLAN[place.bin_id].sku
    key = f"{place.bin_id}{column}{row}"
    box = Seen(key, face, (0.10, 0.12), 0.8, (Candidate(sku, 0.9),), 2)
    return Placed(key, place.bin_id, sku, planned, column, row, face, 0.97, box)


def match(place: BinPlace, *skus: str | None, judged: float = 1.0, depth_m: float = EDGE_M) -> BinMatch:
    """A bin whose columns hold these goods from the left; None: bare."""
    return BinMatch(tuple(placed(place, c, s, depth_m) for c, s in enumerate(skus) if s), judged)


def found(b: BinMatch, j: BinMatch) -> dict[str, Taken]:
    return spread([B, J], PLAN, CATALOGUE, {"B": b, "J": j})


def told(
    m: BinMatch,
    line: PlanogramLine = PLAN["B"],
    *,
    units: Units | None = None,
    taken: Taken | None = None,
    look: Look = FULL,
    wrong: WrongSize | None = None,
    elsewhere: bool = False,
) -> dict[str, Finding]:
    state = bin_state(B, line, BOX, m, look, None, (0.0, 0.0, 0.0), "", taken=taken)
    if units is not None:
        state = replace(state, units=units.best, units_low=units.low, units_high=units.high, units_pmf=units.pmf)
    out = findings_of(B, line, BOX, m, look, None, state, (), wrong, taken, elsewhere)
    return {f.type: f for f in out if f.type != "missing_tag"}


SURE = Units(10.0, 10, 10, ((10, 1.0),))
#: A bin so deep that shoppers hardly empty one of its columns and leave the others; and what two full columns of it hold.
DEEP = PlanogramLine("B", "BOX", 3, 1, 8)
TWO_FULL = Units(16.0, 16, 16, ((16, 1.0),))
TAKEN = Taken("JAR", "J", 2, (2,), 0.97)


def test_a_neighbour_that_spreads_is_told_once_and_at_the_bin_that_lost_the_space() -> None:
    taken = found(match(B, "BOX", "BOX", "JAR"), match(J, "JAR", "JAR"))
    assert taken == {"B": TAKEN}
    findings = told(match(B, "BOX", "BOX", "JAR"), units=SURE, taken=taken["B"])
    assert set(findings) == {"wrong_facings"}
    said = findings["wrong_facings"]
    assert said.finding_id == "B/wrong_facings" and said.evidence == "evidence/b.jpg" and said.cause == "shelf"
    assert said.value == pytest.approx(BOX.price / 3, abs=0.005)
    assert "JAR stands in column 3 of BOX" in said.suggestion and "its own 2" in said.suggestion


@given(side=st.booleans(), many=st.integers(1, 2))
def test_it_may_come_from_either_side_and_over_more_than_a_column(side: bool, many: int) -> None:
    # Mirrored: the jars' bin stands left of the boxes' one.
    j = J if side else replace(J, x0_m=B.x0_m - 2 * PITCH, x1_m=B.x0_m)
    row: list[str] = ["BOX"] * (3 - many) + ["JAR"] * many
    m = match(B, *(row if side else row[::-1]))
    theirs = BinMatch(tuple(placed(j, c, "JAR") for c in range(2)), 1.0)
    taken = spread([B, j], PLAN, CATALOGUE, {"B": m, "J": theirs})
    assert taken["B"].columns == (tuple(range(3 - many, 3)) if side else tuple(range(many)))


def test_goods_that_only_moved_over_are_no_more_than_planned() -> None:
    # Two jars in sight, as planned: one of them on the boxes' side of the border.
    assert found(match(B, "BOX", "BOX", "JAR"), match(J, None, "JAR")) == {}
    assert found(match(B, "BOX", "BOX", "JAR"), match(J, "JAR", None)) == {}


def test_a_border_that_is_seen_a_little_off_is_no_spread() -> None:
    jar = placed(B, 2, "JAR", moved_m=PITCH / 2)
    b = BinMatch((placed(B, 0, "BOX"), placed(B, 1, "BOX"), jar), 1.0)
    assert found(b, match(J, "JAR", "JAR")) == {}
    # Nor is what depth alone calls a jar, for nobody saw its middle.
    b = BinMatch((placed(B, 0, "BOX"), placed(B, 1, "BOX"), replace(placed(B, 2, "JAR"), seen=None)), 1.0)
    assert found(b, match(J, "JAR", "JAR")) == {}


@pytest.mark.parametrize(
    "columns",
    [("JAR", "BOX", "BOX"), ("BOX", "JAR", "BOX"), ("BOX", "BOX", "TIN"), ("JAR", "JAR", "JAR"), (None, None, "JAR")],
)
def test_strays_and_swapped_goods_are_misplaced_as_before(columns: tuple[str | None, ...]) -> None:
    m = match(B, *columns)
    assert found(m, match(J, "JAR", "JAR")) == {}
    assert "wrong_facings" not in told(m, units=SURE)
    assert "misplaced" in told(m, units=SURE)


def test_a_second_stranger_beside_a_spread_is_told_too() -> None:
    both = told(match(B, "TIN", "BOX", "JAR"), units=SURE, taken=TAKEN)
    assert set(both) == {"wrong_facings", "misplaced"}
    assert "TIN" in both["misplaced"].suggestion and "JAR" not in both["misplaced"].suggestion


def test_a_bin_that_is_low_or_empty_is_told_as_that_and_the_goods_in_it_as_misplaced() -> None:
    back = match(B, "BOX", "BOX", "JAR", depth_m=0.37)
    assert set(told(back, taken=TAKEN)) == {"low", "misplaced"}
    assert set(told(match(B, "JAR", "JAR", "JAR"), taken=TAKEN)) == {"out_of_stock", "misplaced"}


def test_what_cannot_be_judged_is_left_out() -> None:
    b, j = match(B, "BOX", "BOX", "JAR"), match(J, "JAR", "JAR")
    for left_out in ("B", "J"):
        assert spread([B, J], PLAN, CATALOGUE, {"B": b, "J": j}, {left_out}) == {}
    part = Look(seen=(1 << (CELLS // 2)) - 1, stamp_ns=1)
    assert told(b, taken=TAKEN, look=part) == {}
    size = WrongSize("BOX", "width_m", 0.1, 0.15, 0.9)
    assert set(told(b, units=SURE, taken=TAKEN, wrong=size)) == {"dimension_mismatch", "misplaced"}
    apart = replace(J, x0_m=J.x0_m + 0.2, x1_m=J.x1_m + 0.2)
    assert spread([B, apart], PLAN, CATALOGUE, {"B": b, "J": j}) == {}
    other_shelf = replace(J, shelf_id="S2")
    assert spread([B, other_shelf], PLAN, CATALOGUE, {"B": b, "J": j}) == {}


def test_nothing_is_counted_behind_goods_that_spread() -> None:
    m = match(B, "BOX", "BOX", "JAR")
    hidden = bin_state(B, PLAN["B"], BOX, m, FULL, None, (0.0, 0.0, 0.0), "")
    known = bin_state(B, PLAN["B"], BOX, m, FULL, None, (0.0, 0.0, 0.0), "", taken=TAKEN)
    assert hidden.units_high == 14 and known.units_high == 10
    assert known.misplaced and known.facings == 2


def test_a_bare_column_beside_full_ones_is_told_where_chance_hardly_leaves_it_so() -> None:
    assert set(told(match(B, "BOX", None, "BOX"), DEEP, units=TWO_FULL)) == {"wrong_facings"}
    said = told(match(B, "BOX", None, "BOX"), DEEP, units=TWO_FULL)["wrong_facings"]
    assert "fill column 2" in said.suggestion and said.value == pytest.approx(BOX.price / 3, abs=0.005)
    # Five units are all taken from one column of three by chance in 1.2 % of cases: some of hundreds of bins are left so.
    assert told(match(B, "BOX", None, "BOX"), PLAN["B"], units=SURE) == {}


@given(wide=st.integers(2, 6), high=st.integers(1, 2), deep=st.integers(1, 8), seed=st.integers(0, 10**6))
def test_chance_is_what_drawing_columns_gives(wide: int, high: int, deep: int, seed: int) -> None:
    line = PlanogramLine("B", "BOX", wide, high, deep)
    p = emptied_by_chance(line, 1)
    assert p == pytest.approx(wide * wide ** -float(high * deep))
    assert emptied_by_chance(line, wide) == emptied_by_chance(line, 0) == 1.0
    rng = np.random.default_rng(seed)
    if p > SELDOM:
        draws = rng.integers(0, wide, (4000, high * deep))
        assert (draws == draws[:, :1]).all(axis=1).mean() == pytest.approx(p, abs=0.04)


@pytest.mark.parametrize(
    ("columns", "units", "elsewhere"),
    [
        (("BOX", "BOX", "BOX"), TWO_FULL, False),  # nothing is bare
        (("BOX", None, "BOX"), Units(16.0, 13, 16), False),  # it may be that they were only pulled forward
        (("BOX", None, "BOX"), TWO_FULL, True),  # what is missing stands next door, and is told there
        ((None, None, None), Units(0.0, 0, 0), False),
    ],
)
def test_few_facings_for_another_reason_are_not_wrong(columns: tuple[str | None, ...], units: Units, elsewhere: bool) -> None:
    assert "wrong_facings" not in told(match(B, *columns), DEEP, units=units, elsewhere=elsewhere)


def test_columns_that_were_sold_from_are_not_full() -> None:
    assert told(match(B, "BOX", None, "BOX", depth_m=0.014 + 0.084), DEEP, units=TWO_FULL) == {}


@given(most=st.integers(6, 15), low=st.integers(0, 15), more=st.integers(0, 5))
def test_overstocked_is_by_the_lower_end_of_the_interval_alone(most: int, low: int, more: int) -> None:
    line = replace(PLAN["B"], max_units=most)
    high = min(15, low + more)
    pmf = tuple((n, 1 / (high - low + 1)) for n in range(low, high + 1))
    out = troubles_of_space(line, BOX, match(B, "BOX", "BOX", "BOX"), Units(float(high), low, high, pmf), None, False)
    assert [t.kind for t in out] == (["overstocked"] if low > most else [])
    for t in out:
        assert t.value == pytest.approx(CARRYING * BOX.price * (low - most))
        assert f"take {low - most} or more" in t.suggestion


def test_what_is_brought_to_a_bin_stays_below_its_maximum() -> None:
    line = replace(PLAN["B"], max_units=8)
    assert told(match(B, None, None, None), line)["out_of_stock"].suggestion == "refill, up to 8"
    assert told(match(B, "BOX", "BOX", "BOX", depth_m=0.37), line)["low"].suggestion == "top up, 5 more fit"


def test_without_a_maximum_what_fits_is_no_surplus() -> None:
    full = Units(15.0, 15, 15, ((15, 1.0),))
    assert told(match(B, "BOX", "BOX", "BOX"), units=full) == {}


# ---- goods above the planned rows ----


def wall(depth_m: float, upper_m: float) -> FaceFront:
    """A face whose goods stand at ``depth_m`` in the planned row and at ``upper_m`` above it."""
    depth = np.full((60, 100), depth_m, np.float32)
    depth[round((B.z0_m + BOX.height_m) / 0.02) :] = upper_m
    return FaceFront(depth)


def upper(
    column: int, *, lift_m: float = 0.0, height_m: float = 0.12, sku: str = "BOX", score: float = 0.8, like: float = 0.9
) -> Seen:
    foot = B.z0_m + BOX.height_m + lift_m
    x = B.x0_m + (column + 0.5) * PITCH
    return Seen(f"u{column}", (x, EDGE_M, foot + height_m / 2), (0.10, height_m), score, (Candidate(sku, like),), 2)


def above(*seen: Seen, front: FaceFront, leave: tuple[str, ...] = ()) -> tuple[Placed, ...]:
    return layers(seen, [B, J], PLAN, CATALOGUE, front, leave).get("B", ())


STACKED = wall(EDGE_M, EDGE_M)


def test_goods_above_the_planned_rows_are_counted_and_told() -> None:
    extra = above(upper(1), front=STACKED)
    assert [(p.column, p.row, p.planned) for p in extra] == [(1, 1, True)]
    m = standing(match(B, "BOX", "BOX", "BOX"), extra)
    findings = told(m)
    assert set(findings) == {"overstocked"} and "column 2" in findings["overstocked"].suggestion
    state = bin_state(B, PLAN["B"], BOX, m, FULL, None, (0.0, 0.0, 0.0), "")
    plain = bin_state(B, PLAN["B"], BOX, match(B, "BOX", "BOX", "BOX"), FULL, None, (0.0, 0.0, 0.0), "")
    assert (state.facings, plain.facings) == (4, 3)
    assert state.units_low > plain.units_low and state.units_high == PLAN["B"].capacity_units + 5


@pytest.mark.parametrize(
    ("box", "front", "leave"),
    [
        (upper(1, lift_m=0.05), STACKED, ()),  # not where a layer begins
        (upper(1, height_m=0.20), STACKED, ()),  # two of them, or none
        (upper(1, sku="JAR"), STACKED, ()),
        (upper(1, like=0.3), STACKED, ()),
        (upper(1), wall(EDGE_M, BACK_M), ()),  # depth says that nothing is there
        (upper(1, score=0.5), wall(EDGE_M, float("nan")), ()),
        (upper(1), STACKED, ("B",)),
    ],
)
def test_a_box_that_is_no_layer_is_left_where_it_was(box: Seen, front: FaceFront, leave: tuple[str, ...]) -> None:
    assert above(box, front=front, leave=leave) == ()


def test_a_layer_needs_room_below_the_board_and_something_to_stand_on() -> None:
    low = replace(B, z1_m=B.z0_m + 0.22)
    assert layers([upper(1)], [low], PLAN, CATALOGUE, STACKED) == {}
    extra = above(upper(1), front=STACKED)
    assert standing(match(B, "BOX", None, "BOX"), extra).above == ()
    assert standing(match(B, "BOX", "JAR", "BOX"), extra).above == ()
    twice = (*extra, replace(extra[0], key="again", confidence=0.1))
    assert [p.key for p in standing(match(B, "BOX", "BOX", "BOX"), twice).above] == ["u1"]


def test_a_box_is_counted_once_as_a_layer_or_as_before() -> None:
    goods = [s.seen for s in match(B, "BOX", "BOX", "BOX").placed if s.seen]
    both = match_layers([*goods, upper(1)], [B, J], PLAN, CATALOGUE, STACKED)
    assert ([p.key for p in both["B"].placed], [p.key for p in both["B"].above]) == (["B00", "B10", "B20"], ["u1"])
    # Without a layer a box so high counts for the place below it, as it does where layers are left out.
    hole = wall(float("nan"), float("nan"))
    kept = match_layers([upper(1)], [B, J], PLAN, CATALOGUE, hole)
    assert kept == match_layers([upper(1)], [B, J], PLAN, CATALOGUE, hole, (), ("B",))
    assert [p.key for p in kept["B"].placed] == ["u1"] and kept["B"].above == ()


def test_goods_stacked_beside_a_bare_column_want_spreading_and_not_taking_out() -> None:
    m = standing(match(B, "BOX", None, "BOX"), above(upper(0), front=STACKED))
    findings = told(m, units=SURE)
    assert set(findings) == {"wrong_facings"} and "fill column 2" in findings["wrong_facings"].suggestion


@given(count=st.integers(0, 4), columns=st.integers(1, 3))
def test_one_more_on_top_never_lowers_a_count(count: int, columns: int) -> None:
    goods = match(B, *["BOX"] * columns).placed
    less, more = (estimate(goods, PLAN["B"], BOX, above=n) for n in (count, count + 1))
    assert more.low >= less.low + 1 and more.best >= less.best + 1 and more.high >= less.high + 1
    assert more.low <= more.best <= more.high


def test_until_they_are_calibrated_both_are_to_be_checked_and_no_alarm() -> None:
    model = ConfidenceModel({"status/OK": ((0.0, 0.9), (1.0, 0.99))}, 0.95)
    for kind in ("wrong_facings", "overstocked"):
        finding = Finding(f"B/{kind}", "B", kind, "shelf", 0.97)
        state = bin_state(B, PLAN["B"], BOX, match(B, "BOX", "BOX", "BOX"), FULL, None, (0.0, 0.0, 0.0), "")
        out = model.finding(finding, state, match(B, "BOX", "BOX", "BOX"), frozenset())
        assert not out.alarm and out.confidence <= UNTRIED
