"""Nights in which everything goes wrong: the mission comes through them, and the checks see one that does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shelfscan.adapters.ledger_sqlite import SqliteLedger
from shelfscan.evaluation.nights_campaign import WRONG, campaign, night
from shelfscan.mission import machine
from shelfscan.mission.machine import Finish, Recharge, next_step, project
from shelfscan.mission.runner import MissionRunner
from shelfscan.model.mission import MissionPhase
from shelfscan.ports import Event, StoredEvent


def test_forty_nights_leave_no_silent_gap() -> None:
    result = campaign(40, 7000)
    assert {k: result[k] for k in WRONG} == dict.fromkeys(WRONG, 0)
    assert result["coverage_reachable"] >= 0.995
    assert result["repeated_viewpoints_max"] <= 1
    assert result["faults"] > 80 and result["kills"] > 5, "faults and deaths must really have happened"


class GivesUpAtOnce(MissionRunner):
    """Takes the first failure for the last."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        plan = self._plan
        self._plan = type(plan)(plan.mission_id, plan.site, plan.viewpoints[:2], plan.unreachable_bins)


class StartsAnew(MissionRunner):
    """Forgets at each resume what was scanned."""

    def _refresh(self) -> machine.Progress:
        progress = super()._refresh()
        return progress if progress.interruptions == 0 else machine.replace(progress, done=frozenset())


class NeverEnds(MissionRunner):
    """Finishes without a word."""

    def _finish(self, progress: machine.Progress, step: machine.Finish) -> machine.Progress:
        return progress


@pytest.mark.parametrize(
    ("runner", "what"),
    [(GivesUpAtOnce, "wrong_reasons"), (StartsAnew, "repeated_viewpoints"), (NeverEnds, "unended")],
)
def test_the_checks_see_a_mission_that_does_wrong(runner: type[MissionRunner], what: str, tmp_path: Path) -> None:
    total = 0.0
    for seed in range(12):
        ledger = SqliteLedger(tmp_path / f"{seed}.sqlite", site="night")
        try:
            found = night(seed, ledger, runner)
        finally:
            ledger.close()
        total += found[what] > (1 if what == "repeated_viewpoints" else 0)
    assert total > 0


def progress_after(*facts: tuple[str, dict[str, object]]) -> machine.Progress:
    plan = {"mission_id": "m", "site": "s", "viewpoints": [], "unreachable_bins": []}
    view = {
        "viewpoint_id": "V1",
        "gondola_id": "G",
        "aisle_id": "A",
        "pose": {"x_m": 0, "y_m": 0, "yaw_rad": 0},
        "bay_ids": ["B"],
    }
    started = ("mission.started", {"plan": {**plan, "viewpoints": [view]}})
    events = [
        StoredEvent(n, Event(kind, str(n), n, {"mission_id": "m", **payload}))
        for n, (kind, payload) in enumerate((started, ("mission.undocked", {}), *facts), start=1)
    ]
    found = project(events, "m")
    assert found is not None
    return found


def test_a_low_battery_comes_before_the_next_viewpoint_and_charging_before_undocking() -> None:
    rules = machine.Rules()
    low = progress_after(("mission.recharging", {}))
    assert isinstance(next_step(low, rules), Recharge)
    charged = progress_after(("mission.recharging", {}), ("mission.recharged", {}))
    assert isinstance(next_step(charged, rules), machine.Undock)
    # Whoever starts anew after a kill goes on charging.
    again = progress_after(("mission.recharging", {}), ("mission.resumed", {"by_itself": True}))
    assert isinstance(next_step(again, rules), Recharge)


def test_when_the_time_is_up_it_goes_home_and_a_person_may_go_on() -> None:
    rules = machine.Rules()
    step = next_step(progress_after(("mission.time_up", {})), rules)
    assert isinstance(step, Finish) and step.phase is MissionPhase.DONE and "1 viewpoints are left" in step.message
    by_itself = progress_after(("mission.time_up", {}), ("mission.resumed", {"by_itself": True}))
    assert isinstance(next_step(by_itself, rules), Finish)
    by_a_person = progress_after(("mission.time_up", {}), ("mission.resumed", {"by_itself": False}))
    assert isinstance(next_step(by_a_person, rules), machine.DriveTo)
