"""Ten kills of random processes in one night of the real graph; the full campaign is ``python -m benchmarks.kills``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shelfscan.paths import ROOT

pytestmark = [pytest.mark.ros, pytest.mark.long, pytest.mark.timeout(1500)]


def test_a_night_with_ten_kills_ends_whole(tmp_path: Path) -> None:
    store = tmp_path / "store"
    cli = [sys.executable, "-m", "shelfscan.cli.main"]
    subprocess.run(
        [*cli, "store", "build", "--size", "small", "--seed", "5", "--out", str(store)], check=True, capture_output=True
    )
    command = [sys.executable, "-m", "benchmarks.kills", "--store", str(store), "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, "--runs", "1", "--kills", "10", "--seed", "3"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout)
    assert summary["whole"] == 1 and summary["double_counts"] == 0
    assert summary["kills"] >= 8
