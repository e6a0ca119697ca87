"""The watched folder on a real SFTP server: what is refused, and what a line that breaks anywhere leaves behind."""

from __future__ import annotations

import random
import shutil
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.ledger import MemoryLedger
from fakes.night import HOUR, T0, bundle
from fakes.sshd import Sshd, Wire, free_port, make_key

from shelfscan.adapters.exchange import LocalExchange
from shelfscan.adapters.exchange_sftp import SftpExchange, SftpPlace
from shelfscan.adapters.wms_folder import FolderWms, to_csv
from shelfscan.bootstrap import make_wms
from shelfscan.config import Config
from shelfscan.errors import BadInput, WmsAuth, WmsError, WmsRejected, WmsTransient, WmsUnknown
from shelfscan.evaluation.folder_stub import FolderSystem, FolderTill, night
from shelfscan.evaluation.sync_campaign import WRONG
from shelfscan.model.bundle import WmsLocation
from shelfscan.wms.document import CountDocument, CountLine

ROWS = (WmsLocation("L1", "shelf", "b1", "A", 7, 4), WmsLocation("L2", "shelf", "b2", "B", 3, 0))


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()


@pytest.fixture
def wire(sshd: Sshd) -> Iterator[Wire]:
    line = Wire(sshd.port)
    sshd.know(line.port)
    yield line
    line.close()


@pytest.fixture
def system(tmp_path: Path) -> FolderSystem:
    return FolderSystem(tmp_path / "wms", ROWS, bundle(ROWS).catalogue, lambda: T0 + HOUR)


def document(key: str, qty: int = 5) -> CountDocument:
    return CountDocument(key, "s", "m", T0, (CountLine(1, "L1", "A", "", qty, T0, T0, 7.0, "1", 1.0),))


def parts(system: FolderSystem) -> list[str]:
    return [p.name for p in (system.root / "out").iterdir() if not p.name.endswith(".csv")]


def test_a_path_may_have_blanks_and_letters_of_any_kind(sshd: Sshd, tmp_path: Path) -> None:
    system = FolderSystem(tmp_path / "Lager 7 [süd]*", ROWS, bundle(ROWS).catalogue, lambda: T0 + HOUR)
    client = FolderTill(system, ROWS, files=sshd.exchange(system.root))
    assert client.find("k1") is None
    assert [s.result for s in client.submit(document("k1")).lines] == ["applied"]
    assert client.health().ok and "sftp://" in client.health().text
    assert (system.root / "out" / "k1.csv").read_text() == to_csv(document("k1"))
    assert (system.root / "out" / "k1.csv").stat().st_mode & 0o444 == 0o444, "the system may be another user"
    assert parts(system) == []
    with pytest.raises(WmsRejected, match="another count document"):
        client.submit(document("k1", qty=6))


def test_a_server_without_extensions_replaces_nothing(system: FolderSystem, tmp_path: Path) -> None:
    """Servers that know only the standard's rename and no fsync: a file that is there stays, and the next try finds it."""
    old = Sshd(tmp_path, options="-P posix-rename,fsync")
    try:
        files = old.exchange(system.root)
        files.write("out", "k1.csv", b"first")
        with pytest.raises(WmsTransient, match=r"out/k1\.csv: cannot be written: .*rename"):
            files.write("out", "k1.csv", b"second")
        assert files.read("out", "k1.csv") == b"first"
        files.write("out", "k2.csv", b"x")
        assert parts(system) == []
    finally:
        old.stop()


@pytest.mark.parametrize("denied", ["opendir", "readdir"])
def test_a_folder_that_may_not_be_read_is_not_taken_for_an_empty_one(system: FolderSystem, tmp_path: Path, denied: str) -> None:
    (system.root / "in" / "tasks.csv").write_text("ref,location_code\nT1,L1\n")
    strict = Sshd(tmp_path, options=f"-P {denied}")
    try:
        client = FolderWms(strict.exchange(system.root), ROWS)
        with pytest.raises(WmsError, match=r"/wms/in: the folder cannot be read: .*Permission denied"):
            client.pull_tasks()
    finally:
        strict.stop()


