"""A run over ROS whose ledger is on a PostgreSQL server: killed, resumed, and used by every command afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import postgres
from fakes.postgres import PASSWORD, Cluster
from live_runs import STORE, check_complete, environment, scan

pytestmark = [pytest.mark.ros, pytest.mark.long, pytest.mark.timeout(600)]
NODES = ("sim", "capture", "mission", "perception", "stock", "wms_bridge")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("SHELFSCAN_LEDGER_PASSWORD", PASSWORD)
    with postgres.running() as found:
        yield found


def shelfscan(*args: object) -> str:
    command = [sys.executable, "-m", "shelfscan.cli.main", *map(str, args)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, (args, done.stdout, done.stderr)
    return done.stdout


def test_killed_and_resumed_while_the_server_restarts_nothing_is_lost(cluster: Cluster, tmp_path: Path) -> None:
    run_dir, server = tmp_path / "run", cluster.database()
    ros = "ros: {domain_id: 64, record: true}\nsim: {real_time_factor: 10}\ntags: {reader: none}\n"
    (tmp_path / "run.yaml").write_text(f"{ros}ledger: {{url: '{server}'}}\n")
    with scan(run_dir, 64) as run:
        run.wait_for("a scan", lambda: run.events("bay_scan"))
        cluster.stop()
        time.sleep(2)
        cluster.start()
        seen = len(run.events("bay_scan"))
        run.wait_for("more scans after the server's restart", lambda: len(run.events("bay_scan")) > seen)
        pids = [run.node_pid(n) for n in NODES]
        run.process.kill()
        run.process.wait()
    ends = time.monotonic() + 10
    while any(Path(f"/proc/{p}/cmdline").exists() and _alive(p) for p in pids if p) and time.monotonic() < ends:
        time.sleep(0.1)
    assert not (run_dir / "report.json").exists() and not list(run_dir.glob("ledger.sqlite*"))
    with scan(run_dir, 64, "--resume") as run:
        assert run.finish(300) == 0, run.said()
    report = check_complete(run_dir)
    assert report["mission"]["interruptions"] >= 1 and len(run.events("mission.started")) == 1

    assert json.loads(shelfscan("missions", "show", run_dir, "--json"))["state"] == "done"
    synced = json.loads(shelfscan("sync", run_dir, "--json"))
    assert synced["state"] == "done" and synced["lines"]
    shelfscan("store", "survey", run_dir, "--store", STORE, "--out", tmp_path / "proposal")
    assert (tmp_path / "proposal" / "review.csv").stat().st_size > 1000
    queued = json.loads(shelfscan("label", "queue", run_dir, "--out", tmp_path / "queue", "--count", 3, "--json"))
    assert len(queued["chosen"]) == 3
    assert cluster.sql("SELECT count(*) FROM shelfscan.runs", server.database) == [[1]]
    for file in (f for f in run_dir.rglob("*") if f.is_file()):
        assert PASSWORD.encode() not in file.read_bytes(), file


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
