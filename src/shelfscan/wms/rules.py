"""What a count may do to the warehouse system's stock, decided line by line, with a reason a stock manager understands.

Pure. The order of the rules is the order of their weight: what makes a count unusable comes before what makes it
doubtful, and a doubt a person may settle (``hold``) before nothing at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from shelfscan.model.bundle import WmsLocation
from shelfscan.model.catalogue import Catalogue
from shelfscan.model.stock import UNSEEN_TEXT, BinState, BinStatus, StockMap, UnseenReason
from shelfscan.wms.document import MAX_UNITS, line_id
from shelfscan.wms.port import Movement, StockRow, WmsPlace, WmsProduct

NS = 1_000_000_000
#: Bins that were never meant to be looked at this time; another look tonight will not happen.
NOT_PLANNED = (str(UnseenReason.SKIPPED), str(UnseenReason.TIME))


class Outcome(str, Enum):
    """What happens with a line."""

    __str__ = str.__str__

    EQUAL = "equal"
    POST = "post"
    #: Waits for a person.
    HOLD = "hold"
    #: This count can never be posted: somebody or the robot has to look again.
    RECOUNT = "recount"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class ApprovalPolicy:
    """What may post without a person. Units in pieces, values in the store's currency, times in hours and seconds.

    ``movement_margin_s``: movements up to this long before the observation count as after it, because clocks
    disagree and tills post late. ``max_interval_units``: width of the count's 95 % interval.
    """

    auto_post: bool = False
    min_confidence: float = 0.95
    max_delta_units: float = 6
    max_delta_value: float = 50
    max_interval_units: float = 2
    max_age_h: float = 12
    movement_margin_s: float = 300


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person said about a line: who, when (UTC), why, and the numbers they saw when they said it."""

    line_id: str
    approved: bool
    who: str
    why: str
    at_ns: int
    counted: int
    on_hand: float


@dataclass(frozen=True)
class WmsView:
    """What the warehouse system said. Stock was asked for *before* movements: what moves after has another version."""

    scopes: Mapping[str, str]
    gtins: Mapping[str, str]
    stock: Mapping[tuple[str, str], StockRow]
    movements: Mapping[tuple[str, str], tuple[Movement, ...]]

    @staticmethod
    def of(
        places: Iterable[WmsPlace], products: Iterable[WmsProduct], stock: Iterable[StockRow], movements: Iterable[Movement]
    ) -> WmsView:
        """Index the answers."""
        moved: dict[tuple[str, str], tuple[Movement, ...]] = {}
        for m in movements:
            moved[m.location_code, m.sku] = (*moved.get((m.location_code, m.sku), ()), m)
        return WmsView(
            {p.location_code: p.scope for p in places},
            {p.sku: p.gtin14 for p in products},
            {(s.location_code, s.sku): s for s in stock},
            moved,
        )


@dataclass(frozen=True, slots=True)
class Span:
    """First and last look at something, UTC nanoseconds."""

    from_ns: int
    to_ns: int


@dataclass(frozen=True)
class ReconcileLine:
    """One location and product: what was counted, what the system believes, what happens and why.

    ``counted`` is None when there is no usable count. ``on_hand`` is what the system says now, ``on_hand_then`` what
    it said when the shelf was looked at. ``approvable``: a person may post it. For a site-wide location ``counted``
    is what its shelves hold at least.
    """

    location_code: str
    sku: str
    scope: str
    bins: tuple[str, ...]
    outcome: Outcome
    reason: str
    counted: int | None = None
    counted_low: int | None = None
    counted_high: int | None = None
    on_hand: float | None = None
    on_hand_then: float | None = None
    expected_version: str = ""
    confidence: float = 0.0
    value: float = 0.0
    observed: Span = Span(0, 0)
    approvable: bool = False
    approved_by: str = ""
    evidence: tuple[str, ...] = ()

    @property
    def line_id(self) -> str:
        """Location and product."""
        return line_id(self.location_code, self.sku)

    @property
    def delta(self) -> float | None:
        """Counted minus what the system believes, pieces."""
        return None if self.counted is None or self.on_hand is None else self.counted - self.on_hand


