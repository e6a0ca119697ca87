"""Stock items whose status asks for a count: what the common suite cannot ask of the other systems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes.ledger import MemoryLedger
from fakes.night import HOUR, T0
from fakes.tasks import ROWS, Asks

from shelfscan.errors import BadInput, WmsAuth, WmsRejected
from shelfscan.evaluation.inventree_models import InvenTreeError
from shelfscan.evaluation.inventree_night import ATTENTION, InvenTreeTill
from shelfscan.evaluation.inventree_stub import RIGHTS, InvenTreeStub

OK, QUARANTINED = 10, 75


@pytest.fixture
def asks(tmp_path: Path, request: pytest.FixtureRequest) -> Asks:
    return Asks("inventree", tmp_path, request)


def item(asks: Asks, code: str, sku: str) -> Any:
    (row,) = asks.client.system.at(code, sku)
    return row


def test_an_answer_sets_the_status_back_and_says_what_was_counted(asks: Asks) -> None:
    asks.ask("L1", "A")
    assert asks.sync(MemoryLedger()).tasks[0].state == "closed"
    row = item(asks, "L1", "A")
    assert row["status"] == OK and row["quantity"] == 5
    newest = max((t for t in asks.client.system.track.values() if t["item"] == row["pk"]), key=lambda t: t["pk"])
    assert newest["deltas"] == {"status": OK} and newest["notes"] == "shelfscan m1: A posted: 5"


def test_nobody_asks_unless_a_status_is_configured(asks: Asks) -> None:
    asks.ask("L1", "A")
    sent: list[httpx.Request] = []

    class Heard(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            sent.append(request)
            return asks.client.stub.handle_request(request)  # type: ignore[no-any-return]

    off = InvenTreeTill(asks.client.system, ROWS, lambda stub: Heard(), ask_status=0)
    assert off.pull_tasks() == [] and sent == []
    off.close_task("1.1", "counted")
    assert item(asks, "L1", "A")["status"] == ATTENTION
    for wrong in (OK, QUARANTINED):
        with pytest.raises(BadInput, match="ask_status"):
            InvenTreeTill(asks.client.system, ROWS, ask_status=wrong)


def test_a_count_from_before_it_was_asked_for_is_no_answer(asks: Asks) -> None:
    refs = asks.client.ask("L2", at_ns=T0 + HOUR // 2)
    report = asks.sync(MemoryLedger())
    assert asks.open() == refs and report.tasks[0].state == "open"
    assert "counted before it was asked for" in report.tasks[0].text


def test_who_asks_again_is_not_answered_by_the_count_of_the_first_time(asks: Asks) -> None:
    (first,), system = asks.ask("L2"), asks.client.system
    pk = item(asks, "L2", "B")["pk"]
    system.change_status([pk], OK, "done by hand")
    (second,) = asks.client.ask("L2")
    assert first != second and asks.open() == [second]
    asks.client.close_task(first, "counted")
    assert asks.open() == [second] and item(asks, "L2", "B")["status"] == ATTENTION


def test_a_status_that_somebody_set_meanwhile_stays(asks: Asks) -> None:
    (ref,) = asks.ask("L2")
    asks.client.system.change_status([item(asks, "L2", "B")["pk"]], QUARANTINED, "wet")
    asks.client.close_task(ref, "counted")
    assert {r["status"] for r in asks.client.system.items.values() if r["pk"] == int(ref.partition(".")[0])} == {QUARANTINED}


def test_a_status_of_the_stores_own(asks: Asks) -> None:
    system = asks.client.system
    system.custom = {1050: ATTENTION}
    own = InvenTreeTill(system, ROWS, ask_status=1050)
    pk = item(asks, "L2", "B")["pk"]
    asks.ask("L1", "A")
    system.change_status([pk], 1050, "please", T0 - HOUR)
    (task,) = own.pull_tasks()
    assert (task.location_code, task.sku, task.note) == ("L2", "B", "please"), "only the one that is meant"
    own.close_task(task.ref, "counted")
    assert own.pull_tasks() == [] and item(asks, "L2", "B")["status"] == OK and len(asks.open()) == 1
    with pytest.raises(InvenTreeError, match="not a valid choice"):
        system.change_status([pk], 1051, "")


def test_what_no_count_of_pieces_can_answer_says_why(asks: Asks) -> None:
    asks.ask("L1", "A")
    row = item(asks, "L1", "A")
    for name, value, why in (("batch", "B1", "batch B1"), ("delete_on_deplete", True, "Delete on Deplete")):
        row[name] = value
        report = asks.sync(MemoryLedger())
        assert report.tasks[0].state == "open" and why in report.tasks[0].text
        row[name] = None if name == "batch" else False


def test_a_task_goes_with_its_stock_item(asks: Asks) -> None:
    """Before it is closed, or between the look and the request that closes it."""
    system = asks.client.system
    for sku, meanwhile in (("D", False), ("E", True)):
        (ref,) = asks.ask("L4", sku)
        pk = item(asks, "L4", sku)["pk"]
        if meanwhile:
            change = asks.client._api.change

            def gone(path: str, body: Any, pk: int = pk, change: Any = change) -> Any:
                system.delete(pk)
                return change(path, body)

            asks.client._api.change = gone
        else:
            system.delete(pk)
        asks.client.close_task(ref, "counted")
        assert asks.open() == [] and pk not in system.items


def test_a_missing_right_is_said(asks: Asks) -> None:
    (ref,) = asks.ask("L2")
    stub = InvenTreeStub(asks.client.system, RIGHTS - {"stock.change"})
    with pytest.raises(WmsAuth, match="lacks a role's right"):
        InvenTreeTill(asks.client.system, ROWS, lambda _: stub).close_task(ref, "counted")
    assert asks.open() == [ref]


def test_a_refusal_of_one_that_is_still_there_leaves_it_open(asks: Asks, monkeypatch: pytest.MonkeyPatch) -> None:
    (ref,) = asks.ask("L2")

    def refuses(*args: object) -> None:
        raise InvenTreeError({"status": ["is not a valid choice."]})

    monkeypatch.setattr(asks.client.system, "change_status", refuses)
    with pytest.raises(WmsRejected, match="valid choice"):
        asks.client.close_task(ref, "counted")
    report = asks.sync(MemoryLedger())
    assert report.ok and report.tasks[0].state == "open" and "not closed" in report.tasks[0].text
