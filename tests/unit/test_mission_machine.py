"""The mission machine: every night ends, whatever fails, and nothing is looked at more often than the rules say."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from fakes.ledger import MemoryLedger
from fakes.navigator import FakeNavigator
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfscan.errors import LedgerError
from shelfscan.mission import machine
from shelfscan.mission.machine import Rules
from shelfscan.mission.runner import CaptureOutcome, MissionRunner
from shelfscan.model.geometry import Pose2D
from shelfscan.model.mission import MissionPhase, MissionPlan, Viewpoint
from shelfscan.ports import Event


def plan(count: int) -> MissionPlan:
    return MissionPlan(
        "m1", "site", tuple(Viewpoint(f"V{i}", "A01-L", "A01", Pose2D(float(i), 0.0, 0.0), ("B1",)) for i in range(count))
    )


class Night:
    """A world in which drives, captures and scans fail at random, and a clock that only waiting moves."""

    def __init__(self, count: int, seed: int, p_fail: float) -> None:
        self.rng = random.Random(seed)
        self.p_fail = p_fail
        self.now_ns = 0
        self.captures: dict[str, int] = {}
        self.kill_after: int | None = None
        self.ledger = MemoryLedger()
        self.navigator = FakeNavigator(lambda pose: self.rng.random() >= p_fail)
        self.plan = plan(count)
        self.steps = 0

    def clock(self) -> int:
        self.now_ns += 1_000_000
        return self.now_ns

    def wait(self, seconds: float) -> None:
        self.now_ns += int(max(seconds, 1.0) * 1e9)

    def capture(self, mission_id: str, viewpoint_id: str) -> CaptureOutcome:
        self.steps += 1
        if self.kill_after is not None and self.steps >= self.kill_after:
            raise KeyboardInterrupt
        self.captures[viewpoint_id] = self.captures.get(viewpoint_id, 0) + 1
        if self.rng.random() < self.p_fail:
            return CaptureOutcome(False, reason="sensor: no pictures for 5 s")
        capture_id = f"{viewpoint_id}/{self.steps}"
        if self.rng.random() >= self.p_fail:
            payload = {"mission_id": mission_id, "viewpoint_id": viewpoint_id, "capture_id": capture_id}
            self.ledger.append([Event("bay_scan", f"bay_scan/{capture_id}", self.now_ns, payload)])
        return CaptureOutcome(True, capture_id)

    def runner(
        self, second: Callable[[MissionPlan], Sequence[Viewpoint]] | None = None, until_ns: int | None = None
    ) -> MissionRunner:
        """With ``second`` it takes second looks."""
        return MissionRunner(
            self.plan,
            self.ledger,
            self.navigator,
            self.capture,
            clock=self.clock,
            wait=self.wait,
            rules=Rules(scan_timeout_s=5, second_looks=second is not None),
            until_ns=until_ns,
            second=second or (lambda plan: ()),
        )


def test_a_good_night_visits_each_viewpoint_once_in_order() -> None:
    night = Night(5, 0, 0.0)
    progress = night.runner().run()
    assert progress.ended is MissionPhase.DONE
    assert night.captures == {f"V{i}": 1 for i in range(5)}
    assert [p.x_m for p in night.navigator.visited] == [0, 1, 2, 3, 4]
    assert night.navigator.docked


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(0, 10_000), st.floats(0.0, 0.95))
def test_every_night_ends_and_says_what_is_missing(count: int, seed: int, p_fail: float) -> None:
    night = Night(count, seed, p_fail)
    progress = night.runner().run()
    assert progress.ended in (MissionPhase.DONE, MissionPhase.FAILED)
    for v in night.plan.viewpoints:
        vid = v.viewpoint_id
        assert night.captures.get(vid, 0) <= Rules().max_captures
        assert vid in progress.done or vid in progress.failures
    assert (progress.ended is MissionPhase.FAILED) == (not progress.done)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 8), st.integers(0, 1000), st.integers(1, 6))
def test_killed_at_any_capture_a_resumed_mission_repeats_at_most_one_viewpoint(count: int, seed: int, kill_after: int) -> None:
    night = Night(count, seed, 0.0)
    night.kill_after = min(kill_after, count)
    with pytest.raises(KeyboardInterrupt):
        night.runner().run()
    night.kill_after = None
    progress = night.runner().run(resume=True)
    assert progress.ended is MissionPhase.DONE
    assert progress.done == {v.viewpoint_id for v in night.plan.viewpoints}
    assert sum(night.captures.values()) <= count + 1


def test_a_viewpoint_that_was_blocked_is_tried_again_after_the_others() -> None:
    night = Night(3, 0, 0.0)
    blocked = {0.0: 1}

    def free(pose: Pose2D) -> bool:
        left = blocked.get(pose.x_m, 0)
        blocked[pose.x_m] = left - 1
        return left <= 0

    night.navigator = FakeNavigator(free)
    progress = night.runner().run()
    assert len(progress.done) == 3
    assert [p.x_m for p in night.navigator.visited] == [1, 2, 0]


def test_pause_and_cancel_are_obeyed_between_steps() -> None:
    night = Night(4, 0, 0.0)
    runner = night.runner()
    original = night.capture

    def capture(mission_id: str, viewpoint_id: str) -> CaptureOutcome:
        outcome = original(mission_id, viewpoint_id)
        if viewpoint_id == "V1":
            runner.cancel("closing time")
        return outcome

    runner._capture = capture  # a person presses cancel while V1 is captured
    progress = runner.run()
    assert progress.ended is MissionPhase.CANCELLED
    assert progress.done == {"V0", "V1"}


def test_a_mission_starts_once_and_only_a_known_one_resumes() -> None:
    night = Night(1, 0, 0.0)
    with pytest.raises(LedgerError, match="knows no mission"):
        night.runner().run(resume=True)
    night.runner().run()
    with pytest.raises(LedgerError, match="already"):
        night.runner().run()


def test_events_of_other_missions_change_nothing() -> None:
    night = Night(2, 0, 0.0)
    night.runner().run()
    events = night.ledger.read()
    before = machine.project(events, "m1")
    stray = Event("viewpoint.failed", "x", 1, {"mission_id": "m2", "viewpoint_id": "V0", "what": "drive", "reason": "?"})
    assert machine.fold(before, stray, "m1") == before


def test_a_place_that_was_blocked_is_left_alone_for_a_while_and_longer_each_time() -> None:
    rules = machine.Rules(max_drives=3, retry_after_s=30)
    views = tuple(Viewpoint(f"V{n}", "G", "A", Pose2D(n, 0, 0), ("B",)) for n in range(2))
    body = {"mission_id": "m", "plan": MissionPlan("m", "s", views).to_json()}
    progress = machine.fold(None, Event("mission.started", "s", 0, body), "m")

    def after(kind: str, at_s: float, **more: str) -> None:
        nonlocal progress
        progress = machine.fold(progress, Event(kind, f"{kind}{at_s}", int(at_s * 1e9), {"mission_id": "m", **more}), "m")

    def step(at_s: float) -> machine.Step:
        assert progress is not None
        return machine.next_step(progress, rules, int(at_s * 1e9))

    after("mission.undocked", 1)
    after("viewpoint.failed", 2, viewpoint_id="V0", what="drive", reason="blocked")
    assert step(2.1) == machine.DriveTo(views[1]), "what was not tried yet comes first"
    after("viewpoint.failed", 3, viewpoint_id="V1", what="drive", reason="blocked")
    assert step(31.9) == machine.WaitForWay()
    assert step(32.1) == machine.DriveTo(views[0])
    after("viewpoint.failed", 33, viewpoint_id="V0", what="drive", reason="blocked")
    assert step(34) == machine.DriveTo(views[1])
    after("viewpoint.failed", 35, viewpoint_id="V1", what="drive", reason="blocked")
    assert step(92) == machine.WaitForWay() and step(94) == machine.DriveTo(views[0])
    assert step(1) == machine.DriveTo(views[0]), "a clock that was set back makes nobody wait"
    assert machine.next_step(progress, rules) == machine.DriveTo(views[0])  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(0, 3), st.integers(0, 10_000), st.floats(0.0, 0.8), st.integers(1, 12))
def test_second_looks_are_asked_for_twice_and_survive_a_kill(
    count: int, more: int, seed: int, p_fail: float, kill_after: int
) -> None:
    """After the tour, and only then, and once more after them; a mission that goes on after a kill knows them, and asks for no
    others."""
    night = Night(count, seed, p_fail)
    asked: list[MissionPlan] = []

    def second(done: MissionPlan) -> list[Viewpoint]:
        asked.append(done)
        return [replace(v, viewpoint_id=f"{v.viewpoint_id}-{'ab'[len(asked) - 1]}") for v in night.plan.viewpoints[:more]]

    night.kill_after = kill_after
    try:
        progress = night.runner(second).run()
    except KeyboardInterrupt:
        night.kill_after = None
        progress = night.runner(second).run(resume=True)
    assert progress.ended is not None and len(asked) == (min(1 + more, 2) if progress.done else 0)
    wanted = {v.viewpoint_id for v in night.plan.viewpoints}
    if progress.done:
        assert [v.viewpoint_id for v in asked[0].viewpoints] == [v.viewpoint_id for v in night.plan.viewpoints]
        wanted |= {f"V{i}-{a}" for i in range(min(more, count)) for a in "ab"}
    assert {v.viewpoint_id for v in progress.plan.viewpoints} == wanted
    assert all(v in progress.done or v in progress.failures for v in wanted)


def test_a_mission_whose_time_is_up_takes_no_second_looks() -> None:
    night = Night(3, 0, 0.0)
    runner = night.runner(lambda done: [replace(done.viewpoints[0], viewpoint_id="V0-a")], until_ns=1)
    progress = runner.run()
    assert progress.ended is MissionPhase.DONE and not progress.extended
