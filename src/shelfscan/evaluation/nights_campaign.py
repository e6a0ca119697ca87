"""Nights in which the robot meets everything: whether each bin ends up counted, or unseen for the true reason.

The mission's own machine and runner drive through the navigator's port over a real ledger file; cameras and shelves are left
out: a capture at a viewpoint shows what the plan's geometry says it shows. So a night takes a moment, and the ledger, the
resumes and the reasons are those of a real one. Faults are seeded, 1 to 6 a night, each with a time and how long it lasts:

======================  =============================================================================================
``blocked``             a disc on the floor: drives that end in it fail
``person``              a drive near it takes a minute longer
``silent``              the navigation server never answers: a drive ends when its time is up
``lost``                localisation is lost: drives fail, captures are refused
``estop``               somebody pressed the emergency stop
``battery``             the battery runs down
``no_dock``             docking fails the first times
``camera``              the cameras are silent: captures fail
``blur``                captures come out blurred: they fail, and the next may not
``slow``                perception takes minutes for a scan
``lost_scan``           a capture's scan never comes
``kill``                the process dies, between any two steps or around any write, and a new one resumes
``hours``               the allowed hours end
``clock``               the clock jumps
======================  =============================================================================================
"""

from __future__ import annotations

import math
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from shelfscan.adapters.ledger_sqlite import SqliteLedger
from shelfscan.evaluation.faulty_wms import Killed
from shelfscan.mission.machine import KINDS, Rules, fold, project
from shelfscan.mission.plan import plan_mission
from shelfscan.mission.runner import CaptureOutcome, Limits, MissionRunner
from shelfscan.model.catalogue import Product
from shelfscan.model.geometry import Pose2D
from shelfscan.model.grid import OccupancyGrid
from shelfscan.model.mission import MissionPlan
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.robot import RobotModel
from shelfscan.model.scan import BayScan, BinCoverage
from shelfscan.model.stock import BinStatus
from shelfscan.model.store import Aisle, Bay, Bin, Gondola, Shelf, Store
from shelfscan.model.viewing import seen_cells
from shelfscan.paths import default_robot_file
from shelfscan.ports import Event, Ledger, NavResult
from shelfscan.robotfile import read_robot
from shelfscan.stock.project import StockProjector

#: What must not happen; `coverage_reachable` must be high beside.
WRONG = ("double_counts", "lost_events", "unended", "wrong_reasons", "blocked_once")
NS = 1_000_000_000
T0 = 1_893_456_000 * NS
SPEED_MPS, CAPTURE_S, SCAN_S = 0.7, 2.0, 4.0
KINDS_OF_FAULT = (
    *("blocked", "person", "silent", "lost", "estop", "battery", "no_dock"),
    *("camera", "blur", "slow", "lost_scan", "kill", "kill", "hours", "clock"),
)
#: Reasons that a place may truly be unseen for, by what happened there.
BLOCKED, SENSOR, TIME, SKIPPED = "blocked", "sensor", "time", "skipped"


@dataclass(frozen=True)
class Fault:
    """What, from when (seconds of the night) and for how long; ``at_m`` where, ``count`` how often."""

    kind: str
    at_s: float
    for_s: float
    at_m: tuple[float, float] = (0.0, 0.0)
    count: int = 1

    def on(self, now_s: float) -> bool:
        """Whether it is on."""
        return self.at_s <= now_s < self.at_s + self.for_s


@dataclass(frozen=True)
class Place:
    """A store to spend nights in."""

    store: Store
    robot: RobotModel
    plan: MissionPlan
    shows: dict[str, tuple[BinCoverage, ...]]
    reachable: frozenset[str]


