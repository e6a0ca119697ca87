"""A direct run with processes beside it gives what it gives alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

STORE = Path(__file__).parents[2] / "maps" / "demo"
BIN = "A01-L-B01-S1-01"


def shelfscan(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "shelfscan.cli.main", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)


def bins(run: Path) -> list[tuple[str, str, int]]:
    found = json.loads((run / "stock_map.json").read_text())["bins"]
    return [(b["bin_id"], b["status"], b["facings"]) for b in found]


def test_workers_change_no_result(tmp_path: Path) -> None:
    for workers in (0, 1):
        done = shelfscan(
            "run", "--direct", "--store", STORE, "--out", tmp_path / f"w{workers}", "--bin", BIN, "--workers", workers
        )
        assert done.returncode == 0, done.stderr
    alone = bins(tmp_path / "w0")
    assert any(b == BIN and status != "UNSEEN" for b, status, _ in alone)
    assert bins(tmp_path / "w1") == alone


def test_workers_belong_to_direct_runs(tmp_path: Path) -> None:
    done = shelfscan("run", "--store", STORE, "--out", tmp_path / "run", "--workers", 2)
    assert done.returncode != 0 and "--direct" in done.stderr
    assert not (tmp_path / "run").exists()
