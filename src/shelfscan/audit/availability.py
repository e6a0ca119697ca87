"""What is believed of one bin, from the products placed in it, how much of its front was seen, and depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shelfscan.audit.condition import Trouble
from shelfscan.audit.match import BinMatch, Placed
from shelfscan.audit.space import SpaceTrouble, Taken, troubles_of_space
from shelfscan.audit.stale import Verdict
from shelfscan.audit.tags import BinTag, amount
from shelfscan.audit.units import ROUGH, Units, UnitsModel, estimate
from shelfscan.audit.usual import WrongSize
from shelfscan.model.catalogue import Product
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.scan import COVERAGE_COLUMNS, COVERAGE_ROWS, IN_FULL, TopLook
from shelfscan.model.stock import BinState, BinStatus, Finding, UnseenReason
from shelfscan.model.store import BinPlace

CELLS = COVERAGE_COLUMNS * COVERAGE_ROWS
#: Conditions in which goods can't be sold, or not for long.
UNSELLABLE = ("damaged", "near_expiry")
#: An empty bin whose depth could be judged in less of its places than this stays in doubt.
JUDGED_LEAST = 0.5
#: ... and so does one in which so much of the depth is nearer than its back.
CLUTTERED = 0.1
#: How often a front that looks like none of the gallery is a stranger's, and not the side of what is planned: simulated nights.
FOREIGN_SURE = 0.5


@dataclass(frozen=True)
class Look:
    """What all captures together saw of one bin's front.

    ``seen`` and ``blocked`` are cell masks (see `BinCoverage`); ``failure`` says why the viewpoints that should have
    seen it have no scan, as one of `UnseenReason`'s words, or is empty. ``clear``: some capture saw it with nothing in the way.
    """

    seen: int = 0
    blocked: int = 0
    stamp_ns: int = 0
    evidence: tuple[str, ...] = ()
    failure: str = ""
    clear: bool = True

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


def bin_state(
    place: BinPlace,
    line: PlanogramLine,
    product: Product,
    match: BinMatch,
    look: Look,
    tag: BinTag | None,
    position: tuple[float, float, float],
    observed_at: str,
    stale: bool = False,
    tops: Sequence[TopLook] = (),
    model: UnitsModel = ROUGH,
    resized: bool = False,
    taken: Taken | None = None,
) -> BinState:
    """The belief about one bin. A bin that was not seen in full is UNSEEN, never empty.

    ``stale``: its bay was put up anew, so that nothing of the plan is believed to stand behind what stands there now.
    ``tops``: the looks at what is behind the bin's front row. ``resized``: the product's size is not the catalogue's.
    ``taken``: columns that a neighbour's goods fill, so that nothing of the bin's own is behind them.
    """
    front = [p for p in match.placed if p.planned]
    strangers = len(front) < len(match.placed)
    # A single stranger may hide something; what stands in a bay that was put up anew, or spreads from next door, hides its own.
    counted = front if stale else [p for p in match.placed if p.planned or not taken or p.column not in taken.columns]
    units = estimate(counted, line, product, tops, model, resized, len(match.above))
    facings = len(front) + len(match.above)
    if not look.in_full:
        # What was seen is a lower bound; the interval says the rest is not known.
        return BinState(
            bin_id=place.bin_id,
            sku=line.sku,
            status=BinStatus.UNSEEN,
            misplaced=strangers,
            facings=facings,
            units=units.best,
            units_low=facings,
            units_high=max(line.capacity_units, units.high),
            confidence=1.0,
            tag_price=tag.price if tag else "",
            position=position,
            observed_at=observed_at,
            reason=str(unseen_reason(look)),
            evidence=look.evidence,
        )
    status = status_of(units, line)
    return BinState(
        bin_id=place.bin_id,
        sku=line.sku,
        status=status,
        misplaced=strangers,
        facings=facings,
        units=units.best,
        units_low=units.low,
        units_high=units.high,
        confidence=round(confidence_of(status, units, line, front, match), 3),
        tag_price=tag.price if tag else "",
        position=position,
        observed_at=observed_at,
        evidence=look.evidence,
        units_pmf=units.pmf,
    )


def status_of(units: Units, line: PlanogramLine) -> BinStatus:
    """Availability by the contract's order."""
    if units.best == 0:
        return BinStatus.OUT_OF_STOCK
    return BinStatus.LOW if units.best <= line.low_at_units else BinStatus.OK


def confidence_of(status: BinStatus, units: Units, line: PlanogramLine, front: Sequence[Placed], match: BinMatch) -> float:
    """Probability that the status is right: a stated rule of thumb, which tables learned from simulation correct."""
    if status is BinStatus.OUT_OF_STOCK and units.high > 0:
        return 0.7  # a stranger may hide something
    if status is BinStatus.OUT_OF_STOCK and match.clutter > CLUTTERED:
        return 0.75  # nothing was made out there, but depth is not that of an empty place
    if status is BinStatus.OUT_OF_STOCK:
        # A bare opening shows nothing to measure; a back that was measured is better proof.
        return 0.85 + 0.12 * min(1.0, match.judged / JUDGED_LEAST)
    if not front:
        return 0.6  # only strangers in sight, and a guess about what they hide
    sure = sum(p.confidence for p in front) / len(front)
    if status is BinStatus.OK and units.low <= line.low_at_units:
        # The interval reaches into LOW: a faced-up bin looks full.
        sure *= 0.98
    if status is BinStatus.LOW and units.high > line.low_at_units:
        sure *= 0.9
    return sure


