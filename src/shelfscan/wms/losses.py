"""What disappears from the shelves over the nights although the books know nothing of it.

One night's difference says only that books and shelf disagree; it stands there every night until somebody posts a count.
So a place's loss is added up: what the books have more than the count's interval allows, plus what posted counts have taken
out of the books before. Only a rise from one night to a later one is a new loss; a place with several is where to look.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

WEEK_S = 7 * 86400.0
#: Fewer units than these are within what cameras and tills get wrong.
LEAST_UNITS = 2


@dataclass(frozen=True)
class Night:
    """A sync's plain lines (`SyncReport.to_json`; those that agree may be left out) and when its map was made."""

    at: datetime
    lines: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Loss:
    """Units that went from one place within ``nights`` looked at, on ``times`` different nights; ``value`` in the store's
    currency; ``per_week``: units over the time between first and last night, None for a single night."""

    location_code: str
    sku: str
    name: str
    units: float
    value: float
    nights: int
    times: int
    per_week: float | None
    first_at: str
    last_at: str


def losses(nights: Iterable[Night]) -> list[Loss]:
    """The places that lose units, the most valuable loss first; the nights in any order."""
    ordered = sorted(nights, key=lambda n: n.at)
    places: dict[tuple[str, str], Mapping[str, Any]] = {}
    for night in ordered:
        for x in night.lines:
            places[str(x["location_code"]), str(x["sku"])] = x
    by_key = [{(str(x["location_code"]), str(x["sku"])): x for x in n.lines} for n in ordered]
    out = []
    for key, newest in places.items():
        loss = _place(
            [(n.at, rows.get(key)) for n, rows in zip(ordered, by_key, strict=True)], key, str(newest.get("name") or "")
        )
        if loss is not None:
            out.append(loss)
    return sorted(out, key=lambda x: (-x.value, x.location_code, x.sku))


def _place(looks: Sequence[tuple[datetime, Mapping[str, Any] | None]], key: tuple[str, str], name: str) -> Loss | None:
    posted, before, rises, price, seen = 0.0, 0.0, [], 0.0, []
    for at, row in looks:
        if row is None:  # the books agreed with what was seen
            gap = 0.0
        else:
            found = _gap(row)
            if found is None:
                continue
            gap = found
            delta = row.get("delta")
            price = abs(float(row["value"]) / float(delta)) if delta and row.get("value") else price
        seen.append(at)
        total = posted + gap
        if total > before:
            rises.append((at, total - before))
        before = total
        if row is not None and row["outcome"] == "posted":
            posted += gap
    if before < LEAST_UNITS or not rises:
        return None
    spent_s = (seen[-1] - seen[0]).total_seconds()
    week = round(before / spent_s * WEEK_S, 2) if spent_s >= 86400.0 else None
    first, last = (t.isoformat(timespec="minutes") for t in (rises[0][0], rises[-1][0]))
    return Loss(*key, name, before, round(before * price, 2), len(seen), len(rises), week, first, last)


def _gap(row: Mapping[str, Any]) -> float | None:
    """What the books have more (below zero: less) than was seen, as far as no count can explain it; None without a count."""
    if row.get("scope") == "site" or row["outcome"] in ("recount", "ignored") or row.get("on_hand") is None:
        return None
    low, high, books = row.get("counted_low"), row.get("counted_high"), float(row["on_hand"])
    if low is None or high is None:
        return None
    return max(0.0, books - float(high)) if books >= float(low) else books - float(low)