@dataclass(frozen=True)
class _Case:
    """Everything the rules look at for one line."""

    location_code: str
    sku: str
    scope: str
    bins: tuple[str, ...]
    states: tuple[BinState, ...]
    row: StockRow | None
    moved: tuple[Movement, ...]
    observed: Span
    price: float
    policy: ApprovalPolicy
    now_ns: int
    decision: Decision | None
    facts: dict[str, object] = field(default_factory=dict)

    def line(self, outcome: Outcome, reason: str, *, approvable: bool = False, approved_by: str = "") -> ReconcileLine:
        """The verdict, with the numbers known so far."""
        return ReconcileLine(
            self.location_code,
            self.sku,
            self.scope,
            self.bins,
            outcome,
            reason,
            on_hand=self.row.on_hand if self.row else None,
            expected_version=self.row.version if self.row else "",
            observed=self.observed,
            confidence=min((s.confidence for s in self.states), default=0.0),
            evidence=tuple(e for s in self.states for e in s.evidence),
            approvable=approvable,
            approved_by=approved_by,
            **self.facts,  # type: ignore[arg-type]
        )


def reconcile(
    stock_map: StockMap,
    mapping: Sequence[WmsLocation],
    catalogue: Catalogue,
    view: WmsView,
    policy: ApprovalPolicy,
    *,
    now_ns: int,
    spans: Mapping[str, Span] | None = None,
    decisions: Mapping[str, Decision] | None = None,
) -> list[ReconcileLine]:
    """One line per mapped location and product, in the mapping's order.

    ``mapping`` says which bins a location stands for; its quantities are not used. ``spans``: when each bin was
    looked at, where the ledger knows better than the map's ``observed_at``. ``decisions`` by line id.
    """
    states = {b.bin_id: b for b in stock_map.bins}
    groups: dict[tuple[str, str], list[WmsLocation]] = {}
    for row in mapping:
        groups.setdefault((row.location_code, row.sku), []).append(row)
    out = []
    for (code, sku), rows in groups.items():
        # A location is site-wide when either side says so: the mistake must never be to overwrite a backroom.
        site = view.scopes.get(code) == "site" or any(r.scope == "site" for r in rows)
        bins = tuple(dict.fromkeys(r.bin_id for r in rows if r.bin_id))
        seen = tuple(states[b] for b in bins if b in states)
        looked = observed(seen, spans or {})
        since = looked.from_ns - int(policy.movement_margin_s * NS)
        product = catalogue.get(sku)
        case = _Case(
            location_code=code,
            sku=sku,
            scope="site" if site else "shelf",
            bins=bins,
            states=seen,
            row=view.stock.get((code, sku)),
            moved=tuple(m for m in view.movements.get((code, sku), ()) if m.moved_at_ns >= since),
            observed=looked,
            price=product.price if product else 0.0,
            policy=policy,
            now_ns=now_ns,
            decision=(decisions or {}).get(line_id(code, sku)),
        )
        out.append(_unusable(case, view, product is not None) or (_site(case) if site else _shelf(case)))
    return out


