"""The committed demo store, scanned in one process, as a user would: run, score, look at the folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shelfscan.adapters.ledger_sqlite import SqliteLedger
from shelfscan.ports import Event
from shelfscan.wms.rules import to_ns

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "maps" / "demo"


def shelfscan(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "shelfscan.cli.main", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("direct") / "run"
    done = shelfscan("run", "--direct", "--store", DEMO, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


def test_the_run_folder_is_complete(run: Path) -> None:
    names = {
        "report.json", "report.html", "stock_map.json", "observations.csv", "stock_map.geojson", "exceptions.csv",
        "counts.epcis.json", "config.yaml", "ledger.sqlite", "run.json",
    }  # fmt: skip
    assert names <= {p.name for p in run.iterdir()}
    stock_map = json.loads((run / "stock_map.json").read_text())
    assert stock_map["schema"] == 1
    for b in stock_map["bins"]:
        assert b["units_low"] <= b["units"] <= b["units_high"]
        assert 0.0 <= b["confidence"] <= 1.0
        assert b["evidence"], b["bin_id"]
        for picture in b["evidence"]:
            assert (run / picture).stat().st_size > 500


def test_its_score_holds(run: Path) -> None:
    """Floors well below what is usual, so that only a broken chain falls through."""
    done = shelfscan("score", run, "--truth", DEMO / "truth", "--json")
    assert done.returncode == 0, done.stderr
    s = json.loads(done.stdout)
    assert s["coverage"] == 1.0
    assert s["duplicates"] == 0
    assert s["bin_assignment_accuracy"] >= 0.95
    assert s["facings_exact"] >= 0.9
    assert s["tag_exact"] >= 0.95


def test_a_used_folder_is_refused_and_left_alone(run: Path) -> None:
    before = (run / "stock_map.json").read_bytes()
    done = shelfscan("run", "--direct", "--store", DEMO, "--out", run)
    assert done.returncode == 2
    assert str(run) in done.stderr
    assert (run / "stock_map.json").read_bytes() == before


def test_the_map_can_be_made_again_from_what_was_observed(run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    done = shelfscan("replay", run, "--stored", "--store", DEMO, "--out", again)
    assert done.returncode == 0, done.stderr
    assert (again / "observations.csv").read_bytes() == (run / "observations.csv").read_bytes()
    before, after = (json.loads((r / "stock_map.json").read_text())["bins"] for r in (run, again))
    assert before == after
    refused = shelfscan("replay", DEMO, "--stored", "--store", DEMO, "--out", tmp_path / "none")
    assert refused.returncode == 2 and "ledger.sqlite" in refused.stderr and not (tmp_path / "none").exists()


def test_a_night_that_goes_on_goes_on_later(run: Path, tmp_path: Path) -> None:
    """The simulated clock may be ahead of the wall's; what is seen after a restart must not look older than before."""
    again = tmp_path / "again"
    shutil.copytree(run, again)
    ledger = SqliteLedger(again / "ledger.sqlite")
    ahead_ns = time.time_ns() + 7200 * 10**9
    mission_id = json.loads((run / "run.json").read_text())["mission_id"]
    ledger.append([Event("scan.begun", "ahead", ahead_ns, {"mission_id": mission_id})])
    ledger.close()
    done = shelfscan("run", "--direct", "--store", DEMO, "--out", again, "--resume")
    assert done.returncode == 0, done.stderr
    created = to_ns(json.loads((again / "stock_map.json").read_text())["created_at"])
    assert created is not None and created >= ahead_ns - 10**9
    report = json.loads((again / "report.json").read_text())
    assert report["mission"]["interruptions"] == 1
    assert report["mission"]["scanned"] == report["mission"]["viewpoints"]


def test_what_stands_before_a_shelf_hides_it_and_empties_nothing(tmp_path: Path) -> None:
    """A plain trolley left in the aisle has no texture to match: what is behind it must not look like a bare opening."""
    store, out = tmp_path / "store", tmp_path / "run"
    shutil.copytree(DEMO, store)
    scene = json.loads((store / "truth" / "scene.json").read_text())
    # Before the middle of the only bay, 0.45 m before its front; the face is at y = 1.
    trolley = {"kind": "trolley", "x_m": 0.6, "y_m": 0.55, "z_m": 0.9, "half_x_m": 0.4, "half_y_m": 0.04, "half_z_m": 0.3}
    scene["boxes"].append({**trolley, "yaw_rad": 0.0, "rgb": [0.5, 0.3, 0.3]})
    (store / "truth" / "scene.json").write_text(json.dumps(scene))
    # People are not looked for: what is taken for one hides more than what is behind it (tests/e2e/test_privacy_run.py).
    config = tmp_path / "config.yaml"
    config.write_text("privacy: {blur: false}\n")
    done = shelfscan("run", "--direct", "--store", store, "--out", out, "--config", config)
    assert done.returncode == 0, done.stderr
    truth = (store / "truth" / "bins.csv").read_text().splitlines()[1:]
    empty = {row.split(",")[0] for row in truth if ",OUT_OF_STOCK," in row}
    bins = json.loads((out / "stock_map.json").read_text())["bins"]
    hidden = [b for b in bins if b["status"] == "UNSEEN"]
    assert hidden and {b["reason"] for b in hidden} == {"occluded"}
    assert {b["bin_id"] for b in bins if b["status"] == "OUT_OF_STOCK"} <= empty
    # It hides what is behind it, not the shelf.
    assert len(hidden) <= 6
    # It was looked at from elsewhere when all else was done, and from elsewhere again.
    ledger = SqliteLedger(out / "ledger.sqlite")
    rounds = [[str(v["viewpoint_id"]) for v in s.event.payload["viewpoints"]] for s in ledger.read(kinds=("mission.extended",))]
    scanned = [str(s.event.payload["viewpoint_id"]) for s in ledger.read(kinds=("bay_scan",))]
    ledger.close()
    second = [v for viewpoints in rounds for v in viewpoints]
    assert len(rounds) == 2 and rounds[0] and scanned[-len(second) :] == second
    mission = json.loads((out / "report.json").read_text())["mission"]
    assert mission["viewpoints"] == mission["scanned"] == len(scanned)
