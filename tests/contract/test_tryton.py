"""Tryton, the real one, on SQLite and on PostgreSQL: a server from nothing, one document once, nights of faults on the line."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest
from fakes.tryton import running

from shelfscan.adapters.wms_tryton import TrytonWms
from shelfscan.errors import WmsAuth, WmsRejected
from shelfscan.evaluation.sync_campaign import WRONG, campaign
from shelfscan.evaluation.tryton_night import TrytonServer, TrytonTill
from shelfscan.model.bundle import WmsLocation
from shelfscan.wms.document import CountDocument, CountLine

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    with running(postgresql=request.param == "postgresql") as found:
        yield found


@pytest.fixture
def till(address: str) -> TrytonTill:
    server = TrytonServer.of(address)
    codes, products = server.client(()).known()
    places, skus = sorted(c for c in codes if "-" in c)[:3], sorted(products)[:3]
    rows = tuple(
        WmsLocation(c, "site" if n == 2 else "shelf", f"b{n}", s, 0, 0)
        for n, (c, s) in enumerate(zip(places, skus, strict=True))
    )
    client = server.client(rows)
    client.set_stock({(r.location_code, r.sku): 7.0 for r in rows}, f"seed {time.time_ns()}", codes, products)
    return client


def document(till: TrytonTill, *counts: int, key: str = "") -> CountDocument:
    rows = sorted(till._pairs)
    stock = {(s.location_code, s.sku): s for s in till.pull_stock()}
    now = time.time_ns()
    lines = tuple(
        CountLine(n, c, s, "", q, now, now, stock[c, s].on_hand, stock[c, s].version, 1.0, zero_confirmed=q == 0)
        for n, ((c, s), q) in enumerate(zip(rows, counts, strict=False), start=1)
    )
    return CountDocument(key or str(uuid.uuid4()), "store-1", "m1", now, lines)


def on_hand(till: TrytonTill) -> list[float]:
    stock = {(s.location_code, s.sku): s.on_hand for s in till.pull_stock()}
    return [stock[p] for p in sorted(till._pairs)]


def test_a_document_applies_once_and_a_site_is_no_shelf(till: TrytonTill) -> None:
    doc = document(till, 5, 0, 3)
    assert till.find(doc.doc_id) is None
    receipt = till.submit(doc)
    assert [s.result for s in receipt.lines] == ["applied", "applied", "rejected"]
    assert "whole site" in receipt.lines[2].message
    assert till.submit(doc) == receipt == till.find(doc.doc_id) == till.status(receipt.receipt_id)
    assert on_hand(till) == [5, 0, 7]
    mine = [m for m in till.pull_movements(doc.created_ns) if m.reference == doc.doc_id]
    assert [(m.kind, m.delta) for m in mine] == [("count", -2), ("count", -7)]


def test_what_moved_is_a_conflict_and_keeps_its_number(till: TrytonTill) -> None:
    doc = document(till, 5, 6)
    (code, sku), _ = sorted(till._pairs)[:2]
    till.post_movement(code, sku, -2)
    receipt = till.submit(doc)
    assert [s.result for s in receipt.lines] == ["conflict", "applied"]
    assert "5 when it was saved, 7 was read" in receipt.lines[0].message
    assert on_hand(till)[:2] == [5, 6]
    assert till.find(doc.doc_id) == receipt


def test_a_key_belongs_to_one_document(till: TrytonTill) -> None:
    doc = document(till, 5)
    till.submit(doc)
    with pytest.raises(WmsRejected, match="another count document"):
        till.submit(document(till, 6, key=doc.doc_id))


def test_drafts_that_a_doubled_request_left_are_used_once(till: TrytonTill) -> None:
    doc = document(till, 4)
    till._create(doc)
    till._create(doc)
    assert till.find(doc.doc_id) is None
    assert [s.result for s in till.submit(doc).lines] == ["applied"]
    assert on_hand(till)[0] == 4
    assert sum(m.reference == doc.doc_id for m in till.pull_movements(doc.created_ns)) == 1


def test_a_wrong_password_is_said_and_not_shown(address: str) -> None:
    server = TrytonServer.of(address)
    wrong = TrytonWms(server.url, server.database, server.user, "not-it-77", ())
    with pytest.raises(WmsAuth) as e:
        wrong.pull_stock()
    assert "not-it-77" not in str(e.value)
    assert not wrong.health().ok
    assert server.client(()).health().ok


def test_nights_of_faults(address: str) -> None:
    result = campaign("tryton", 10, 5000, tryton=address)
    assert {k: result[k] for k in WRONG} == dict.fromkeys(WRONG, 0)
    assert result["posted"] > 5 and result["faults"] > 20
