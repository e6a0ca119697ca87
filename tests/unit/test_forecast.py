"""Demand and the hour of stock-out: learned right, honest about rare sellers and empty shelves, better than naive."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import numpy as np
import pytest
from benchmarks.forecast import backtest, sales
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfscan.stock.forecast import Day, Demand, learn, pinball, stock_out

FIRST = date(2026, 1, 5)


def days(sold: list[float], **more: bool) -> list[Day]:
    return [Day(FIRST + timedelta(n), s, **more) for n, s in enumerate(sold)]


def demand(rate: float, spread: float = 0.05) -> Demand:
    return Demand(rate, spread, (1.0,) * 7, 1.0, 30.0)


def test_rates_and_weekdays_are_found() -> None:
    rng = np.random.default_rng(1)
    week = np.array([0.5, 1, 1, 1, 1, 2, 0.5])
    series = {f"S{k}": days([float(x) for x in rng.poisson((1 + k) * week[np.arange(84) % 7])]) for k in range(8)}
    found = learn(series, FIRST + timedelta(84))
    for k in range(8):
        assert found[f"S{k}"].rate == pytest.approx((1 + k), rel=0.3)
    assert found["S0"].weekday[5] / found["S0"].weekday[1] == pytest.approx(2, rel=0.2)
    assert np.mean(found["S0"].weekday) == pytest.approx(1)


def test_an_empty_shelf_says_only_that_more_may_have_been_wanted() -> None:
    today = FIRST + timedelta(20)
    plain = learn({"S": days([3.0] * 20)}, today)["S"].rate
    cut = learn({"S": days([3.0] * 20, censored=True)}, today)["S"].rate
    assert cut > plain * 1.1


def test_a_rare_seller_is_not_said_to_sell_never() -> None:
    found = learn({"S": days([0.0] * 60), "T": days([1.0] * 60)}, FIRST + timedelta(60))
    assert 0 < found["S"].rate < 0.1
    assert found["S"].quantile(0.5, FIRST) == 0


def test_days_to_come_are_not_looked_at() -> None:
    series = days([1.0] * 30 + [50.0] * 30)
    assert learn({"S": series}, FIRST + timedelta(30))["S"].rate == pytest.approx(1.0, rel=0.1)
    assert learn({"S": series}, FIRST) == {}


@settings(max_examples=50, deadline=None)
@given(rate=st.floats(0.01, 40), spread=st.floats(0, 2), most=st.integers(1, 60), share=st.floats(0.05, 1))
def test_a_demand_is_a_distribution(rate: float, spread: float, most: int, share: float) -> None:
    pmf = demand(rate, spread).pmf(FIRST, most, share)
    assert pmf.sum() == pytest.approx(1.0) and (pmf >= 0).all() and len(pmf) == most + 1


def test_the_hour_of_stock_out() -> None:
    now = datetime(2026, 3, 2, 2, 0)
    full = np.zeros(25)
    full[24] = 1.0
    out = stock_out(full, demand(12, 0.02), now)
    assert out.early is not None and out.likely is not None and out.late is not None
    assert out.early <= out.likely <= out.late
    assert out.likely.date() in (date(2026, 3, 3), date(2026, 3, 4)), "24 units at 12 a day"
    assert 8 < out.likely.hour <= 20, "nobody buys at night"
    empty = np.zeros(25)
    empty[0] = 1.0
    gone = stock_out(empty, demand(12), now)
    assert gone.late is not None and gone.late - now <= timedelta(hours=1)
    never = stock_out(full, demand(0.01), now, days=3)
    assert never.likely is None
    weaker = full * 0.5
    weaker[2] += 0.5
    sooner = stock_out(weaker, demand(12, 0.02), now)
    assert sooner.early is not None and sooner.early < out.early


def test_the_pinball_loss() -> None:
    assert pinball(0.9, 5, 7) == pytest.approx(1.8) and pinball(0.9, 7, 5) == pytest.approx(0.2)


def test_it_beats_naive_forecasts() -> None:
    told, sold = sales(40, 90, 7)
    result = backtest(told, sold, test_days=14)
    model = result.pop("model")
    assert all(model["loss"] < 0.97 * r["loss"] for r in result.values())
    assert model["inside_80"] >= 0.8
