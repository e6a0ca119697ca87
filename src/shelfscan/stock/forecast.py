"""When will a shelf be empty? Demand by day from nights' counts and the warehouse system's movements, and the hour of
stock-out.

A Gamma-Poisson model a SKU: days are discounted with age, each weekday has a factor shared by all SKUs of a store and shrunk to
one, and the predictive distribution of a day's demand is a negative binomial, which also serves intermittent demand (most days
nothing). Days on which the shelf was empty tell only that at least what stood there was wanted, and count as such. A library of
point forecasts with intervals would not do: the hour of stock-out needs the whole distribution of counts, over a distribution
of what stands on the shelf (docs/adr/0008).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shelfscan.model.stock import BinStatus, StockMap
from shelfscan.model.times import from_iso
from shelfscan.stock.history import Moved

Pmf = NDArray[np.float64]
#: A day counts half after so many days.
HALF_LIFE_DAYS = 28.0
#: Prior days of a SKU at the store's middle rate, and prior units sold that a weekday's factor needs to leave one.
PRIOR_DAYS, PRIOR_SOLD = 1.5, 30.0
#: A demand seen more scattered than a Poisson one is believed to be so at least this little.
LEAST_SPREAD = 0.02


@dataclass(frozen=True, slots=True)
class Day:
    """What left a shelf on a day. ``censored``: the shelf was empty at its end, so more may have been wanted; ``promotion``:
    the price was cut."""

    day: date
    sold: float
    censored: bool = False
    promotion: bool = False


@dataclass(frozen=True)
class Demand:
    """A SKU's demand: ``rate`` units on a usual day, ``spread``: variance is mean + spread * mean²; factors by weekday (Monday
    first) and under promotion; ``days`` it was learned from, discounted."""

    rate: float
    spread: float
    weekday: tuple[float, ...]
    promotion: float
    days: float

    def mean(self, day: date, promotion: bool = False) -> float:
        """Units on a day."""
        return self.rate * self.weekday[day.weekday()] * (self.promotion if promotion else 1.0)

    def pmf(self, day: date, most: int, share: float = 1.0, promotion: bool = False) -> Pmf:
        """P(0..most units wanted) in a share of a day; the last entry holds what is above."""
        from scipy.stats import nbinom  # here, and below: every command would wait a second for it

        mean = max(1e-9, self.mean(day, promotion) * share)
        spread = max(LEAST_SPREAD, self.spread) / max(share, 1e-3)
        n = 1.0 / spread
        out = np.asarray(nbinom.pmf(np.arange(most + 1), n, n / (n + mean)))
        out[-1] += max(0.0, 1.0 - out.sum())
        return out

    def quantile(self, q: float, day: date, promotion: bool = False) -> float:
        """A quantile of a day's demand."""
        from scipy.stats import nbinom

        mean = max(1e-9, self.mean(day, promotion))
        n = 1.0 / max(LEAST_SPREAD, self.spread)
        return float(nbinom.ppf(q, n, n / (n + mean)))


def learn(series: Mapping[str, Sequence[Day]], today: date) -> dict[str, Demand]:
    """Demand of every SKU from its days before ``today``; order does not matter, days may be missing."""
    days = {sku: [d for d in s if d.day < today] for sku, s in series.items()}
    promo = _factor_of_promotions(days, today)
    rates = {sku: _rate(s, today, (1.0,) * 7, promo, 0.0, 0.0)[0] for sku, s in days.items() if s}
    if not rates:
        return {}
    middle = float(np.median(list(rates.values())))
    weekday = _weekdays(days, rates, today, promo)
    out: dict[str, Demand] = {}
    for sku, s in days.items():
        if not s:
            continue
        rate, seen = _rate(s, today, weekday, promo, middle * PRIOR_DAYS, PRIOR_DAYS)
        out[sku] = Demand(rate, _spread(s, rate, weekday, promo), weekday, promo, seen)
    return out


def _weight(day: Day, today: date) -> float:
    return float(0.5 ** ((today - day.day).days / HALF_LIFE_DAYS))


def _rate(
    days: Sequence[Day], today: date, weekday: Sequence[float], promo: float, prior_sold: float, prior_days: float
) -> tuple[float, float]:
    """(units a usual day, discounted days). Censored days: expectation step of the missing part, a few times over."""
    rate = max(0.05, float(np.mean([d.sold for d in days])))
    for _ in range(4):
        sold, exposure = prior_sold, prior_days
        for d in days:
            w = _weight(d, today)
            usual = weekday[d.day.weekday()] * (promo if d.promotion else 1.0)
            wanted = d.sold
            if d.censored:
                # E[X | X >= sold] of a Poisson, above what was sold by about the rate's own scatter.
                wanted = max(d.sold, rate * usual) if d.sold < rate * usual else d.sold + 0.5 * math.sqrt(rate * usual)
            sold += w * wanted
            exposure += w * usual
        rate = sold / max(exposure, 1e-9)
    return max(rate, 1e-3), exposure - prior_days


def _weekdays(days: Mapping[str, Sequence[Day]], rates: Mapping[str, float], today: date, promo: float) -> tuple[float, ...]:
    """The store's factors, each shrunk to one, with a mean of one."""
    sold, expected = np.zeros(7), np.zeros(7)
    for sku, s in days.items():
        for d in s:
            if not d.censored:
                w = _weight(d, today)
                sold[d.day.weekday()] += w * d.sold
                expected[d.day.weekday()] += w * rates[sku] * (promo if d.promotion else 1.0)
    factor = (sold + PRIOR_SOLD) / (expected + PRIOR_SOLD)
    return tuple((factor / factor.mean()).tolist())