def _unusable(c: _Case, view: WmsView, known_here: bool) -> ReconcileLine | None:
    """What is wrong with the line before any number is looked at."""
    if c.location_code not in view.scopes:
        return c.line(Outcome.IGNORE, "the warehouse system has no such location")
    if not c.bins:
        return c.line(Outcome.IGNORE, "no shelf place is mapped to this location")
    if len(c.states) < len(c.bins):
        known = {s.bin_id for s in c.states}
        return c.line(Outcome.IGNORE, f"not in this map: {', '.join(b for b in c.bins if b not in known)}")
    if c.sku not in view.gtins:
        return c.line(Outcome.HOLD, "unknown item: the warehouse system has no such product; create it there first")
    if not known_here:
        return c.line(Outcome.HOLD, "unknown item: the store's catalogue has no such product")
    others = sorted({s.sku for s in c.states if s.sku != c.sku})
    if others:
        return c.line(Outcome.HOLD, f"the shelf is planned for {', '.join(others)}; correct the plan or the location first")
    if c.row is None:
        return c.line(Outcome.HOLD, "the warehouse system keeps no stock of this product here; create the record first")
    if not math.isfinite(c.row.on_hand):
        return c.line(Outcome.HOLD, f"the warehouse system's stock is not a number ({c.row.on_hand})")
    if not all(usable(s) for s in c.states if s.status is not BinStatus.UNSEEN):
        return c.line(Outcome.RECOUNT, "the count is not a usable number")
    return None


def usable(s: BinState) -> bool:
    """Whether a bin's count is a number that can be worked with."""
    return (
        math.isfinite(s.units)
        and math.isfinite(s.confidence)
        and 0 <= s.units_low <= s.units_high <= MAX_UNITS
        and s.units_low <= rounded(s.units) <= s.units_high
    )


def _unseen(c: _Case) -> ReconcileLine | None:
    unseen = [s for s in c.states if s.status is BinStatus.UNSEEN]
    if not unseen:
        return None
    why = "; ".join(f"{s.bin_id}: {UNSEEN_TEXT.get(s.reason, s.reason or 'not seen in full')}" for s in unseen)
    if all(s.reason in NOT_PLANNED for s in unseen):
        return c.line(Outcome.IGNORE, f"not counted ({why})")
    return c.line(Outcome.RECOUNT, f"not seen in full, which is not the same as empty ({why})")


def _site(c: _Case) -> ReconcileLine:
    """Shelves are only part of a site-wide stock: their sum is a lower bound, and never posted."""
    assert c.row is not None
    at_least = sum(s.units_low for s in c.states)
    c.facts.update(counted=at_least, counted_low=at_least, on_hand_then=_then(c, c.row))
    if all(s.status is BinStatus.UNSEEN for s in c.states):
        del c.facts["counted"], c.facts["counted_low"]
        return _unseen(c) or c.line(Outcome.IGNORE, "not counted")
    if at_least > max(c.row.on_hand, _then(c, c.row)):
        text = f"the shelves alone hold at least {at_least}, more than the {c.row.on_hand:g} of the whole site"
        return c.line(Outcome.RECOUNT, f"{text}: count shelf and backroom together")
    return c.line(Outcome.IGNORE, f"the whole site's stock with its backroom; shelves hold at least {at_least}, which fits")


def _shelf(c: _Case) -> ReconcileLine:
    """An absolute count of a location that is nothing but these bins."""
    unseen = _unseen(c)
    if unseen:
        return unseen
    assert c.row is not None
    p = c.policy
    counted = sum(rounded(s.units) for s in c.states)
    low, high = sum(s.units_low for s in c.states), sum(s.units_high for s in c.states)
    then = _then(c, c.row)
    value = abs(counted - c.row.on_hand) * c.price
    c.facts.update(counted=counted, counted_low=low, counted_high=high, on_hand_then=then, value=round(value, 2))
    if low <= then <= high:
        return c.line(Outcome.EQUAL, _equal_text(c, counted, low, high, then))
    if c.observed.from_ns <= 0:
        return c.line(Outcome.RECOUNT, "nobody knows when this was counted")
    if c.observed.to_ns > c.now_ns + p.movement_margin_s * NS:
        return c.line(Outcome.RECOUNT, "counted later than now: the robot's clock is wrong")
    age_h = (c.now_ns - c.observed.from_ns) / NS / 3600
    if age_h > p.max_age_h:
        return c.line(Outcome.RECOUNT, f"counted {age_h:.1f} h ago; counts older than {p.max_age_h:g} h are not posted")
    if c.moved:
        text = f"stock moved since it was looked at ({len(c.moved)} movements, {sum(m.delta for m in c.moved):+g})"
        return c.line(Outcome.RECOUNT, f"{text}: posting the count would undo that")
    doubts = list(_doubts(c, counted, low, high, value))
    d = c.decision
    if d is not None and not d.approved:
        return c.line(Outcome.IGNORE, f"rejected by {d.who}: {d.why}", approvable=True)
    if d is not None:
        if (d.counted, d.on_hand) == (counted, c.row.on_hand):
            return c.line(Outcome.POST, f"approved by {d.who}: {d.why}", approvable=True, approved_by=d.who)
        doubts.insert(0, f"{d.who} approved {d.counted} against {d.on_hand:g}, and that has changed since")
    if doubts:
        return c.line(Outcome.HOLD, "; ".join(doubts), approvable=True)
    return c.line(Outcome.POST, "within the limits for posting without a person")


