"""Every ledger passes this: all or none, once, only ever longer, whoever dies."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes import postgres
from fakes.ledger import MemoryLedger

from shelfscan.adapters.ledger_place import LedgerPlace, find_ledger, keep_place
from shelfscan.adapters.ledger_postgres import PostgresLedger
from shelfscan.adapters.ledger_sqlite import SqliteLedger
from shelfscan.errors import LedgerError
from shelfscan.ports import Event, Ledger, StoredEvent

#: Appends pairs of events for ever and says each pair that was acknowledged.
WRITER = """
import sys
from pathlib import Path
from shelfscan.adapters.ledger_place import find_ledger
from shelfscan.ports import Event
name, count = sys.argv[2], int(sys.argv[3])
ledger = find_ledger(Path(sys.argv[1]), site="s")
for n in range(count):
    ledger.append([Event("a", f"{name}/{n}/a", n, {"n": n}), Event("b", f"{name}/{n}/b", n, {"n": n})])
    print(n, flush=True)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[postgres.Cluster]:
    with postgres.running() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder whose ledger several processes can open."""
    if request.param == "postgresql":
        server = request.getfixturevalue("cluster").database()
        monkeypatch.setenv("SHELFSCAN_LEDGER_PASSWORD", postgres.PASSWORD)
        keep_place(tmp_path, LedgerPlace.new(str(server), "env:SHELFSCAN_LEDGER_PASSWORD", "auto", None, 30.0))
    return tmp_path


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    made: Ledger
    if request.param == "sqlite":
        made = SqliteLedger(tmp_path / "ledger.sqlite", site="s")
    elif request.param == "postgresql":
        made = PostgresLedger(request.getfixturevalue("cluster").database(), "run", site="s")
    else:
        made = MemoryLedger()
    yield made
    made.close()


def stored(run: Path) -> list[StoredEvent]:
    ledger = find_ledger(run)
    try:
        return ledger.read()
    finally:
        ledger.close()


def event(key: str, kind: str = "k", **payload: object) -> Event:
    return Event(kind, key, 7, payload)


def test_in_order_and_filtered(ledger: Ledger) -> None:
    last = ledger.append([event("1", "a", x=[1, {"y": None}]), event("2", "b"), event("3", "a")])
    got = ledger.read()
    assert [s.event.key for s in got] == ["1", "2", "3"] and got[-1].seq == last
    assert got[0].event == event("1", "a", x=[1, {"y": None}])
    assert [s.event.key for s in ledger.read(kinds=("a",))] == ["1", "3"]
    assert [s.event.key for s in ledger.read(after=got[0].seq, kinds=("a",))] == ["3"]
    assert ledger.read(kinds=()) == [] and ledger.read(after=last) == []


def test_a_key_happens_once(ledger: Ledger) -> None:
    ledger.append([event("1", n=1)])
    ledger.append([event("1", n=2), event("2", n=2)])
    assert [(s.event.key, s.event.payload["n"]) for s in ledger.read()] == [("1", 1), ("2", 2)]


def test_all_or_none(ledger: Ledger) -> None:
    with pytest.raises(TypeError):
        ledger.append([event("1"), event("2", bad=object())])
    assert ledger.read() == []


def test_closed_is_an_error_of_its_own_kind(ledger: Ledger) -> None:
    ledger.close()
    with pytest.raises(LedgerError):
        ledger.append([event("1")])


def test_sqlite_is_append_only(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    SqliteLedger(path, site="s").append([event("1")])
    db = sqlite3.connect(path)
    for change in ("UPDATE events SET kind = 'x'", "DELETE FROM events"):
        with pytest.raises(sqlite3.DatabaseError, match="append-only"):
            db.execute(change)
    db.close()
    assert [s.event for s in SqliteLedger(path).read()] == [event("1")]


def test_another_stores_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    SqliteLedger(path, site="s").append([event("1")])
    with pytest.raises(LedgerError, match="holds events of store 's'"):
        SqliteLedger(path, site="other")
    assert SqliteLedger(path).site == "s"


def test_what_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no such ledger"):
        SqliteLedger(tmp_path / "absent.sqlite")
    (tmp_path / "bad.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(LedgerError, match="not a usable ledger"):
        SqliteLedger(tmp_path / "bad.sqlite", site="s")


@pytest.fixture
def writer(run: Path) -> Callable[[str, int], subprocess.Popen[str]]:
    def start(name: str, count: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WRITER, str(run), name, str(count)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    return start


def test_many_processes_that_make_the_ledger_together(run: Path, writer: Callable[[str, int], subprocess.Popen[str]]) -> None:
    several = [writer(f"p{n}", 1) for n in range(5)]
    for process in several:
        process.communicate(timeout=60)
    assert [process.returncode for process in several] == [0] * 5
    assert len(stored(run)) == 10


def test_two_processes_at_once(run: Path, writer: Callable[[str, int], subprocess.Popen[str]]) -> None:
    both = [writer("p", 40), writer("q", 40)]
    for process in both:
        process.communicate(timeout=60)
        assert process.returncode == 0
    got = stored(run)
    assert {s.event.key for s in got} == {f"{p}/{n}/{k}" for p in "pq" for n in range(40) for k in "ab"}
    assert len(got) == 160 and [s.seq for s in got] == sorted({s.seq for s in got})


def test_kill_9_loses_nothing_acknowledged(run: Path, writer: Callable[[str, int], subprocess.Popen[str]]) -> None:
    acknowledged: set[tuple[str, int]] = set()
    for round_ in range(3):
        process = writer(f"r{round_}", 100_000)
        assert process.stdout is not None
        for _ in range(5 + 7 * round_):
            acknowledged.add((f"r{round_}", int(process.stdout.readline())))
        time.sleep(0.003 * round_)
        os.kill(process.pid, signal.SIGKILL)
        rest, _ = process.communicate(timeout=30)
        acknowledged |= {(f"r{round_}", int(n)) for n in rest.split("\n")[:-1]}
    keys = {s.event.key for s in stored(run)}
    assert {f"{r}/{n}/{k}" for r, n in acknowledged for k in "ab"} <= keys
    # Never half a pair.
    assert {k[:-2] for k in keys if k.endswith("/a")} == {k[:-2] for k in keys if k.endswith("/b")}
