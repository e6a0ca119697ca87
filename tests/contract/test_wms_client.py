"""Every warehouse system passes this; and whatever happens on the line to it, a count takes effect once or not at all."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.ledger import MemoryLedger
from fakes.night import HOUR, MINUTE, T0, bundle, state, stock_map
from fakes.sshd import Sshd

from shelfscan.adapters.ledger_sqlite import SqliteLedger
from shelfscan.adapters.wms_builtin import BuiltinWms
from shelfscan.errors import BadInput, WmsConflict, WmsRejected, WmsTransient, WmsUnknown
from shelfscan.evaluation.faulty_wms import FaultyLine, MemoryWms
from shelfscan.evaluation.folder_stub import FolderSystem, FolderTill
from shelfscan.evaluation.inventree_night import InvenTreeTill
from shelfscan.evaluation.odoo_night import OdooTill
from shelfscan.evaluation.sap_night import SapTill
from shelfscan.evaluation.sync_campaign import WRONG, FaultNight
from shelfscan.evaluation.webhook_stub import WebhookService, WebhookTill
from shelfscan.model.bundle import WmsLocation
from shelfscan.ports import Event, Ledger
from shelfscan.wms.document import CountDocument, CountLine
from shelfscan.wms.report import SyncReport
from shelfscan.wms.rules import ApprovalPolicy, Decision
from shelfscan.wms.sync import Retry, decide, sync_run

ROWS = (
    WmsLocation("L1", "shelf", "b1", "A", 7, 4),
    WmsLocation("L2", "shelf", "b2", "B", 3, 0),
    WmsLocation("L3", "site", "b3", "C", 9, 5),
)
Make = Callable[[Callable[[], int]], Any]


def with_rooms(rows: tuple[WmsLocation, ...], stock: list[Any]) -> list[Any]:
    """Some keep a backroom as a location of its own; the number of these tests is put beside its stock."""
    rooms = {(r.location_code, r.sku): r.backroom for r in rows}
    return [replace(s, backroom=rooms[s.location_code, s.sku]) for s in stock]


class Odoo(OdooTill):
    def pull_stock(self) -> list[Any]:
        return with_rooms(self.rows, super().pull_stock())


class Sap(SapTill):
    def pull_stock(self) -> list[Any]:
        return with_rooms(self.rows, super().pull_stock())


class InvenTree(InvenTreeTill):
    def pull_stock(self) -> list[Any]:
        return with_rooms(self.rows, super().pull_stock())


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()


@pytest.fixture(
    params=["builtin", "memory", "odoo-json2", "odoo-jsonrpc", "folder", "folder-sftp", "webhook", "sap", "inventree"]
)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    def build(clock: Callable[[], int]) -> Any:
        b = bundle(ROWS)
        if request.param == "builtin":
            return BuiltinWms.open(tmp_path / "wms.sqlite", ROWS, b.catalogue, clock=clock)
        if request.param.startswith("odoo"):
            return Odoo.of(ROWS, b.catalogue, clock, request.param.removeprefix("odoo-"))
        if request.param == "sap":
            return Sap.of(ROWS, b.catalogue, clock)
        if request.param == "inventree":
            return InvenTree.of(ROWS, b.catalogue, clock)
        if request.param == "webhook":
            return WebhookTill(WebhookService(ROWS, b.catalogue, clock), ROWS)
        if request.param.startswith("folder"):
            system = FolderSystem(tmp_path / "wms", ROWS, b.catalogue, clock)
            files = request.getfixturevalue("sshd").exchange(system.root) if request.param == "folder-sftp" else None
            return FolderTill(system, ROWS, files=files)
        return MemoryWms(ROWS, b.catalogue, clock)

    return build


@pytest.fixture
def wms(make: Make) -> Any:
    return make(lambda: T0 + HOUR)


def line(code: str, sku: str, qty: int, version: str, number: int = 1) -> CountLine:
    return CountLine(number, code, sku, "", qty, T0, T0, 0.0, version, 1.0, zero_confirmed=qty == 0)


def doc(key: str, *lines: CountLine) -> CountDocument:
    return CountDocument(key, "store-1", "m1", T0, lines)


def stock(wms: Any) -> dict[str, tuple[float, float]]:
    return {s.location_code: (s.on_hand, s.backroom) for s in wms.pull_stock()}


def versions(wms: Any) -> dict[str, str]:
    return {s.location_code: s.version for s in wms.pull_stock()}


def test_pulls_agree_with_each_other(wms: Any) -> None:
    places = {p.location_code: p.scope for p in wms.pull_locations()}
    assert places == {"L1": "shelf", "L2": "shelf", "L3": "site"}
    assert {s.sku for s in wms.pull_stock()} == {p.sku for p in wms.pull_products()}
    assert stock(wms) == {"L1": (7, 4), "L2": (3, 0), "L3": (9, 5)}
    assert wms.health().ok and wms.pull_movements(0) == []


def test_a_document_applies_once_and_is_found_again(wms: Any) -> None:
    v = versions(wms)
    d = doc("k1", line("L1", "A", 5, v["L1"]), line("L2", "B", 0, v["L2"], 2))
    assert wms.find("k1") is None
    receipt = wms.submit(d)
    assert [s.result for s in receipt.lines] == ["applied", "applied"]
    assert wms.submit(d) == receipt == wms.find("k1") == wms.status(receipt.receipt_id)
    assert stock(wms)["L1"] == (5, 4), "the backroom is not the shelf's"
    assert [(m.delta, m.reference) for m in wms.pull_movements(0)] == [(-2, "k1"), (-3, "k1")]
    assert versions(wms)["L1"] != v["L1"]


def test_a_key_belongs_to_one_document(wms: Any) -> None:
    wms.submit(doc("k1", line("L1", "A", 5, versions(wms)["L1"])))
    with pytest.raises(WmsRejected):
        wms.submit(doc("k1", line("L1", "A", 6, versions(wms)["L1"])))
    assert stock(wms)["L1"] == (5, 4)


def test_what_moved_is_a_conflict_and_the_rest_goes_through(wms: Any) -> None:
    v = versions(wms)
    wms.post_movement("L1", "A", -1)
    receipt = wms.submit(doc("k1", line("L1", "A", 5, v["L1"]), line("L2", "B", 2, v["L2"], 2)))
    assert [s.result for s in receipt.lines] == ["conflict", "applied"]
    assert stock(wms) == {"L1": (6, 4), "L2": (2, 0), "L3": (9, 5)}


def test_wrong_lines_say_why_and_a_site_is_not_a_shelf(wms: Any) -> None:
    v = versions(wms)
    lines = (
        line("L3", "C", 1, v["L3"]),
        line("L9", "A", 1, "1", 2),
        line("L1", "B", 1, "1", 3),
        line("L2", "B", 4, v["L2"], 4),
    )
    receipt = wms.submit(doc("k1", *lines))
    assert [s.result for s in receipt.lines] == ["rejected", "rejected", "rejected", "applied"]
    assert all(s.message for s in receipt.lines[:3])
    assert stock(wms)["L3"] == (9, 5)


def test_movements_since(wms: Any) -> None:
    wms.post_movement("L1", "A", -1, moved_at_ns=T0)
    wms.post_movement("L1", "A", -2, moved_at_ns=T0 + 5 * MINUTE)
    assert [m.delta for m in wms.pull_movements(T0 + 2 * MINUTE)] == [-2], "some systems keep whole minutes only"
    with pytest.raises(WmsRejected):
        wms.post_movement("L1", "Z", -1)


def test_one_writer(wms: Any) -> None:
    with wms.writer():
        pass
    other = BuiltinWms(wms._path, busy_s=0.2) if isinstance(wms, BuiltinWms) else wms
    with wms.writer(), pytest.raises(WmsTransient), other.writer():
        pass


# One night with a sale at every possible moment, and faults everywhere

CLEAN = dict.fromkeys(WRONG, 0)


def campaign(nights: list[FaultNight]) -> Counter[str]:
    total: Counter[str] = Counter()
    for night in nights:
        total.update(night.check(night.run()))
    return total


def test_three_hundred_nights_of_faults() -> None:
    total = campaign([FaultNight(seed, MemoryWms, MemoryLedger()) for seed in range(300)])
    assert {k: total[k] for k in CLEAN} == CLEAN
    assert total["posted"] > 200 and total["faults"] > 200, "faults and counts must really have happened"


def test_nights_of_faults_on_the_built_in_system(tmp_path: Path) -> None:
    def builtin(seed: int) -> Any:
        return lambda rows, catalogue, clock: BuiltinWms.open(tmp_path / f"{seed}.sqlite", rows, catalogue, clock=clock)

    ledgers = [SqliteLedger(tmp_path / f"{seed}.ledger", site="store-1") for seed in range(12)]
    total = campaign([FaultNight(1000 + seed, builtin(seed), ledger) for seed, ledger in enumerate(ledgers)])
    assert {k: total[k] for k in CLEAN} == CLEAN
    assert total["posted"] > 5 and total["faults"] > 5


def test_the_checks_see_a_bridge_that_does_wrong() -> None:
    """The campaign's own oracle: a system that forgets keys and versions is found out."""

    class Naive(MemoryWms):
        def find(self, key: str) -> None:
            return None

        def submit(self, doc: CountDocument) -> Any:
            self.counts.clear()
            newest = {k: s.version for k, s in self.stock.items()}
            lines = tuple(replace(x, expected_version=newest[x.location_code, x.sku]) for x in doc.lines)
            return super().submit(replace(doc, lines=lines))

    total = campaign([FaultNight(seed, Naive, MemoryLedger()) for seed in range(60)])
    assert total["doubled"] > 0 and total["overwritten"] > 0


