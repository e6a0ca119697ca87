"""Is it good enough *here*? A blind recount of some bins by people, and what it says of all of them.

Bins are drawn by strata of status, confidence and price, so that the rare kinds are there in numbers; whoever counts does not
see what the robot said. What is found is weighted back to the whole store. Shares come with Wilson's 95 % interval (Wilson,
1927); the auto-post threshold rests on the one-sided 95 % bound of Clopper and Pearson (1934): it is the lowest confidence from
which on at most one post in a hundred is wrong, or there are not enough counts yet (some 300 without an error).
"""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from shelfscan.model.bundle import Bundle
from shelfscan.model.stock import BinState, BinStatus, StockMap

COLUMNS = ("bin_id", "aisle", "product", "sku", "counted", "counted_at", "note")
BANDS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1.01)
#: A post is wrong when the recount differs by more than this; so many wrong posts in a hundred are borne, for so sure.
TOLERANCE, MOST_WRONG, SURE = 1, 0.01, 0.95
MAX_UNITS = 1_000_000


class Figures(BaseModel):
    """The store's own: how long a person takes to count a bin, and how many bins they count in a night without the robot."""

    model_config = ConfigDict(extra="forbid")

    seconds_a_bin: float = Field(default=25.0, gt=0)
    bins_a_night: int | None = Field(default=None, ge=0)


@dataclass(frozen=True)
class Counted:
    """One bin's recount."""

    state: BinState
    aisle: str
    units: int
    status: BinStatus


def stratum(state: BinState, price: float, middle: float) -> tuple[str, int, bool]:
    """Status, confidence band and whether it is dear."""
    band = next(k for k in range(len(BANDS) - 1) if BANDS[k] <= state.confidence < BANDS[k + 1])
    return (str(state.status), band, price > middle)


