"""A run's ledger taken to a server and back: every event once and in order, and only then used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import postgres
from fakes.postgres import PASSWORD, Cluster
from typer.testing import CliRunner

from shelfscan.adapters import ledger_copy
from shelfscan.adapters.ledger_copy import contents, to_file, to_server
from shelfscan.adapters.ledger_place import LedgerPlace, find_ledger
from shelfscan.adapters.ledger_postgres import PostgresLedger
from shelfscan.adapters.ledger_sqlite import SqliteLedger
from shelfscan.cli.main import app
from shelfscan.errors import BadInput, LedgerError
from shelfscan.ports import Event
from shelfscan.runfolder import claimed

EVENTS = [
    Event("bay_scan" if n % 3 else "mission.started", f"k{n}", n, {"n": n, "text": 'ü"\\{},' * n, "x": [None, 0.1]})
    for n in range(40)
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with postgres.running() as found:
        yield found


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELFSCAN_LEDGER_PASSWORD", PASSWORD)
    monkeypatch.setattr(ledger_copy, "BATCH", 500)


@pytest.fixture
def place(cluster: Cluster) -> LedgerPlace:
    return LedgerPlace.new(str(cluster.database()), "env:SHELFSCAN_LEDGER_PASSWORD", "auto", None, 1.0)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    ledger = SqliteLedger(folder / "ledger.sqlite", site="s")
    ledger.append(EVENTS)
    ledger.append([EVENTS[3], Event("last", "z", 99)])  # numbers of a ledger have gaps
    ledger.close()
    return folder


def events(run: Path) -> list[Event]:
    ledger = find_ledger(run)
    try:
        return [s.event for s in ledger.read()]
    finally:
        ledger.close()


def add(run: Path, key: str) -> None:
    ledger = find_ledger(run)
    ledger.append([Event("more", key, 100)])
    ledger.close()


def test_there_and_back(run: Path, place: LedgerPlace, cluster: Cluster) -> None:
    before, file = events(run), (run / "ledger.sqlite").read_bytes()
    said = contents(run)
    assert to_server(run, place) == said == contents(run) and said.events == 41
    assert events(run) == before and (run / "ledger.sqlite").read_bytes() == file
    kept = json.loads((run / "ledger.json").read_text())
    assert PASSWORD not in json.dumps(kept) and kept["url"] == place.url
    add(run, "on the server")
    with pytest.raises(BadInput, match="on a server already"):
        to_server(run, place)
    assert to_file(run).events == 42
    assert [e.key for e in events(run)][-2:] == ["z", "on the server"] and not (run / "ledger.json").exists()
    with pytest.raises(BadInput, match="a file already"):
        to_file(run)
    add(run, "in the file")
    assert to_server(run, place).events == 43  # the same ledger there, gone on with
    counted = cluster.sql("SELECT run, last_seq FROM shelfscan.runs", place.url.rpartition("/")[2])
    assert len(counted) == 1 and [e.key for e in events(run)][-1] == "in the file"


@pytest.mark.parametrize("back", [False, True])
def test_a_copy_that_breaks_off_anywhere_is_gone_on_with(
    run: Path, place: LedgerPlace, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    if back:
        to_server(run, place)
        (run / "ledger.sqlite").unlink()
    before, target = events(run), SqliteLedger if back else PostgresLedger
    copy = (lambda: to_file(run)) if back else (lambda: to_server(run, place))
    whole = contents(run)
    append, left = target.append, 0

    def cut(self: object, batch: list[Event]) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return append(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(target, "append", cut)
    broken = 0
    while True:
        left = 3  # three batches, and the process ends
        try:
            done = copy()
            break
        except KeyboardInterrupt:
            broken += 1
            assert events(run) == before and (run / "ledger.json").exists() is back, "what it had is still used"
    assert broken > 3 and done == whole == contents(run) and events(run) == before


def test_what_comes_while_it_is_copied_comes_too(run: Path, place: LedgerPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    old = find_ledger(run)
    keep = ledger_copy.keep_place

    def late(run_dir: Path, there: LedgerPlace) -> None:
        old.append([Event("late", "late", 101)])
        keep(run_dir, there)

    monkeypatch.setattr(ledger_copy, "keep_place", late)
    assert to_server(run, place).events == 42
    assert events(run)[-1].key == "late"
    old.close()


def test_another_ledger_is_never_added_to(run: Path, place: LedgerPlace, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    ledger = SqliteLedger(other / "ledger.sqlite", site="s")
    ledger.append([EVENTS[0], Event("else", "e", 1)])  # begins the same
    ledger.close()
    to_server(other, place)
    before = events(other)
    with pytest.raises(LedgerError, match="holds 2 events that are not the first ones of this ledger; nothing was copied"):
        to_server(run, place)
    assert events(other) == before and not (run / "ledger.json").exists()
    (other / "ledger.sqlite").unlink()
    SqliteLedger(other / "ledger.sqlite", site="s").append([EVENTS[5]])
    with pytest.raises(LedgerError, match="holds 1 events that are not the first ones"):
        to_file(other)
    assert events(other) == before and (other / "ledger.json").exists()


def test_what_cannot_be_copied(run: Path, place: LedgerPlace, tmp_path: Path, cluster: Cluster) -> None:
    with pytest.raises(BadInput, match="no ledger.sqlite or ledger.json"):
        to_server(tmp_path / "none", place)
    assert not (tmp_path / "none").exists()
    with claimed(run), pytest.raises(BadInput, match="another run is going on"):
        to_server(run, place)
    empty = tmp_path / "empty"
    empty.mkdir()
    SqliteLedger(empty / "ledger.sqlite", site="s").close()
    with pytest.raises(BadInput, match="nothing to copy"):
        to_server(empty, place)
    cluster.stop("fast")
    try:
        with pytest.raises(LedgerError, match="no server there"):
            to_server(run, place)
    finally:
        cluster.start()
    assert not (run / "ledger.json").exists() and len(events(run)) == 41


def test_by_the_command_line(run: Path, place: LedgerPlace) -> None:
    cli = CliRunner()
    before = json.loads(cli.invoke(app, ["ledger", "show", str(run), "--json"]).stdout)
    assert before["events"] == 41 and before["ledger"].endswith("ledger.sqlite")
    done = cli.invoke(app, ["ledger", "copy", str(run), "--to", place.url])
    assert done.exit_code == 0 and f"41 events, digest {before['digest']}" in done.stdout
    after = json.loads(cli.invoke(app, ["ledger", "show", str(run), "--json"]).stdout)
    assert after == {**before, "ledger": str(run / "ledger.json")}
    assert "ledger.sqlite is used from now on: 41" in cli.invoke(app, ["ledger", "copy", str(run), "--to", "file"]).stdout
