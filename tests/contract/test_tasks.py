"""Counts that a warehouse system asks for, and documents that it refuses as a whole."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.ledger import MemoryLedger
from fakes.night import HOUR, T0, bundle, state, stock_map

from shelfscan.adapters.wms_builtin import BuiltinWms
from shelfscan.errors import WmsError, WmsRejected, WmsTransient, WmsUnknown
from shelfscan.evaluation.faulty_wms import FaultyLine, MemoryWms
from shelfscan.evaluation.webhook_stub import WebhookService, WebhookTill
from shelfscan.model.bundle import WmsLocation
from shelfscan.ports import Ledger
from shelfscan.wms.document import CountDocument
from shelfscan.wms.port import Capabilities, Receipt
from shelfscan.wms.report import SyncReport
from shelfscan.wms.rules import ApprovalPolicy
from shelfscan.wms.sync import Retry, sync_run
from shelfscan.wms.tasks import CountTask, bins_of

ROWS = (
    WmsLocation("L1", "shelf", "b1", "A", 7, 4),
    WmsLocation("L2", "shelf", "b2", "B", 3, 0),
    WmsLocation("L3", "site", "b3", "C", 9, 5),
    WmsLocation("L4", "shelf", "b4", "D", 2, 0),
    WmsLocation("L4", "shelf", "b5", "E", 2, 0),
)
UNSEEN_B5 = {"b5": 2.0}


class Asks:
    """A system of either kind, and how its staff ask it for counts."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, b = kind, bundle(ROWS)
        self.service = WebhookService(ROWS, b.catalogue, lambda: T0 + HOUR)
        self.client: Any = (
            BuiltinWms.open(folder / "wms.sqlite", ROWS, b.catalogue, clock=lambda: T0 + HOUR)
            if kind == "builtin"
            else WebhookTill(self.service, ROWS)
        )

    def ask(self, location: str, sku: str = "") -> str:
        if self.kind == "builtin":
            return str(self.client.post_task(location, sku, note="please"))
        ref = f"T/{len(self.service.tasks) + 1}"
        self.service.tasks[ref] = {"place": {"code": location}, "sku": sku, "note": "please", "due_at": "2030-01-01T06:00:00Z"}
        return ref


@pytest.fixture(params=["builtin", "webhook"])
def asks(request: pytest.FixtureRequest, tmp_path: Path) -> Asks:
    return Asks(request.param, tmp_path)


def sync(client: Any, ledger: Ledger, *, auto: bool = True, rows: tuple[WmsLocation, ...] = ROWS, **options: Any) -> SyncReport:
    bins = (state("b1", "A", 5), state("b2", "B", 3), state("b3", "C", 2), state("b4", "D", 2), state("b5", "E", 1))
    options = {"now_ns": T0 + HOUR, "sleep": lambda s: None, **options}
    policy = ApprovalPolicy(auto_post=auto)
    return sync_run(stock_map(*bins), bundle(rows), ledger, client, policy, mission_id="m1", **options)


def test_counts_answer_what_was_asked(asks: Asks) -> None:
    posted, agrees, whole, site = asks.ask("L1", "A"), asks.ask("L2"), asks.ask("L4"), asks.ask("L3")
    assert {t.location_code for t in asks.client.pull_tasks()} == {"L1", "L2", "L3", "L4"}
    ledger = MemoryLedger()
    dry = sync(asks.client, ledger, dry_run=True)
    assert {t.ref: t.state for t in dry.tasks}[agrees] == "closed" and len(asks.client.pull_tasks()) == 4
    report = sync(asks.client, ledger)
    said = {t.ref: t for t in report.tasks}
    assert {r: t.state for r, t in said.items()} == {posted: "closed", agrees: "closed", whole: "closed", site: "open"}
    assert "A posted: 5" in said[posted].text and "B agrees: 3" in said[agrees].text and "backroom" in said[site].text
    assert [t.ref for t in asks.client.pull_tasks()] == [site], "a lower bound answers nobody"
    sent = [CountDocument.from_json(dict(s.event.payload["doc"])) for s in ledger.read(kinds=("sync.pending",))]
    assert {d.wms_task_ref: [x.line_id for x in d.lines] for d in sent} == {posted: ["L1/A"], whole: ["L4/E"]}
    again = sync(asks.client, ledger)
    assert [t.ref for t in again.tasks] == [site]


def test_what_waits_for_a_person_stays_asked_for(asks: Asks) -> None:
    ref = asks.ask("L1")
    report = sync(asks.client, MemoryLedger(), auto=False)
    assert [(t.state, t.bins) for t in report.tasks] == [("open", ("b1",))] and "held" in report.tasks[0].text
    assert [t.ref for t in asks.client.pull_tasks()] == [ref]


def test_closing_twice_or_what_is_gone_is_no_error(asks: Asks) -> None:
    ref = asks.ask("L1")
    asks.client.close_task(ref, "first")
    asks.client.close_task(ref, "second")
    assert asks.client.pull_tasks() == []


