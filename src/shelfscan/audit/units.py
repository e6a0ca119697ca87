"""How many units stand in a bin: a distribution, from how deep each column's front stands and from the tops behind it.

Columns deplete from the front, so a front that stands back tells how many are gone. A front at the shelf's edge tells little:
the bin is full, or somebody pulled its goods forward. Then the tops behind the front row decide where a camera looks down on
them, and elsewhere what such bins usually hold. What is usual, how often a front's depth is a row off and how alike tops of one
SKU look is learned from simulated nights that are no test nights (`UnitsModel`, ``models/units.json``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from shelfscan.audit.match import Placed
from shelfscan.model.catalogue import Product
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.scan import TopLook

Pmf = NDArray[np.float64]

#: Where the front row of a full column stands behind the shelf's edge, and the air between two rows: how goods are
#: commonly put up, not measured. Both matter little against an item's depth: on a simulated store anything from 0 to
#: 2 cm and from 2 to 4 mm gives the same counts to within a bin or two in 250; 8 mm of air costs two bins in a hundred.
FRONT_M = 0.014
AIR_M = 0.004
#: A look at tops belongs to a front that was measured within so much of its depth.
TOPS_DEPTH_M = 0.03
#: No single top says more than this (log-likelihood ratio): looks at one bin share their mistakes.
MOST_TOP = 3.0
#: Behind a stranger: this share that as much stands there as would fit, the rest evenly less.
HIDDEN_FULL = 0.6
#: With a size that is corrected and not measured, each column may be a row off by this much either way.
RESIZED = 0.15


@dataclass(frozen=True, slots=True)
class UnitsModel:
    """What is learned of how goods stand.

    ``faced_up``: share of bins with all fronts at the edge that are not full; ``share``: what share of such a bin is there, by
    tenths; ``slip_edge`` and ``slip_back``: how many more units stand in a column than its front's depth says, as
    (units more, probability), for fronts at the edge and further back; ``tops``: weights of a logistic regression on a
    `TopLook`'s three differences, and its constant: the log-odds that an item is there.
    """

    faced_up: float
    share: tuple[float, ...]
    slip_edge: tuple[tuple[int, float], ...]
    slip_back: tuple[tuple[int, float], ...]
    tops: tuple[float, float, float, float]


#: Without a learned file: rough, and wide.
ROUGH = UnitsModel(
    0.2,
    (0.02, 0.05, 0.1, 0.12, 0.14, 0.15, 0.15, 0.13, 0.09, 0.05),
    ((0, 1.0),),
    ((-1, 0.03), (0, 0.92), (1, 0.05)),
    (0, 0, 0, 0),
)


@dataclass(frozen=True, slots=True)
class Units:
    """Best estimate (the median) and inclusive 95 % interval; ``pmf``: (units, probability) of what is likely at all."""

    best: float
    low: int
    high: int
    pmf: tuple[tuple[int, float], ...] = ()


def estimate(
    placed: Sequence[Placed],
    line: PlanogramLine,
    product: Product,
    tops: Iterable[TopLook] = (),
    model: UnitsModel = ROUGH,
    resized: bool = False,
    above: int = 0,
) -> Units:
    """Units of the planned SKU in a bin, from its taken places.

    Behind a stranger there may be more of the planned SKU: it hides them, so they count towards the best estimate and
    the upper end, not towards the lower. ``resized``: the product's size is a correction of the catalogue's. ``above``: how
    many are seen on top of the planned rows; behind each there may be more, as deep as the bin is.
    """
    pmf = belief(placed, line, product, tops, model, resized)
    for _ in range(above):
        pmf = np.convolve(pmf, np.append(0.0, np.full(line.facings_deep, 1 / line.facings_deep)))
    most = len(pmf) - 1
    cdf = np.cumsum(pmf)
    best, low, high = (int(np.searchsorted(cdf, q - 1e-9)) for q in (0.5, 0.025, 0.975))
    least = sum(p.planned for p in placed) + above
    low, best = min(max(low, least), most), max(best, least)
    likely = tuple((n, round(float(p), 4)) for n, p in enumerate(pmf) if p >= 5e-4)
    return Units(float(min(best, most)), low, max(low, high, best), likely)


def missing_rows(depth_m: float, line: PlanogramLine, product: Product) -> int:
    """How many items of a column are gone before a front that stands ``depth_m`` behind the front plane."""
    return min(line.facings_deep - 1, max(0, round((depth_m - FRONT_M) / (product.depth_m + AIR_M))))


def belief(
    placed: Sequence[Placed],
    line: PlanogramLine,
    product: Product,
    tops: Iterable[TopLook],
    model: UnitsModel,
    resized: bool = False,
) -> Pmf:
    """Probability of 0, 1, ... `capacity_units` units; (capacity + 1,), read-only."""
    columns: dict[int, list[int]] = {}
    hidden = 0
    for p in placed:
        missing = missing_rows(p.face_m[1], line, product)
        if p.planned:
            columns.setdefault(p.column, []).append(missing)
        else:
            hidden += line.facings_deep - missing - 1
    if not columns and line.facings_wide > len({p.column for p in placed}):
        # The columns beside the stranger's are empty, and columns of a bin deplete together.
        hidden = 0
    looks = _looks(placed, columns, tops, model)
    # A face is believed anew with each scan, and most of its bins stand as before.
    return _pmf(
        tuple((c, tuple(rows)) for c, rows in columns.items()),
        tuple((c, tuple(odds)) for c, odds in looks.items()),
        hidden,
        line.facings_deep,
        line.capacity_units,
        model,
        resized,
    )


@lru_cache(maxsize=4096)
def _pmf(
    fronts: tuple[tuple[int, tuple[int, ...]], ...],
    tops: tuple[tuple[int, tuple[float, ...]], ...],
    hidden: int,
    deep: int,
    capacity: int,
    model: UnitsModel,
    resized: bool,
) -> Pmf:
    """`belief` from what it rests on: items missing before the front of each row by column, and the odds of `_looks`."""
    columns, looks = dict(fronts), dict(tops)
    plain = _one(0)
    for rows in columns.values():
        for missing in rows:
            slip = model.slip_back if missing else model.slip_edge
            plain = np.convolve(plain, _slipped(deep - missing, deep, slip))
        if resized:
            plain = np.convolve(plain, [RESIZED, 1 - 2 * RESIZED, RESIZED])[1:]
    total = plain
    # The foremost stack may be broken: then an upper row stands one item further back.
    if columns and all(min(rows) == 0 and max(rows) <= 1 for rows in columns.values()):
        total = _faced_up(plain, columns, deep, looks, model)
    total = np.convolve(total, _behind(hidden))
    out = np.zeros(capacity + 1)
    out[: len(total)] = total[: len(out)]
    # What would be more than fits is what fits.
    out[-1] += total[len(out) :].sum()
    least = min(sum(len(rows) for rows in columns.values()), capacity)
    out[least] += out[:least].sum()
    out[:least] = 0.0
    pmf = np.asarray(out / out.sum())
    pmf.setflags(write=False)
    return pmf


def _one(n: int) -> Pmf:
    out = np.zeros(n + 1)
    out[n] = 1.0
    return out


def _slipped(n: int, deep: int, slip: Sequence[tuple[int, float]]) -> Pmf:
    out = np.zeros(deep + 1)
    for more, p in slip:
        out[min(deep, max(1, n + more))] += p
    return out


def _behind(hidden: int) -> Pmf:
    if hidden <= 0:
        return _one(0)
    out = np.full(hidden + 1, (1 - HIDDEN_FULL) / hidden)
    out[hidden] = HIDDEN_FULL
    return out


def top_odds(look: tuple[float, float, float], model: UnitsModel) -> float:
    """Log-odds that a stretch of tops shows an item, before anything else is known."""
    a, b, c, constant = model.tops
    return min(MOST_TOP, max(-MOST_TOP, a * look[0] + b * look[1] + c * look[2] + constant))


def _looks(
    placed: Sequence[Placed], columns: dict[int, list[int]], tops: Iterable[TopLook], model: UnitsModel
) -> dict[int, list[float]]:
    """Per column the log-odds of an item behind the first one, behind the second one, ...; 0 where nothing was seen."""
    fronts = {c: min(p.face_m[1] for p in placed if p.column == c and p.planned) for c in columns}
    seen: dict[int, dict[int, list[float]]] = {}
    for t in tops:
        if t.column in fronts and abs(t.depth_m - fronts[t.column]) < TOPS_DEPTH_M:
            for k, look in enumerate(t.tops):
                if look is not None:
                    seen.setdefault(t.column, {}).setdefault(k, []).append(top_odds(look, model))
    # Looks at one top are not independent: their mean, not their sum.
    return {c: [sum(v) / len(v) if (v := of.get(k)) else 0.0 for k in range(max(of) + 1)] for c, of in seen.items()}


def _faced_up(
    plain: Pmf,
    columns: Mapping[int, Sequence[int]],
    deep: int,
    looks: Mapping[int, Sequence[float]],
    model: UnitsModel,
) -> Pmf:
    """A bin whose fronts all stand at the edge: full to the back, or pulled forward, weighed by the tops that were seen.

    Goods of a bin that was pulled forward are spread evenly over its columns: each holds a binomial share of its depth.
    """
    full = (1 - model.faced_up) * math.exp(sum(sum(odds[: deep - 1]) for odds in looks.values()))
    parts = [full * plain]
    for k, weight in enumerate(model.share):
        share = (k + 0.5) / len(model.share)
        pmf, evidence = _one(0), model.faced_up * weight
        for column, rows in columns.items():
            one = _binomial(deep, share)
            odds = looks.get(column, ())
            one = one * np.exp([sum(odds[: max(0, n - 1)]) for n in range(deep + 1)])
            evidence *= float(one.sum())
            stacked = np.zeros(deep * len(rows) + 1)
            for n in range(1, deep + 1):
                stacked[max(len(rows), n * len(rows) - sum(rows))] += one[n] / one.sum()
            pmf = np.convolve(pmf, stacked)
        parts.append(evidence * pmf)
    out = np.zeros(max(len(p) for p in parts))
    for part in parts:
        out[: len(part)] += part
    return np.asarray(out / out.sum())


@lru_cache(maxsize=4096)
def _binomial(n: int, p: float) -> Pmf:
    """At least one of ``n``, with probability ``p`` each; (n + 1,)."""
    k = np.arange(n + 1)
    out = np.array([math.comb(n, int(i)) for i in k], np.float64) * p**k * (1 - p) ** (n - k)
    out[0] = 0.0
    pmf = np.asarray(out / out.sum())
    pmf.setflags(write=False)
    return pmf