def test_names_of_a_folder(sshd: Sshd, tmp_path: Path) -> None:
    root = tmp_path / "Lager 7 [süd]*"
    (root / "in").mkdir(parents=True)
    for name in ("tasks.csv", "tasks-ü 2.csv", "stock.csv", "tasks.csv.part", ".tasks.csv"):
        (root / "in" / name).touch()
    (tmp_path / "Lager 7 s").mkdir()  # what the name would mean as a pattern
    files = sshd.exchange(root)
    assert files.names("in", "tasks") == LocalExchange(root).names("in", "tasks") == ["tasks-ü 2.csv", "tasks.csv"]
    assert files.names("answers", "") == []
    (root / "answers").touch()
    with pytest.raises(WmsError, match="/answers: the folder cannot be read"):
        files.names("answers", "")
    with pytest.raises(WmsTransient, match="no such folder"):
        sshd.exchange(tmp_path / "none").names("in", "tasks")


def test_who_is_not_let_in_is_told_why(sshd: Sshd, system: FolderSystem, tmp_path: Path) -> None:
    place = SftpPlace.of(f"sftp://{sshd.exchange('/')._place.user}@127.0.0.1:{sshd.port}{system.root}", "x")
    other = make_key(tmp_path / "other")
    for key in (other, make_key(tmp_path / "locked", "a passphrase")):
        with pytest.raises(WmsAuth, match=f"in with the key {key}"):
            SftpExchange(place, key=key, known_hosts=sshd.known_hosts).read("done", "k.csv")
    (tmp_path / "none").touch()
    with pytest.raises(WmsError, match=f"ssh-keyscan -p {sshd.port} 127.0.0.1"):
        SftpExchange(place, key=sshd.key, known_hosts=tmp_path / "none").read("done", "k.csv")
    changed = tmp_path / "changed"
    public = other.with_suffix(".pub").read_text().split()[:2]
    changed.write_text(f"[127.0.0.1]:{sshd.port} {' '.join(public)}\n")
    client = FolderWms(SftpExchange(place, key=sshd.key, known_hosts=changed), ROWS)
    with pytest.raises(WmsError, match=r"host key is not the one in .*changed.* Nothing was sent") as e:
        client.submit(document("k1"))
    assert not isinstance(e.value, (WmsTransient, WmsUnknown)) and not client.health().ok
    assert list((system.root / "out").iterdir()) == []


def test_what_is_not_there_is_told_apart(sshd: Sshd, system: FolderSystem) -> None:
    files = sshd.exchange(system.root)
    (system.root / "in" / "stock.csv").unlink()
    with pytest.raises(WmsTransient, match=r"sftp://.*/in/stock.csv: missing; has the warehouse system exported it"):
        FolderWms(files, ROWS).pull_stock()
    (system.root / "done" / "k1.csv" / "more").mkdir(parents=True)
    with pytest.raises(WmsError, match="k1.csv: cannot be read"):
        files.read("done", "k1.csv")
    shutil.rmtree(system.root / "done")
    with pytest.raises(WmsTransient, match="/done: no such folder"):
        files.read("done", "k1.csv")
    shutil.rmtree(system.root / "out")
    with pytest.raises(WmsTransient, match=r"out/k1.csv: cannot be written: .*No such file"):
        files.write("out", "k1.csv", b"x")
    with pytest.raises(WmsTransient, match="Connection refused"):
        sshd.exchange(system.root, _known(sshd, free_port())).read("done", "k1.csv")


def _known(sshd: Sshd, port: int) -> int:
    sshd.know(port)
    return port


