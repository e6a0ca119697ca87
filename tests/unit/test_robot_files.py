"""The robots that ship with a file: it reads, and with it a store is seen in full."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from test_plan import made

from shelfscan.mission.coverage import coverage_of
from shelfscan.mission.plan import plan_in_full
from shelfscan.robotfile import read_robot

FILES = sorted((Path(__file__).resolve().parents[2] / "config" / "robots").glob("*.yaml"))


def test_there_are_two() -> None:
    assert len(FILES) >= 2


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_store_is_planned_to_be_seen_in_full(path: Path) -> None:
    store, demo, grid, _ = made("small", 1)
    robot = replace(read_robot(path), dock=demo.dock)
    coverage = coverage_of(plan_in_full(store, robot, grid, mission_id="m"), store, robot)
    assert coverage.covered == coverage.bins, coverage.missing
