"""Which counts go to a system that only takes note of what was seen, and keeps no stock that could be overwritten. Pure.

There is nothing to compare with and nothing to undo, so neither age nor movements matter. What was not seen still is no count,
and what is not sure waits for a person. A line is a bin: such a system has no locations of its own that several bins could be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shelfscan.model.catalogue import Catalogue
from shelfscan.model.stock import UNSEEN_TEXT, BinState, BinStatus, StockMap
from shelfscan.wms.document import line_id
from shelfscan.wms.rules import (
    NOT_PLANNED,
    NS,
    ApprovalPolicy,
    Decision,
    Outcome,
    ReconcileLine,
    Span,
    observed,
    rounded,
    usable,
)

#: The one doubt that a person settles by saying that what was seen empty is empty.
ZERO = "counted zero: a person has to confirm that there really is none"


def observations(
    stock_map: StockMap,
    catalogue: Catalogue,
    policy: ApprovalPolicy,
    *,
    now_ns: int,
    spans: Mapping[str, Span],
    decisions: Mapping[str, Decision],
) -> list[ReconcileLine]:
    """One line a bin, in the map's order; what may be sent has the outcome ``post``."""
    return [
        _line(b, catalogue, policy, now_ns, observed((b,), spans), decisions.get(line_id(b.bin_id, b.sku)))
        for b in stock_map.bins
    ]


def _line(
    b: BinState, catalogue: Catalogue, policy: ApprovalPolicy, now_ns: int, seen: Span, d: Decision | None
) -> ReconcileLine:
    facts: dict[str, object] = {"confidence": b.confidence, "observed": seen, "evidence": b.evidence}

    def says(outcome: Outcome, reason: str, **more: object) -> ReconcileLine:
        return ReconcileLine(b.bin_id, b.sku, "shelf", (b.bin_id,), outcome, reason, **{**facts, **more})  # type: ignore[arg-type]

    if b.status is BinStatus.UNSEEN:
        why = UNSEEN_TEXT.get(b.reason, b.reason or "not seen in full")
        if b.reason in NOT_PLANNED:
            return says(Outcome.IGNORE, f"not counted ({why})")
        return says(Outcome.RECOUNT, f"not seen in full, which is not the same as empty ({why})")
    if not usable(b):
        return says(Outcome.RECOUNT, "the count is not a usable number")
    counted = rounded(b.units)
    facts.update(counted=counted, counted_low=b.units_low, counted_high=b.units_high)
    if b.sku not in catalogue:
        return says(Outcome.HOLD, "unknown item: the store's catalogue has no such product")
    if seen.from_ns <= 0:
        return says(Outcome.RECOUNT, "nobody knows when this was counted")
    if seen.to_ns > now_ns + policy.movement_margin_s * NS:
        return says(Outcome.RECOUNT, "counted later than now: the robot's clock is wrong")
    if d is not None and not d.approved:
        return says(Outcome.IGNORE, f"rejected by {d.who}: {d.why}", approvable=True)
    if d is not None and d.counted == counted:
        return says(Outcome.POST, f"approved by {d.who}: {d.why}", approvable=True, approved_by=d.who)
    doubts = [f"{d.who} approved {d.counted}, and that has changed since"] if d is not None else []
    doubts += _doubts(b, policy, counted)
    if doubts:
        return says(Outcome.HOLD, "; ".join(doubts), approvable=True)
    return says(Outcome.POST, "sure enough to be sent without a person")


def _doubts(b: BinState, policy: ApprovalPolicy, counted: int) -> Iterable[str]:
    if counted == 0:
        yield ZERO
    if b.misplaced:
        yield "another product stands in this place"
    if b.confidence < policy.min_confidence:
        yield f"{b.confidence:.0%} sure, less than {policy.min_confidence:.0%}"
    if b.units_high - b.units_low > policy.max_interval_units:
        yield f"could be {b.units_low} to {b.units_high}"
    if not policy.auto_post:
        yield "nothing is sent without a person (auto_post is off)"