@cache
def place_of(number: int) -> Place:
    """One of a few generated stores: its plan, and what each viewpoint shows by geometry."""
    rng = random.Random(number)
    robot = read_robot(default_robot_file())
    aisles = []
    for a in range(1 + number % 2):
        bays = rng.randint(1, 3)
        gondolas = []
        for side, (y, yaw) in enumerate(((4.0 * a + 1.0, 0.0), (4.0 * a - 1.0, math.pi))):
            made = tuple(
                Bay(
                    f"A{a}-{side}-B{b}",
                    1.2 * b,
                    1.2,
                    tuple(
                        Shelf(
                            f"A{a}-{side}-B{b}-S{s}",
                            0.2 + 0.4 * s,
                            0.33,
                            0.45,
                            tuple(Bin(f"A{a}-{side}-B{b}-S{s}-{n}", 0.4 * n, 0.4) for n in range(3)),
                        )
                        for s in range(3)
                    ),
                )
                for b in range(bays)
            )
            pose = Pose2D(0.0, y, yaw) if side == 0 else Pose2D(1.2 * bays, y, yaw)
            gondolas.append(Gondola(f"A{a}-{side}", pose, 0.5, 1.8, made))
        aisles.append(Aisle(f"A{a}", tuple(gondolas)))
    store = Store(f"night-{number}", tuple(aisles))
    grid = OccupancyGrid(np.zeros((200, 240), np.int8), 0.05, (-3.0, -3.0))
    plan = plan_mission(store, robot, grid, mission_id="m")
    shows: dict[str, tuple[BinCoverage, ...]] = {}
    union: dict[str, int] = {}
    for v in plan.viewpoints:
        gondola = next(g for _, g in store.gondolas() if g.gondola_id == v.gondola_id)
        places = store.places_of(gondola.gondola_id)
        T = np.linalg.inv(gondola.face.matrix()) @ v.pose.matrix()
        cells = seen_cells(robot, T, places)
        told = []
        for p, c in zip(places, cells, strict=True):
            bits = sum(1 << int(i) for i in np.flatnonzero(c.ravel()))
            if bits:
                told.append(BinCoverage(p.bin_id, bits, 0))
                union[p.bin_id] = union.get(p.bin_id, 0) | bits
        shows[v.viewpoint_id] = tuple(told)
    full = frozenset(b for b, bits in union.items() if bits.bit_count() == 128)
    return Place(store, robot, plan, shows, full)


def faults_of(rng: random.Random, place: Place) -> list[Fault]:
    """One to six faults, somewhere in the hour or so that a night takes."""
    length_s = 12.0 * len(place.plan.viewpoints) + 30
    out = []
    for _ in range(rng.randint(1, 6)):
        kind = rng.choice(KINDS_OF_FAULT)
        at_s = rng.uniform(0, length_s)
        for_s = rng.choice((rng.uniform(10, 120), rng.uniform(60, length_s), 1e6)) if kind != "hours" else 1e6
        if kind in ("estop", "silent", "lost"):
            for_s = min(for_s, 900.0)  # somebody comes in the end
        pose = rng.choice(place.plan.viewpoints).pose
        out.append(Fault(kind, at_s, for_s, (pose.x_m, pose.y_m), rng.randint(1, 3)))
    return out


@dataclass
class World:
    """The night outside the software: time, robot, faults, and which writes were acknowledged."""

    place: Place
    rng: random.Random
    faults: list[Fault]
    now_ns: int = T0
    shift_ns: int = 0
    pose: Pose2D = field(default_factory=lambda: Pose2D(-1.0, 0.0, 0.0))
    battery: float = 1.0
    docked: bool = True
    drained: set[int] = field(default_factory=set)
    used: Counter[int] = field(default_factory=Counter)
    acknowledged: set[str] = field(default_factory=set)
    tried: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    dying: bool = True
    meanwhile: Callable[[], None] = lambda: None

    @property
    def elapsed_s(self) -> float:
        """Seconds of the night."""
        return (self.now_ns - T0) / NS

    def clock(self) -> int:
        """The computer's clock, which may jump."""
        for n, f in enumerate(self.faults):
            if f.kind == "clock" and f.on(self.elapsed_s) and not self.used[n]:
                self.used[n] += 1
                self.shift_ns += int(self.rng.choice((-3600, -30, 45, 600))) * NS
        return self.now_ns + self.shift_ns

    def on(self, kind: str) -> bool:
        """Whether a fault of a kind is on now."""
        return any(f.kind == kind and f.on(self.elapsed_s) for f in self.faults)

    def spend(self, kind: str) -> bool:
        """Whether a fault that happens a few times happens now."""
        for n, f in enumerate(self.faults):
            if f.kind == kind and f.on(self.elapsed_s) and self.used[n] < f.count:
                self.used[n] += 1
                return True
        return False

    def wait(self, seconds: float) -> None:
        """Time goes on, at least a little; the battery runs down or up, and scans arrive."""
        left = max(seconds, 0.5)
        while left > 0:
            self._pass(min(left, 2.0))
            left -= 2.0
            self.meanwhile()

    def _pass(self, seconds: float) -> None:
        self.now_ns += int(seconds * NS)
        self.battery = min(1.0, self.battery + seconds / 1800) if self.docked else self.battery - seconds / 40000
        for n, f in enumerate(self.faults):
            if f.kind == "battery" and f.on(self.elapsed_s) and n not in self.drained and not self.docked:
                self.drained.add(n)
                self.battery = min(self.battery, 0.1)

    def maybe_die(self) -> None:
        """The process may die here."""
        if self.dying and self.on("kill") and self.rng.random() < 0.08 and self.kills < 12:
            self.kills += 1
            raise Killed