def stale_finding(place: BinPlace, look: Look, verdict: Verdict) -> list[Finding]:
    """One finding instead of many: the file is what has to be put right."""
    if not look.in_full:
        return []
    what = f"{verdict.disagree} of {verdict.judged} tags and rows in bay {place.bay_id} are not as planned: check the planogram"
    picture = look.evidence[0] if look.evidence else ""
    kind = "stale_planogram"
    confidence = round(verdict.confidence, 3)
    return [Finding(f"{place.bin_id}/{kind}", place.bin_id, kind, "planogram", confidence, 0.0, what, picture)]


def size_finding(place: BinPlace, line: PlanogramLine, look: Look, wrong: WrongSize | None) -> list[Finding]:
    """A product whose catalogue size is contradicted by what is seen or planned."""
    if wrong is None or not look.in_full:
        return []
    what = f"measure {line.sku}: {wrong.side.removesuffix('_m')} is likelier {wrong.likely_m:.3f} m than {wrong.said_m:.3f} m"
    picture = look.evidence[0] if look.evidence else ""
    kind = "dimension_mismatch"
    return [Finding(f"{place.bin_id}/{kind}", place.bin_id, kind, "catalogue", wrong.confidence, 0.0, what, picture)]


def drift_finding(place: BinPlace, look: Look, up_m: float, confidence: float) -> Finding:
    """A shelf that hangs elsewhere than the layout says; told once, with the shelf's first bin."""
    picture = look.evidence[0] if look.evidence else ""
    where = f"{abs(up_m) * 100:.1f} cm {'above' if up_m > 0 else 'below'} where store.yaml has it"
    what = f"shelf {place.shelf_id} hangs {where}: correct the layout"
    sure = round(confidence, 3)
    return Finding(f"{place.bin_id}/layout_drift", place.bin_id, "layout_drift", "layout", sure, 0.0, what, picture)


def findings_of(
    place: BinPlace,
    line: PlanogramLine,
    product: Product,
    match: BinMatch,
    look: Look,
    tag: BinTag | None,
    state: BinState,
    condition: Sequence[Trouble] = (),
    wrong: WrongSize | None = None,
    taken: Taken | None = None,
    elsewhere: bool = False,
) -> list[Finding]:
    """What a person should know about a bin that was seen in full; one finding a cause."""
    if not look.in_full:
        return []
    picture = look.evidence[0] if look.evidence else ""
    out: list[Finding] = []

    def add(kind: str, confidence: float, value: float, suggestion: str, evidence: str = "") -> None:
        out.append(
            Finding(
                f"{place.bin_id}/{kind}",
                place.bin_id,
                kind,
                "shelf",
                round(confidence, 3),
                round(value, 2),
                suggestion,
                evidence or picture,
            )
        )

    if state.status is BinStatus.OUT_OF_STOCK:
        add("out_of_stock", state.confidence, product.price, f"refill, up to {line.most_units}")
    elif state.status is BinStatus.LOW:
        add("low", state.confidence, product.price, f"top up, {line.most_units - round(state.units)} more fit")
    space: list[SpaceTrouble] = []
    if state.status is BinStatus.OK and wrong is None:
        units = Units(state.units, state.units_low, state.units_high, state.units_pmf)
        space = troubles_of_space(line, product, match, units, taken, elsewhere)
    for s in space:
        add(s.kind, s.confidence, s.value, s.suggestion)
    # Goods that spread from next door are one cause, and told as such.
    spread = set(taken.columns) if taken and any(s.kind == "wrong_facings" for s in space) else set[int]()
    strangers = [p for p in match.placed if not p.planned and p.column not in spread]
    if any(p.unnamed for p in match.placed):
        text = f"not in the gallery, or {line.sku} with its side to the front: take it out, turn it, or enrol it"
        add("foreign", FOREIGN_SURE, product.price, text)
    if strangers:
        names = ", ".join(sorted({p.sku or "something unknown" for p in strangers}))
        add("misplaced", max(p.confidence for p in strangers), product.price, f"take out {names}; planned is {line.sku}")
    printed = amount(tag.price) if tag and tag.price else None
    if tag is None:
        add("missing_tag", 0.7, 0.0, f"print a tag for {line.sku}")
    elif printed is not None and abs(printed - product.price) > 0.005:
        add("wrong_price", tag.confidence, abs(printed - product.price), f"tag says {tag.price}, catalogue {product.price:.2f}")
    out += size_finding(place, line, look, wrong)
    for t in condition:
        # Goods that can't be sold are worth their price; those that only need a hand, nothing yet.
        add(t.kind, t.confidence, product.price if t.kind in UNSELLABLE else 0.0, t.suggestion, t.picture)
    return out
