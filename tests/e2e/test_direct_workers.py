"""A direct run with processes beside it gives what it gives alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shelfscan.adapters.ledger_sqlite import SqliteLedger
from shelfscan.errors import LedgerError

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


def scans(run: Path) -> list[str]:
    try:
        ledger = SqliteLedger(run / "ledger.sqlite")
    except LedgerError:
        return []
    try:
        return [str(s.event.payload["viewpoint_id"]) for s in ledger.read(kinds=["bay_scan"])]
    finally:
        ledger.close()


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers_of(pid: int) -> list[int]:
    """The processes that work on captures, and not what Python starts beside them."""
    return [c for c in children(pid) if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", ["worker", "run"])
def test_kill_9_of_a_worker_or_of_the_run_loses_nothing(tmp_path: Path, victim: str) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "shelfscan.cli.main", "run", "--direct", "--store", str(STORE), "--out", str(run)]
    begun = subprocess.Popen([*command, "--workers", "2"], stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 200
        while len(scans(run)) < 2 and time.monotonic() < until and begun.poll() is None:
            time.sleep(0.2)
        working = workers_of(begun.pid)
        assert len(working) == 2
        os.kill(working[0] if victim == "worker" else begun.pid, signal.SIGKILL)
        _, said = begun.communicate(timeout=120)
    finally:
        begun.kill()
        begun.wait()
    until = time.monotonic() + 20
    while any(Path(f"/proc/{p}").exists() for p in working) and time.monotonic() < until:
        time.sleep(0.1)
    assert not [p for p in working if Path(f"/proc/{p}").exists()], "a worker goes with its run"
    assert begun.returncode and (victim == "run" or "--resume" in said)
    kept = scans(run)
    again = subprocess.run([*command, "--workers", "2", "--resume"], capture_output=True, text=True, timeout=400, check=False)
    assert again.returncode == 0, again.stderr
    found = scans(run)
    assert found[: len(kept)] == kept and len(found) == len(set(found)), "nothing lost, nothing looked at twice for nothing"
    assert json.loads((run / "report.json").read_text())["mission"]["phase"] == "done"