def test_a_kill_between_count_and_answer_answers_later(asks: Asks) -> None:
    ref, ledger = asks.ask("L1"), MemoryLedger()
    close = asks.client.close_task
    asks.client.close_task = lambda ref, text: (_ for _ in ()).throw(WmsTransient("the line is cut"))
    report = sync(asks.client, ledger, retry=Retry(attempts=1))
    assert report.state == "degraded" and report.counts["posted"] == 2
    asks.client.close_task = close
    report = sync(asks.client, ledger)
    assert report.ok and [(t.ref, t.state) for t in report.tasks] == [(ref, "closed")] and asks.client.pull_tasks() == []


def test_wrong_tasks_are_named(tmp_path: Path) -> None:
    asks = Asks("builtin", tmp_path)
    with pytest.raises(WmsRejected, match="no stock of Z at L1"):
        asks.client.post_task("L1", "Z")
    asks = Asks("webhook", tmp_path)
    asks.service.tasks["1"] = {"place": {"code": "L1"}, "due_at": "soon"}
    with pytest.raises(WmsError, match="tasks: due_at is 'soon'"):
        asks.client.pull_tasks()
    assert bins_of([CountTask("1", "L9"), CountTask("2", "L4", "E")], ROWS) == {"1": (), "2": ("b5",)}


def test_a_file_of_before_there_were_tasks(tmp_path: Path) -> None:
    import sqlite3

    asks = Asks("builtin", tmp_path)
    asks.client.pull_stock()
    with sqlite3.connect(tmp_path / "wms.sqlite") as c:
        c.execute("DROP TABLE count_tasks")
    assert asks.client.pull_tasks() == []
    asks.ask("L1")
    assert len(asks.client.pull_tasks()) == 1


# Documents refused as a whole

WIDE = tuple(WmsLocation(f"L{n:02}", "shelf", f"b{n:02}", f"S{n:02}", 7, 0) for n in range(40))


class AllOrNothing(FaultyLine):
    """A system that refuses a whole document for one line, as those do that roll back."""

    def __init__(self, inner: MemoryWms, bad: set[str]) -> None:
        super().__init__(inner, random.Random(0), 0.0, lambda: None)
        self.bad, self.tries = bad, 0

    def capabilities(self) -> Capabilities:
        return replace(super().capabilities(), max_lines=100)

    def submit(self, doc: CountDocument) -> Receipt:
        self.tries += 1
        wrong = sorted(x.line_id for x in doc.lines if x.sku in self.bad)
        if wrong:
            raise WmsRejected(f"no such product: {wrong[0]}")
        return self._inner.submit(doc)


def wide(client: Any, ledger: Ledger, **options: Any) -> SyncReport:
    bins = tuple(state(r.bin_id, r.sku, 5) for r in WIDE)
    options = {"now_ns": T0 + HOUR, "sleep": lambda s: None, **options}
    return sync_run(stock_map(*bins), bundle(WIDE), ledger, client, ApprovalPolicy(auto_post=True), mission_id="m1", **options)


def test_one_bad_line_does_not_take_the_others_with_it() -> None:
    books = MemoryWms(WIDE, bundle(WIDE).catalogue, lambda: T0 + HOUR)
    client, ledger = AllOrNothing(books, {"S03", "S30"}), MemoryLedger()
    report = wide(client, ledger)
    rejected = {x.sku: x.reason for x in report.lines if x.outcome == "rejected"}
    assert set(rejected) == {"S03", "S30"} and "S03" in rejected["S03"]
    assert report.counts["posted"] == 38 and client.tries < 2 * 2 * 7
    assert wide(client, ledger) == report, "nothing goes out again"


def test_a_kill_between_the_halves_goes_on_with_them() -> None:
    class Cut(AllOrNothing):
        left = 3

        def submit(self, doc: CountDocument) -> Receipt:
            if self.left == 0:
                raise WmsTransient("down")
            self.left -= 1
            return super().submit(doc)

    books = MemoryWms(WIDE, bundle(WIDE).catalogue, lambda: T0 + HOUR)
    client, ledger = Cut(books, {"S03"}), MemoryLedger()
    assert wide(client, ledger, retry=Retry(attempts=1)).state == "degraded"
    client.left = 1000
    report = wide(client, ledger)
    assert report.ok and report.counts["posted"] == 39 and report.counts["rejected"] == 1
    assert sum(m.kind == "count" for m in books.pull_movements(0)) == 39


def test_a_document_that_may_have_arrived_is_not_split() -> None:
    """Its halves would meet the request that got stuck."""
    books = MemoryWms(WIDE, bundle(WIDE).catalogue, lambda: T0 + HOUR)

    class Stuck(AllOrNothing):
        def submit(self, doc: CountDocument) -> Receipt:
            if self.tries == 0:
                self.tries += 1
                raise WmsUnknown("timeout")
            return super().submit(doc)

    ledger = MemoryLedger()
    report = wide(Stuck(books, {"S03"}), ledger)
    assert report.counts["rejected"] == 40 and not ledger.read(kinds=("sync.split",))


def test_a_system_that_refuses_everything_is_not_asked_line_by_line() -> None:
    rows = tuple(replace(r) for r in WIDE)
    client = AllOrNothing(MemoryWms(rows, bundle(rows).catalogue, lambda: T0 + HOUR), {r.sku for r in rows})
    report = wide(client, MemoryLedger())
    assert report.counts["rejected"] == 40 and client.tries <= 2 * 64 + 1