# The driver


def small(
    wms: Any, *, units: float = 5, ledger: Ledger | None = None, auto: bool = True, **options: Any
) -> tuple[SyncReport, Ledger]:
    ledger = ledger or MemoryLedger()
    bins = (state("b1", "A", units), state("b2", "B", 3), state("b3", "C", 2))
    options = {"now_ns": T0 + HOUR, "sleep": lambda s: None, **options}
    policy = ApprovalPolicy(auto_post=auto)
    return sync_run(stock_map(*bins), bundle(ROWS), ledger, wms, policy, mission_id="m1", **options), ledger


def test_again_after_success_changes_nothing(wms: Any) -> None:
    report, ledger = small(wms)
    assert report.counts["posted"] == 1 and report.counts["equal"] == 1 and report.counts["ignored"] == 1
    before, seq = stock(wms), ledger.read()[-1].seq
    again, _ = small(wms, ledger=ledger)
    assert again == report and stock(wms) == before and ledger.read()[-1].seq == seq
    wms.post_movement("L1", "A", -1)
    third, _ = small(wms, ledger=ledger)
    assert third.counts["posted"] == 1 and stock(wms)["L1"] == (4, 4)


def test_a_dry_run_writes_nothing(wms: Any) -> None:
    report, ledger = small(wms, dry_run=True)
    assert report.counts["pending"] == 1 and ledger.read() == [] and stock(wms)["L1"] == (7, 4)


