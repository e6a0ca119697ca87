"""Tasks of the built-in system, what a task means, and documents that are refused as a whole."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.ledger import MemoryLedger
from fakes.night import HOUR, T0, bundle, state, stock_map
from fakes.tasks import ROWS

from shelfscan.adapters.wms_builtin import BuiltinWms
from shelfscan.errors import WmsRejected, WmsTransient, WmsUnknown
from shelfscan.evaluation.faulty_wms import FaultyLine, MemoryWms
from shelfscan.model.bundle import WmsLocation
from shelfscan.ports import Ledger
from shelfscan.wms.document import CountDocument
from shelfscan.wms.port import Capabilities, Receipt
from shelfscan.wms.report import SyncReport
from shelfscan.wms.rules import ApprovalPolicy
from shelfscan.wms.sync import Retry, sync_run
from shelfscan.wms.tasks import CountTask, bins_of, problem_of, ref_of


def opened(folder: Path) -> BuiltinWms:
    return BuiltinWms.open(folder / "wms.sqlite", ROWS, bundle(ROWS).catalogue, clock=lambda: T0 + HOUR)


def test_wrong_tasks_are_named(tmp_path: Path) -> None:
    client = opened(tmp_path)
    with pytest.raises(WmsRejected, match="no stock of Z at L1"):
        client.post_task("L1", "Z")
    assert bins_of([CountTask("1", "L9"), CountTask("2", "L4", "E")], ROWS) == {"1": (), "2": ("b5",)}
    assert problem_of(CountTask("1", "L9"), ROWS) == "no shelf place is mapped to this location (L9)"
    assert problem_of(CountTask("2", "L4", skus=("D", "X", "Y")), ROWS) == "no shelf place of X, Y is mapped to L4"
    assert problem_of(CountTask("3", "L4", "E"), ROWS) == "" and ref_of([CountTask("4", "L4", problem="no")], "L4", "E") == ""


def test_a_file_of_before_there_were_tasks(tmp_path: Path) -> None:
    import sqlite3

    client = opened(tmp_path)
    client.pull_stock()
    with sqlite3.connect(tmp_path / "wms.sqlite") as c:
        c.execute("DROP TABLE count_tasks")
    assert client.pull_tasks() == []
    client.post_task("L1")
    assert len(client.pull_tasks()) == 1


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
