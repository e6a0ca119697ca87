"""The stock map as a projection: what it may depend on, and what it says of places the robot did not see."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfscan.audit.availability import CELLS
from shelfscan.model.catalogue import Product
from shelfscan.model.detections import Candidate
from shelfscan.model.geometry import Pose2D
from shelfscan.model.mission import MissionPlan, Viewpoint
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.scan import Alignment, BayScan, BinCoverage, FrontGrid, Observation, PlaceCheck, TagReading
from shelfscan.model.stock import BinState, BinStatus
from shelfscan.model.store import Aisle, Bay, Bin, Gondola, Shelf, Store
from shelfscan.ports import Event
from shelfscan.stock.project import StockProjector

FULL = (1 << CELLS) - 1
SKUS = ("A", "B", "C")
CATALOGUE = {s: Product(s, "4006381333931", s, "b", "c", 0.1, 0.08, 0.2, 2.0) for s in SKUS}
GONDOLAS = ("L", "R")


def _gondola(name: str, y_m: float) -> Gondola:
    bays = tuple(
        Bay(
            f"{name}-B{k}",
            k * 0.9,
            0.9,
            tuple(
                Shelf(
                    f"{name}-B{k}-S{r}",
                    0.3 + 0.4 * r,
                    0.35,
                    0.45,
                    tuple(Bin(f"{name}{k}{r}{n}", n * 0.3, 0.3) for n in range(3)),
                )
                for r in range(2)
            ),
        )
        for k in range(2)
    )
    return Gondola(name, Pose2D(0.0, y_m, 0.0), 0.5, 1.2, bays)


STORE = Store("s", (Aisle("A1", (_gondola("L", 1.0), _gondola("R", 5.0))),))
PLANOGRAM = {b: PlanogramLine(b, SKUS[n % 3], 3, 1, 5) for n, b in enumerate(STORE.places)}
#: A viewpoint a bay.
PLAN = MissionPlan(
    "m",
    "s",
    tuple(Viewpoint(f"{g}-V{k}", g, "A1", Pose2D(0.0, 0.0, 0.0), (f"{g}-B{k}",)) for g in GONDOLAS for k in range(2)),
)
STARTED = Event("mission.started", "mission.started/m", 1, {"mission_id": "m", "plan": PLAN.to_json()})


def scan(viewpoint: Viewpoint, stamp_ns: int, seed: int, *, blocked: bool = False, warnings: tuple[str, ...] = ()) -> BayScan:
    """What one capture of a bay may have told; anything a seed makes up."""
    rng = random.Random(seed)
    capture = f"{viewpoint.viewpoint_id}-{stamp_ns}"
    places = [p for p in STORE.places_of(viewpoint.gondola_id) if p.bay_id in viewpoint.bay_ids]
    observations, coverage, tags, checks = [], [], [], []
    for n, p in enumerate(places):
        for head in ("low", "high"):
            for column in range(3):
                if rng.random() < 0.4:
                    continue
                face = (p.x0_m + 0.1 * column + 0.05 + rng.gauss(0, 0.01), abs(rng.gauss(0.01, 0.05)), p.z0_m + 0.1)
                named = tuple(Candidate(s, round(rng.random(), 2)) for s in SKUS)
                observations.append(
                    Observation(
                        f"{capture}/{head}/{n}.{column}",
                        head,
                        p.gondola_id,
                        (0.0, 0.0, 9.0, 9.0),
                        rng.uniform(0.3, 0.99),
                        (0.0,) * 3,
                        face,
                        (0.1, 0.2),
                        rng.random(),
                        rng.uniform(0, 0.5),
                        named,
                    )
                )
            tags.append(
                TagReading(
                    head,
                    p.gondola_id,
                    (p.x0_m + 0.05, rng.gauss(0, 0.004), p.z0_m - 0.02),
                    (0.0,) * 4,
                    0.9,
                    rng.choice(("1.99", "2.00", "")),
                    confidence=rng.choice((0.5, 0.7, 0.9)),
                )
            )
            checks.append(
                PlaceCheck(
                    p.bin_id, rng.randrange(3), 0, head, abs(rng.gauss(0.01, 0.03)), 1.0, (Candidate("A", rng.random()),)
                )
            )
        seen = 0 if blocked else rng.choice((FULL, FULL, FULL >> 40))
        coverage.append(BinCoverage(p.bin_id, seen, FULL if blocked else 0, "" if blocked else f"{p.bin_id}/{capture}-low.jpg"))
    depth = np.random.default_rng(seed).choice(np.array([12, 100, 440, -32768], np.int16), (60, 90))
    grid = FrontGrid("low", viewpoint.gondola_id, 90 * int(viewpoint.viewpoint_id[-1]), 0, 0.4, 0.8, depth)
    return BayScan(
        "m",
        viewpoint.viewpoint_id,
        capture,
        stamp_ns,
        viewpoint.bay_ids,
        tuple(observations),
        tuple(tags),
        tuple(coverage),
        (grid,),
        tuple(checks),
        {},
        warnings,
    )


def scan_event(s: BayScan) -> Event:
    return Event("bay_scan", f"bay_scan/m/{s.capture_id}", s.stamp_ns, s.to_json())


def projector() -> StockProjector:
    return StockProjector(STORE, CATALOGUE, PLANOGRAM, mission_id="m")


def bins_after(*events: Event) -> dict[str, BinState]:
    p = projector()
    for event in events:
        p.add_event(event)
    return {b.bin_id: b for b in p.stock_map(10**18).bins}


def failed(viewpoint_id: str, what: str) -> Event:
    payload = {"mission_id": "m", "viewpoint_id": viewpoint_id, "what": what, "reason": "x"}
    return Event("viewpoint.failed", f"viewpoint.failed/{viewpoint_id}", 5, payload)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 7))
def test_the_map_depends_on_what_was_seen_and_on_nothing_else(seed: int, count: int) -> None:
    rng = random.Random(seed)
    scans = [scan(rng.choice(PLAN.viewpoints), 10**15 + n, seed + n) for n in range(count)]
    events = [STARTED, failed("R-V1", "drive"), *(scan_event(s) for s in scans)]
    straight = projector()
    for event in events:
        straight.add_event(event)
    expected = straight.stock_map(10**18)

    # Another order, some twice, with maps asked for on the way.
    shuffled = [*events, *rng.sample(events, len(events) // 2)]
    rng.shuffle(shuffled)
    other = projector()
    for event in shuffled:
        other.add_event(event)
        if rng.random() < 0.5:
            other.stock_map(10**17)
    assert other.stock_map(10**18) == expected

    # Within a scan nothing has an order either.
    turned = projector()
    for event in (STARTED, failed("R-V1", "drive"), *(scan_event(_reversed(s)) for s in scans)):
        turned.add_event(event)
    assert turned.stock_map(10**18) == expected

    # The same again changes nothing, and says so.
    assert not any(straight.add_event(scan_event(s)) for s in scans)
    assert straight.stock_map(10**18) == expected


def _reversed(s: BayScan) -> BayScan:
    return replace(s, observations=s.observations[::-1], coverage=s.coverage[::-1], checks=s.checks[::-1])


def test_the_newest_capture_of_a_viewpoint_counts_whenever_it_comes() -> None:
    old, new = (scan_event(scan(PLAN.viewpoints[0], t, t)) for t in (10, 20))
    assert bins_after(STARTED, old, new) == bins_after(STARTED, new, old) == bins_after(STARTED, new)


def test_what_one_face_learns_changes_no_other() -> None:
    p = projector()
    p.add_event(STARTED)
    p.add_event(scan_event(scan(PLAN.viewpoints[0], 10, 1)))
    before = {b.bin_id: b for b in p.stock_map(1).bins}
    p.add_event(scan_event(scan(PLAN.viewpoints[3], 20, 2)))
    after = {b.bin_id: b for b in p.stock_map(1).bins}
    changed = {STORE.places[b].gondola_id for b in before if before[b] != after[b]}
    assert changed == {"R"}


def test_unseen_is_never_empty_and_says_why() -> None:
    left = PLAN.viewpoints[0]
    nothing = bins_after(STARTED)
    assert {(b.status, b.reason, b.observed_at) for b in nothing.values()} == {(BinStatus.UNSEEN, "skipped", "")}
    reasons = {
        "blocked": bins_after(STARTED, failed("L-V0", "drive")),
        "sensor": bins_after(STARTED, failed("L-V0", "capture")),
        "occluded": bins_after(STARTED, scan_event(scan(left, 10, 1, blocked=True))),
    }
    for reason, bins in reasons.items():
        here = [b for b in bins.values() if b.bin_id.startswith("L0")]
        assert {(b.status, b.reason) for b in here} == {(BinStatus.UNSEEN, reason)}
        # What stood in the way was seen, the bin was not.
        assert {b.observed_at for b in here} == {""}
        assert {b.reason for b in bins.values() if b.bin_id.startswith("R")} == {"skipped"}


def test_a_capture_whose_pictures_could_not_be_used_is_a_matter_of_sensors() -> None:
    blind = replace(
        scan(PLAN.viewpoints[0], 10, 1), observations=(), coverage=(), tags=(), checks=(), fronts=(), warnings=("low: black",)
    )
    here = [b for b in bins_after(STARTED, scan_event(blind)).values() if b.bin_id.startswith("L0")]
    assert {(b.status, b.reason) for b in here} == {(BinStatus.UNSEEN, "sensor")}
    # Another capture of the same place made it good.
    again = scan(PLAN.viewpoints[0], 20, 3)
    whole = replace(again, coverage=tuple(replace(c, seen=FULL) for c in again.coverage))
    assert all(
        b.status is not BinStatus.UNSEEN
        for b in bins_after(STARTED, scan_event(blind), scan_event(whole)).values()
        if b.bin_id.startswith("L0")
    )


def test_every_picture_named_is_one_a_scan_brought() -> None:
    s = scan(PLAN.viewpoints[0], 10**18, 4)
    taken = {f"evidence/{c.evidence}" for c in s.coverage}
    bins = bins_after(STARTED, scan_event(s))
    named = {e for b in bins.values() for e in b.evidence}
    assert named and named <= taken
    assert {b.observed_at for b in bins.values() if b.evidence} == {"2001-09-09T01:46:40.000Z"}


def test_aisles_the_plan_leaves_out_were_skipped_but_what_cannot_be_reached_was_not() -> None:
    beyond = next(b for b, p in STORE.places.items() if p.bay_id == "R-B1")
    some = replace(PLAN, viewpoints=PLAN.viewpoints[:2], unreachable_bins=(beyond,))
    bins = bins_after(Event("mission.started", "mission.started/m", 1, {"mission_id": "m", "plan": some.to_json()}))
    assert bins[beyond].reason == "out_of_view"
    assert {b.reason for b in bins.values() if STORE.places[b.bin_id].bay_id == "R-B0"} == {"skipped"}


LENGTH_M = 1.8
MIRROR = {
    b: next(q.bin_id for q in STORE.places.values() if q.shelf_id[-1] == p.shelf_id[-1] and q.gondola_id == p.gondola_id
            and abs(q.x0_m - (LENGTH_M - p.x1_m)) < 1e-6)
    for b, p in STORE.places.items()
}  # fmt: skip


def mirrored(s: BayScan) -> BayScan:
    """The same capture in a mirror: left is right."""

    def flip(p: tuple[float, float, float]) -> tuple[float, float, float]:
        return (LENGTH_M - p[0], p[1], p[2])

    return replace(
        s,
        observations=tuple(replace(o, face_m=flip(o.face_m)) for o in s.observations),
        tags=(),
        checks=tuple(replace(c, bin_id=MIRROR[c.bin_id], column=2 - c.column) for c in s.checks),
        coverage=tuple(replace(c, bin_id=MIRROR[c.bin_id]) for c in s.coverage if c.seen in (0, FULL)),
        fronts=(),
    )


def as_planned(s: BayScan) -> BayScan:
    """The capture without what has a left and a right side, of goods that look like what is planned where they stand."""
    seen = []
    for o in s.observations:
        here = [p for p in STORE.places_of(o.gondola_id) if p.x0_m <= o.face_m[0] < p.x1_m and p.z0_m < o.face_m[2] < p.z1_m]
        seen += [replace(o, candidates=(Candidate(PLANOGRAM[p.bin_id].sku, 0.9),)) for p in here]
    coverage = tuple(c for c in s.coverage if c.seen in (0, FULL))
    return replace(s, observations=tuple(seen), tags=(), fronts=(), coverage=coverage)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_mirrored_aisle_gives_mirrored_results(seed: int) -> None:
    plain = [as_planned(scan(v, 10 + n, seed + n)) for n, v in enumerate(PLAN.viewpoints)]
    here = {b.bin_id: b for b in bins_after(STARTED, *map(scan_event, plain)).values()}
    mirror_plan = {MIRROR[b]: replace(line, bin_id=MIRROR[b]) for b, line in PLANOGRAM.items()}
    other = StockProjector(STORE, CATALOGUE, mirror_plan, mission_id="m")
    for event in (STARTED, *(scan_event(mirrored(s)) for s in plain)):
        other.add_event(event)
    there = {b.bin_id: b for b in other.stock_map(0).bins}
    for b, state in here.items():
        twin = there[MIRROR[b]]
        same = ("sku", "status", "facings", "units", "units_low", "units_high", "misplaced")
        assert [getattr(state, k) for k in same] == [getattr(twin, k) for k in same]


def hanging(face: str, up_m: float) -> BayScan:
    """One capture of a face that measured its first shelf so much above where the layout has it."""
    s = scan(next(v for v in PLAN.viewpoints if v.gondola_id == face), 1, 5)
    shelf = f"{face}-B0-S0"
    align = Alignment(face, 0.4, 0.0, 0.0, 0.0, 0.01, 0.005, 0.001, ((shelf, up_m),))
    return replace(s, alignments=(align,), coverage=tuple(replace(c, seen=FULL) for c in s.coverage))


def test_a_shelf_is_surer_to_hang_elsewhere_the_further_it_does_and_the_nearer_to_a_cameras_height() -> None:
    def sure(up_m: float, eye_z_m: float) -> float | None:
        p = projector()
        p.add_event(STARTED)
        s = hanging("L", up_m)
        p.add_event(scan_event(replace(s, fronts=tuple(replace(f, eye_z_m=eye_z_m) for f in s.fronts))))
        return next((f.confidence for f in p.stock_map(2).findings if f.type == "layout_drift"), None)

    assert sure(0.014, 0.3) is None and sure(-0.014, 0.3) is None
    near = [sure(up, 0.3) for up in (0.016, 0.018, 0.025, -0.025)]
    far = [sure(up, 1.0) for up in (0.016, 0.018, 0.025)]
    assert near[0] < near[1] < near[2] and near[2] == near[3] and near[2] > 0.99  # type: ignore[operator]
    assert all(f < n for f, n in zip(far, near, strict=False)) and far[0] < 0.7  # type: ignore[operator]
    assert 0.5 <= far[0] < far[1] < far[2]  # type: ignore[operator]


def test_a_bin_that_something_hides_before_the_shelf_is_unseen_and_not_empty() -> None:
    def state(depth_mm: int) -> BinState:
        viewpoint = PLAN.viewpoints[0]
        s = scan(viewpoint, 1, 3)
        depth = np.full((60, 90), 440, np.int16)
        depth[15:25, 0:10] = depth_mm
        grids = tuple(replace(f, depth_mm=depth) for f in s.fronts)
        seen = tuple(replace(c, seen=FULL, blocked=0) for c in s.coverage)
        p = projector()
        p.add_event(STARTED)
        p.add_event(scan_event(replace(s, fronts=grids, coverage=seen, observations=(), checks=(), tags=())))
        return {b.bin_id: b for b in p.stock_map(2).bins}["L000"]

    hidden = state(5)
    assert hidden.status == BinStatus.UNSEEN and hidden.reason == "occluded" and not hidden.findings
    assert state(440).status == BinStatus.OUT_OF_STOCK
    assert state(14).status != BinStatus.UNSEEN


def test_behind_what_stood_in_the_way_of_every_look_nothing_is_called_empty() -> None:
    """A plain thing is made out in part: the other cells look free. One look past it will do."""

    def state(*blocked: int) -> BinState:
        p = projector()
        p.add_event(STARTED)
        for n, mask in enumerate(blocked):
            s = scan(PLAN.viewpoints[n], 1, 3)
            grids = tuple(replace(f, depth_mm=np.full((60, 90), 440, np.int16)) for f in s.fronts)
            first = s.coverage[0]
            cover = (replace(first, bin_id="L000", seen=FULL & ~mask, blocked=mask),)
            p.add_event(scan_event(replace(s, fronts=grids, coverage=cover, observations=(), checks=(), tags=())))
        return {b.bin_id: b for b in p.stock_map(2).bins}["L000"]

    left, right = 0b111, 0b111 << 60
    assert state(left, right).status == BinStatus.UNSEEN and state(left, right).reason == "occluded"
    assert state(left, 0).status == BinStatus.OUT_OF_STOCK and state(0).status == BinStatus.OUT_OF_STOCK