def test_a_lost_ledger_does_not_post_twice(wms: Any) -> None:
    small(wms)
    report, _ = small(wms)
    assert report.counts["posted"] == 0 and stock(wms)["L1"] == (5, 4)
    assert sum(m.kind == "count" for m in wms.pull_movements(0)) == 1


def test_a_person_approves_and_the_guards_stay(wms: Any) -> None:
    report, ledger = small(wms, units=0)
    (held,) = [x for x in report.lines if x.outcome == "held"]
    decide(ledger, "m1", report.wms, Decision(held.line_id, True, "anna", "looked", T0 + HOUR, 0, 7.0))
    wms.post_movement("L1", "A", -1, moved_at_ns=T0 + HOUR)
    moved, _ = small(wms, units=0, ledger=ledger)
    assert moved.counts["recount"] == 1 and stock(wms)["L1"] == (6, 4)


def test_an_approved_zero_posts(wms: Any) -> None:
    report, ledger = small(wms, units=0, auto=False)
    decide(ledger, "m1", report.wms, Decision("L1/A", True, "anna", "looked", T0 + HOUR, 0, 7.0))
    after, _ = small(wms, units=0, ledger=ledger, auto=False)
    assert after.counts["posted"] == 1 and stock(wms)["L1"] == (0, 4)


def test_what_waited_too_long_is_held_not_sent(wms: Any) -> None:
    ledger = MemoryLedger()

    class Down(FaultyLine):
        def submit(self, doc: CountDocument) -> Any:
            raise WmsTransient("down")

    report, _ = small(Down(wms, random.Random(0), 0.0, lambda: None), ledger=ledger)
    assert report.state == "degraded" and report.counts["pending"] == 1 and "down" in report.text
    late, _ = small(wms, ledger=ledger, now_ns=T0 + 20 * HOUR)
    assert late.ok and late.counts["recount"] == 1 and stock(wms)["L1"] == (7, 4)
    assert [s.event.kind for s in ledger.read(kinds=("sync.held",))] == ["sync.held"]