def _doubts(c: _Case, counted: int, low: int, high: int, value: float) -> Iterable[str]:
    """Every reason why a person should look first."""
    p, confidence = c.policy, min(s.confidence for s in c.states)
    assert c.row is not None
    if counted == 0:
        yield "counted zero: a person has to confirm that there really is none"
    if any(s.misplaced for s in c.states):
        yield "another product stands in this place"
    if confidence < p.min_confidence:
        yield f"{confidence:.0%} sure, less than {p.min_confidence:.0%}"
    if high - low > p.max_interval_units:
        yield f"could be {low} to {high}"
    if abs(counted - c.row.on_hand) > p.max_delta_units:
        yield f"differs by {abs(counted - c.row.on_hand):g}, more than {p.max_delta_units:g}"
    if value > p.max_delta_value:
        yield f"worth {value:.2f}, more than {p.max_delta_value:.2f}"
    if not p.auto_post:
        yield "nothing is posted without a person (auto_post is off)"


def _equal_text(c: _Case, counted: int, low: int, high: int, then: float) -> str:
    moved = f"; stock moved since ({sum(m.delta for m in c.moved):+g})" if c.moved else ""
    if then == counted:
        return f"counted {counted}, as the warehouse system has it{moved}"
    return f"{then:g} lies within what was seen ({low} to {high}){moved}"


def _then(c: _Case, row: StockRow) -> float:
    """What the system believed when the shelf was looked at: what moved since is taken back."""
    return row.on_hand - sum(m.delta for m in c.moved)


def rounded(units: float) -> int:
    """Whole pieces; halves go up."""
    return math.floor(units + 0.5)


def observed(states: Sequence[BinState], spans: Mapping[str, Span]) -> Span:
    """First look to last look at all bins; zeros when a time is not known."""
    found = [spans.get(s.bin_id) or _span_of(s.observed_at) for s in states]
    if not found or any(f is None for f in found):
        return Span(0, 0)
    known = [f for f in found if f is not None]
    return Span(min(f.from_ns for f in known), max(f.to_ns for f in known))


def _span_of(observed_at: str) -> Span | None:
    stamp = to_ns(observed_at)
    return Span(stamp, stamp) if stamp is not None else None


def to_ns(iso: str) -> int | None:
    """UTC nanoseconds of an ISO-8601 time with its zone; None when it is none."""
    try:
        # Python 3.10 does not read the "Z".
        t = datetime.fromisoformat(iso.replace("Z", "+00:00"))
    except ValueError:
        return None
    return None if t.tzinfo is None else int(t.timestamp() * 1000) * 1_000_000


def unmapped(mapping: Sequence[WmsLocation], view: WmsView, bin_ids: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Locations of the warehouse system no bin is mapped to, and bins no location is mapped to."""
    mapped = {r.location_code for r in mapping if r.bin_id}
    bins = {r.bin_id for r in mapping if r.location_code in view.scopes}
    return tuple(sorted(set(view.scopes) - mapped)), tuple(b for b in bin_ids if b not in bins)
