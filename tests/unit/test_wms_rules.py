"""What a count may do to stock: unseen is not zero, a shelf is not the site, and nothing that moved is undone."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest
from fakes.night import HOUR, MINUTE, T0, bundle, state, stock_map
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfscan.errors import WmsRejected
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.gtin import gtin14
from shelfscan.model.stock import BinState, BinStatus
from shelfscan.wms.document import CountDocument, CountLine, document_key
from shelfscan.wms.port import Movement, StockRow, WmsPlace, WmsProduct
from shelfscan.wms.rules import ApprovalPolicy, Decision, Outcome, ReconcileLine, WmsView, reconcile, unmapped

AUTO = ApprovalPolicy(auto_post=True)


def decide(
    *bins: BinState,
    on_hand: float,
    scope: str = "shelf",
    moves: tuple[tuple[float, int], ...] = (),
    policy: ApprovalPolicy = AUTO,
    now_ns: int = T0 + HOUR,
    decision: Decision | None = None,
    known: bool = True,
) -> ReconcileLine:
    rows = tuple(WmsLocation("L1", scope, b.bin_id, "A", on_hand, 0) for b in bins)
    view = WmsView.of(
        [WmsPlace("L1", "site" if scope == "site" else "shelf")],
        [WmsProduct("A", "", "Tea")] if known else [],
        [StockRow("L1", "A", on_hand, "7")],
        [Movement("L1", "A", d, at, "sale") for d, at in moves],
    )
    b = bundle(rows)
    decisions = {decision.line_id: decision} if decision else {}
    (line,) = reconcile(stock_map(*bins), rows, b.catalogue, view, policy, now_ns=now_ns, decisions=decisions)
    return line


def test_a_plain_difference_posts_only_when_asked_to() -> None:
    assert decide(state("b1", "A", 5), on_hand=7).outcome is Outcome.POST
    held = decide(state("b1", "A", 5), on_hand=7, policy=ApprovalPolicy())
    assert held.outcome is Outcome.HOLD and held.approvable and "auto_post" in held.reason
    assert held.delta == -2 and held.expected_version == "7"


@pytest.mark.parametrize(
    ("bin_state", "on_hand", "word"),
    [
        (state("b1", "A", 0), 3, "zero"),
        (state("b1", "A", 5, confidence=0.8), 7, "80%"),
        (state("b1", "A", 5, low=3, high=8), 9, "3 to 8"),
        (state("b1", "A", 5), 12, "more than 6"),
        (state("b1", "A", 5, misplaced=True), 7, "another product"),
    ],
)
def test_doubts_wait_for_a_person(bin_state: BinState, on_hand: float, word: str) -> None:
    line = decide(bin_state, on_hand=on_hand)
    assert line.outcome is Outcome.HOLD and line.approvable and word in line.reason


def test_value_limit() -> None:
    line = decide(state("b1", "A", 5), on_hand=9, policy=replace(AUTO, max_delta_value=9.99))
    assert line.outcome is Outcome.HOLD and "worth 10.00" in line.reason


@pytest.mark.parametrize("reason", ["occluded", "blocked", "sensor", "glare", "out_of_view"])
def test_unseen_is_never_zero(reason: str) -> None:
    line = decide(state("b1", "A", 0, high=12, status=BinStatus.UNSEEN, reason=reason), on_hand=3)
    assert line.outcome is Outcome.RECOUNT and line.counted is None and not line.approvable


def test_a_place_nobody_meant_to_visit_is_left_alone() -> None:
    assert decide(state("b1", "A", 0, status=BinStatus.UNSEEN, reason="skipped"), on_hand=3).outcome is Outcome.IGNORE


def test_one_unseen_bin_spoils_the_sum_of_a_location() -> None:
    unseen = state("b2", "A", 0, high=12, status=BinStatus.UNSEEN, reason="occluded")
    assert decide(state("b1", "A", 5), unseen, on_hand=9).outcome is Outcome.RECOUNT
    assert decide(state("b1", "A", 5), state("b2", "A", 2), on_hand=9).counted == 7


def test_a_site_is_never_posted() -> None:
    fits = decide(state("b1", "A", 5), on_hand=20, scope="site")
    assert fits.outcome is Outcome.IGNORE and fits.counted == 5
    short = decide(state("b1", "A", 5), on_hand=3, scope="site")
    assert short.outcome is Outcome.RECOUNT and "at least 5" in short.reason
    empty = decide(state("b1", "A", 0), on_hand=8, scope="site")
    assert empty.outcome is Outcome.IGNORE


def test_movements_after_the_look_forbid_posting_and_are_taken_back_for_the_comparison() -> None:
    moved = ((-2.0, T0 + 10 * MINUTE),)
    assert decide(state("b1", "A", 5), on_hand=7, moves=moved).outcome is Outcome.RECOUNT
    assert decide(state("b1", "A", 7), on_hand=5, moves=moved).outcome is Outcome.EQUAL
    before = ((-2.0, T0 - 10 * MINUTE),)
    assert decide(state("b1", "A", 5), on_hand=7, moves=before).outcome is Outcome.POST
    margin = ((-2.0, T0 - 4 * MINUTE),)
    assert decide(state("b1", "A", 5), on_hand=7, moves=margin).outcome is Outcome.RECOUNT


def test_age_and_a_clock_that_runs_ahead() -> None:
    assert decide(state("b1", "A", 5), on_hand=7, now_ns=T0 + 13 * HOUR).outcome is Outcome.RECOUNT
    assert decide(state("b1", "A", 5), on_hand=7, now_ns=T0 - HOUR).outcome is Outcome.RECOUNT
    assert decide(state("b1", "A", 5, observed_at=""), on_hand=7).outcome is Outcome.RECOUNT


@pytest.mark.parametrize("units", [math.nan, math.inf, -1.0, 1e9])
def test_numbers_that_are_none(units: float) -> None:
    bad = state("b1", "A", 5)
    assert decide(replace(bad, units=units), on_hand=7).outcome is Outcome.RECOUNT


def test_unknown_items_cannot_be_approved() -> None:
    line = decide(state("b1", "A", 5), on_hand=7, known=False)
    assert line.outcome is Outcome.HOLD and not line.approvable
    other = decide(state("b1", "B", 5), on_hand=7)
    assert other.outcome is Outcome.HOLD and not other.approvable and "planned for B" in other.reason


def test_a_person_decides_on_what_they_saw() -> None:
    d = Decision("L1/A", True, "anna", "looked", T0 + MINUTE, 0, 3)
    assert decide(state("b1", "A", 0), on_hand=3, decision=d).outcome is Outcome.POST
    changed = decide(state("b1", "A", 0), on_hand=4, decision=d)
    assert changed.outcome is Outcome.HOLD and "has changed since" in changed.reason
    no = decide(state("b1", "A", 0), on_hand=3, decision=replace(d, approved=False))
    assert no.outcome is Outcome.IGNORE and "rejected by anna: looked" in no.reason
    # No approval gets past what makes a count unusable.
    moved = decide(state("b1", "A", 0), on_hand=3, decision=d, moves=((-1.0, T0 + MINUTE),))
    assert moved.outcome is Outcome.RECOUNT
    site = decide(state("b1", "A", 0), on_hand=3, decision=d, scope="site")
    assert site.outcome is Outcome.IGNORE


@settings(deadline=None)
@given(
    units=st.integers(0, 30),
    spread=st.integers(0, 5),
    on_hand=st.integers(-3, 40),
    confidence=st.floats(0, 1),
    scope=st.sampled_from(["shelf", "site"]),
    status=st.sampled_from(list(BinStatus)),
    moved_min=st.one_of(st.none(), st.integers(-60, 50)),
    age_h=st.floats(0, 30),
    auto=st.booleans(),
)
def test_what_posts_satisfies_every_guard(
    units: int,
    spread: int,
    on_hand: int,
    confidence: float,
    scope: str,
    status: BinStatus,
    moved_min: int | None,
    age_h: float,
    auto: bool,
) -> None:
    b = state("b1", "A", units, low=max(0, units - spread), high=units, status=status, confidence=confidence, reason="glare")
    moves = () if moved_min is None else ((-1.0, T0 + moved_min * MINUTE),)
    policy = replace(AUTO, auto_post=auto)
    line = decide(b, on_hand=on_hand, scope=scope, moves=moves, policy=policy, now_ns=T0 + int(age_h * HOUR))
    assert line.reason
    if line.outcome is Outcome.POST:
        assert auto and scope == "shelf" and status is not BinStatus.UNSEEN and units > 0 and units != on_hand
        assert confidence >= policy.min_confidence and spread <= policy.max_interval_units
        assert abs(units - on_hand) <= policy.max_delta_units and age_h <= policy.max_age_h
        assert moved_min is None or moved_min < -5


def test_unmapped_both_ways() -> None:
    rows = (WmsLocation("L1", "shelf", "b1", "A", 1, 0), WmsLocation("L9", "shelf", "b9", "A", 1, 0))
    view = WmsView.of([WmsPlace("L1", "shelf"), WmsPlace("L2", "shelf")], [], [], [])
    assert unmapped(rows, view, ("b1", "b2", "b9")) == (("L2",), ("b2", "b9"))
    lines = reconcile(stock_map(state("b1", "A", 1)), rows, bundle(rows).catalogue, view, AUTO, now_ns=T0)
    assert "no such location" in lines[1].reason


def test_forty_thousand_lines_in_two_seconds() -> None:
    n = 40_000
    rows = tuple(WmsLocation(f"L{i}", "shelf", f"b{i}", f"S{i % 5000}", 5, 0) for i in range(n))
    bins = stock_map(*(state(f"b{i}", f"S{i % 5000}", i % 9) for i in range(n)))
    view = WmsView.of(
        [WmsPlace(r.location_code, "shelf") for r in rows],
        [WmsProduct(f"S{i}", "", "") for i in range(5000)],
        [StockRow(r.location_code, r.sku, 5, "1") for r in rows],
        [],
    )
    catalogue = bundle(rows[:5000]).catalogue
    started = time.process_time()
    lines = reconcile(bins, rows, catalogue, view, AUTO, now_ns=T0 + HOUR)
    assert time.process_time() - started < 2.0
    assert len(lines) == n


def line(**facts: object) -> CountLine:
    known: dict[str, object] = {
        "line_no": 1,
        "location_code": "L1",
        "sku": "A",
        "gtin14": "",
        "qty": 5,
        "observed_from_ns": T0,
        "observed_to_ns": T0,
        "expected_qty": 7.0,
        "expected_version": "1",
        "confidence": 1.0,
    }
    return CountLine(**{**known, **facts})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "facts",
    [
        {"qty": -1},
        {"qty": 2.5},
        {"qty": 10**7},
        {"qty": 0},
        {"uom": "KG"},
        {"coverage": "partial"},
        {"line_no": 2},
        {"sku": ""},
    ],
)
def test_a_document_that_no_system_should_see(facts: dict[str, object]) -> None:
    with pytest.raises(WmsRejected):
        CountDocument("k", "s", "m", T0, (line(**facts),))


def test_documents() -> None:
    doc = CountDocument("k", "s", "m", T0, (line(), line(line_no=2, location_code="L2", qty=0, zero_confirmed=True)))
    assert CountDocument.from_json(doc.to_json()) == doc
    assert replace(doc, created_ns=T0 + 1).digest == doc.digest
    assert replace(doc, lines=(line(qty=6),)).digest != doc.digest
    with pytest.raises(WmsRejected, match="counted twice"):
        CountDocument("k", "s", "m", T0, (line(), line(line_no=2)))
    key = document_key("s", "m", "w", 0, doc.lines)
    assert key == document_key("s", "m", "w", 0, doc.lines) != document_key("s", "m", "w", 1, doc.lines)


def test_gtins_have_one_spelling() -> None:
    assert gtin14("4006381333931") == gtin14("04006381333931") == "04006381333931"
    assert gtin14("96385074") == "00000096385074"
    assert gtin14("4006381333930") == gtin14("12") == ""
