"""The blind recount: who is drawn, what counts are used, and what they say."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from fakes.night import T0, bundle, stock_map
from fakes.night import state as bin_state
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfscan.evaluation.pilot import Counted, Figures, draw, hours, read_counts, report, share, threshold, write_plan
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.stock import BinStatus, StockMap
from shelfscan.stock.project import iso_utc

N = 400
BUNDLE = bundle(tuple(WmsLocation(f"L{i}", "shelf", f"b{i}", f"S{i % 20}", 5, 0) for i in range(N)))


def the_map() -> StockMap:
    """Bins of which one in ten is empty, one in ten unseen, with confidences of three bands."""
    out = []
    for i in range(N):
        facts = {"confidence": (0.99, 0.93, 0.75)[i % 3]}
        if i % 10 == 1:
            facts |= {"status": BinStatus.UNSEEN, "reason": "occluded"}
        out.append(bin_state(f"b{i}", f"S{i % 20}", 0 if i % 10 == 0 else 8, **facts))
    return stock_map(*out)


MAP = the_map()


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 500), seed=st.integers(0, 99))
def test_the_draw_has_all_kinds_and_nothing_unseen(count: int, seed: int) -> None:
    chosen = draw(MAP, BUNDLE, count, seed)
    seen = [b for b in MAP.bins if b.status is not BinStatus.UNSEEN]
    assert len(chosen) == len({b.bin_id for b in chosen}) == min(count, len(seen))
    assert all(b.status is not BinStatus.UNSEEN for b in chosen)
    assert chosen == draw(MAP, BUNDLE, count, seed)
    if count >= 40:
        assert {(b.status, b.confidence) for b in chosen} == {(b.status, b.confidence) for b in seen}


def filled(path: Path, change: dict[str, str], column: str = "counted") -> Path:
    write_plan(path, draw(MAP, BUNDLE, 60, 1), BUNDLE)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    states = {b.bin_id: b for b in MAP.bins}
    for row in rows:
        row["counted"] = f"{states[row['bin_id']].units:g}"
        if row["bin_id"] in change:
            row[column] = change[row["bin_id"]]
    with path.open("w", newline="") as f:
        writer = csv.DictWriter(f, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_the_list_does_not_say_what_the_robot_counted(tmp_path: Path) -> None:
    write_plan(tmp_path / "plan.csv", draw(MAP, BUNDLE, 60, 1), BUNDLE)
    rows = list(csv.DictReader((tmp_path / "plan.csv").read_text().splitlines()))
    assert len(rows) == 60
    assert all(r["counted"] == "" and r["product"].startswith("Tea") for r in rows)
    assert not {"units", "status", "confidence"} & set(rows[0])


@pytest.mark.parametrize(
    ("value", "word"),
    [("-3", "expected 0 to"), ("many", "whole number"), ("2.5", "whole number"), ("9999999999", "expected 0 to")],
)
def test_a_count_that_cannot_be_is_named_and_the_rest_is_used(value: str, word: str, tmp_path: Path) -> None:
    first = draw(MAP, BUNDLE, 60, 1)[0].bin_id
    counts, problems = read_counts(filled(tmp_path / "c.csv", {first: value}), MAP, BUNDLE)
    assert len(counts) == 59
    assert len(problems) == 1 and "line 2" in problems[0] and word in problems[0]


def test_unknown_twice_unseen_and_too_early_are_named(tmp_path: Path) -> None:
    first, second = (b.bin_id for b in draw(MAP, BUNDLE, 60, 1)[:2])
    path = filled(tmp_path / "c.csv", {second: iso_utc(T0 - 10**9)}, "counted_at")
    with path.open("a") as f:
        f.write(f"nowhere,,,,3,,\n{first},,,,3,,\nb1,,,,3,,\nb2,,,,,,\n")
    counts, problems = read_counts(path, MAP, BUNDLE)
    assert len(counts) == 59
    assert [
        w in p for w, p in zip(("before the robot", "not in the run's map", "already", "not seen"), problems, strict=True)
    ] == [True] * 4


def counted(right: int, wrong: int, confidence: float = 0.99) -> list[Counted]:
    def one(n: int, units: int) -> Counted:
        return Counted(bin_state(f"b{n}", "S1", 8, confidence=confidence), "A", units, BinStatus.OK)

    return [one(n, 8) for n in range(right)] + [one(right + n, 3) for n in range(wrong)]


def test_posting_is_safe_only_with_enough_counts() -> None:
    assert not threshold(counted(298, 0))["enough"]
    enough = threshold(counted(299, 0))
    assert enough["enough"] and enough["upper_bound"] <= 0.01 and enough["confidence"] == 0.99
    assert not threshold(counted(299, 1))["enough"]
    assert threshold(counted(500, 1))["enough"]
    # Errors of the unsure do not spoil the sure.
    mixed = threshold(counted(320, 0) + counted(40, 30, 0.6))
    assert mixed["enough"] and mixed["confidence"] == 0.99 and mixed["counts"] == 320


def test_a_report_weighs_strata_back(tmp_path: Path) -> None:
    empties = {b.bin_id: "6" for b in draw(MAP, BUNDLE, 60, 1) if b.status is BinStatus.OUT_OF_STOCK}
    counts, problems = read_counts(filled(tmp_path / "c.csv", empties), MAP, BUNDLE)
    assert not problems
    result = report(MAP, BUNDLE, counts, Figures(seconds_a_bin=36, bins_a_night=100))
    assert result["by_status"]["OUT_OF_STOCK"]["share"] == 0
    assert result["by_status"]["OK"]["share"] == 1
    # One in nine of the bins that were seen is said to be empty; more of them were drawn.
    assert result["status_right_in_the_store"]["share"] == pytest.approx(8 / 9, abs=0.001)
    assert result["status_right"]["share"] < 0.87
    assert result["hours"]["saved_a_night"] == 1.0


def test_wilsons_interval_is_wilsons() -> None:
    assert share(0, 0)["share"] is None
    got = share(9, 10)
    assert (got["low"], got["high"]) == (pytest.approx(0.5958, abs=1e-3), pytest.approx(0.9821, abs=1e-3))
    assert hours(MAP, Figures())["bins_counted"] == 360
