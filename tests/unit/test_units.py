"""Units as a distribution: what must hold whatever was learned, and what tops behind the front row change."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfscan.adapters.units_file import load_units_model, save_units_model
from shelfscan.audit.match import Placed
from shelfscan.audit.units import AIR_M, FRONT_M, ROUGH, UnitsModel, belief, estimate, top_odds
from shelfscan.errors import BadInput
from shelfscan.model.catalogue import Product
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.scan import TopLook
from shelfscan.paths import shared_file

BOX = Product("A", "4006381333931", "a", "b", "c", 0.1, 0.08, 0.2, 2.0)
LINE = PlanogramLine("b", "A", 3, 1, 5)
LEARNED = load_units_model(shared_file("models", "units.json"))
#: The same top again, and nothing like it.
SAME, OTHER = (2.0, 0.05, 0.0), (35.0, 1.1, -2.0)


def placed(missing: list[int | None], planned: bool = True, row: int = 0) -> list[Placed]:
    """One item a column, so many items back; None: an empty column."""
    return [
        Placed(str(c), "b", "A" if planned else "X", planned, c, row, (0.1 * c, FRONT_M + m * (0.08 + AIR_M), 0.1), 0.97, None)
        for c, m in enumerate(missing)
        if m is not None
    ]


fronts = st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=3, max_size=3)


@settings(max_examples=150, deadline=None)
@given(missing=fronts, model=st.sampled_from([ROUGH, LEARNED]))
def test_a_belief_is_one_and_its_interval_holds_what_is_seen(missing: list[int | None], model: UnitsModel) -> None:
    front = placed(missing)
    pmf = belief(front, LINE, BOX, (), model)
    assert math.isclose(float(pmf.sum()), 1.0, abs_tol=1e-9)
    assert (pmf >= 0).all() and len(pmf) == LINE.capacity_units + 1
    units = estimate(front, LINE, BOX, (), model)
    assert len(front) <= units.low <= units.best <= units.high <= LINE.capacity_units
    assert (units.best == 0) == (not front)
    assert abs(sum(p for _, p in units.pmf) - 1) < 0.02


@settings(max_examples=150, deadline=None)
@given(missing=st.lists(st.integers(0, 4), min_size=3, max_size=3), column=st.integers(0, 2))
def test_an_item_more_at_the_front_never_lowers_the_count(missing: list[int], column: int) -> None:
    more = list(missing)
    more[column] = max(0, more[column] - 1)
    assert (
        estimate(placed(list(more)), LINE, BOX, (), LEARNED).best
        >= estimate(placed(list(missing)), LINE, BOX, (), LEARNED).best
    )


@given(missing=fronts)
def test_a_mirrored_bin_holds_as_much(missing: list[int | None]) -> None:
    assert estimate(placed(missing), LINE, BOX, (), LEARNED) == estimate(placed(missing[::-1]), LINE, BOX, (), LEARNED)


def tops(column: int, filled: int) -> TopLook:
    """A column whose first item is at the edge and that holds so many behind it."""
    return TopLook("b", column, "high", FRONT_M, tuple(SAME if k < filled else OTHER for k in range(4)))


def test_tops_tell_a_full_bin_from_one_that_was_pulled_forward() -> None:
    front = placed([0, 0, 0])
    blind = estimate(front, LINE, BOX, (), LEARNED)
    full = estimate(front, LINE, BOX, [tops(c, 4) for c in range(3)], LEARNED)
    thin = estimate(front, LINE, BOX, [tops(c, 1) for c in range(3)], LEARNED)
    assert blind.low < 10 < blind.high == 15
    assert full.best == 15 and full.low >= 13
    assert thin.best == 6 and thin.high <= 9


@given(st.integers(0, 4))
def test_more_tops_never_lower_the_count(filled: int) -> None:
    front = placed([0, 0, 0])
    less = estimate(front, LINE, BOX, [tops(1, max(0, filled - 1))], LEARNED)
    assert estimate(front, LINE, BOX, [tops(1, filled)], LEARNED).best >= less.best


def test_a_look_at_another_front_is_not_used() -> None:
    front = placed([2, 2, 2])
    look = TopLook("b", 0, "high", FRONT_M, (OTHER, OTHER))
    assert estimate(front, LINE, BOX, [look], LEARNED) == estimate(front, LINE, BOX, (), LEARNED)


def test_what_a_stranger_hides_stays_open() -> None:
    stranger = placed([0, 0, 0], planned=False)
    units = estimate(stranger, LINE, BOX, (), LEARNED)
    assert units.low == 0 and units.high == 12


def test_a_corrected_size_widens_the_interval() -> None:
    front = placed([2, 2, 2])
    sure, unsure = (estimate(front, LINE, BOX, (), LEARNED, resized=r) for r in (False, True))
    assert unsure.high - unsure.low > sure.high - sure.low


def test_the_learned_model_tells_tops_apart() -> None:
    assert top_odds(SAME, LEARNED) > 1 > -1 > top_odds(OTHER, LEARNED)


def test_a_model_file_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    path = tmp_path / "units.json"
    save_units_model(path, LEARNED, {"seeds": []})
    assert load_units_model(path) == LEARNED
    data = json.loads(path.read_text())
    for field, value, word in (
        ("faced_up", 1.5, "faced_up"),
        ("share", [0.5, 0.6], "share: probabilities add up to 1.1"),
        ("tops", [1, 2], "tops"),
        ("slip_back", [], "slip_back"),
    ):
        path.write_text(json.dumps({**data, field: value}))
        with pytest.raises(BadInput, match=word):
            load_units_model(path)
    path.write_text("{")
    with pytest.raises(BadInput, match="units.json"):
        load_units_model(path)
    with pytest.raises(BadInput, match="cannot be read"):
        load_units_model(tmp_path / "none.json")


def test_impossible_is_nothing_but_likely_is_what_was_learned() -> None:
    """What was learned is wide enough for its own use: a front at the edge is not proof of a full bin."""
    pmf = belief(placed([0, 0, 0]), LINE, BOX, (), LEARNED)
    assert 0.5 < pmf[13:].sum() < 0.95
    assert np.count_nonzero(pmf[3:]) == 13
