"""What holds across restarts: who resumed, what a person ordered, and a robot that is let go of in mid-drive."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from fakes.navigator import FakeNavigator

from shelfscan.adapters.ledger_sqlite import SqliteLedger
from shelfscan.mission import machine
from shelfscan.mission.machine import KINDS, Hold, Rules, Undock, next_step, project, unended
from shelfscan.mission.runner import CaptureOutcome, MissionRunner
from shelfscan.model.geometry import Pose2D
from shelfscan.model.mission import MissionPhase, MissionPlan, Viewpoint
from shelfscan.model.stock import StockMap
from shelfscan.ports import Event, NavResult, StoredEvent
from shelfscan.stock.follow import MapFollower

PLAN = MissionPlan("m1", "s", tuple(Viewpoint(f"V{n}", "G", "A", Pose2D(float(n), 0.0, 0.0), ("B",)) for n in range(3)))


def stored(*facts: tuple[str, dict[str, object]]) -> list[StoredEvent]:
    return [StoredEvent(n, Event(kind, str(n), n, {"mission_id": "m1", **p})) for n, (kind, p) in enumerate(facts, start=1)]


STARTED = ("mission.started", {"plan": PLAN.to_json()})


def test_the_open_mission_is_the_one_started_last_without_an_end() -> None:
    assert unended([]) == ""
    assert unended(stored(STARTED)) == "m1"
    ended = ("mission.ended", {"phase": "failed"})
    assert unended(stored(STARTED, ended)) == ""
    assert unended(stored(STARTED, ended, ("mission.resumed", {}))) == "m1"
    other = ("mission.started", {"plan": PLAN.to_json(), "mission_id": "m2"})
    assert unended(stored(STARTED, other)) == "m2"
    assert unended(stored(STARTED, other, ("mission.ended", {"phase": "done", "mission_id": "m2"}))) == "m1"


@pytest.mark.parametrize("order", ["mission.paused", "mission.cancelled"])
def test_a_persons_order_outlives_a_restart_but_not_a_persons_resume(order: str) -> None:
    restarted = project(stored(STARTED, (order, {}), ("mission.resumed", {"by_itself": True})), "m1")
    assert restarted is not None and (restarted.paused or restarted.cancelled)
    resumed = project(stored(STARTED, (order, {}), ("mission.resumed", {"by_itself": False})), "m1")
    assert resumed is not None and not (resumed.paused or resumed.cancelled)
    assert isinstance(next_step(resumed, Rules()), Undock)


def test_a_scan_that_fails_elsewhere_does_not_move_the_robot() -> None:
    facts = [
        STARTED,
        ("mission.undocked", {}),
        ("viewpoint.reached", {"viewpoint_id": "V0"}),
        ("viewpoint.captured", {"viewpoint_id": "V0", "capture_id": "c0"}),
        ("viewpoint.reached", {"viewpoint_id": "V1"}),
        ("viewpoint.failed", {"viewpoint_id": "V0", "what": "scan", "reason": "sensor: x"}),
    ]
    progress = project(stored(*facts), "m1")
    assert progress is not None and progress.at == "V1" and not progress.pending
    drive = ("viewpoint.failed", {"viewpoint_id": "V1", "what": "drive", "reason": "blocked"})
    progress = project(stored(*facts, drive), "m1")
    assert progress is not None and progress.at == ""


def test_slow_perception_has_lost_nothing_but_a_silent_one_has() -> None:
    second = 1_000_000_000
    captured = Event("viewpoint.captured", "c", 10 * second, {"mission_id": "m1", "viewpoint_id": "V0", "capture_id": "c0"})
    progress = machine.fold(project(stored(STARTED), "m1"), captured, "m1")
    assert progress is not None
    rules = Rules(scan_timeout_s=60.0)
    assert machine.overdue(progress, 69 * second, rules) == []
    assert machine.overdue(progress, 71 * second, rules) == ["V0"]
    begun = Event("scan.begun", "b", 50 * second, {"mission_id": "m1", "viewpoint_id": "V9", "capture_id": "c9"})
    working = machine.fold(progress, begun, "m1")
    assert working is not None
    assert machine.overdue(working, 109 * second, rules) == []
    assert machine.overdue(working, 111 * second, rules) == ["V0"]


class SlowNavigator(FakeNavigator):
    """Takes a minute for a drive, or until it is stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped, self.driving = threading.Event(), threading.Event()

    def go_to(self, pose: Pose2D, timeout_s: float) -> NavResult:
        self.driving.set()
        return NavResult(not self.stopped.wait(60.0), self.pose, 9000, "cancelled")

    def stop(self) -> None:
        super().stop()
        self.stopped.set()


