"""Belief over nights: what earlier looks still say of a bin, and how findings come, stay and go.

A bin's units are carried from look to look: known movements shift the belief, time spreads it (sales nobody told of, a Poisson
process; a refill that nobody told of is always possible), and each look multiplies in what it saw. A bin that tonight was not
seen stays UNSEEN: its belief is said beside it, with its age, never instead of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shelfscan.model.stock import BinState, BinStatus, StockMap
from shelfscan.model.times import from_iso

Pmf = NDArray[np.float64]
#: A belief that was carried on is mixed with this much of "anything may have happened", a day.
SURPRISE_A_DAY = 0.15
DAY_S = 86400.0
#: Fewer units gone are within what two counts get wrong together.
LEAST_LOSS = 3


@dataclass(frozen=True, slots=True)
class Sighting:
    """One look at a bin: when (UTC), in which run, and what it told. ``pmf``: over 0..capacity units; None: it saw nothing."""

    at: datetime
    mission_id: str
    status: BinStatus
    units: float
    confidence: float
    reason: str
    pmf: Pmf | None


@dataclass(frozen=True, slots=True)
class Moved:
    """A movement that the warehouse system knows of: pieces more on the shelf."""

    at: datetime
    delta: float


@dataclass(frozen=True)
class Belief:
    """What is believed of a bin at a time. ``seen_at``: the last look, None without one; ``looks`` that went into it."""

    pmf: Pmf
    seen_at: datetime | None
    looks: int

    @property
    def units(self) -> float:
        """The mean."""
        return float(self.pmf @ np.arange(len(self.pmf)))

    def interval(self, share: float = 0.95) -> tuple[int, int]:
        """The inclusive central interval."""
        total = np.cumsum(self.pmf)
        low = int(np.searchsorted(total, (1 - share) / 2 + 1e-12))
        high = int(np.searchsorted(total, 1 - (1 - share) / 2 - 1e-12))
        return low, min(high, len(self.pmf) - 1)


def sighting_of(state: BinState, mission_id: str, capacity: int, created_at: str) -> Sighting:
    """A night's state of a bin as a look."""
    at = from_iso(state.observed_at or created_at)
    pmf: Pmf | None = None
    if state.status is not BinStatus.UNSEEN:
        pmf = np.full(capacity + 1, 1e-4)
        if state.units_pmf:
            for n, p in state.units_pmf:
                pmf[min(n, capacity)] += p
        else:
            low, high = min(state.units_low, capacity), min(state.units_high, capacity)
            pmf[low : high + 1] += 1.0 / (high - low + 1)
        pmf /= pmf.sum()
    return Sighting(at, mission_id, state.status, state.units, state.confidence, state.reason, pmf)


def believe(sightings: Sequence[Sighting], moved: Sequence[Moved], capacity: int, rate_per_day: float, now: datetime) -> Belief:
    """The belief at a time, from all looks and movements before it; their order in the lists does not matter.

    ``rate_per_day``: sales that no movement tells of; 0 where the warehouse system tells of all.
    """
    looks = sorted((s for s in sightings if s.pmf is not None and s.at <= now), key=lambda s: s.at)
    belief: Pmf = np.full(capacity + 1, 1.0 / (capacity + 1))
    at: datetime | None = None
    for look in looks:
        assert look.pmf is not None
        if at is not None:
            belief = carried(belief, at, look.at, moved, rate_per_day)
        product = belief * look.pmf
        # Looks that contradict each other: the newer one is right.
        belief = product / product.sum() if product.sum() > 1e-6 else look.pmf
        at = look.at
    if at is not None:
        belief = carried(belief, at, now, moved, rate_per_day)
    return Belief(belief, at, len(looks))


def carried(belief: Pmf, since: datetime, until: datetime, moved: Sequence[Moved], rate_per_day: float) -> Pmf:
    """A belief some time later."""
    n = len(belief)
    out = belief
    for m in sorted((m for m in moved if since < m.at <= until), key=lambda m: m.at):
        out = _shift(out, round(m.delta))
    days = max(0.0, (until - since).total_seconds() / DAY_S)
    if rate_per_day > 0 and days > 0:
        from scipy.stats import poisson  # here: every command would wait a second for it

        sold = poisson.pmf(np.arange(n), rate_per_day * days)
        sold[-1] += 1.0 - sold.sum()
        left = np.zeros(n)
        for k, p in enumerate(sold):
            left[: n - k] += p * out[k:]
            left[0] += p * out[:k].sum()
        out = left
    anything = 1.0 - (1.0 - SURPRISE_A_DAY) ** days
    return np.asarray((1 - anything) * out + anything / n)


