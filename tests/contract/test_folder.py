"""A warehouse system behind a watched folder: files that are late, wrong, or written twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from fakes.ledger import MemoryLedger
from fakes.night import HOUR, T0, bundle

from shelfscan.adapters.exchange import LocalExchange
from shelfscan.adapters.wms_folder import FolderWms
from shelfscan.errors import WmsError, WmsRejected, WmsTransient, WmsUnknown
from shelfscan.evaluation.folder_stub import FolderSystem, FolderTill, night
from shelfscan.evaluation.sync_campaign import WRONG
from shelfscan.model.bundle import WmsLocation
from shelfscan.wms.document import CountDocument, CountLine

ROWS = (WmsLocation("L1", "shelf", "b1", "A", 7, 4), WmsLocation("L2", "shelf", "b2", "B", 3, 0))


@pytest.fixture
def system(tmp_path: Path) -> FolderSystem:
    return FolderSystem(tmp_path / "wms", ROWS, bundle(ROWS).catalogue, lambda: T0 + HOUR)


def document(key: str, qty: int, version: str = "1") -> CountDocument:
    return CountDocument(key, "s", "m", T0, (CountLine(1, "L1", "A", "", qty, T0, T0, 7.0, version, 1.0),))


def test_a_late_answer_leaves_it_unknown_and_is_found_later(system: FolderSystem) -> None:
    client = FolderTill(system, ROWS, now_and_then=lambda: False)
    with pytest.raises(WmsUnknown, match="no answer in done/"):
        client.submit(document("k1", 5))
    assert client.find("k1") is None
    written = (system.root / "out" / "k1.csv").read_bytes()
    with pytest.raises(WmsUnknown):
        client.submit(document("k1", 5))
    assert (system.root / "out" / "k1.csv").read_bytes() == written, "the same file, whatever is tried"
    system.work()
    receipt = client.find("k1")
    assert receipt is not None and [s.result for s in receipt.lines] == ["applied"]
    system.work()
    assert system.books.stock["L1", "A"].on_hand == 5, "imported once"


def test_what_was_sold_before_the_import_is_a_conflict(system: FolderSystem) -> None:
    client = FolderTill(system, ROWS, now_and_then=lambda: False)
    with pytest.raises(WmsUnknown):
        client.submit(document("k1", 5))
    system.books.post_movement("L1", "A", -1)
    system.work()
    receipt = client.find("k1")
    assert receipt is not None and [s.result for s in receipt.lines] == ["conflict"]
    assert system.books.stock["L1", "A"].on_hand == 6


def test_keys_never_leave_the_folder(system: FolderSystem) -> None:
    client = FolderTill(system, ROWS)
    for key in ("../k", "a/b", "", "k" * 65):
        with pytest.raises(WmsRejected, match="letters, digits and dashes"):
            client.find(key)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("stock.csv", "location_code,sku,on_hand\nL1,A,3\n", "line 1: missing column version"),
        ("stock.csv", "location_code,sku,on_hand,version\nL1,A,three,1\n", "line 2: on_hand is 'three'"),
        ("stock.csv", "location_code,sku,on_hand,version\nL1,,3,1\n", "line 2: sku is empty"),
        ("movements.csv", "location_code,sku,delta,moved_at,kind\nL1,A,-1,2026-01-01T10:00:00,sale\n", "with its zone"),
        ("movements.csv", "location_code,sku,delta,moved_at,kind\nL1,A,-1,yesterday,sale\n", "line 2: moved_at is"),
    ],
)
def test_wrong_files_are_named_with_line_and_field(system: FolderSystem, name: str, text: str, message: str) -> None:
    client = FolderWms(LocalExchange(system.root), ROWS)
    (system.root / "in" / name).write_text(text)
    with pytest.raises(WmsError, match=message) as caught:
        client.pull_stock() if name == "stock.csv" else client.pull_movements(0)
    assert name in str(caught.value)


def test_a_missing_export_is_waited_for_and_a_wrong_answer_is_said(system: FolderSystem) -> None:
    client = FolderWms(LocalExchange(system.root), ROWS)
    (system.root / "in" / "stock.csv").unlink()
    with pytest.raises(WmsTransient, match="has the warehouse system exported it"):
        client.pull_stock()
    assert not client.health().ok
    (system.root / "done" / "k1.csv").write_text("line_no,result,message\n1,done,\n")
    with pytest.raises(WmsError, match="expected a line_no and one of applied, conflict, rejected"):
        client.find("k1")


def test_twenty_nights_with_a_lazy_job_and_kills(tmp_path: Path) -> None:
    total: Counter[str] = Counter()
    for seed in range(20):
        made, close = night(seed, MemoryLedger(), tmp_path)
        total.update(made.check(made.run()))
        close()
    assert {k: total[k] for k in WRONG} == dict.fromkeys(WRONG, 0)
    assert total["posted"] > 15 and total["faults"] > 10