class WorldNavigator:
    """Nav2 as the night has it."""

    def __init__(self, world: World, limits: Limits) -> None:
        self._w, self._limits = world, limits

    def go_to(self, pose: Pose2D, timeout_s: float) -> NavResult:
        """See `Navigator`."""
        w = self._w
        w.maybe_die()
        if w.on("estop"):
            w.wait(2.0)
            return NavResult(False, w.pose, 9000, "emergency stop")
        if w.on("silent"):
            w.wait(timeout_s)
            return NavResult(False, w.pose, 9003, "no answer")
        if w.on("lost"):
            w.wait(5.0)
            return NavResult(False, w.pose, 9002, "localisation lost")
        seconds = math.hypot(pose.x_m - w.pose.x_m, pose.y_m - w.pose.y_m) / SPEED_MPS + 2.0
        if any(_near(f, pose, 0.5) and f.on(w.elapsed_s) for f in w.faults if f.kind == "person"):
            seconds += 60.0
        w.wait(min(seconds, timeout_s))
        w.maybe_die()
        if seconds > timeout_s:
            return NavResult(False, w.pose, 9003, "timeout")
        if any(_near(f, pose, 0.4) and f.on(w.elapsed_s) for f in w.faults if f.kind == "blocked"):
            return NavResult(False, w.pose, 9004, "blocked")
        w.pose, w.docked = pose, False
        return NavResult(True, pose)

    def undock(self, timeout_s: float) -> NavResult:
        """See `Navigator`."""
        self._w.wait(3.0)
        self._w.docked = False
        return NavResult(True, self._w.pose)

    def dock(self, timeout_s: float) -> NavResult:
        """See `Navigator`."""
        self._w.wait(20.0)
        if self._w.spend("no_dock"):
            return NavResult(False, self._w.pose, 901, "dock not found")
        self._w.docked = True
        return NavResult(True, self._w.pose)

    def stop(self) -> None:
        """See `Navigator`."""


class WatchedLedger:
    """The ledger of a process that may die around a write; what it acknowledged is kept in mind."""

    def __init__(self, inner: Ledger, world: World) -> None:
        self._inner, self._w = inner, world

    def append(self, events: Any) -> int:
        """See `Ledger`."""
        self._w.maybe_die()
        last = self._inner.append(events)
        self._w.acknowledged |= {e.key for e in events}
        self._w.maybe_die()
        return last

    def read(self, after: int = 0, kinds: Any = None) -> Any:
        """See `Ledger`."""
        return self._inner.read(after, kinds)

    def close(self) -> None:
        """Nothing: the next process opens the same one."""


class Cameras:
    """Captures, and the scans that come of them a while later."""

    def __init__(self, world: World, ledger: WatchedLedger) -> None:
        self._w, self._ledger = world, ledger
        self._coming: list[tuple[int, str, str]] = []
        self._number = 0

    def capture(self, mission_id: str, viewpoint_id: str) -> CaptureOutcome:
        """See `MissionRunner`."""
        w = self._w
        w.maybe_die()
        w.wait(CAPTURE_S)
        w.tried[viewpoint_id] += 1
        if w.on("lost"):
            return CaptureOutcome(False, reason="sensor: localisation lost")
        if w.on("camera"):
            return CaptureOutcome(False, reason="sensor: the cameras are silent")
        if w.spend("blur"):
            return CaptureOutcome(False, reason="sensor: blurred")
        self._number += 1
        capture_id = f"{viewpoint_id}-{w.now_ns}-{self._number}"
        delay_s = 150.0 if w.on("slow") else SCAN_S
        if not w.spend("lost_scan"):
            self._coming.append((w.now_ns + int(delay_s * NS), viewpoint_id, capture_id))
        return CaptureOutcome(True, capture_id)

    def arrive(self) -> None:
        """Scans that are ready go into the ledger."""
        due = [c for c in self._coming if c[0] <= self._w.now_ns]
        for c in due:
            _, viewpoint_id, capture_id = c
            stamp = self._w.now_ns
            bays = tuple(sorted({self._w.place.store.places[s.bin_id].bay_id for s in self._w.place.shows[viewpoint_id]}))
            scan = BayScan("m", viewpoint_id, capture_id, stamp, bays, (), (), self._w.place.shows[viewpoint_id])
            self._ledger.append([Event("bay_scan", f"bay_scan/m/{capture_id}", stamp, scan.to_json())])
            self._coming.remove(c)


