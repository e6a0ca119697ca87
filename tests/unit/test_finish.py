"""A finished run's files: what was not seen is never a number in any of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from fakes.webrun import WebRun

from shelfscan.bootstrap import make_projector
from shelfscan.cli.finish import finish_run
from shelfscan.config import Config
from shelfscan.evaluation.epcis_check import problems
from shelfscan.mission.machine import KINDS, project


@pytest.fixture
def night(tmp_path: Path) -> WebRun:
    """A run in which every stop was made and one bin was hidden."""
    run = WebRun(tmp_path)
    run.begin()
    for n in range(len(run.plan.viewpoints)):
        run.visit(n)
    run.end()
    finish_run(
        run.bundle,
        Config(),
        run.dir,
        run.ledger,
        make_projector(run.bundle, run.mission_id),
        progress=project(run.ledger.read(kinds=KINDS), run.mission_id),
        now_ns=1_790_001_000_000_000_000,
        seconds=1.0,
        mode="direct",
    )
    run.ledger.close()
    return run


def test_an_unseen_bin_has_no_units_anywhere(night: WebRun) -> None:
    states = {b["bin_id"]: b for b in json.loads((night.dir / "stock_map.json").read_text())["bins"]}
    assert states[night.hidden]["status"] == "UNSEEN" and states[night.empty]["status"] == "OUT_OF_STOCK"
    assert states[night.hidden]["units_high"] > 0

    with (night.dir / "exceptions.csv").open(newline="") as f:
        rows = {(r["bin_id"], r["type"]): r for r in csv.DictReader(f)}
    assert rows[night.hidden, "unseen"]["units"] == ""
    assert rows[night.empty, "out_of_stock"]["units"] == "0.0"
    assert (night.hidden, "out_of_stock") not in rows

    features = json.loads((night.dir / "stock_map.geojson").read_text())["features"]
    said = {f["id"]: f["properties"] for f in features}
    assert said[night.hidden]["units"] is None and said[night.hidden]["facings"] is None
    assert said[night.empty]["units"] == 0

    told = json.loads((night.dir / "counts.epcis.json").read_text())
    assert problems(told) == []
    events = told["epcisBody"]["eventList"]
    counted = {e["readPoint"]["id"].rsplit(":", 1)[1] for e in events}
    assert night.hidden not in counted and night.empty in counted

    report = json.loads((night.dir / "report.json").read_text())
    assert [e["units"] for e in report["exceptions"] if e["type"] == "unseen"] == [None]
    assert "something stood in front of it" in (night.dir / "report.html").read_text()


def test_every_picture_that_is_named_is_there(night: WebRun) -> None:
    bins = json.loads((night.dir / "stock_map.json").read_text())["bins"]
    named = [e for b in bins for e in b["evidence"]]
    assert named and all((night.dir / e).is_file() for e in named)
