"""Commands about runs: what was scanned, what is overdue, what is skipped; and the night as a picture."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.webrun import DEMO, START_NS, WebRun
from typer.testing import CliRunner

from shelfscan.bootstrap import make_projector
from shelfscan.cli.main import app
from shelfscan.cli.run import _bins_to_look_at_again
from shelfscan.errors import BadInput
from shelfscan.mission import machine
from shelfscan.mission.timeline import svg, timeline_of
from shelfscan.model.geometry import Pose2D
from shelfscan.model.mission import MissionPlan, Viewpoint
from shelfscan.ports import Event, StoredEvent

S = 1_000_000_000


def plan() -> MissionPlan:
    views = tuple(Viewpoint(f"{a}-V{n}", f"{a}-L", a, Pose2D(n, 0, 0), (f"{a}-B1",)) for a in ("A01", "A02") for n in range(2))
    return MissionPlan("m", "here", views)


def ledger(*events: tuple[str, float, dict[str, Any]]) -> list[StoredEvent]:
    rows = [("mission.started", 0.0, {"plan": plan().to_json()}), *events]
    return [
        StoredEvent(n, Event(kind, f"{n}", int(at * S), {"mission_id": "m", **more}))
        for n, (kind, at, more) in enumerate(rows, 1)
    ]


BAD_NIGHT = ledger(
    ("mission.undocked", 5, {}),
    ("viewpoint.reached", 20, {"viewpoint_id": "A01-V0"}),
    ("viewpoint.captured", 22, {"viewpoint_id": "A01-V0", "capture_id": "c0"}),
    ("viewpoint.failed", 60, {"viewpoint_id": "A01-V1", "what": "drive", "reason": "no way (code 9003) <&>"}),
    ("mission.resumed", 100, {}),
    ("mission.aisle_skipped", 101, {"aisle_id": "A01"}),
    ("viewpoint.reached", 120, {"viewpoint_id": "A02-V0"}),
    ("viewpoint.captured", 122, {"viewpoint_id": "A02-V0", "capture_id": "c1"}),
    ("mission.recharging", 123, {}),
    ("mission.recharged", 180, {}),
    ("mission.ended", 200, {"phase": "done", "message": "fine"}),
)


def test_the_time_of_a_night_goes_to_what_it_was_spent_on() -> None:
    t = timeline_of(BAD_NIGHT, "m")
    spent: dict[str, float] = {}
    for s in t.stretches:
        spent[s.what] = spent.get(s.what, 0) + (s.end_ns - s.begin_ns) / S
    assert spent == {
        "undocking": 5,
        "driving": 34,
        "capturing": 4,
        "driving in vain": 38,
        "nobody": 40,
        "charging": 57,
        "going home": 20,
    }
    assert t.aisles == ("A01", "A02") and t.ended == "done: fine"
    assert [f.text for f in t.flags][1:] == ["killed, goes on", "aisle skipped", "battery low"]
    root = ET.fromstring(svg(t))
    texts = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "A01" in texts and any("<&>" in str(x) for x in texts) and "m: done: fine" in texts
    assert "nothing happened" in svg(timeline_of(BAD_NIGHT, "other"))


def test_a_skipped_aisle_is_left_out_and_stays_so_over_a_restart() -> None:
    rules = machine.Rules()
    events = ledger(("mission.undocked", 1, {}), ("viewpoint.reached", 2, {"viewpoint_id": "A01-V0"}))
    progress = machine.project(events, "m")
    assert progress is not None and isinstance(machine.next_step(progress, rules), machine.Capture)
    skip = Event("mission.aisle_skipped", "k", 3 * S, {"mission_id": "m", "aisle_id": "A01"})
    progress = machine.fold(progress, skip, "m")
    assert progress is not None
    step = machine.next_step(progress, rules)
    assert isinstance(step, machine.DriveTo) and step.viewpoint.aisle_id == "A02"
    progress = machine.fold(progress, Event("mission.resumed", "r", 4 * S, {"mission_id": "m"}), "m")
    assert progress is not None and progress.skipped == {"A01"}
    both = machine.fold(progress, replace(skip, payload={"mission_id": "m", "aisle_id": "A02"}), "m")
    assert both is not None
    assert isinstance(machine.next_step(replace(both, undocked=True), rules), machine.Finish)


def call(*args: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(args))
    if isinstance(result.exception, BadInput):
        return 2, "\n".join(result.exception.problems)
    return result.exit_code, result.output


def test_list_and_show_of_a_folder_without_runs(tmp_path: Path) -> None:
    assert call("missions", "list", str(tmp_path))[0] == 0
    assert "no run folders" in call("missions", "list", str(tmp_path))[1]
    code, text = call("missions", "list", str(tmp_path / "none"))
    assert code == 2 and "not a folder" in text
    code, text = call("missions", "show", str(tmp_path))
    assert code == 2 and "not a run folder" in text
    code, text = call("missions", "pause", str(tmp_path))
    assert code == 2


def finished(root: Path, name: str, began: str, seen: int) -> WebRun:
    """A run with its stock map, of which the first so many viewpoints were scanned."""
    run = WebRun(root, name, created_at=began)
    run.begin()
    for n in range(seen):
        run.visit(n)
    run.end()
    projector = make_projector(run.bundle, run.mission_id)
    for stored in run.ledger.read():
        projector.add_event(stored.event)
    (run.dir / "stock_map.json").write_text(json.dumps(projector.stock_map(START_NS).to_json()))
    return run


def test_what_nobody_has_seen_for_too_long(tmp_path: Path) -> None:
    whole = finished(tmp_path, "one", "2026-09-20T03:00:00Z", 3)
    finished(tmp_path, "two", "2026-09-21T03:00:00Z", 1)
    args = ["overdue", str(tmp_path), "--store", str(DEMO), "--json", "--days"]
    code, text = call(*args, "100000")
    assert code == 0
    never = json.loads(text)
    assert never["runs"] == 2 and whole.hidden in {r["bin_id"] for r in never["overdue"]}
    assert all(r["age_days"] is None for r in never["overdue"])
    every = json.loads(call(*args, "0")[1])["overdue"]
    assert {r["bin_id"] for r in every} == set(whole.bins), "all of it is older than now"
    assert every[0]["age_days"] is None, "never seen comes first"
    rows = json.loads(call("missions", "list", str(tmp_path), "--json")[1])["missions"]
    assert [r["run"] for r in rows] == ["one", "two"]
    assert rows[0]["scanned"] > rows[1]["scanned"] == 1 and rows[0]["bins_counted"] > rows[1]["bins_counted"]
    shown = json.loads(call("missions", "show", str(tmp_path / "two"), "--json")[1])
    assert len(shown["missing"]) == shown["viewpoints"] - 1


def test_orders_to_a_run_that_is_over_are_refused(tmp_path: Path) -> None:
    run = finished(tmp_path, "one", "2026-09-20T03:00:00Z", 1)
    assert call("missions", "skip", str(run.dir), "--aisle", "A01")[0] == 2
    code, text = call("missions", "cancel", str(run.dir))
    assert code == 2 and "no run over ROS" in text


def test_an_aisle_that_is_skipped_stands_in_the_ledger_once(tmp_path: Path) -> None:
    run = WebRun(tmp_path, "going")
    run.begin()
    aisle = run.plan.viewpoints[0].aisle_id
    code, text = call("missions", "skip", str(run.dir), "--aisle", "A99")
    assert code == 2 and "no aisle 'A99'" in text
    for _ in range(2):
        assert call("missions", "skip", str(run.dir), "--aisle", aisle)[0] == 0
    events = list(run.ledger.read(kinds=("mission.aisle_skipped",)))
    assert [e.event.payload["aisle_id"] for e in events] == [aisle]


def test_rescan_asks_for_what_was_not_seen(tmp_path: Path) -> None:
    run = finished(tmp_path, "one", "2026-09-20T03:00:00Z", 3)
    bins = _bins_to_look_at_again(run.dir, run.bundle.store.site)
    assert run.hidden in bins and run.empty not in bins
    with pytest.raises(BadInput, match="not of 'other'"):
        _bins_to_look_at_again(run.dir, "other")
    out = str(tmp_path / "again")
    code, text = call("run", "--store", str(DEMO), "--out", out, "--direct", "--bin", "nothing")
    assert code == 2 and "no bin 'nothing'" in text and not Path(out).exists()
    code, text = call("run", "--store", str(DEMO), "--out", out, "--direct", "--resume", "--aisle", "A01")
    assert code == 2 and "--resume" in text


def test_the_history_of_findings_and_of_one_bin(tmp_path: Path) -> None:
    run = finished(tmp_path, "one", "2026-09-20T03:00:00Z", 3)
    data = json.loads((run.dir / "stock_map.json").read_text())
    for name, day in (("two", 25), ("three", 26)):
        other = tmp_path / name
        other.mkdir()
        (other / "run.json").write_text((run.dir / "run.json").read_text().replace("2026-09-20", f"2026-09-{day}"))
        later = {**data, "mission_id": f"m-{name}", "created_at": f"2026-09-{day}T05:00:00.000Z"}
        for b in later["bins"]:
            b["observed_at"] = f"2026-09-{day}T04:00:00.000Z" if b["observed_at"] else ""
        (other / "stock_map.json").write_text(json.dumps(later))
    folder, store = str(tmp_path), str(DEMO)
    found = json.loads(call("history", folder, "--store", store, "--json")[1])
    assert found["nights"] == 3
    assert {f["state"] for f in found["findings"]} == {"still there"} and {f["nights"] for f in found["findings"]} == {3}
    looks = json.loads(call("history", folder, "--store", store, "--bin", run.empty, "--json")[1])
    assert [n["status"] for n in looks["nights"]] == ["OUT_OF_STOCK"] * 3 and looks["now"]["looks"] == 3
    never = json.loads(call("history", folder, "--store", store, "--bin", run.hidden, "--json")[1])
    assert never["now"]["age_h"] is None and never["nights"][0]["units"] is None
    code, text = call("history", folder, "--store", store, "--bin", "nowhere")
    assert code == 2 and "no bin 'nowhere'" in text
    (tmp_path / "two" / "stock_map.json").write_text("{")
    fewer = CliRunner().invoke(app, ["history", folder, "--store", store, "--json"])
    assert fewer.exit_code == 0 and '"nights": 2' in fewer.output, "a broken night is left out, the rest is used"

    code, text = call("forecast", folder, "--store", store, "--opening", "20-8")
    assert code == 2 and "full hours such as 8-20" in text
    table = tmp_path / "forecast.csv"
    code, text = call("forecast", folder, "--store", store, "--csv", str(table))
    assert code == 0 and table.read_text().startswith("sku,units,sold_a_day,early,likely,late,unseen")


def test_a_single_night_is_no_forecast(tmp_path: Path) -> None:
    finished(tmp_path, "one", "2026-09-20T03:00:00Z", 1)
    code, text = call("forecast", str(tmp_path), "--store", str(DEMO))
    assert code == 2 and "two at least" in text
    code, text = call("health", "learn", str(tmp_path), "--store", str(DEMO), "--out", str(tmp_path / "h.json"))
    assert code == 2 and "three at least" in text and not (tmp_path / "h.json").exists()
    code, text = call("health", "show", str(tmp_path / "one"))
    assert code == 2 and "too few captures" in text