def test_once_it_is_written_no_error_says_that_nothing_happened(
    sshd: Sshd, system: FolderSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = FolderTill(system, ROWS, files=(files := sshd.exchange(system.root)))
    write = files.write

    def write_and_vanish(folder: str, name: str, data: bytes) -> None:
        write(folder, name, data)
        monkeypatch.setattr(files, "_command", [*files._command[:-1], "127.0.0.2"])  # where nobody listens

    monkeypatch.setattr(files, "write", write_and_vanish)
    with pytest.raises(WmsUnknown, match=r"out/k1\.csv is there, but its answer cannot be looked up: .*Connection refused"):
        client.submit(document("k1"))


def test_a_line_that_breaks_at_any_byte_leaves_a_whole_file_or_none(sshd: Sshd, wire: Wire, system: FolderSystem) -> None:
    """A `Transient` must mean that it is not there, and an end without error that it is."""
    files = sshd.exchange(system.root, wire.port, timeout_s=3.0)
    files.write("out", "whole.csv", b"x" * 40_000)
    total, found, left = wire.sent, Counter[str](), 0
    for how in ("request", "answer"):
        wire.how = how
        for n, at in enumerate(
            [*range(0, 2_000, 900), *range(2_000, total - 1_200, 9_000), *range(total - 1_200, total + 1, 120)]
        ):
            key = f"{how}-{n}.csv"
            data = f"{key}\n".encode() * 3_000
            wire.breaks_at = at
            try:
                files.write("out", key, data)
                said = "written"
            except (WmsTransient, WmsUnknown) as e:
                said = type(e).__name__
            time.sleep(0.05)  # until the server has seen the end
            there = system.root / "out" / key
            assert not there.exists() or there.read_bytes() == data, f"half a file at byte {at} of {total}"
            assert said == "WmsUnknown" or there.exists() == (said == "written"), f"{said} at byte {at} of {total}"
            found[f"{said}, {'there' if there.exists() else 'not there'}"] += 1
            left = max(left, len(parts(system)))
    assert found["WmsTransient, not there"] > 5 and found["WmsUnknown, there"] > 0 and left > 0, found
    wire.breaks_at = None
    files.write("out", "last.csv", b"x")
    assert parts(system) == [], "what lost connections left is cleaned up"


def test_a_rename_that_arrives_late_moves_no_half_file(sshd: Sshd, wire: Wire, system: FolderSystem) -> None:
    """The first try's rename is stuck on the line, and arrives when the second try has written a half."""
    files = sshd.exchange(system.root, wire.port, timeout_s=3.0)
    data = b"line\n" * 100_000
    files.write("out", "whole.csv", data)
    total, unknown = wire.sent, 0
    for n, at in enumerate(range(total - 700, total, 70)):
        key = f"late-{n}.csv"
        there = system.root / "out" / key
        wire.how, wire.breaks_at = "late", at
        try:
            files.write("out", key, data)
        except (WmsTransient, WmsUnknown) as e:
            unknown += isinstance(e, WmsUnknown) and not there.exists()
        wire.how, wire.breaks_at = "request", total // 2
        with pytest.raises(WmsTransient):
            files.write("out", key, data)
        wire.deliver_late()
        assert not there.exists() or there.read_bytes() == data
        wire.breaks_at = None
        files.write("out", key, data)
        assert there.read_bytes() == data
    assert unknown > 0, "never was a rename on the line"


def test_a_server_that_says_nothing_is_given_up(sshd: Sshd, system: FolderSystem) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        files = sshd.exchange(system.root, _known(sshd, silent.getsockname()[1]), timeout_s=1.0)
        began = time.monotonic()
        with pytest.raises(WmsTransient, match="timed out"):
            files.read("done", "k1.csv")
        assert time.monotonic() - began < 15


def test_a_system_that_hangs_is_ended(sshd: Sshd, system: FolderSystem, tmp_path: Path) -> None:
    """The line is alive and the program never ends, as with a server whose disk hangs."""
    hangs = tmp_path / "sftp"
    hangs.write_text('#!/bin/sh\necho \'sftp> rename "a" "b"\'\nsleep 600\n')
    hangs.chmod(0o755)
    place = sshd.exchange(system.root)._place
    files = SftpExchange(place, key=sshd.key, known_hosts=sshd.known_hosts, timeout_s=0.05, program=str(hangs))
    with pytest.raises(WmsUnknown, match=r"no end after 0\.5 s"):
        files.write("out", "k1.csv", b"x")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("sftp://anna:secret-77@host/x", "without a password"),
        ("ftp://anna@host/x", "expected sftp://"),
        ("sftp://host/x", "no user and host"),
        ("sftp://-oProxyCommand=x@host/x", "no user and host"),
        ("sftp://anna@-oProxyCommand/x", "no user and host"),
        ("sftp://anna@host:99999/x", "the port is wrong"),
        ("sftp://anna@host", "expected sftp://"),
        ("sftp://anna@host/a%0Arm%20b", "control characters"),
        ("sftp://anna@host/a%22b", "quotation marks"),
    ],
)
def test_wrong_addresses(address: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as e:
        SftpPlace.of(address, "wms.folder.remote")
    assert "secret-77" not in str(e.value)


def test_addresses_and_files() -> None:
    assert SftpPlace.of("sftp://anna@host/srv/wms/", "x") == SftpPlace("anna", "host", 22, "/srv/wms/")
    assert SftpPlace.of("sftp://a%40b@[::1]:2022/~/wms", "x") == SftpPlace("a@b", "::1", 2022, "wms")
    assert str(SftpPlace("a", "::1", 22, "wms")) == "sftp://a@[::1]:22/~/wms"


def test_the_configuration_leads_to_the_server(sshd: Sshd, system: FolderSystem, tmp_path: Path) -> None:
    folder = {"remote": sshd.exchange(system.root).address, "key": sshd.key, "known_hosts": sshd.known_hosts}
    config = Config.model_validate({"wms": {"name": "folder", "folder": folder}})
    client = make_wms(bundle(ROWS), tmp_path, config)
    assert client is not None and len(client.pull_stock()) == 2
    assert client.health().text == f"folder {folder['remote']}: 2 stock records"


def test_wrong_files_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    place = SftpPlace("anna", "127.0.0.1", 1, "/wms")
    key, known = tmp_path / "key", tmp_path / "known"
    with pytest.raises(BadInput, match=r"wms\.folder\.key: .*cannot be read"):
        SftpExchange(place, key=key, known_hosts=known)
    key.write_text("a key")
    key.chmod(0o640)
    with pytest.raises(BadInput, match=r"others may read it \(mode 640\); expected 600"):
        SftpExchange(place, key=key, known_hosts=known)
    key.chmod(0o600)
    with pytest.raises(BadInput, match=r"known: no such file; put it there \(ssh-keyscan -p 1 127\.0\.0\.1\)"):
        SftpExchange(place, key=key, known_hosts=known)
    known.touch()
    with pytest.raises(BadInput, match="openssh-client"):
        SftpExchange(place, key=key, known_hosts=known, program="no-such-sftp")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_nights_over_a_line_that_breaks(sshd: Sshd, wire: Wire, tmp_path: Path) -> None:
    """As the nights on a folder of this computer, and every fourth connection ends somewhere."""
    rng, total, broken = random.Random(7), Counter[str](), 0
    syncing = False

    class Breaking(SftpExchange):
        def _run(self, here: Path, *batch: str) -> object:  # type: ignore[override]
            nonlocal broken
            wire.breaks_at = rng.randrange(0, 6_000) if syncing and rng.random() < 0.25 else None
            broken += wire.breaks_at is not None
            wire.how = rng.choice(("request", "answer"))
            return super()._run(here, *batch)

    def way(root: Path) -> SftpExchange:
        place = SftpPlace(sshd.exchange(root)._place.user, "127.0.0.1", wire.port, str(root))
        return Breaking(place, key=sshd.key, known_hosts=sshd.known_hosts, timeout_s=5.0)

    for seed in range(10):
        made, close = night(seed, MemoryLedger(), tmp_path, way)
        syncing = True
        report = made.run()
        syncing = False
        total.update(made.check(report))
        close()
    assert {k: total[k] for k in WRONG} == dict.fromkeys(WRONG, 0)
    assert total["posted"] > 5 and broken > 20
