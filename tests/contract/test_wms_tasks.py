"""Counts that a system asks for: every system that does passes this, and none is closed by what was not counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.ledger import MemoryLedger
from fakes.sshd import Sshd
from fakes.tasks import KINDS, Asks
from fakes.tryton import running

from shelfscan.errors import WmsRejected, WmsTransient, WmsUnknown
from shelfscan.wms.document import CountDocument
from shelfscan.wms.report import SyncReport, TaskAnswer
from shelfscan.wms.sync import Retry

LONG = pytest.param("tryton", marks=[pytest.mark.long, pytest.mark.timeout(900)])


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def tryton() -> Iterator[str]:
    with running() as address:
        yield address


@pytest.fixture(params=[*KINDS, LONG])
def asks(request: pytest.FixtureRequest, tmp_path: Path) -> Asks:
    return Asks(request.param, tmp_path, request)


def said(report: SyncReport) -> dict[str, TaskAnswer]:
    return {t.ref: t for t in report.tasks}


def states(report: SyncReport, refs: list[str]) -> set[str]:
    answers = said(report)
    return {answers[r].state if r in answers else "gone" for r in refs}


def test_what_is_asked_for_is_known_with_its_places(asks: Asks) -> None:
    assert asks.open() == []
    whole, one = asks.ask("L4"), asks.ask("L1", "A")
    tasks = {t.ref: t for t in asks.client.pull_tasks()}
    assert set(tasks) == {*whole, *one} and all(isinstance(t.ref, str) and t.ref for t in tasks.values())
    assert {asks.plain(t.location_code) for t in tasks.values()} == {"L1", "L4"}
    assert [asks.plain(s) for s in tasks[one[0]].products] == ["A"]
    covered = {(t.location_code, r.sku) for t in tasks.values() for r in asks.rows if t.covers(r.location_code, r.sku)}
    assert covered == {(asks.name("L1"), asks.name("A")), (asks.name("L4"), asks.name("D")), (asks.name("L4"), asks.name("E"))}


def test_counts_answer_what_was_asked(asks: Asks) -> None:
    before = asks.counts()
    posted, agrees, whole, site = asks.ask("L1", "A"), asks.ask("L2"), asks.ask("L4"), asks.ask("L3")
    everything = {*posted, *agrees, *whole, *site}
    ledger = MemoryLedger()
    dry = asks.sync(ledger, dry_run=True)
    assert set(asks.open()) == everything, "a dry run closes nothing"
    report = asks.sync(ledger)
    assert report.ok and states(report, site) == {"open"}
    if not asks.closes:
        assert all(t.state == "open" for t in report.tasks) and set(asks.open()) == everything
        text = said(report)[posted[0]].text
        assert "enter the count in SAP's physical inventory document" in text and "counted: A 5" in text
        return
    assert states(dry, agrees) == {"closed"}
    assert states(report, posted + agrees + whole) == {"closed"}
    assert f"{asks.name('A')} posted: 5" in said(report)[posted[0]].text
    assert f"{asks.name('B')} agrees: 3" in said(report)[agrees[0]].text
    assert asks.open() == site, "a lower bound answers nobody"
    assert asks.stock() == {("L1", "A"): 5, ("L2", "B"): 3, ("L3", "C"): 9, ("L4", "D"): 2, ("L4", "E"): 1}
    assert asks.counts() - before == 2, "closing moves nothing"
    sent = [CountDocument.from_json(dict(s.event.payload["doc"])) for s in ledger.read(kinds=("sync.pending",))]
    lines = {d.wms_task_ref: [asks.plain(x.sku) for x in d.lines] for d in sent}
    assert lines == {posted[0]: ["A"], whole[-1]: ["E"]}
    again = asks.sync(ledger)
    assert [t.ref for t in again.tasks] == site and asks.counts() - before == 2


def test_what_waits_for_a_person_stays_asked_for(asks: Asks) -> None:
    refs = asks.ask("L1", "A")
    report = asks.sync(MemoryLedger(), auto=False)
    assert [(t.state, t.bins) for t in report.tasks] == [("open", ("b1",))]
    assert "held" in report.tasks[0].text or not asks.closes
    assert asks.open() == refs


def test_an_unseen_place_answers_nothing(asks: Asks) -> None:
    refs, whole = asks.ask("L2", "B"), asks.ask("L4")
    report = asks.sync(MemoryLedger(), unseen=("b2", "b5"))
    assert states(report, refs) == {"open"} and set(refs) <= set(asks.open())
    assert said(report)[whole[-1]].state == "open" and whole[-1] in asks.open(), "half of a location is not all of it"


def test_a_refused_or_outdated_count_leaves_it_open(asks: Asks) -> None:
    refs, submit = asks.ask("L1", "A"), asks.client.submit

    def sold(doc: Any) -> Any:
        asks.client.post_movement(asks.name("L1"), asks.name("A"), -1)
        return submit(doc)

    asks.client.submit = sold
    report = asks.sync(MemoryLedger())
    assert report.counts["conflict"] + report.counts["rejected"] + report.counts["recount"] >= 1
    assert states(report, refs) == {"open"} and asks.open() == refs


def test_what_moves_while_it_is_compared_answers_nothing(asks: Asks) -> None:
    """Two come after stock was read and before movements are: 7 - 2 looks like the 5 that were counted, and was never there."""
    refs, pull = asks.ask("L1", "A"), asks.client.pull_movements

    def delivered(since_ns: int) -> Any:
        asks.client.pull_movements = pull
        asks.client.post_movement(asks.name("L1"), asks.name("A"), 2)
        return pull(since_ns)

    asks.client.pull_movements = delivered
    ledger, at = MemoryLedger(), asks.now() if asks.wall else None
    report = asks.sync(ledger, at=at)
    assert next(x for x in report.lines if x.sku == asks.name("A")).outcome == "equal"
    assert states(report, refs) == {"open"} and asks.open() == refs
    assert "moved while it was compared" in report.tasks[0].text or not asks.closes
    assert states(asks.sync(ledger, at=at), refs) == {"open"} and asks.open() == refs


def test_what_nobody_maps_is_said_and_the_rest_goes_through(asks: Asks) -> None:
    agrees, whole, other = asks.ask("L2"), asks.ask("L4"), asks.ask("L1")
    rows = tuple(r for r in asks.rows if r.bin_id not in ("b1", "b5"))
    report = asks.sync(MemoryLedger(), rows=rows)
    answers = said(report)
    assert answers[whole[-1]].state == "open" and whole[-1] in asks.open()
    assert answers[other[0]].state == "open" and answers[other[0]].bins == ()
    if asks.closes:
        assert "no shelf place is mapped to this location" in answers[other[0]].text
        assert asks.name("E") in answers[whole[-1]].text and "mapped" in answers[whole[-1]].text
        assert states(report, agrees) == {"closed"}, "and only what cannot be answered stays"


def test_closing_twice_or_what_is_gone_is_no_error(asks: Asks) -> None:
    (ref,) = asks.ask("L2")
    before, moved = asks.stock(), asks.counts()
    if not asks.closes:
        with pytest.raises(WmsRejected, match="MI04"):
            asks.client.close_task(ref, "counted")
        return
    asks.client.close_task(ref, "first")
    asks.client.close_task(ref, "second")
    asks.client.close_task("999999", "there is no such task")
    assert asks.open() == [] and asks.stock() == before and asks.counts() == moved


def test_a_kill_between_count_and_answer_answers_later(asks: Asks) -> None:
    refs, ledger, before = asks.ask("L2", "B"), MemoryLedger(), asks.counts()
    close = asks.client.close_task

    def cut(ref: str, text: str) -> None:
        raise WmsTransient("the line is cut")

    asks.client.close_task = cut
    report = asks.sync(ledger, retry=Retry(attempts=1))
    assert report.counts["posted"] == 2 and asks.open() == refs
    assert report.state == ("degraded" if asks.closes else "done")
    asks.client.close_task = close
    report = asks.sync(ledger)
    assert report.ok and states(report, refs) == {"closed" if asks.closes else "open"}
    assert asks.counts() - before == 2 and asks.open() == ([] if asks.closes else refs)


def test_an_answer_that_is_lost_is_not_given_twice(asks: Asks) -> None:
    refs, before = asks.ask("L2", "B"), asks.counts()
    close, calls = asks.client.close_task, []

    def lost(ref: str, text: str) -> None:
        calls.append(ref)
        close(ref, text)
        if len(calls) == 1:
            raise WmsUnknown("the answer is lost")

    asks.client.close_task = lost
    report = asks.sync(MemoryLedger())
    if asks.closes:
        assert calls == refs * 2 and states(report, refs) == {"closed"} and asks.open() == []
    assert report.ok and asks.counts() - before == 2


def test_two_tasks_for_one_place_are_both_answered(asks: Asks) -> None:
    if asks.kind in ("odoo", "inventree", "sap"):
        pytest.skip("it knows one request for a place")
    first, second = asks.ask("L1"), asks.ask("L1", "A")
    before = asks.counts()
    report = asks.sync(MemoryLedger())
    assert states(report, first + second) == {"closed"} and asks.counts() - before == 2 and asks.open() == []


def test_several_products_are_answered_together(asks: Asks) -> None:
    refs = asks.ask("L4", "D", "E")
    report = asks.sync(MemoryLedger(), unseen=("b5",))
    assert said(report)[refs[-1]].state == "open" and refs[-1] in asks.open()
    assert "E" in {asks.plain(s) for s in said(report)[refs[-1]].sku.split(", ")}
