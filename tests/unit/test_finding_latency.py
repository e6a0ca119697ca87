"""What a finding's way from look to map is made of."""

from __future__ import annotations

import pytest
from benchmarks.finding_latency import NS, of_captures, summary, waits_of
from hypothesis import given
from hypothesis import strategies as st


def ns(seconds: float) -> int:
    return round(seconds * NS)


CAPTURED = {"c1": (ns(10), frozenset({"B", "C"})), "c2": (ns(20), frozenset({"C"}))}
SCANNED = {"c1": ns(11.5), "c2": ns(21)}


def test_a_way_is_cut_at_its_scan_and_at_the_first_map_after_it() -> None:
    maps = [(ns(5), []), (ns(12), []), (ns(13), [("B/low", "B")])]
    (wait,) = waits_of(maps, CAPTURED, SCANNED)
    assert (wait.kind, wait.scan_s, wait.map_s, wait.others_s) == ("low", 1.5, 0.5, 1.0)
    assert wait.all_s == 3.0


def test_it_counts_from_the_last_look_whose_scan_was_done() -> None:
    # The second capture was taken before the map, but its scan came after it: it can't have told anything.
    early = waits_of([(ns(20.5), [("C/low", "C")])], CAPTURED, SCANNED)
    late = waits_of([(ns(20.5), []), (ns(22), [("C/low", "C")])], CAPTURED, SCANNED)
    assert early[0].all_s == 10.5 and late[0].all_s == 2.0


def test_a_finding_is_told_once_and_one_that_nobody_looked_at_has_no_way() -> None:
    maps = [(ns(12), [("B/low", "B"), ("X/low", "X")]), (ns(14), [("B/low", "B")])]
    assert len(waits_of(maps, CAPTURED, SCANNED)) == 1


@given(ats=st.lists(st.floats(21.5, 60), min_size=1, max_size=8))
def test_the_parts_are_the_whole(ats: list[float]) -> None:
    maps = [(ns(at), [(f"C/kind{n}", "C")]) for n, at in enumerate(sorted(ats))]
    waits = waits_of(maps, CAPTURED, SCANNED)
    assert [w.all_s for w in waits] == pytest.approx([at - 20 for at in sorted(ats)], abs=1e-6)
    told = summary(waits)
    assert told["findings"] == sum(k["findings"] for k in told["types"].values()) == len(ats)
    assert told["within_3_s"] == pytest.approx(sum(at <= 23 for at in ats) / len(ats), abs=1e-3)
    assert told["waited_for_others"] == sum(w.others_s > 0 for w in waits)


def test_a_capture_waits_for_the_first_map_that_has_its_scan() -> None:
    # c3 was scanned after the last map, c4 never.
    captured = {**CAPTURED, "c3": (ns(30), frozenset({"B"})), "c4": (ns(5), frozenset({"B"}))}
    scanned = {**SCANNED, "c3": ns(50)}
    assert of_captures([ns(11), ns(12), ns(22)], captured, scanned) == [("c1", 2.0), ("c2", 2.0)]
