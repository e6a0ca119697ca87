"""Counts that people ask for in a real Tryton: what is theirs stays theirs, and no count is applied twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from fakes.ledger import MemoryLedger
from fakes.tasks import Asks
from fakes.tryton import running

from shelfscan.adapters.store_day import StoreDays
from shelfscan.adapters.tryton_tasks import TrytonTasks
from shelfscan.errors import WmsConflict, WmsRejected, WmsTransient

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def tryton() -> Iterator[str]:
    with running() as address:
        yield address


@pytest.fixture
def asks(request: pytest.FixtureRequest, tmp_path: Path) -> Asks:
    return Asks("tryton", tmp_path, request)


def inventory(asks: Asks, ref: str) -> dict[str, Any]:
    return dict(asks.client.rpc.read("stock.inventory", [["id", "=", int(ref)]], ["number", "state"])[0])


def lines(asks: Asks, ref: str) -> list[dict[str, Any]]:
    fields = ["product", "quantity", "expected_quantity"]
    return list(asks.client.rpc.read("stock.inventory.line", [["inventory", "=", int(ref)]], fields))


def enter(asks: Asks, ref: str, units: float) -> None:
    """As Tryton's counting wizard does: into the line alone, so that nothing else is brought up to date."""
    ids = [int(x["id"]) for x in lines(asks, ref)]
    asks.client.rpc.call("model.stock.inventory.line.write", ids, {"quantity": units}, changes=True)


def confirm(asks: Asks, ref: str) -> None:
    asks.client.rpc.call("model.stock.inventory.confirm", [int(ref)], changes=True)


def test_an_answered_request_is_cancelled_and_says_by_whom(asks: Asks) -> None:
    (ref,) = asks.ask("L1", "A")
    before = inventory(asks, ref)["number"]
    asks.sync(MemoryLedger())
    after = inventory(asks, ref)
    assert after["state"] == "cancelled" and lines(asks, ref)[0]["quantity"] is None
    assert after["number"] == f"{before or ''}; shelfscan m1: {asks.name('A')} posted: 5"
    with pytest.raises(WmsRejected, match='You can not call "confirm"'):
        confirm(asks, ref)
    assert asks.stock()["L1", "A"] == 5, "it cannot come back"


def test_a_request_for_later_is_asked_for_later(asks: Asks) -> None:
    (ref,) = asks.ask("L2", "B")
    assert asks.open() == [ref]
    day = date.today() + timedelta(days=2)
    parts = {"__class__": "date", "year": day.year, "month": day.month, "day": day.day}
    asks.client.rpc.call("model.stock.inventory.write", [int(ref)], {"date": parts}, changes=True)
    assert asks.open() == []


def test_a_request_is_asked_for_from_the_stores_midnight_on(asks: Asks) -> None:
    (ref,) = asks.ask("L2", "B")
    day = date(2030, 6, 2)
    parts = {"__class__": "date", "year": day.year, "month": day.month, "day": day.day}
    asks.client.rpc.call("model.stock.inventory.write", [int(ref)], {"date": parts}, changes=True)
    midnight = int(datetime(2030, 6, 1, 22, tzinfo=timezone.utc).timestamp()) * 1_000_000_000  # in Berlin, in summer
    for minutes, due in ((-1, []), (1, [(ref, midnight)])):
        days = StoreDays(ZoneInfo("Europe/Berlin"), lambda m=minutes: midnight + m * 60_000_000_000)  # type: ignore[misc]
        tasks = TrytonTasks(asks.client.rpc, days).open(*asks.client.known())
        assert [(t.ref, t.due_ns) for t in tasks] == due


def test_where_somebody_counts_nothing_is_posted_nor_closed(asks: Asks) -> None:
    """Both would post the same difference: 7 - 2 - 2."""
    (ref,) = asks.ask("L1", "A")
    enter(asks, ref, 5)
    report = asks.sync(MemoryLedger())
    (answer,) = report.tasks
    assert answer.state == "open" and "somebody is counting" in answer.text
    line = next(x for x in report.lines if x.sku == asks.name("A"))
    assert line.outcome == "conflict" and "both would post the difference" in line.reason
    assert asks.stock()["L1", "A"] == 7 and inventory(asks, ref)["state"] == "draft"
    confirm(asks, ref)
    assert asks.stock()["L1", "A"] == 5, "theirs, once"