def _factor_of_promotions(days: Mapping[str, Sequence[Day]], today: date) -> float:
    """How much more is sold at a cut price, over all SKUs."""
    cut, usual = PRIOR_SOLD, PRIOR_SOLD
    for s in days.values():
        plain = [d.sold for d in s if not d.promotion]
        if plain:
            for d in (d for d in s if d.promotion):
                cut += d.sold
                usual += float(np.mean(plain))
    return cut / usual


def _spread(days: Sequence[Day], rate: float, weekday: Sequence[float], promo: float) -> float:
    """By the method of moments, drawn to a little over-dispersion where there are few days."""
    means = np.array([rate * weekday[d.day.weekday()] * (promo if d.promotion else 1.0) for d in days])
    sold = np.array([d.sold for d in days])
    above = float(((sold - means) ** 2 - means).sum())
    return max(LEAST_SPREAD, (above + 0.3 * 5 * rate**2) / (float((means**2).sum()) + 5 * rate**2))


@dataclass(frozen=True, slots=True)
class StockOut:
    """When a shelf runs empty: the median hour, and the hours of 10 % and 90 %; None: later than was looked."""

    early: datetime | None
    likely: datetime | None
    late: datetime | None


def stock_out(
    units: Pmf,
    demand: Demand,
    now: datetime,
    opening: tuple[int, int] = (8, 20),
    days: int = 14,
    promotions: frozenset[date] = frozenset(),
) -> StockOut:
    """Hour by hour: the first at which the shelf is empty with 10, 50 and 90 %.

    ``units``: the belief about what stands there now; ``opening``: hours of the day (local time of ``now``) between which
    demand is spread evenly.
    """
    begin, end = opening
    share = 1.0 / max(1, end - begin)
    left = np.asarray(units, dtype=np.float64)
    found: dict[float, datetime] = {}
    at = now.replace(minute=0, second=0, microsecond=0)
    first = True
    for _ in range(days * 24):
        part = share
        if first:
            part, first = share * (1 - now.minute / 60), False
        if begin <= at.hour < end and part > 0:
            left = _sold(left, demand.pmf(at.date(), len(left) - 1, part, at.date() in promotions))
        at += timedelta(hours=1)
        for q in (0.1, 0.5, 0.9):
            if q not in found and left[0] >= q:
                found[q] = at
        if len(found) == 3:
            break
    return StockOut(found.get(0.1), found.get(0.5), found.get(0.9))


def _sold(left: Pmf, wanted: Pmf) -> Pmf:
    """What is left after a demand, nothing less than nothing."""
    n = len(left)
    out = np.zeros(n)
    for k, p in enumerate(wanted):
        if p > 1e-12:
            out[: n - k] += p * left[k:]
            out[0] += p * left[:k].sum()
    return out


def pinball(q: float, said: float, was: float) -> float:
    """The quantile loss."""
    return (q if was >= said else q - 1) * (was - said)


def days_of(maps: Sequence[StockMap], moved: Mapping[str, Sequence[Moved]], zone: tzinfo) -> dict[str, list[Day]]:
    """Each SKU's days from the nights' counts and the movements known of its bins.

    Where the warehouse system tells of sales, they are the days. Else what went between two looks is spread over the days in
    between; where more stood there the second time, somebody refilled, and the days tell nothing.
    """
    sold: dict[str, dict[date, float]] = {}
    empty: dict[str, set[date]] = {}
    looks: dict[tuple[str, str], list[tuple[datetime, float, bool]]] = {}
    for night in sorted(maps, key=lambda m: m.created_at):
        for b in night.bins:
            if b.status is not BinStatus.UNSEEN and b.observed_at:
                at = from_iso(b.observed_at)
                looks.setdefault((b.sku, b.bin_id), []).append((at, b.units, b.status is BinStatus.OUT_OF_STOCK))
    for (sku, bin_id), seen in looks.items():
        told = [m for m in moved.get(bin_id, ()) if m.delta < 0]
        for (then, before, _), (later, after, out) in pairwise(seen):
            span = [then.astimezone(zone).date() + timedelta(days=k) for k in range((later - then).days + 1)]
            # Nights end in the small hours: what sold since belongs to the days before.
            days = span[: max(1, round((later - then).total_seconds() / 86400))]
            if out:
                empty.setdefault(sku, set()).add(days[-1])
            if told:
                continue
            gone = before + sum(m.delta for m in moved.get(bin_id, ()) if then < m.at <= later) - after
            if gone >= 0:
                for d in days:
                    here = sold.setdefault(sku, {})
                    here[d] = here.get(d, 0.0) + gone / len(days)
        first = min((t for t, _, _ in seen), default=None)
        if told and first is not None:
            last = max(m.at for m in told).astimezone(zone).date()
            day = first.astimezone(zone).date()
            while day <= last:
                here = sold.setdefault(sku, {})
                here[day] = here.get(day, 0.0) - sum(m.delta for m in told if m.at.astimezone(zone).date() == day)
                day += timedelta(days=1)
    return {s: [Day(d, n, d in empty.get(s, ())) for d, n in sorted(found.items())] for s, found in sold.items()}
