"""What a ledger on a server must stand besides the contract: broken lines, a server that dies, two writers, bad settings."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import postgres
from fakes.postgres import PASSWORD, Cluster

from shelfscan.adapters import _postgres
from shelfscan.adapters._postgres import PostgresServer
from shelfscan.adapters.ledger_place import LedgerPlace, find_ledger, has_ledger, keep_place
from shelfscan.adapters.ledger_postgres import PostgresLedger, about
from shelfscan.bootstrap import check_ledger, open_ledger
from shelfscan.config import load_config
from shelfscan.errors import BadInput, LedgerError, WmsTransient
from shelfscan.ports import Event, Ledger

#: Appends pairs for ever, as the outbox's one writer, and says each pair that was acknowledged.
WRITER = """
import sys
from shelfscan.adapters._postgres import PostgresServer
from shelfscan.adapters.ledger_postgres import PostgresLedger
from shelfscan.ports import Event, Ledger
url, password, name, count = *sys.argv[1:4], int(sys.argv[4])
ledger = PostgresLedger(PostgresServer.of(url, password=password), "run", site="s", wait_s=60)
with ledger.writer("builtin"):
    for n in range(count):
        ledger.append([Event("a", f"{name}/{n}/a", n, {"n": n}), Event("b", f"{name}/{n}/b", n, {"n": n})])
        print(n, flush=True)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with postgres.running() as found:
        yield found


@pytest.fixture
def server(cluster: Cluster) -> PostgresServer:
    return cluster.database()


class Opened:
    """Ledgers that are closed after the test."""

    def __init__(self) -> None:
        self._all: list[Any] = []

    def __call__(self, *args: Any, **kwargs: Any) -> PostgresLedger:
        return self._kept(PostgresLedger(*args, **kwargs))

    def of(self, *args: Any) -> Ledger:
        return self._kept(open_ledger(*args))

    def again(self, run_dir: Path) -> Ledger:
        return self._kept(find_ledger(run_dir))

    def close(self) -> None:
        for ledger in self._all:
            ledger.close()

    def _kept(self, ledger: Any) -> Any:
        self._all.append(ledger)
        return ledger


@pytest.fixture
def opened() -> Iterator[Opened]:
    made = Opened()
    yield made
    made.close()


class Line:
    """A line to a server that is cut around an answer: before the server has the ``n``-th message from now, or after it."""

    def __init__(self, port: int) -> None:
        self._to, self.cut_after, self.before, self.cuts = port, -1, False, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._to))
            answers = threading.Event()
            passing = threading.Thread(target=self._pass, args=(near, far, answers), daemon=True)
            passing.start()
            threading.Thread(target=self._return, args=(far, near, answers, passing), daemon=True).start()

    def _pass(self, near: socket.socket, far: socket.socket, mute: threading.Event) -> None:
        try:
            while data := near.recv(65536):
                if self.cut_after == 0:
                    self.cut_after, self.cuts = -1, self.cuts + 1
                    mute.set()
                    if not self.before:
                        far.sendall(data)
                        time.sleep(0.2)  # the server does it, and its answer goes nowhere
                    break
                self.cut_after -= self.cut_after > 0
                far.sendall(data)
        except OSError:
            pass
        _shut(near, far)

    def _return(self, far: socket.socket, near: socket.socket, mute: threading.Event, passing: threading.Thread) -> None:
        try:
            while data := far.recv(65536):
                if not mute.is_set():
                    near.sendall(data)
        except OSError:
            pass
        _shut(near, far)
        passing.join()
        near.close()
        far.close()


def _shut(*sockets: socket.socket) -> None:
    for s in sockets:
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