def _near(fault: Fault, pose: Pose2D, radius_m: float) -> bool:
    return math.hypot(fault.at_m[0] - pose.x_m, fault.at_m[1] - pose.y_m) < radius_m


def night(seed: int, ledger: Ledger, runner: Callable[..., Any] = MissionRunner) -> dict[str, float]:
    """Spend one night; what went wrong, and what happened. ``runner``: what drives, for a look at the checks themselves."""
    rng = random.Random(seed)
    place = place_of(rng.randrange(4))
    world = World(place, rng, faults_of(rng, place))
    limits = Limits(drive_s=60.0, dock_s=60.0, poll_s=1.0, charge_poll_s=30.0)
    # One capture in flight, as without ROS: whatever dies, no more than that one is taken again.
    rules = Rules(max_pending=1, scan_timeout_s=200.0)
    hours = [f for f in world.faults if f.kind == "hours"]
    until_ns = min((T0 + int(f.at_s * NS) for f in hours), default=None)
    ended = _live(world, ledger, limits, rules, until_ns, runner)
    return _check(world, ledger, ended, until_ns is not None, rules)


def _live(world: World, ledger: Ledger, limits: Limits, rules: Rules, until_ns: int | None, runner: Callable[..., Any]) -> bool:
    resume = False
    for _ in range(60):
        watched = WatchedLedger(ledger, world)
        cameras = Cameras(world, watched)
        world.meanwhile = cameras.arrive

        def wait(seconds: float) -> None:
            world.wait(seconds)
            world.maybe_die()

        drive = runner(
            world.place.plan,
            watched,
            WorldNavigator(world, limits),
            cameras.capture,
            clock=world.clock,
            wait=wait,
            rules=rules,
            limits=limits,
            battery=lambda: world.battery,
            stopped=lambda: world.on("estop"),
            until_ns=until_ns,
        )
        try:
            drive.run(resume=resume, by_itself=True)
            return True
        except Killed:
            started = project(ledger.read(kinds=KINDS), "m")
            resume = started is not None
            world.meanwhile = lambda: None
            world.wait(5.0)  # the supervisor starts a new process
            if started is not None and started.ended is not None:
                return True
    return False


def _check(world: World, ledger: Ledger, ended: bool, hours: bool, rules: Rules) -> dict[str, float]:
    stored = ledger.read()
    keys = [s.event.key for s in stored]
    progress = project(stored, "m")
    projector = StockProjector(world.place.store, _catalogue(world.place), _planogram(world.place), mission_id="m")
    for s in stored:
        projector.add_event(s.event)
    bins = projector.stock_map(0).bins
    done = progress.done if progress else frozenset()
    sees: dict[str, int] = {}
    for v in done:
        for c in world.place.shows[v]:
            sees[c.bin_id] = sees.get(c.bin_id, 0) | c.seen
    counted = {b.bin_id for b in bins if b.status is not BinStatus.UNSEEN}
    full = {b for b, bits in sees.items() if bits.bit_count() == 128}
    # What was captured in full must be counted, and nothing else.
    wrong = len(counted ^ full)
    wrong += sum(not _true_reason(b.bin_id, b.reason, world, progress) for b in bins if b.status is BinStatus.UNSEEN)
    again = _repeats(stored)
    tried_once = _blocked_once(stored, progress, rules)
    return {
        "reachable": len(world.place.reachable),
        "hindered": len(_hindered(world, progress)),
        "counted": len(counted & (world.place.reachable - _hindered(world, progress))),
        "double_counts": len(keys) - len(set(keys)),
        "lost_events": len(world.acknowledged - set(keys)),
        "repeated_viewpoints": again,
        "kills": world.kills,
        "unended": float(not (ended and progress is not None and progress.ended is not None)),
        "wrong_reasons": wrong,
        "blocked_once": tried_once,
        "faults": len(world.faults),
        "hours": float(hours),
    }


def _hindered(world: World, progress: Any) -> set[str]:
    """Bins that truly could not be had: some view of theirs was given up after all its tries, or the time was up."""
    if progress is None:
        return set(world.place.reachable)
    missing = {v.viewpoint_id for v in world.place.plan.viewpoints} - progress.done
    return {c.bin_id for v in missing for c in world.place.shows[v]} & world.place.reachable