@pytest.mark.parametrize("then", ["refused", "held"])
def test_a_request_that_arrives_after_all_is_noticed(wms: Any, then: str) -> None:
    """Sent and stuck; the second try is refused, or it is too late for one; then the first arrives."""
    stuck: list[CountDocument] = []

    class Stuck(FaultyLine):
        def submit(self, doc: CountDocument) -> Any:
            if not stuck:
                stuck.append(doc)
                raise WmsUnknown("timeout")
            raise WmsConflict("no")

    line_ = Stuck(wms, random.Random(0), 0.0, lambda: None)
    once = Retry(attempts=1)
    _, ledger = small(line_, retry=once)
    later = {"now_ns": T0 + (20 if then == "held" else 1) * HOUR, "retry": once, "ledger": ledger}
    report, _ = small(line_, **later)
    assert report.counts["recount" if then == "held" else "conflict"] == 1
    wms.submit(stuck[0])
    report, _ = small(wms, **later)
    assert report.counts["posted"] == 1 and stock(wms)["L1"] == (5, 4)
    assert small(wms, **later)[0] == report


def test_the_scans_say_when_a_bin_was_looked_at_first(wms: Any) -> None:
    """A sale between two looks of the same bin counts as after the observation."""
    ledger = MemoryLedger()
    for n, stamp in enumerate((T0 - 20 * MINUTE, T0)):
        scan = {"mission_id": "m1", "stamp_ns": stamp, "coverage": [{"bin_id": "b1"}, {"bin_id": "b2"}, {"bin_id": "b3"}]}
        ledger.append([Event("bay_scan", f"bay_scan/m1/{n}", stamp, scan)])
    wms.post_movement("L1", "A", -1, moved_at_ns=T0 - 10 * MINUTE)
    report, _ = small(wms, ledger=ledger)
    assert report.counts["posted"] == 0 and report.counts["recount"] == 1


# The built-in system as a file


def test_builtin_that_is_down(tmp_path: Path) -> None:
    b = bundle(ROWS)
    gone = BuiltinWms(tmp_path / "wms.sqlite")
    for call in (gone.pull_stock, lambda: gone.find("k"), lambda: gone.submit(doc("k", line("L1", "A", 5, "1")))):
        with pytest.raises(WmsTransient, match="no such database"):
            call()
    assert not gone.health().ok
    report, _ = small(BuiltinWms.open(tmp_path / "absent" / "wms.sqlite", ROWS, b.catalogue))
    assert report.state == "degraded" and report.counts["posted"] == 0
    (tmp_path / "bad.sqlite").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(WmsTransient):
        BuiltinWms(tmp_path / "bad.sqlite").pull_stock()


def test_builtin_that_is_locked_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "wms.sqlite"
    wms = BuiltinWms.open(path, ROWS, bundle(ROWS).catalogue, busy_s=0.05)
    wms.pull_stock()
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    report, ledger = small(wms)
    assert report.state == "degraded" and "locked" in report.text
    lock.execute("ROLLBACK")
    lock.close()
    assert small(wms, ledger=ledger)[0].counts["posted"] == 1


def test_builtin_that_vanished_is_not_made_anew(tmp_path: Path) -> None:
    wms = BuiltinWms.open(tmp_path / "wms.sqlite", ROWS, bundle(ROWS).catalogue)
    _, ledger = small(wms)
    (tmp_path / "wms.sqlite").unlink()
    report, _ = small(wms, ledger=ledger)
    assert report.state == "degraded" and "is gone" in report.text and not (tmp_path / "wms.sqlite").exists()


def test_builtin_csv_both_ways(tmp_path: Path) -> None:
    wms = BuiltinWms.open(tmp_path / "wms.sqlite", ROWS, bundle(ROWS).catalogue)
    out = tmp_path / "out.csv"
    wms.export_csv(out)
    assert out.read_text().splitlines()[1] == "L1,shelf,b1,A,7,4"
    out.write_text(out.read_text().replace("b1,A,7,4", "b1,A,6,4"))
    assert wms.import_csv(out) == 1 and stock(wms)["L1"] == (6, 4)
    assert [(m.kind, m.delta) for m in wms.pull_movements(0)] == [("import", -1)]
    out.write_text("location_code,sku,on_hand,backroom\nL1,A,1,1\nL9,A,1,1\nL8,A,1,1\n")
    with pytest.raises(BadInput) as e:
        wms.import_csv(out)
    assert len(e.value.problems) == 2 and stock(wms)["L1"] == (6, 4)
    out.write_text("location_code,sku,on_hand,backroom\nL1,A,-1,1\nL2,B,nan,1\n")
    with pytest.raises(BadInput) as e:
        wms.import_csv(out)
    assert len(e.value.problems) == 2
