"""Tryton, the real one, on SQLite and on PostgreSQL: a server from nothing, one document once, nights of faults on the line."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone

import pytest
from fakes.tryton import running

from shelfscan.adapters.tryton_rpc import TrytonRpc
from shelfscan.adapters.tryton_stock import TrytonStock
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
    return till_at(address, 0)


def till_at(address: str, first: int) -> TrytonTill:
    """Three locations, from the ``first`` one on, with seven pieces each of a product of its own."""
    server = TrytonServer.of(address)
    codes, products = server.client(()).known()
    places, skus = sorted(c for c in codes if "-" in c)[first:][:3], sorted(products)[:3]
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


def test_a_count_is_of_the_companys_day(address: str) -> None:
    """Where it is another day than in UTC, what moved since midnight there is expected, and nothing lies in the future."""
    client = TrytonServer.of(address).client(())
    rpc, company = client.rpc, client.rpc.company()
    zone = "Pacific/Kiritimati" if datetime.now(timezone.utc).hour >= 11 else "Pacific/Niue"  # UTC+14, UTC-11
    rpc.call("model.company.company.write", [company], {"timezone": zone}, changes=True)
    try:
        # Stocked on the company's day too, which may be UTC's tomorrow: nothing else is to be counted there.
        till = till_at(address, 3)
        (code, sku), _ = sorted(till._pairs)[:2]
        till.post_movement(code, sku, -2)
        assert [s.result for s in till.submit(document(till, 4, 6)).lines] == ["applied", "applied"]
        assert on_hand(till)[:2] == [4, 6]
    finally:
        rpc.call("model.company.company.write", [company], {"timezone": None}, changes=True)


def test_stock_of_a_closed_period_and_of_one_who_may_not_read_it(till: TrytonTill) -> None:
    rpc, company = till.rpc, till.rpc.company()
    day = date.today() - timedelta(days=2)
    then = {"__class__": "date", "year": day.year, "month": day.month, "day": day.day}
    codes, products = till.known()
    lines = [["create", [{"product": next(iter(products.values())), "quantity": 3.0}]]]
    old = {"location": next(iter(codes.values())), "company": company, "date": then, "lines": lines}
    rpc.call("model.stock.inventory.confirm", rpc.call("model.stock.inventory.create", [old], changes=True), changes=True)
    stock_group = int(rpc.read("res.group", [["name", "=", "Stock"]], [])[0]["id"])
    (sees_moves,) = rpc.call("model.res.group.create", [{"name": f"moves {time.time_ns()}"}], changes=True)
    right = {"model": "stock.move", "group": sees_moves, "perm_read": True}
    rpc.call("model.ir.model.access.create", [right], changes=True)
    login, password = f"clerk{time.time_ns()}", "clerk-Test-12"
    values = {"name": "clerk", "login": login, "password": password, "groups": [["add", [stock_group]]]}
    values |= {"companies": [["add", [company]]], "company": company}
    (user,) = rpc.call("model.res.user.create", [values], changes=True)

    def clerk() -> TrytonStock:
        return TrytonStock(TrytonRpc(rpc.url, rpc.database, login, password))

    before, allowed = till._read.stock(), clerk()
    assert allowed.stock() == before
    period = rpc.call("model.stock.period.create", [{"date": then, "company": company}], changes=True)
    rpc.call("model.stock.period.close", period, changes=True)
    try:
        after = till._read.stock()
        assert {k: v[0] for k, v in after.items()} == {k: v[0] for k, v in before.items()}
        assert any(version == f"p{period[0]}" for _, version in after.values())
        assert allowed.stock() == after
        change = {"groups": [["remove", [stock_group]], ["add", [sees_moves]]]}
        rpc.call("model.res.user.write", [user], change, changes=True)
        with pytest.raises(WmsRejected, match="Stock Period"):
            allowed.stock()  # it was allowed when it began: a refusal is no answer to guess from
        assert clerk().stock() == before, "added up from all moves"
    finally:
        rpc.call("model.stock.period.draft", period, changes=True)


def test_nights_of_faults(address: str) -> None:
    result = campaign("tryton", 14, 5000, tryton=address)
    assert {k: result[k] for k in WRONG} == dict.fromkeys(WRONG, 0)
    assert result["posted"] > 5 and result["faults"] > 20