def _true_reason(bin_id: str, reason: str, world: World, progress: Any) -> bool:
    """Whether a reason is one that this night gives for this bin, by what the world knows and not by what was written."""
    if bin_id not in world.place.reachable:
        return True
    views = [v for v, shows in world.place.shows.items() if any(c.bin_id == bin_id for c in shows)]
    missing = [v for v in views if v not in (progress.done if progress else ())]
    kinds = {f.kind for f in world.faults}
    possible = set()
    for v in missing:
        pose = next(x.pose for x in world.place.plan.viewpoints if x.viewpoint_id == v)
        if any(f.kind == "blocked" and _near(f, pose, 0.4) for f in world.faults) or kinds & {"silent", "lost", "person"}:
            possible.add(BLOCKED)
        if world.tried[v] and kinds & {"camera", "blur", "lost", "lost_scan", "slow", "clock"}:
            possible.add(SENSOR)
        if "hours" in kinds:
            possible.add(TIME)
        if kinds & {"no_dock", "battery"}:
            possible.add(SKIPPED)  # it could not charge, and stayed where it was
    return reason in possible


def _repeats(stored: Any) -> int:
    """Most viewpoints that were captured again because of one interruption: what was in flight, or was done and forgotten."""
    progress, most = None, 0
    lost: set[str] = set()
    again: set[str] = set()
    for s in stored:
        e = s.event
        if e.kind == "mission.resumed":
            most = max(most, len(again))
            lost, again = set(progress.pending) | set(progress.done) if progress is not None else set(), set()
        if e.kind == "viewpoint.captured" and str(e.payload["viewpoint_id"]) in lost:
            again.add(str(e.payload["viewpoint_id"]))
        progress = fold(progress, e, "m")
    return max(most, len(again))


def _blocked_once(stored: Any, progress: Any, rules: Rules) -> int:
    """Viewpoints given up for a drive that failed fewer times than the rules allow, in a night that had time for more."""
    if progress is None or progress.time_up or progress.cancelled or str(progress.ended) == "failed":
        return 0
    fails: Counter[str] = Counter()
    for s in stored:
        if s.event.kind == "mission.resumed":
            fails.clear()
        if s.event.kind == "viewpoint.failed" and s.event.payload["what"] == "drive":
            fails[str(s.event.payload["viewpoint_id"])] += 1
    missing = [v.viewpoint_id for v in progress.plan.viewpoints if v.viewpoint_id not in progress.done]
    return sum(0 < fails[v] < rules.max_drives and progress.captures.get(v, 0) < rules.max_captures for v in missing)


@cache
def _catalogue_of(name: str) -> dict[str, Product]:
    return {"P": Product("P", "4006381333931", "p", "b", "c", 0.1, 0.08, 0.2, 2.0)}


def _catalogue(place: Place) -> dict[str, Product]:
    return _catalogue_of(place.store.site)


def _planogram(place: Place) -> dict[str, PlanogramLine]:
    return {b: PlanogramLine(b, "P", 3, 1, 5) for b in place.store.places}


def campaign(
    runs: int,
    seed: int,
    report: Callable[[str, float], None] = lambda what, done: None,
    make_ledger: Callable[[int], Ledger] | None = None,
) -> dict[str, Any]:
    """``runs`` seeded nights; see `WRONG` for what must be nought. ``make_ledger``: other ledgers than files."""
    began = time.monotonic()
    total: Counter[str] = Counter()
    repeated = 0
    bad: list[int] = []
    with tempfile.TemporaryDirectory(prefix="shelfscan-nights-") as folder:
        for n in range(runs):
            path = Path(folder) / f"{n}.sqlite"
            ledger: Ledger = make_ledger(seed + n) if make_ledger else SqliteLedger(path, site="night")
            try:
                found = night(seed + n, ledger)
            finally:
                ledger.close()
                for left in Path(folder).glob(f"{n}.sqlite*"):
                    left.unlink()
            repeated = max(repeated, int(found.pop("repeated_viewpoints")))
            if any(found[k] for k in WRONG):
                bad.append(seed + n)
            total.update({k: int(v) for k, v in found.items()})
            report("running", (n + 1) / runs)
    had = total["reachable"] - total["hindered"]
    return {
        "runs": runs,
        "coverage_reachable": round(total["counted"] / had, 4) if had else None,
        **{k: total[k] for k in WRONG},
        "repeated_viewpoints_max": repeated,
        "faults": total["faults"],
        "kills": total["kills"],
        "bins_hindered": total["hindered"],
        "bad_seeds": bad[:20],
        "seconds": round(time.monotonic() - began, 1),
    }
