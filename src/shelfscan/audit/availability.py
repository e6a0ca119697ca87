"""What is believed of one bin, from the products placed in it, how much of its front was seen, and depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shelfscan.audit.match import Placed
from shelfscan.audit.tags import BinTag, amount
from shelfscan.audit.units import Units, estimate
from shelfscan.model.catalogue import Product
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.scan import COVERAGE_COLUMNS, COVERAGE_ROWS
from shelfscan.model.stock import BinState, BinStatus, Finding, UnseenReason
from shelfscan.model.store import BinPlace

CELLS = COVERAGE_COLUMNS * COVERAGE_ROWS
#: A front counts as seen in full with this share of its cells: one cell may fall to a pixel's rounding.
IN_FULL = 0.99
#: Columns of an empty bin show the back of the shelf; what stands nearer by this share of an item's depth is something.
SOMETHING_SHARE = 0.5
#: Share of a bin's columns that must show something for an undetected product to be feared.
OCCUPIED_SHARE = 0.2


@dataclass(frozen=True)
class Look:
    """What all captures together saw of one bin's front.

    ``seen`` and ``blocked`` are cell masks (see `BinCoverage`); ``depth_m`` per column, -1 unknown; ``failure`` says
    why the viewpoints that should have seen it have no scan, as one of `UnseenReason`'s words, or is empty.
    """

    seen: int = 0
    blocked: int = 0
    depth_m: tuple[float, ...] = ()
    stamp_ns: int = 0
    evidence: tuple[str, ...] = ()
    failure: str = ""

    @property
    def share_seen(self) -> float:
        """Share of the front's cells that were seen, 0..1."""
        return self.seen.bit_count() / CELLS

    @property
    def in_full(self) -> bool:
        """The whole front was seen within the angle and unoccluded."""
        return self.share_seen >= IN_FULL


def unseen_reason(look: Look) -> UnseenReason:
    """Why a bin was not seen in full."""
    if (look.blocked & ~look.seen).bit_count() >= 2:
        return UnseenReason.OCCLUDED
    if look.failure:
        return UnseenReason(look.failure)
    return UnseenReason.OUT_OF_VIEW


def occupied(look: Look, place: BinPlace, product: Product) -> float:
    """Share of a bin's columns through which depth shows something nearer than the back of the shelf, 0..1."""
    known = [d for d in look.depth_m if d >= 0]
    if not known:
        return 0.0
    empty_beyond_m = place.depth_m - SOMETHING_SHARE * product.depth_m
    return sum(d < empty_beyond_m for d in known) / len(known)


def bin_state(
    place: BinPlace,
    line: PlanogramLine,
    product: Product,
    placed: Sequence[Placed],
    look: Look,
    tag: BinTag | None,
    position: tuple[float, float, float],
    observed_at: str,
    findings: Sequence[Finding] = (),
) -> BinState:
    """The belief about one bin. A bin that was not seen in full is UNSEEN, never empty."""
    front = [p for p in placed if p.front and p.planned]
    units = estimate(front, line, product)
    if not look.in_full:
        # What was seen is a lower bound; the interval says the rest is not known.
        return BinState(
            bin_id=place.bin_id,
            sku=line.sku,
            status=BinStatus.UNSEEN,
            misplaced=any(p.front and not p.planned for p in placed),
            facings=len(front),
            units=units.best,
            units_low=len(front),
            units_high=line.capacity_units,
            confidence=1.0,
            tag_price=tag.price if tag else "",
            position=position,
            observed_at=observed_at,
            reason=str(unseen_reason(look)),
            findings=tuple(f.finding_id for f in findings),
            evidence=look.evidence,
        )
    status = status_of(units, line)
    return BinState(
        bin_id=place.bin_id,
        sku=line.sku,
        status=status,
        misplaced=any(p.front and not p.planned for p in placed),
        facings=len(front),
        units=units.best,
        units_low=units.low,
        units_high=units.high,
        confidence=round(confidence_of(status, units, line, product, front, look, place), 3),
        tag_price=tag.price if tag else "",
        position=position,
        observed_at=observed_at,
        findings=tuple(f.finding_id for f in findings),
        evidence=look.evidence,
    )


def status_of(units: Units, line: PlanogramLine) -> BinStatus:
    """Availability by the contract's order."""
    if units.high == 0:
        return BinStatus.OUT_OF_STOCK
    return BinStatus.LOW if units.best <= line.low_at_units else BinStatus.OK


def confidence_of(
    status: BinStatus,
    units: Units,
    line: PlanogramLine,
    product: Product,
    front: Sequence[Placed],
    look: Look,
    place: BinPlace,
) -> float:
    """Probability that the status is right: a stated rule of thumb, not yet calibrated."""
    if status is BinStatus.OUT_OF_STOCK:
        return 0.97 - 0.6 * min(1.0, occupied(look, place, product) / OCCUPIED_SHARE)
    sure = 0.9 + 0.09 * min(1.0, sum(p.seen.score for p in front) / max(1, len(front)))
    if status is BinStatus.OK and units.low <= line.low_at_units:
        # The interval reaches into LOW: a faced-up bin looks full.
        sure *= 0.93
    if status is BinStatus.LOW and units.high > line.low_at_units:
        sure *= 0.8
    return sure


def findings_of(
    place: BinPlace, line: PlanogramLine, product: Product, placed: Sequence[Placed], look: Look, tag: BinTag | None, status: BinStatus
) -> list[Finding]:
    """What a person should know about a bin that was seen in full; one finding a cause."""
    if not look.in_full:
        return []
    picture = look.evidence[0] if look.evidence else ""
    out: list[Finding] = []

    def add(kind: str, confidence: float, value: float, suggestion: str) -> None:
        out.append(
            Finding(f"{place.bin_id}/{kind}", place.bin_id, kind, "shelf", round(confidence, 3), round(value, 2), suggestion, picture)
        )

    if status is BinStatus.OUT_OF_STOCK:
        add("out_of_stock", 0.9, product.price, f"refill {line.sku} {product.name}")
    elif status is BinStatus.LOW:
        add("low", 0.8, product.price, f"top up {line.sku} {product.name}")
    strangers = [p for p in placed if p.front and not p.planned]
    if strangers:
        names = ", ".join(sorted({p.sku or "something unknown" for p in strangers}))
        add("misplaced", min(0.95, max(p.seen.score for p in strangers)), product.price, f"take out {names}; planned is {line.sku}")
    printed = amount(tag.price) if tag and tag.price else None
    if tag is None:
        add("missing_tag", 0.7, 0.0, f"print a tag for {line.sku}")
    elif printed is not None and abs(printed - product.price) > 0.005:
        add("wrong_price", tag.confidence, abs(printed - product.price), f"tag says {tag.price}, catalogue {product.price:.2f}")
    return out