@pytest.mark.parametrize("before", [True, False])
def test_a_line_cut_in_any_message_of_an_append(cluster: Cluster, server: PostgresServer, before: bool, opened: Opened) -> None:
    line = Line(cluster.port)
    try:
        ledger = opened(replace(server, port=line.port), "run", site="s", wait_s=20)
        line.before = before
        for n in range(40):
            cuts = line.cuts
            line.cut_after = n
            with ledger.writer("builtin"):
                last = ledger.append([Event("k", f"{n}/a", 1, {"n": n}), Event("k", f"{n}/b", 1, {"n": n})])
                got = ledger.read()
            assert got[-1].seq <= last
            assert [s.event.key for s in got] == [f"{m}/{x}" for m in range(n + 1) for x in "ab"]
            if line.cuts == cuts:
                break
        assert 8 <= line.cuts < 39, "the line must have been cut in every message"
    finally:
        line.close()


def start_writer(server: PostgresServer, name: str, count: int = 1_000_000) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(server), PASSWORD, name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str], count: int) -> list[int]:
    assert process.stdout is not None
    out = []
    for _ in range(count):
        line = process.stdout.readline()
        assert line, process.stderr.read() if process.stderr else ""
        out.append(int(line))
    return out


def keys_of(server: PostgresServer) -> list[str]:
    ledger = PostgresLedger(server, "run")
    try:
        return [s.event.key for s in ledger.read()]
    finally:
        ledger.close()


def test_the_server_dies_again_and_again_under_a_writer(cluster: Cluster, server: PostgresServer) -> None:
    process = start_writer(server, "w")
    try:
        acknowledged = said(process, 5)
        for _ in range(3):
            cluster.stop("immediate")
            time.sleep(0.3)
            cluster.start()
            acknowledged += said(process, 40)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        rest, _ = process.communicate(timeout=30)
    acknowledged += [int(n) for n in rest.split("\n")[:-1]]
    assert acknowledged == list(range(len(acknowledged)))
    keys = keys_of(server)
    assert len(keys) == len(set(keys)) and {f"w/{n}/{k}" for n in acknowledged for k in "ab"} <= set(keys)
    assert {k[:-2] for k in keys if k.endswith("/a")} == {k[:-2] for k in keys if k.endswith("/b")}


def test_one_writer_until_it_is_killed(server: PostgresServer, opened: Opened) -> None:
    first = start_writer(server, "first")
    second = None
    try:
        said(first, 3)
        other = opened(server, "another run", site="s")
        assert opened(server, "run").read(), "a reader needs no right"
        with pytest.raises(WmsTransient, match="another process is posting counts of s to builtin"), other.writer("builtin"):
            pass
        with other.writer("another system"):
            pass
        os.kill(first.pid, signal.SIGKILL)
        second = start_writer(server, "second", 3)
        assert second.communicate(timeout=30)[0].split() == ["0", "1", "2"]
    finally:
        for p in (first, second):
            if p is not None:
                p.kill()
                p.communicate()


def test_a_writer_whose_line_broke_is_stopped_when_another_wrote_since(
    cluster: Cluster, server: PostgresServer, opened: Opened
) -> None:
    ours, other = opened(server, "run", site="s"), opened(server, "run", site="s")
    with pytest.raises(LedgerError, match="another process has posted counts since"), ours.writer("w"):
        ours.append([Event("k", "1", 1)])
        cut_lines_of(cluster, server, keep=other)
        with other.writer("w"):
            other.append([Event("k", "2", 1)])
        ours.append([Event("k", "3", 1)])
    assert [s.event.key for s in other.read()] == ["1", "2"]
    with ours.writer("w"):  # and may begin anew
        ours.append([Event("k", "3", 1)])
    with ours.writer("w"):
        cut_lines_of(cluster, server, keep=other)
        ours.append([Event("k", "4", 1)])  # nobody wrote since
        with pytest.raises(WmsTransient), other.writer("w"):
            pass
    assert [s.event.key for s in other.read()] == ["1", "2", "3", "4"]


