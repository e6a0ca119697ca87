"""Nights after each other: what is carried on, what a new look changes, and how findings come and go."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfscan.model.stock import BinState, BinStatus, Finding, StockMap
from shelfscan.stock.history import Moved, Sighting, believe, carried, courses, rates, sighting_of, sudden_losses

T0 = datetime(2026, 3, 1, 23, tzinfo=timezone.utc)
DAY = timedelta(days=1)
CAPACITY = 12


def look(units: int, at: datetime, sure: float = 0.9) -> Sighting:
    pmf = np.full(CAPACITY + 1, (1 - sure) / CAPACITY)
    pmf[units] = sure
    return Sighting(at, "m", BinStatus.OK, units, sure, "", pmf)


def night(day: int, units: float | None, findings: tuple[str, ...] = ()) -> StockMap:
    at = (T0 + day * DAY).isoformat().replace("+00:00", "Z")
    status = BinStatus.UNSEEN if units is None else BinStatus.OK
    state = BinState(
        "b", "S", status, False, 1, units or 0, 0, CAPACITY, 0.9, "", (0, 0, 0), at, "blocked" if units is None else ""
    )
    told = tuple(Finding(f"b/{f}", "b", f, "shelf", 0.9) for f in findings)
    return StockMap("s", f"m{day}", at, (state,), (), told)


def test_a_second_look_at_once_makes_surer_and_two_that_contradict_leave_the_newer() -> None:
    once = believe([look(7, T0)], [], CAPACITY, 0.0, T0)
    twice = believe([look(7, T0), look(7, T0 + timedelta(minutes=1))], [], CAPACITY, 0.0, T0 + timedelta(minutes=1))
    assert once.pmf[7] == pytest.approx(0.9, abs=0.01) and twice.pmf[7] > 0.98
    other = believe([look(7, T0, 1.0), look(3, T0 + timedelta(seconds=1), 1.0)], [], CAPACITY, 0.0, T0 + timedelta(seconds=1))
    assert np.argmax(other.pmf) == 3


def test_age_widens_and_sales_lower_what_is_believed() -> None:
    beliefs = [believe([look(8, T0)], [], CAPACITY, 1.0, T0 + d * DAY) for d in (0, 1, 2, 5)]
    widths = [b.interval()[1] - b.interval()[0] for b in beliefs]
    assert widths == sorted(widths) and widths[-1] > widths[0]
    assert [b.units for b in beliefs] == sorted((b.units for b in beliefs), reverse=True)
    assert beliefs[-1].seen_at == T0


def test_a_delivery_that_is_known_shifts_it() -> None:
    moved = [Moved(T0 + DAY / 2, 3), Moved(T0 - DAY, 5), Moved(T0 + 3 * DAY, 5)]
    b = believe([look(5, T0)], moved, CAPACITY, 0.0, T0 + DAY)
    assert np.argmax(b.pmf) == 8, "only what happened between the look and now"


def test_a_bin_never_seen_is_anything() -> None:
    b = believe([Sighting(T0, "m", BinStatus.UNSEEN, 0, 1.0, "blocked", None)], [], CAPACITY, 1.0, T0)
    assert b.seen_at is None and b.looks == 0 and b.interval() == (0, CAPACITY)


@settings(max_examples=60, deadline=None)
@given(
    looks=st.lists(st.tuples(st.integers(0, CAPACITY), st.floats(0, 5)), min_size=1, max_size=6),
    moves=st.lists(st.tuples(st.integers(-5, 5), st.floats(0, 5)), max_size=5),
    rate=st.floats(0, 4),
    seed=st.integers(0, 99),
)
def test_beliefs_stay_beliefs_and_order_does_not_matter(
    looks: list[tuple[int, float]], moves: list[tuple[int, float]], rate: float, seed: int
) -> None:
    sightings = [look(n, T0 + d * DAY) for n, d in looks]
    moved = [Moved(T0 + d * DAY, n) for n, d in moves]
    b = believe(sightings, moved, CAPACITY, rate, T0 + 6 * DAY)
    assert b.pmf.sum() == pytest.approx(1.0) and (b.pmf >= 0).all()
    low, high = b.interval()
    assert 0 <= low <= high <= CAPACITY
    at = {s.at for s in sightings} | {m.at for m in moved}
    if len(at) == len(sightings) + len(moved):
        rng = np.random.default_rng(seed)
        again = believe([sightings[i] for i in rng.permutation(len(sightings))], moved[::-1], CAPACITY, rate, T0 + 6 * DAY)
        assert np.allclose(again.pmf, b.pmf)


def test_nothing_is_carried_into_the_past() -> None:
    pmf = look(4, T0).pmf
    assert pmf is not None
    assert np.allclose(carried(pmf, T0, T0 - DAY, [], 2.0), pmf), "a clock that was set back"


def test_findings_come_stay_and_go() -> None:
    maps = [night(0, 5, ("low",)), night(1, None), night(2, 5, ("low", "turned")), night(3, 5), night(4, 5, ("low",))]
    first = courses(maps[:3])
    assert first["b/low"].nights == 2 and first["b/low"].since == maps[0].created_at and not first["b/low"].gone_at
    after = courses(maps[:4])
    assert after["b/low"].gone_at == after["b/turned"].gone_at == maps[3].created_at
    again = courses(maps[::-1])
    assert again["b/low"].since == maps[4].created_at and again["b/low"].nights == 1


def test_rates_leave_out_refills_and_nights_that_saw_nothing() -> None:
    maps = [night(0, 9), night(1, 7), night(2, None), night(3, 3), night(4, 11), night(5, 10)]
    assert rates(maps, {})["b"] == pytest.approx((2 + 4 + 1 + 0.2) / (1 + 2 + 1 + 1))
    known = {"b": [Moved(T0 + 3.5 * DAY, 10.0)]}
    assert rates(maps, known)["b"] == pytest.approx((2 + 4 + 2 + 1 + 0.2) / (5 + 1))


def test_a_state_becomes_a_look() -> None:
    s = sighting_of(night(0, 5).bins[0], "m", CAPACITY, "")
    assert s.pmf is not None and s.pmf.sum() == pytest.approx(1)
    assert sighting_of(night(0, None).bins[0], "m", CAPACITY, "").pmf is None


def _counted(day: int, units: int, spread: int = 0) -> StockMap:
    made = night(day, units)
    low, high = max(0, units - spread), units + spread
    return replace(made, bins=(replace(made.bins[0], units_low=low, units_high=high),))


def test_what_went_without_sale_or_move() -> None:
    sale = {"b": [Moved(T0 + DAY / 2, -2.0)]}
    (lost,) = sudden_losses([_counted(1, 3), _counted(0, 10)], sale)
    assert (lost.units, lost.before, lost.after, lost.booked) == (5, 10, 3, -2.0)
    assert sudden_losses([_counted(0, 10, 2), _counted(1, 3, 2)], sale) == [], "both intervals are granted"
    assert sudden_losses([_counted(0, 10), _counted(1, 8)], sale) == []
    # Nobody knows of an unseen bin, nor of one whose books hear of no sales.
    assert sudden_losses([_counted(0, 10), night(1, None)], sale) == []
    assert sudden_losses([_counted(0, 10), _counted(1, 0)], {"b": []}) == []
    # A night that saw nothing is looked past; a delivery that was booked excuses nothing.
    moves = {"b": [*sale["b"], Moved(T0 + DAY / 4, 6.0)]}
    (lost,) = sudden_losses([_counted(0, 10), night(1, None), _counted(2, 3)], moves)
    assert lost.units == 5