def test_an_abandoned_mission_stays_open_and_blames_no_viewpoint(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", site="s")
    navigator = SlowNavigator()
    runner = MissionRunner(PLAN, ledger, navigator, lambda m, v: CaptureOutcome(False), clock=time.time_ns, wait=time.sleep)
    thread = threading.Thread(target=runner.run)
    thread.start()
    assert navigator.driving.wait(10.0)
    runner.abandon()
    thread.join(10.0)
    assert not thread.is_alive()
    events = ledger.read(kinds=KINDS)
    assert unended(events) == "m1"
    assert "viewpoint.failed" not in {s.event.kind for s in events}
    ledger.close()


class CountingProjector:
    """Stands in for the projection: what the follower hands it is what is tested."""

    def __init__(self, mission_id: str) -> None:
        self.mission_id, self.kinds = mission_id, list[str]()

    def add_event(self, event: Event) -> bool:
        self.kinds.append(event.kind)
        return event.payload.get("mission_id") == self.mission_id

    def stock_map(self, created_ns: int) -> StockMap:
        return StockMap("s", self.mission_id, str(created_ns), ())


def test_the_follower_takes_up_the_newest_mission_and_knows_its_end(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", site="s")
    follower = MapFollower(ledger, CountingProjector)  # type: ignore[arg-type]
    assert not follower.poll() and follower.stock_map(1) is None

    def add(kind: str, mission_id: str, stamp_ns: int, **payload: object) -> int:
        return ledger.append([Event(kind, f"{kind}/{mission_id}/{stamp_ns}", stamp_ns, {"mission_id": mission_id, **payload})])

    add("mission.started", "m1", 10, plan=PLAN.to_json())
    ended = add("mission.ended", "m1", 50, phase=str(MissionPhase.DONE))
    assert follower.poll() and not follower.poll()
    assert (follower.mission_id, follower.ended_seq) == ("m1", ended)
    newest = follower.stock_map(20)
    assert newest is not None and newest.created_at == "50"  # never older than what it shows
    add("mission.resumed", "m1", 60)
    follower.poll()
    assert follower.ended_seq == 0
    add("mission.started", "m2", 70, plan=PLAN.to_json())
    add("mission.ended", "m1", 80, phase=str(MissionPhase.DONE))
    follower.poll()
    assert (follower.mission_id, follower.ended_seq) == ("m2", 0)
    ledger.close()


def test_resuming_says_who_resumed(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", site="s")
    ledger.append([Event("mission.started", "k", 1, {"mission_id": "m1", "plan": PLAN.to_json()})])
    ledger.append([Event("mission.paused", "p", 2, {"mission_id": "m1"})])
    holding = threading.Event()

    def tell(progress: machine.Progress, phase: MissionPhase, text: str) -> None:
        if phase is MissionPhase.PAUSED:
            holding.set()

    runner = MissionRunner(
        PLAN,
        ledger,
        FakeNavigator(),
        lambda m, v: CaptureOutcome(False, reason="sensor: none"),
        clock=time.time_ns,
        wait=time.sleep,
        listener=tell,
    )
    thread = threading.Thread(target=lambda: runner.run(resume=True, by_itself=True))
    thread.start()
    assert holding.wait(10.0)
    progress = project(ledger.read(kinds=KINDS), "m1")
    assert progress is not None and isinstance(next_step(progress, Rules()), Hold) and progress.interruptions == 1
    runner.abandon()
    thread.join(10.0)
    assert not thread.is_alive()
    ledger.close()


class Clock:
    """Time that passes where somebody waits, and nowhere else."""

    def __init__(self) -> None:
        self.now_ns = time.time_ns()

    def __call__(self) -> int:
        return self.now_ns

    def wait(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


class ScanningCapture:
    """A capture whose scan is in the ledger at once."""

    def __init__(self, ledger: SqliteLedger) -> None:
        self._ledger = ledger

    def __call__(self, mission_id: str, viewpoint_id: str) -> CaptureOutcome:
        payload = {"mission_id": mission_id, "viewpoint_id": viewpoint_id, "capture_id": f"c-{viewpoint_id}"}
        self._ledger.append([Event("bay_scan", f"bay_scan/{mission_id}/c-{viewpoint_id}", 1, payload)])
        return CaptureOutcome(True, f"c-{viewpoint_id}")


def test_a_mission_resumed_on_the_dock_leaves_it_first(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", site="s")
    blocked = {2.0}
    navigator = FakeNavigator(lambda pose: pose.x_m not in blocked)
    clock = Clock()

    def runner() -> MissionRunner:
        return MissionRunner(PLAN, ledger, navigator, ScanningCapture(ledger), clock=clock, wait=clock.wait)

    evening = runner().run()
    assert evening.done == {"V0", "V1"} and navigator.docked
    blocked.clear()
    night = runner().run(resume=True)
    assert night.done == {"V0", "V1", "V2"} and night.ended is MissionPhase.DONE
    assert navigator.docked
    ledger.close()


class BusyDock(FakeNavigator):
    """A dock that is hit at the second try; people give orders while the robot drives there."""

    def __init__(self) -> None:
        super().__init__()
        self.runner: MissionRunner | None = None
        self.tries = 0
        self.paused: list[bool] = []

    def dock(self, timeout_s: float) -> NavResult:
        assert self.runner is not None
        self.tries += 1
        self.paused.append(self.runner.pause("now?"))
        self.runner.cancel("now?")
        return NavResult(False, self.pose, 9000, "missed") if self.tries == 1 else super().dock(timeout_s)


def test_the_way_home_is_cut_short_by_nobody(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", site="s")
    navigator = BusyDock()
    runner = MissionRunner(PLAN, ledger, navigator, ScanningCapture(ledger), clock=time.time_ns, wait=time.sleep)
    navigator.runner = runner
    progress = runner.run()
    assert progress.ended is MissionPhase.DONE and navigator.docked
    assert (navigator.tries, navigator.stops, navigator.paused) == (2, 0, [False, False])
    assert not {s.event.kind for s in ledger.read()} & {"mission.paused", "mission.cancelled"}
    ledger.close()


def test_a_pause_that_comes_just_before_a_drive_stops_it(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", site="s")
    navigator = FakeNavigator()
    held: list[int] = []

    def tell(progress: machine.Progress, phase: MissionPhase, text: str) -> None:
        if phase is MissionPhase.DRIVING and not held:
            assert runner.pause("stand still")
        elif phase is MissionPhase.PAUSED:
            held.append(len(navigator.visited))
            runner.resume()

    runner = MissionRunner(PLAN, ledger, navigator, ScanningCapture(ledger), clock=time.time_ns, wait=time.sleep, listener=tell)
    assert runner.run().ended is MissionPhase.DONE
    assert held[0] == 0
    ledger.close()
