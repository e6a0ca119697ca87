"""Counts that the warehouse system asks for, from the command line to the robot's plan and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shelfscan.adapters.ledger_sqlite import SqliteLedger
from shelfscan.bundle import load_bundle
from shelfscan.cli.main import app
from shelfscan.cli.tasks import Tasks, asked_for
from shelfscan.config import Config, load_config
from shelfscan.errors import BadInput, WmsTransient
from shelfscan.mission import machine

STORE = Path(__file__).resolve().parents[2] / "maps" / "demo"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(f"wms: {{name: builtin, path: {tmp_path / 'wms.sqlite'}}}\n")
    return path


def call(*args: object, fails: bool = False) -> Any:
    result = CliRunner().invoke(app, [str(a) for a in args])
    assert (result.exit_code != 0) == fails, (result.output, result.exception)
    return result


def test_asked_for_driven_to_and_answered(config: Path, tmp_path: Path) -> None:
    bundle = load_bundle(STORE)
    row = next(r for r in bundle.wms if r.scope == "shelf" and r.bin_id)
    call("tasks", "add", row.location_code, "--store", STORE, "--config", config, "--note", "till says none")
    (task,) = json.loads(call("tasks", "list", "--store", STORE, "--config", config, "--json").stdout)["tasks"]
    assert task["bins"] == [row.bin_id] and task["note"] == "till says none"

    first, only = asked_for(Tasks.FIRST, bundle, load_config(config))
    assert first.mission.first_aisles == [bundle.store.places[row.bin_id].aisle_id] and only == []

    run = tmp_path / "run"
    call("run", "--direct", "--store", STORE, "--out", run, "--config", config, "--tasks", "only", "--json")
    ledger = SqliteLedger(run / "ledger.sqlite")
    try:
        mission = json.loads((run / "run.json").read_text())["mission_id"]
        progress = machine.project(ledger.read(kinds=machine.KINDS), mission)
    finally:
        ledger.close()
    assert progress is not None and 0 < len(progress.plan.viewpoints) <= 3, "one bin takes one look, or one from each height"
    report = json.loads(call("sync", run, "--json").stdout)
    (answer,) = report["tasks"]
    (line,) = [x for x in report["lines"] if x["location_code"] == row.location_code]
    assert answer["state"] == ("closed" if line["outcome"] in ("equal", "posted") else "open"), (answer, line)


def test_no_system_no_tasks_no_store_place(config: Path, tmp_path: Path) -> None:
    bundle = load_bundle(STORE)
    with pytest.raises(BadInput, match=r"wms\.path"):
        asked_for(Tasks.FIRST, bundle, Config())
    with pytest.raises(BadInput, match="0 tasks are open"):
        asked_for(Tasks.ONLY, bundle, load_config(config))
    call("tasks", "add", "NOWHERE", "--store", STORE, "--config", config, fails=True)
    call("tasks", "add", "NOWHERE", "--store", STORE, "--config", config, "--due", "soon", fails=True)


def test_a_system_that_is_down_delays_no_night(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = load_bundle(STORE)
    config = load_config(None, {"wms.name": "builtin", "wms.path": str(tmp_path / "absent" / "wms.sqlite")})
    assert asked_for(Tasks.FIRST, bundle, config) == (config, [])
    with pytest.raises(WmsTransient):
        asked_for(Tasks.ONLY, bundle, config)
