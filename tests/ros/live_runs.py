"""Runs of the demo store over ROS as the processes they are, for tests: started, watched, and killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shelfscan.adapters.ledger_place import find_ledger
from shelfscan.errors import LedgerError
from shelfscan.ports import Event

ROOT = Path(__file__).resolve().parents[2]
STORE = ROOT / "maps" / "demo"
RUN_S = 150.0


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}


@dataclass
class Run:
    """A ``shelfscan run`` that is going on."""

    process: subprocess.Popen[str]
    run_dir: Path

    def events(self, *kinds: str) -> list[Event]:
        """What the ledger holds by now."""
        try:
            ledger = find_ledger(self.run_dir, wait_s=0)
        except LedgerError:
            return []
        try:
            return [s.event for s in ledger.read(kinds=kinds or None)]
        finally:
            ledger.close()

    def wait_for(self, what: str, condition: Callable[[], Any], timeout_s: float = RUN_S) -> Any:
        """Wait until something holds; fails when the run ends before, or takes too long."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            assert self.process.poll() is None, f"the run ended before {what}: {self.said()}"
            time.sleep(0.05)
        raise AssertionError(f"no {what} within {timeout_s:.0f} s: {self.said()}")

    def node_pid(self, name: str) -> int:
        """Process id of a node of this very run, 0 when it is not there."""
        for path in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
                command = (path / "cmdline").read_bytes().split(b"\0")
            except (OSError, IndexError):
                continue
            if parent == self.process.pid and f"shelfscan.ros.{name}".encode() in command:
                return int(path.name)
        return 0

    def kill_node(self, name: str) -> int:
        """SIGKILL a node; returns its process id."""
        pid = self.wait_for(f"node {name}", lambda: self.node_pid(name), 30.0)
        os.kill(pid, signal.SIGKILL)
        return int(pid)

    def finish(self, timeout_s: float = RUN_S) -> int:
        """Wait for the end; the exit status."""
        return self.process.wait(timeout=timeout_s)

    def said(self) -> str:
        """The end of what the run printed, progress included."""
        return (self.run_dir.parent / f"{self.run_dir.name}.txt").read_text()[-2000:]


@contextmanager
def scan(run_dir: Path, domain_id: int, *options: str, config: str = "") -> Iterator[Run]:
    """A run of the demo store, stopped at the end of the block if it still goes on. ``config``: more of it, as YAML."""
    settings = run_dir.parent / f"{run_dir.name}.yaml"
    if not settings.exists():
        settings.write_text(f"ros: {{domain_id: {domain_id}, record: false}}\nsim: {{real_time_factor: 10}}\n{config}")
    command = [sys.executable, "-m", "shelfscan.cli.main", "run", "--store", str(STORE), "--out", str(run_dir)]
    with (run_dir.parent / f"{run_dir.name}.txt").open("w") as output:
        process = subprocess.Popen(
            [*command, "--config", str(settings), *options], env=environment(), stdout=output, stderr=output, text=True
        )
    try:
        yield Run(process, run_dir)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=30.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def check_complete(run_dir: Path) -> dict[str, Any]:
    """Every reachable bin was counted, and nothing twice; returns the report."""
    from shelfscan.sim.score import score_run

    report: dict[str, Any] = json.loads((run_dir / "report.json").read_text())
    assert report["mission"]["phase"] == "done"
    assert report["mission"]["scanned"] == report["mission"]["viewpoints"] > 0
    score = score_run(run_dir, STORE / "truth")
    assert score["bins_counted"] == score["bins_reachable"] > 0
    assert score["coverage"] == 1.0
    assert score["duplicates"] == 0 and score["unknown_bins"] == 0
    ledger = find_ledger(run_dir)
    scans = [s.event.payload["capture_id"] for s in ledger.read(kinds=("bay_scan",))]
    ledger.close()
    assert len(scans) == len(set(scans))
    return report
