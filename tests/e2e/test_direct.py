"""The committed demo store, scanned in one process, as a user would: run, score, look at the folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