def cut_lines_of(cluster: Cluster, server: PostgresServer, keep: PostgresLedger) -> None:
    own = keep._db.run("SELECT pg_backend_pid()")[0][0]
    who = f"datname = '{server.database}' AND pid NOT IN ({own}, pg_backend_pid())"
    cluster.sql(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {who}")


def test_a_reader_that_goes_on_from_the_last_misses_nothing(server: PostgresServer, opened: Opened) -> None:
    reader = opened(server, "run", site="s")
    ends = threading.Event()

    def write(name: str) -> None:
        ledger = opened(server, "run", site="s")
        for n in range(60):
            ledger.append([Event("k", f"{name}/{n}/{i}", 1) for i in range(1 + n % 3)])
        ledger.close()

    threads = [threading.Thread(target=write, args=(str(t),)) for t in range(4)]
    seen: list[str] = []

    def follow() -> None:
        last = 0
        while True:
            over = ends.is_set()
            for s in reader.read(after=last):
                last = s.seq
                seen.append(s.event.key)
            if over:
                return

    following = threading.Thread(target=follow)
    following.start()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    ends.set()
    following.join()
    assert len(seen) == 4 * 120 and sorted(seen) == sorted(s.event.key for s in reader.read())


def test_runs_beside_each_other(server: PostgresServer, opened: Opened) -> None:
    a, b = opened(server, "a", site="s"), opened(server, "b", site="t")
    a.append([Event("k", "1", 1, {"of": "a"})])
    b.append([Event("k", "1", 1, {"of": "b"})])
    assert [s.event.payload["of"] for s in a.read()] == ["a"] and b.site == "t"
    with pytest.raises(LedgerError, match="holds events of store 's', not of 't'"):
        opened(server, "a", site="t")
    with pytest.raises(LedgerError, match="no run c"):
        opened(server, "c")


def test_append_only(cluster: Cluster, server: PostgresServer, opened: Opened) -> None:
    opened(server, "run", site="s").append([Event("k", "1", 1)])
    for change in ("UPDATE shelfscan.events SET kind = 'x'", "DELETE FROM shelfscan.events", "TRUNCATE shelfscan.events"):
        with pytest.raises(Exception, match="append-only"):
            cluster.sql(change, server.database)


def test_texts_of_every_kind(server: PostgresServer, opened: Opened) -> None:
    odd = ['"', "\\", "null", "NULL", "{a,b}", "", " ", "é€😀", "a\nb\tc", "\\\\\"'", ":run", "%s"]
    ledger = opened(server, "run", site="s")
    events = [Event(f"kind {t}", f"key {t}" if n else t, 2**62, {"t": t, "nul": "\0"}) for n, t in enumerate(odd)]
    ledger.append(events)
    ledger.append([Event(t, f"as kind {t}", 1) for t in odd])
    assert [s.event for s in ledger.read()][: len(odd)] == events
    assert [s.event.kind for s in ledger.read(kinds=odd)] == odd


def test_what_stands_in_the_way_is_said(
    cluster: Cluster, server: PostgresServer, monkeypatch: pytest.MonkeyPatch, opened: Opened
) -> None:
    def refused(place: PostgresServer, match: str) -> None:
        for use in (lambda: opened(place, "run", site="s", wait_s=0.2), lambda: about(place, 0.2)):
            with pytest.raises(LedgerError, match=match) as e:
                use()
            assert PASSWORD not in str(e.value) and "wrong-One" not in str(e.value)

    with socket.create_server(("127.0.0.1", 0)) as s:
        free = s.getsockname()[1]
    refused(replace(server, port=free), "no server there")
    refused(replace(server, host="/nowhere"), "no server there")
    refused(replace(server, password="wrong-One"), "does not let us in.*ledger.password")
    refused(replace(server, database="absent"), "createdb absent")
    refused(replace(server, tls="on"), "no encrypted line.*ledger.tls")
    with pytest.raises(LedgerError, match="no shelfscan ledger in this database"):
        opened(server, "run")
    cluster.sql(f"CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'")
    refused(replace(server, user="guest"), "no right|needs the right")
    assert "no tables yet" in about(server)
    opened(server, "run", site="s").close()
    refused(replace(server, user="guest"), "needs the right")
    assert about(server).endswith("1 runs")
    cluster.sql("UPDATE shelfscan.meta SET value = '7'", server.database)
    refused(server, "tables are of version 7")
    monkeypatch.setattr(_postgres, "LEAST_SERVER", 99)
    refused(server, "99 or newer is needed")


@pytest.mark.parametrize(
    "url",
    ["mysql://a@b/c", "postgresql://host/db", "postgresql://u@h", "postgresql://u@h:x/d", "postgresql://u@h/d?a=b", "ledger"],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(BadInput, match="expected postgresql://user@host"):
        PostgresServer.of(url)


def test_a_password_in_the_address_is_refused_and_not_shown() -> None:
    for url in (f"postgresql://u:{PASSWORD}@h/d", f"postgresql://u@h/d?password={PASSWORD}"):
        for use in (lambda url=url: load_config(None, {"ledger.url": url}), lambda url=url: PostgresServer.of(url)):
            with pytest.raises(BadInput, match=r"ledger\.url: .*without a password") as e:
                use()
            assert PASSWORD not in str(e.value)


def test_a_run_folder_finds_its_ledger_again(
    cluster: Cluster, server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Opened
) -> None:
    monkeypatch.setenv("SHELFSCAN_LEDGER_PASSWORD", PASSWORD)
    config = load_config(None, {"ledger.url": str(server)})
    assert "no tables yet" in check_ledger(config) and check_ledger(load_config(None)) == ""
    run = tmp_path / "run"
    opened.of(run, "s", config).append([Event("k", "1", 1)])
    assert has_ledger(run) and not (run / "ledger.sqlite").exists()
    assert [s.event.key for s in opened.again(run).read()] == ["1"]
    # Whatever the configuration says now.
    assert [s.event.key for s in opened.of(run, "s", load_config(None)).read()] == ["1"]
    with pytest.raises(LedgerError, match="holds events of store 's'"):
        opened.of(run, "t", config)
    opened.of(tmp_path / "other", "s", config)
    assert opened.again(tmp_path / "other").read() == []
    files = opened.of(tmp_path / "files", "s", load_config(None))
    files.append([Event("k", "2", 1)])
    assert [s.event.key for s in opened.of(tmp_path / "files", "s", config).read()] == ["2"]
    kept = (run / "ledger.json").read_text()
    assert PASSWORD not in kept and json.loads(kept)["password"] == "env:SHELFSCAN_LEDGER_PASSWORD"
    keep_place(run, LedgerPlace.new(str(server), "", "auto", None, 1.0))
    assert (run / "ledger.json").read_text() == kept, "the first one's holds"
    monkeypatch.delenv("SHELFSCAN_LEDGER_PASSWORD")
    with pytest.raises(BadInput, match="SHELFSCAN_LEDGER_PASSWORD is not set"):
        opened.again(run)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"url": 1}', '{"url":"x","password":"","tls":"auto","ca":"","wait_s":1,"run":"r"}']
)
def test_a_place_that_says_nothing(text: str, tmp_path: Path, opened: Opened) -> None:
    (tmp_path / "ledger.json").write_text(text)
    with pytest.raises(LedgerError, match="ledger.json"):
        opened.again(tmp_path)


def test_a_night_of_faults(server: PostgresServer, monkeypatch: pytest.MonkeyPatch, opened: Opened) -> None:
    from shelfscan.evaluation.sync_campaign import WRONG, campaign, ledgers_on

    monkeypatch.setenv("SHELFSCAN_LEDGER_PASSWORD", PASSWORD)
    result: dict[str, Any] = campaign("builtin", 6, 1, make_ledger=ledgers_on(str(server)))
    assert {k: result[k] for k in WRONG} == dict.fromkeys(WRONG, 0)
    assert result["faults"] > 10 and result["posted"] > 3
    assert opened(server, "any", site="s").read() == []
