"""The ledger on a server over an encrypted line: whose certificate is taken, and whose is not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import postgres
from fakes.certificates import Authority
from fakes.postgres import PASSWORD, Cluster

from shelfscan.adapters._postgres import PostgresServer
from shelfscan.adapters.ledger_place import find_ledger
from shelfscan.adapters.ledger_postgres import PostgresLedger, about
from shelfscan.bootstrap import check_ledger, open_ledger
from shelfscan.config import load_config
from shelfscan.errors import BadInput, LedgerError
from shelfscan.ports import Event

IN_USE = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND application_name = 'shelfscan'"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with postgres.running() as found:
        yield found


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates") / "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates") / "theirs")


def test_a_run_over_an_encrypted_line_that_is_checked(
    cluster: Cluster, ours: Authority, theirs: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.encrypt(*ours.sign("good", "IP:127.0.0.1"))
    monkeypatch.setenv("SHELFSCAN_LEDGER_PASSWORD", PASSWORD)
    settings = {"ledger.url": str(cluster.database()), "ledger.tls": "on", "ledger.wait_s": 1}
    config = load_config(None, {**settings, "ledger.ca": str(ours.ca)})
    assert "PostgreSQL" in check_ledger(config)
    run = tmp_path / "run"
    ledger = open_ledger(run, "s", config)
    try:
        ledger.append([Event("k", "1", 1)])
        assert cluster.sql(IN_USE) == [[1]]
    finally:
        ledger.close()
    kept = json.loads((run / "ledger.json").read_text())
    assert (kept["tls"], kept["ca"]) == ("on", str(ours.ca))
    again = find_ledger(run)
    assert [s.event.key for s in again.read()] == ["1"]
    again.close()
    for ca, said in ((str(theirs.ca), f"those of {theirs.ca}"), (None, "this computer trusts")):
        with pytest.raises(LedgerError, match=rf"certificate is refused, checked with .*{said}: unable to get local issuer"):
            check_ledger(load_config(None, {**settings, "ledger.ca": ca}))
    (run / "ledger.json").write_text(json.dumps({**kept, "ca": str(theirs.ca)}))
    with pytest.raises(LedgerError, match="certificate is refused"):
        find_ledger(run)
    with pytest.raises(BadInput, match=r"ledger\.ca: .*none\.pem: no certificates can be read there"):
        check_ledger(load_config(None, {**settings, "ledger.ca": str(tmp_path / "none.pem")}))


@pytest.mark.parametrize(
    ("host", "days", "said"),
    [
        ("DNS:db.example", 1, "certificate is not valid for '127.0.0.1'"),
        ("IP:127.0.0.1", -1, "certificate has expired"),
    ],
)
def test_a_certificate_of_another_server_or_of_yesterday(
    cluster: Cluster, ours: Authority, host: str, days: int, said: str
) -> None:
    cluster.encrypt(*ours.sign(f"wrong{days}", host, days))
    server = replace(cluster.database(), tls="on", ca=ours.ca)
    with pytest.raises(LedgerError, match=f"certificate is refused, .*{said}.*ledger.ca"):
        about(server, 1.0)
    with pytest.raises(LedgerError, match="certificate is refused"):
        PostgresLedger(server, "run", site="s", wait_s=30.0)  # and is not tried again for half a minute
    assert cluster.sql("SELECT to_regclass('shelfscan.meta')", server.database) == [[None]]


def test_a_line_to_another_computer_is_encrypted_without_being_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server, or who claims to be it, that knows no encryption learns nothing but that somebody asked for it."""
    got: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def plain() -> None:
        line, _ = listener.accept()
        with line:
            got.append(line.recv(1000))
            line.sendall(b"N")
            got.append(line.recv(1000))

    thread = threading.Thread(target=plain, daemon=True)
    thread.start()
    server = PostgresServer("shelf", "db.example", int(listener.getsockname()[1]), "d", PASSWORD)
    monkeypatch.setattr(socket, "create_connection", _to_here(socket.create_connection))
    try:
        with pytest.raises(LedgerError, match="no encrypted line: Server refuses SSL"):
            server.connect()
        thread.join(10)
    finally:
        listener.close()
    assert len(got[0]) == 8 and got[1] == b"", "the request for encryption, and nothing else"


def _to_here(connect: object) -> object:
    """The network, where every name leads to this computer."""
    return lambda address, timeout: connect(("127.0.0.1", address[1]), timeout)  # type: ignore[operator]