def _shift(belief: Pmf, by: int) -> Pmf:
    """All of it up or down; what falls over an end stays there."""
    n = len(belief)
    to = np.clip(np.arange(n) + by, 0, n - 1)
    out = np.zeros(n)
    np.add.at(out, to, belief)
    return out


@dataclass(frozen=True, slots=True)
class Course:
    """A finding over nights: ``since`` it is open (a run's time), in how many runs it was told, and when it was gone again."""

    finding_id: str
    since: str
    nights: int
    gone_at: str = ""


def courses(maps: Sequence[StockMap]) -> dict[str, Course]:
    """How findings came and went over the nights, the oldest map first; ids stay the same from night to night.

    A finding is gone when its bin was seen without it. A bin that was not seen tells nothing: what was open stays open.
    """
    out: dict[str, Course] = {}
    for night in sorted(maps, key=lambda m: m.created_at):
        told = {f.finding_id for f in night.findings}
        seen = {b.bin_id for b in night.bins if b.status is not BinStatus.UNSEEN}
        for finding_id in sorted(told):
            before = out.get(finding_id)
            if before is None or before.gone_at:
                out[finding_id] = Course(finding_id, night.created_at, 1)
            else:
                out[finding_id] = Course(finding_id, before.since, before.nights + 1)
        for finding_id, course in list(out.items()):
            if not course.gone_at and finding_id not in told and finding_id.rpartition("/")[0] in seen:
                out[finding_id] = Course(finding_id, course.since, course.nights, night.created_at)
    return out


@dataclass(frozen=True, slots=True)
class SuddenLoss:
    """More went from a bin between two looks than the books know of: ``units`` at least (both 95 % intervals granted)."""

    bin_id: str
    sku: str
    units: int
    before: float
    after: float
    booked: float
    since: str
    at: str
    evidence: tuple[str, ...] = ()


def sudden_losses(maps: Sequence[StockMap], moved: Mapping[str, Sequence[Moved]]) -> list[SuddenLoss]:
    """What the newest map has less than the look before and the movements in between allow, the most units first.

    Only bins whose movements are known (``moved`` names them) can lose anything suddenly; an unbooked sale looks the same, so a
    system that keeps none gets no such list: nothing is told when it knows of no movement at all.
    """
    nights = sorted(maps, key=lambda m: m.created_at)
    if len(nights) < 2 or not any(moved.values()):
        return []
    out = []
    for state in nights[-1].bins:
        if state.status is BinStatus.UNSEEN or not state.observed_at or state.bin_id not in moved:
            continue
        before = _last_seen(nights[:-1], state.bin_id)
        if before is None or before.sku != state.sku:
            continue
        then, now = from_iso(before.observed_at), from_iso(state.observed_at)
        # Goods that came in between may have been booked and not yet put up: they excuse nothing and are not counted.
        booked = sum(min(0.0, m.delta) for m in moved[state.bin_id] if then < m.at <= now)
        gone = math.floor(before.units_low + booked - state.units_high)
        if gone >= LEAST_LOSS:
            told = (before.units, state.units, booked, before.observed_at, state.observed_at)
            out.append(SuddenLoss(state.bin_id, state.sku, gone, *told, state.evidence))
    return sorted(out, key=lambda x: (-x.units, x.bin_id))


def _last_seen(nights: Sequence[StockMap], bin_id: str) -> BinState | None:
    for night in reversed(nights):
        for b in night.bins:
            if b.bin_id == bin_id and b.status is not BinStatus.UNSEEN and b.observed_at:
                return b
    return None


def rates(maps: Sequence[StockMap], moved: Mapping[str, Sequence[Moved]]) -> dict[str, float]:
    """Units a day that leave each bin, from counts of nights and known movements; bins that were refilled in between tell only
    of the time they were not."""
    out: dict[str, float] = {}
    nights = sorted(maps, key=lambda m: m.created_at)
    seen: dict[str, list[tuple[datetime, float]]] = {}
    for night in nights:
        for b in night.bins:
            if b.status is not BinStatus.UNSEEN and b.observed_at:
                seen.setdefault(b.bin_id, []).append((from_iso(b.observed_at), b.units))
    for bin_id, looks in seen.items():
        sold, days = 0.0, 0.0
        for (then, before), (later, after) in pairwise(looks):
            span = (later - then).total_seconds() / DAY_S
            known = sum(m.delta for m in moved.get(bin_id, ()) if then < m.at <= later)
            gone = before + known - after
            if span > 0 and gone >= 0:
                sold, days = sold + gone, days + span
        if days > 0:
            # A weak prior of one unit in five days keeps a quiet week from meaning "never".
            out[bin_id] = (sold + 0.2) / (days + 1.0)
    return out
