"""A run whose ledger is on a PostgreSQL server, from the first command to the last, as a user would."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import postgres
from fakes.postgres import PASSWORD, Cluster

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "maps" / "demo"
pytestmark = pytest.mark.long
ENV = {**os.environ, "SHELFSCAN_LEDGER_PASSWORD": PASSWORD}


def shelfscan(*args: object, code: int = 0, env: dict[str, str] = ENV) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "shelfscan.cli.main", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT, env=env)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with postgres.running() as found:
        yield found


@pytest.fixture(scope="module")
def config(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "shelfscan.yaml"
    path.write_text(f"ledger:\n  url: {cluster.database()}\n  wait_s: 2\n")
    return path


@pytest.fixture(scope="module")
def run(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("server") / "run"
    shelfscan("run", "--direct", "--store", DEMO, "--out", out, "--config", config)
    return out


def asked(url: str) -> Any:
    ends = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.3)


def test_every_command_finds_it_again(run: Path, config: Path, tmp_path: Path) -> None:
    assert (run / "ledger.json").is_file() and not list(run.glob("ledger.sqlite*"))
    assert json.loads(shelfscan("score", run, "--truth", DEMO / "truth", "--json").stdout)["coverage"] == 1.0
    assert json.loads(shelfscan("missions", "show", run, "--json").stdout)["state"] == "done"
    assert shelfscan("missions", "list", run.parent).stdout.count("done") == 1
    shelfscan("history", run.parent, "--store", DEMO)
    synced = json.loads(shelfscan("sync", run, "--json").stdout)
    assert synced["state"] == "done"
    shelfscan("review", "list", run)
    shelfscan("losses", run.parent)
    assert json.loads(shelfscan("health", "show", run, "--json").stdout)["sick"] == []
    again = tmp_path / "again"
    shelfscan("replay", run, "--stored", "--store", DEMO, "--out", again)
    assert (again / "ledger.sqlite").is_file(), "another run, by the configuration of its own"
    assert shelfscan("doctor", "--config", config).stdout.count("1 runs") == 1
    for file in (f for f in run.rglob("*") if f.is_file()):
        assert PASSWORD.encode() not in file.read_bytes(), file


def test_the_dashboard_follows_it(run: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [sys.executable, "-m", "shelfscan.cli.main", "serve", str(run), "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        mission = asked(f"http://127.0.0.1:{port}/api/mission")
        assert mission["phase"] == "done" and mission["viewpoints_done"] > 0, mission
    finally:
        process.terminate()
        process.wait(30)


def test_nothing_is_begun_where_it_cannot_be_kept(run: Path, config: Path, tmp_path: Path, cluster: Cluster) -> None:
    bare = {k: v for k, v in ENV.items() if k != "SHELFSCAN_LEDGER_PASSWORD"}
    args = ("run", "--direct", "--store", DEMO, "--out", tmp_path / "no", "--config", config)
    assert "SHELFSCAN_LEDGER_PASSWORD is not set" in shelfscan(*args, code=2, env=bare).stderr
    wrong = {**ENV, "SHELFSCAN_LEDGER_PASSWORD": "wrong-One"}
    refused = shelfscan(*args, code=2, env=wrong)
    assert "does not let us in" in refused.stderr and "wrong-One" not in refused.stderr
    assert "does not let us in" in shelfscan("doctor", "--config", config, code=1, env=wrong).stdout
    cluster.stop("fast")
    try:
        assert "no server there" in shelfscan(*args, code=2).stderr
        assert "no server there" in shelfscan("sync", run, code=1).stderr
    finally:
        cluster.start()
    assert not (tmp_path / "no").exists()