def test_a_request_that_stays_open_expects_what_is_there_now(asks: Asks) -> None:
    """One product of two was posted; a person then counts the request out with the wizard, which saves no expectation."""
    (ref,) = asks.ask("L4", "D", "E")
    report = asks.sync(MemoryLedger(), unseen=("b4",))
    assert [t.state for t in report.tasks] == ["open"] and asks.stock()["L4", "E"] == 1
    assert sorted(x["expected_quantity"] for x in lines(asks, ref)) == [1, 2]
    products = asks.client.known()[1]
    for x in lines(asks, ref):
        units = 1 if x["product"] == products[asks.name("E")] else 2
        asks.client.rpc.call("model.stock.inventory.line.write", [int(x["id"])], {"quantity": units}, changes=True)
    confirm(asks, ref)
    assert asks.stock()["L4", "E"] == 1 and asks.stock()["L4", "D"] == 2


def test_what_somebody_saved_meanwhile_is_not_cancelled(asks: Asks) -> None:
    (ref,) = asks.ask("L2", "B")
    call = asks.client.rpc.call

    def saved(method: str, *params: Any, **options: Any) -> Any:
        if method == "model.stock.inventory.write" and options.get("context"):
            time.sleep(0.05)
            call(method, [int(ref)], {"number": "counted by Anna"}, changes=True)
        return call(method, *params, **options)

    asks.client.rpc.call = saved
    with pytest.raises(WmsConflict):
        asks.client.close_task(ref, "counted")
    asks.client.rpc.call = call
    assert inventory(asks, ref)["state"] == "draft" and inventory(asks, ref)["number"] == "counted by Anna"


@pytest.mark.parametrize("what", ["write", "cancel"])
def test_a_doubled_request_is_no_error(asks: Asks, what: str) -> None:
    (ref,) = asks.ask("L2", "B")
    call, doubled = asks.client.rpc.call, []

    def twice(method: str, *params: Any, **options: Any) -> Any:
        if method == f"model.stock.inventory.{what}" and not doubled:
            doubled.append(method)
            call(method, *params, **options)
        return call(method, *params, **options)

    asks.client.rpc.call = twice
    asks.client.close_task(ref, "shelfscan m1: B agrees: 3")
    assert doubled and inventory(asks, ref)["state"] == "cancelled"


def test_a_kill_between_note_and_cancelling_goes_on_with_it(asks: Asks) -> None:
    (ref,) = asks.ask("L2", "B")
    call = asks.client.rpc.call

    def cut(method: str, *params: Any, **options: Any) -> Any:
        if method == "model.stock.inventory.cancel":
            raise WmsTransient("the line is cut")
        return call(method, *params, **options)

    asks.client.rpc.call = cut
    with pytest.raises(WmsTransient):
        asks.client.close_task(ref, "shelfscan m1: B agrees: 3")
    asks.client.rpc.call = call
    assert asks.open() == [ref]
    asks.client.close_task(ref, "shelfscan m1: B agrees: 3")
    assert inventory(asks, ref)["state"] == "cancelled" and inventory(asks, ref)["number"].count("agrees") == 1


def test_what_was_counted_before_it_was_asked_for_answers_nothing(asks: Asks) -> None:
    ledger = MemoryLedger()
    at = asks.now()
    time.sleep(1.2)
    (ref,) = asks.ask("L2", "B")
    report = asks.sync(ledger, at=at)
    (answer,) = report.tasks
    assert answer.state == "open" and "was counted before it was asked for" in answer.text and asks.open() == [ref]
    assert asks.sync(ledger).tasks[0].state == "closed"


def test_what_has_no_code_is_said(asks: Asks) -> None:
    (other,) = asks.ask("L2", "B")
    rpc = asks.client.rpc
    (storage,) = [int(r["id"]) for r in rpc.read("stock.location", [["type", "=", "storage"], ["code", "=", "STO"]], [])][:1]
    rpc.call("model.stock.location.write", [storage], {"code": None}, changes=True)
    values = {"location": storage, "company": rpc.company()}
    (ref,) = rpc.call("model.stock.inventory.create", [values], changes=True)
    try:
        problems = {t.ref: t.problem for t in asks.client.pull_tasks()}
        assert problems == {other: "", str(ref): f"location {storage} of Tryton has no code"}
        report = asks.sync(MemoryLedger())
        assert {t.ref: t.state for t in report.tasks} == {other: "closed", str(ref): "open"}
    finally:
        rpc.call("model.stock.location.write", [storage], {"code": "STO"}, changes=True)
