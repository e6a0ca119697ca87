"""A simulated store whose goods are damaged, fallen and turned, rendered and scanned in one process."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def shelfscan(*args: object) -> None:
    command = [sys.executable, "-m", "shelfscan.cli.main", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_what_lies_or_shows_another_side_is_told(tmp_path: Path) -> None:
    """Floors well below what is usual; false alarms hardly any."""
    store, run = tmp_path / "store", tmp_path / "run"
    shares = ("--damaged", 0.15, "--fallen", 0.5, "--turned", 0.12)
    shelfscan("store", "build", "--seed", 31, "--size", "tiny", *shares, "--out", store)
    shelfscan("run", "--direct", "--store", store, "--out", run)
    with (store / "truth" / "findings.csv").open() as f:
        true = {(r["bin_id"], r["type"]) for r in csv.DictReader(f)}
    findings = json.loads((run / "stock_map.json").read_text())["findings"]
    said = {(f["bin_id"], f["type"]) for f in findings}
    for kind, least in (("fallen", 3), ("turned", 2), ("damaged", 0)):
        told = {s for s in said if s[1] == kind}
        assert len(told & true) >= least, kind
        assert len(told - true) <= 2, kind
    for f in findings:
        assert f["evidence"] and (run / f["evidence"]).stat().st_size > 500, f["finding_id"]