def _strata(stock_map: StockMap, bundle: Bundle) -> dict[tuple[str, int, bool], list[BinState]]:
    seen = [b for b in stock_map.bins if b.status is not BinStatus.UNSEEN]
    prices = sorted(bundle.catalogue[b.sku].price for b in seen if b.sku in bundle.catalogue)
    middle = prices[len(prices) // 2] if prices else 0.0
    out: dict[tuple[str, int, bool], list[BinState]] = {}
    for b in seen:
        price = bundle.catalogue[b.sku].price if b.sku in bundle.catalogue else 0.0
        out.setdefault(stratum(b, price, middle), []).append(b)
    return out


def draw(stock_map: StockMap, bundle: Bundle, count: int, seed: int) -> list[BinState]:
    """``count`` bins to recount (all, when there are fewer), in walking order; each stratum by the root of its size."""
    strata = _strata(stock_map, bundle)
    rng = random.Random(seed)
    chosen: set[str] = set()
    pools = {k: rng.sample(sorted(v, key=lambda b: b.bin_id), len(v)) for k, v in sorted(strata.items())}
    total = sum(math.sqrt(len(v)) for v in pools.values())
    for pool in pools.values():
        share = max(1, round(count * math.sqrt(len(pool)) / total)) if total else 0
        chosen |= {b.bin_id for b in pool[:share]}
    spare = [b.bin_id for pool in pools.values() for b in pool if b.bin_id not in chosen]
    rng.shuffle(spare)
    while len(chosen) < count and spare:
        chosen.add(spare.pop())
    if len(chosen) > count:
        chosen = set(rng.sample(sorted(chosen), count))
    order = {b: n for n, b in enumerate(bundle.store.places)}
    return sorted((b for b in stock_map.bins if b.bin_id in chosen), key=lambda b: order[b.bin_id])


def aisle_of(bundle: Bundle) -> dict[str, str]:
    """Aisle of each bin."""
    gondolas = {g.gondola_id: a.aisle_id for a, g in bundle.store.gondolas()}
    return {b: gondolas[p.gondola_id] for b, p in bundle.store.places.items()}


def write_plan(path: Path, chosen: Iterable[BinState], bundle: Bundle) -> None:
    """The list for staff: where and what, and nothing of what the robot counted."""
    aisles = aisle_of(bundle)
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerow(COLUMNS)
        for b in chosen:
            product = bundle.catalogue.get(b.sku)
            writer.writerow((b.bin_id, aisles[b.bin_id], product.name if product else "", b.sku, "", "", ""))


def read_counts(path: Path, stock_map: StockMap, bundle: Bundle) -> tuple[list[Counted], list[str]]:
    """Recounts that can be used, and what is wrong with the others, one text a line. Rows without a count are left out."""
    states = {b.bin_id: b for b in stock_map.bins}
    aisles = aisle_of(bundle)
    out: list[Counted] = []
    problems: list[str] = []
    lines: dict[str, int] = {}
    with path.open(newline="", encoding="utf-8-sig") as f:
        reader = csv.DictReader(f)
        missing = [c for c in ("bin_id", "counted") if c not in (reader.fieldnames or ())]
        if missing:
            return [], [f"{path}: line 1: missing column {', '.join(missing)}"]
        for n, row in enumerate(reader, start=2):
            where, text, bin_id = f"{path}: line {n}", (row["counted"] or "").strip(), (row["bin_id"] or "").strip()
            if not text:
                continue
            state = states.get(bin_id)
            problem = _problem(text, bin_id, state, lines, (row.get("counted_at") or "").strip())
            if problem or state is None:
                problems.append(f"{where}: {problem}")
                continue
            lines[bin_id] = n
            units = int(text)
            out.append(Counted(state, aisles[bin_id], units, _status(units, bundle, bin_id)))
    return out, problems


def _problem(text: str, bin_id: str, state: BinState | None, lines: Mapping[str, int], at: str) -> str:
    if state is None:
        return f"bin {bin_id!r} is not in the run's map"
    if bin_id in lines:
        return f"bin {bin_id} was counted in line {lines[bin_id]} already; the first count is used"
    if not text.lstrip("-").isdigit():
        return f"counted is {text!r}; expected a whole number of units"
    if not 0 <= int(text) <= MAX_UNITS:
        return f"counted is {text}; expected 0 to {MAX_UNITS}"
    if state.status is BinStatus.UNSEEN:
        return f"bin {bin_id} was not seen in this run: there is nothing to compare"
    if at:
        try:
            moment = datetime.fromisoformat(at.replace("Z", "+00:00"))
        except ValueError:
            return f"counted_at is {at!r}; expected a time such as 2030-01-01T07:30:00Z"
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        if state.observed_at and moment < datetime.fromisoformat(state.observed_at.replace("Z", "+00:00")):
            return f"bin {bin_id} was counted at {at}, before the robot looked at it ({state.observed_at})"
    return ""


def _status(units: int, bundle: Bundle, bin_id: str) -> BinStatus:
    if units == 0:
        return BinStatus.OUT_OF_STOCK
    return BinStatus.LOW if units <= bundle.planogram[bin_id].low_at_units else BinStatus.OK


def share(right: int, of: int) -> dict[str, Any]:
    """A share with Wilson's 95 % interval."""
    if not of:
        return {"n": 0, "share": None, "low": None, "high": None}
    from scipy.stats import binomtest  # here, and below: every command would wait a second for it

    ci = binomtest(right, of).proportion_ci(0.95, method="wilson")
    return {"n": of, "share": round(right / of, 4), "low": round(float(ci.low), 4), "high": round(float(ci.high), 4)}


def report(stock_map: StockMap, bundle: Bundle, counts: Sequence[Counted], figures: Figures) -> dict[str, Any]:
    """What the recount says: accuracy by status and aisle, calibration, hours, and the auto-post threshold."""
    by_status = {str(s): [c for c in counts if c.state.status is s] for s in BinStatus if s is not BinStatus.UNSEEN}
    by_aisle: dict[str, list[Counted]] = {}
    for c in counts:
        by_aisle.setdefault(c.aisle, []).append(c)
    bands = [[c for c in counts if BANDS[k] <= c.state.confidence < BANDS[k + 1]] for k in range(len(BANDS) - 1)]
    return {
        "counts": len(counts),
        "status_right": share(sum(_right(c) for c in counts), len(counts)),
        "status_right_in_the_store": weighted(stock_map, bundle, counts),
        "units_within_1": share(sum(abs(c.units - c.state.units) <= 1 for c in counts), len(counts)),
        "inside_95_interval": share(sum(c.state.units_low <= c.units <= c.state.units_high for c in counts), len(counts)),
        "by_status": {k: share(sum(_right(c) for c in v), len(v)) for k, v in by_status.items()},
        "by_aisle": {k: share(sum(_right(c) for c in v), len(v)) for k, v in sorted(by_aisle.items())},
        "calibration": [
            {
                "from": BANDS[k],
                "said": round(sum(c.state.confidence for c in v) / len(v), 4),
                **share(sum(map(_right, v)), len(v)),
            }
            for k, v in enumerate(bands)
            if v
        ],
        "auto_post": threshold(counts),
        "hours": hours(stock_map, figures),
    }


def _right(c: Counted) -> bool:
    return c.state.status is c.status


def weighted(stock_map: StockMap, bundle: Bundle, counts: Sequence[Counted]) -> dict[str, Any]:
    """Share of all seen bins whose status is right, from the strata (Horvitz and Thompson, 1952), and how many are left out."""
    strata = _strata(stock_map, bundle)
    counted = {c.state.bin_id: c for c in counts}
    total = right = 0.0
    blank = 0
    for members in strata.values():
        here = [counted[b.bin_id] for b in members if b.bin_id in counted]
        if not here:
            blank += len(members)
            continue
        total += len(members)
        right += len(members) * sum(map(_right, here)) / len(here)
    return {"share": round(right / total, 4) if total else None, "bins": int(total), "bins_of_strata_without_counts": blank}


def threshold(counts: Sequence[Counted]) -> dict[str, Any]:
    """The lowest confidence from which on posting is safe enough, or how many more counts are needed."""
    from scipy.stats import beta

    ranked = sorted(counts, key=lambda c: -c.state.confidence)
    best: dict[str, Any] | None = None
    wrong = 0
    for n, c in enumerate(ranked, start=1):
        wrong += abs(c.units - c.state.units) > TOLERANCE
        last = n == len(ranked) or ranked[n].state.confidence < c.state.confidence
        bound = float(beta.ppf(SURE, wrong + 1, n - wrong)) if wrong < n else 1.0
        if last and bound <= MOST_WRONG:
            best = {"confidence": c.state.confidence, "counts": n, "wrong": wrong, "upper_bound": round(bound, 5)}
    if best is not None:
        return {"enough": True, **best}
    needed = math.ceil(math.log(1 - SURE) / math.log(1 - MOST_WRONG))
    return {
        "enough": False,
        "text": f"not enough counts yet: {needed} surest ones without an error are needed, {len(counts)} are there",
    }


def hours(stock_map: StockMap, figures: Figures) -> dict[str, Any]:
    """Hours a night that the robot's counts take off people, by the store's own figures."""
    seen = sum(b.status is not BinStatus.UNSEEN for b in stock_map.bins)
    by_hand = figures.bins_a_night if figures.bins_a_night is not None else len(stock_map.bins)
    return {
        "bins_counted": seen,
        "bins_by_hand": by_hand,
        "saved_a_night": round(min(seen, by_hand) * figures.seconds_a_bin / 3600, 2),
    }
