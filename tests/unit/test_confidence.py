"""Stated confidences: tables that are read right, written right, and corrected by a site's own counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfscan.adapters.confidence_file import load_confidence, save_confidence
from shelfscan.audit.confidence import IDENTITY, UNTRIED, ConfidenceModel, shifted, status_raw
from shelfscan.audit.match import BinMatch
from shelfscan.errors import BadInput
from shelfscan.model.stock import BinState, BinStatus, Finding
from shelfscan.paths import shared_file

TABLE = ((0.5, 0.4), (0.9, 0.8), (0.99, 0.98))
MODEL = ConfidenceModel({"status/LOW": TABLE, "finding/turned": TABLE})


def state(status: BinStatus = BinStatus.LOW, confidence: float = 0.9, pmf: tuple[tuple[int, float], ...] = ()) -> BinState:
    return BinState("b", "S", status, False, 1, 1, 1, 1, confidence, "", (0, 0, 0), "", units_pmf=pmf)


def finding(kind: str, confidence: float) -> Finding:
    return Finding(f"b/{kind}", "b", kind, "shelf", confidence)


@settings(max_examples=60, deadline=None)
@given(a=st.floats(0, 1), b=st.floats(0, 1))
def test_a_table_rises_and_stays_within_its_ends(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert 0.4 <= MODEL.right("status/LOW", low) <= MODEL.right("status/LOW", high) <= 0.98


def test_without_tables_nothing_changes_and_everything_is_an_alarm() -> None:
    assert IDENTITY.state(state(), 3, False) == state()
    f = finding("turned", 0.3)
    assert IDENTITY.finding(f, state(), BinMatch((), 1.0), frozenset()) is f and f.alarm


def test_what_is_not_sure_is_no_alarm() -> None:
    nothing = BinMatch((), 1.0)
    sure = MODEL.finding(finding("turned", 0.99), state(), nothing, frozenset())
    assert sure.alarm and sure.confidence == 0.98 >= MODEL.alarm_from
    assert not MODEL.finding(finding("turned", 0.9), state(), nothing, frozenset()).alarm
    untried = MODEL.finding(finding("damaged", 0.99), state(), nothing, frozenset())
    assert untried.confidence == UNTRIED and not untried.alarm
    low = MODEL.finding(finding("low", 0.2), state(confidence=0.97), nothing, frozenset())
    assert low.alarm and low.confidence == 0.97, "a finding of a status is as sure as the status"


def test_the_belief_about_units_counts_for_the_status() -> None:
    assert status_raw(state(pmf=((1, 0.6), (5, 0.4))), 3) == pytest.approx(0.9 * 0.6)
    assert status_raw(state(BinStatus.OK, pmf=((1, 0.6), (5, 0.4))), 3) == pytest.approx(0.9 * 0.4)
    assert status_raw(state(), 3) == 0.9
    unseen = state(BinStatus.UNSEEN, 1.0)
    assert MODEL.state(unseen, 3, False) is unseen


def test_a_site_that_is_wrong_more_often_lowers_what_is_stated() -> None:
    told = [("status/LOW", 0.8, False)] * 10 + [("status/LOW", 0.8, True)] * 10
    after = shifted(MODEL, told)
    assert after.right("status/LOW", 0.9) < 0.7 and after.tables["finding/turned"] == TABLE
    few = shifted(MODEL, told[:1])
    assert after.right("status/LOW", 0.9) < few.right("status/LOW", 0.9) < 0.8, "one count changes little"
    better = shifted(MODEL, [("status/LOW", 0.8, True)] * 60)
    assert 0.8 < better.right("status/LOW", 0.9) < 1
    raw = [r for r, _ in after.tables["status/LOW"]]
    assert raw == [r for r, _ in TABLE]


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    save_confidence(path, MODEL, {"n": 1})
    assert load_confidence(path) == MODEL
    path.write_text('{"tables": {"a": [[0.9, 1], [0.5, 1]]}}')
    with pytest.raises(BadInput, match="raw values that rise"):
        load_confidence(path)
    path.write_text('{"tables": {"a": [[0.9, 1.5]]}}')
    with pytest.raises(BadInput, match=r"c.json: tables.a"):
        load_confidence(path)
    with pytest.raises(BadInput, match="cannot be read"):
        load_confidence(tmp_path / "none.json")


def test_the_shipped_tables_rise_and_know_every_status() -> None:
    model = load_confidence(shared_file("models", "confidence.json"))
    assert {"status/OK", "status/LOW", "status/OUT_OF_STOCK"} <= set(model.tables)
    for table in model.tables.values():
        shares = [p for _, p in table]
        assert shares == sorted(shares)
