"""What is peculiar to counts that Odoo, SAP, files and a REST service ask for; Tryton's are in `test_tryton_tasks`."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from fakes.ledger import MemoryLedger
from fakes.night import bundle
from fakes.tasks import ROWS, Asks

from shelfscan.adapters.store_day import StoreDays
from shelfscan.bootstrap import make_wms
from shelfscan.config import Config
from shelfscan.errors import BadInput, WmsConflict, WmsError, WmsRejected, WmsTransient, WmsUnknown
from shelfscan.evaluation.odoo_night import OdooTill
from shelfscan.evaluation.odoo_stub import OdooStub
from shelfscan.wms.sync import Retry

TODAY = date.today().isoformat()


@pytest.fixture
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    return lambda kind: Asks(kind, tmp_path, request)


# Odoo


def quant(asks: Asks, ref: str) -> dict[str, Any]:
    return dict(asks.client.odoo.tables["stock.quant"][int(ref.partition("@")[0])])


def test_odoo_asks_from_the_day_on_and_until_a_count_is_set(make: Any) -> None:
    asks = make("odoo-json2")
    odoo = asks.client.odoo
    odoo.request_count("L1", "A", (date.today() + timedelta(days=1)).isoformat())
    late = odoo.request_count("L2", "B", (date.today() - timedelta(days=3)).isoformat(), user=2)
    busy = odoo.request_count("L4", "D", TODAY)
    odoo.tables["stock.quant"][busy]["inventory_quantity_set"] = True
    (task,) = asks.client.pull_tasks()
    assert task.ref.startswith(f"{late}@") and "assigned to" in task.note


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000_000


@pytest.mark.parametrize(("minutes", "asked"), [(-1, False), (1, True)])
def test_odoo_asks_from_the_stores_midnight_on(make: Any, minutes: int, asked: bool) -> None:
    """22:00 UTC in summer in Berlin; the robot's computer may think what it likes."""
    odoo = make("odoo-json2").client.odoo
    odoo.request_count("L1", "A", "2030-06-02")
    midnight = at("2030-06-01T22:00:00+00:00")
    days = StoreDays(ZoneInfo("Europe/Berlin"), lambda: midnight + minutes * 60_000_000_000)
    tasks = OdooTill(odoo, ROWS, days=days).pull_tasks()
    assert [(t.due_ns, t.asked_ns) for t in tasks] == [(midnight, midnight)] * asked


@pytest.mark.parametrize(("clock", "date_after"), [("21:59", "2030-06-08"), ("22:01", "2030-06-09")])
def test_odoo_gets_the_next_date_from_the_stores_day(make: Any, clock: str, date_after: str) -> None:
    asks = make("odoo-json2")
    (ref,) = asks.ask("L1", "A")
    asks.client.odoo.one("stock.location", barcode="L1")["cyclic_inventory_frequency"] = 7
    days = StoreDays(ZoneInfo("Europe/Berlin"), lambda: at(f"2030-06-01T{clock}:00+00:00"))
    OdooTill(asks.client.odoo, ROWS, days=days).close_task(ref, "counted")
    assert quant(asks, ref)["inventory_date"] == date_after


@pytest.mark.parametrize("name", ["odoo", "tryton"])
def test_the_stores_time_zone_is_chosen_by_the_configuration(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELFSCAN_ODOO_KEY", "secret")
    monkeypatch.setenv("SHELFSCAN_TRYTON_PASSWORD", "secret")
    for zone, wanted in (("", None), ("Asia/Tokyo", ZoneInfo("Asia/Tokyo"))):
        config = Config.model_validate({"wms": {"name": name, name: {"time_zone": zone}}})
        wms: Any = make_wms(bundle(ROWS), tmp_path, config)
        assert wms._tasks._days.zone == wanted
    config = Config.model_validate({"wms": {"name": name, name: {"time_zone": "Asia/Nowhere"}}})
    with pytest.raises(BadInput, match=rf"wms\.{name}\.time_zone: 'Asia/Nowhere' is no time zone"):
        make_wms(bundle(ROWS), tmp_path, config)


def test_a_folder_that_a_broken_line_hides_a_task_in_is_asked_again(make: Any) -> None:
    """The task would stay open although its count is there, and nothing would say that the line was to blame."""
    asks = make("folder")
    (ref,) = asks.ask("L2", "B")
    files, broken = asks.client._tasks._files, []

    class Breaks:
        def __getattr__(self, name: str) -> Any:
            return getattr(files, name)

        def read(self, folder: str, name: str) -> bytes | None:
            if name.startswith("tasks") and not broken:
                broken.append(name)
                raise WmsTransient("Connection closed")
            return files.read(folder, name)

    asks.client._tasks._files = Breaks()
    report = asks.sync(MemoryLedger(), retry=Retry(attempts=2, wait_s=0, max_wait_s=0))
    assert broken and report.ok and [(t.ref, t.state) for t in report.tasks] == [(ref, "closed")]


def test_odoo_closes_with_the_next_date_as_odoo_reckons_it(make: Any) -> None:
    asks = make("odoo-json2")
    odoo = asks.client.odoo
    (first,), (second,), (third,) = asks.ask("L1", "A"), asks.ask("L2", "B"), asks.ask("L4", "D")
    odoo.one("stock.location", barcode="L2")["cyclic_inventory_frequency"] = 30
    for ref in (first, second):
        asks.client.close_task(ref, "counted")
    assert quant(asks, second)["inventory_date"] == (date.today() + timedelta(days=30)).isoformat()
    year_end = date(date.today().year, 12, 31)
    assert (
        quant(asks, first)["inventory_date"]
        == (year_end if year_end > date.today() else date(year_end.year + 1, 12, 31)).isoformat()
    )
    odoo.tables["res.company"][odoo.company]["annual_inventory_month"] = False
    asks.client.close_task(third, "counted")
    assert quant(asks, third)["inventory_date"] is False and asks.open() == []
    assert not odoo.tables["stock.package"], "nothing is left behind"


def test_odoo_leaves_what_somebody_counted_and_did_not_apply(make: Any) -> None:
    asks = make("odoo-json2")
    (ref,) = asks.ask("L2", "B")

    def counts_meanwhile(*args: Any) -> Any:
        row = asks.client.odoo.tables["stock.quant"][int(ref.partition("@")[0])]
        row.update(inventory_quantity=4.0, inventory_quantity_set=True)
        return type(asks.client).close_task(asks.client, *args)

    asks.client.close_task = counts_meanwhile
    report = asks.sync(MemoryLedger())
    (answer,) = report.tasks
    assert report.ok and answer.state == "open" and "nobody has applied" in answer.text
    assert quant(asks, ref)["inventory_quantity"] == 4 and quant(asks, ref)["inventory_date"] == TODAY


def test_odoo_a_closing_that_arrives_late_closes_no_later_request(make: Any) -> None:
    asks = make("odoo-json2")
    (ref,) = asks.ask("L2", "B")
    stuck: list[httpx.Request] = []

    class Line(httpx.BaseTransport):
        def __init__(self, stub: OdooStub) -> None:
            self.stub = stub

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.path.endswith("/write") and b"inventory_date" in request.read():
                stuck.append(request)
                raise httpx.ReadTimeout("no answer", request=request)
            return self.stub.handle_request(request)

    with pytest.raises(WmsUnknown):
        OdooTill(asks.client.odoo, ROWS, line=Line).close_task(ref, "counted")
    asks.client.close_task(ref, "counted")
    assert asks.open() == []
    assert asks.ask("L2", "B") == [ref], "the same place, the same day"
    assert OdooStub(asks.client.odoo).handle_request(stuck[0]).status_code == 404
    assert asks.open() == [ref]


def test_odoo_says_what_cannot_be_counted_all_at_once(make: Any) -> None:
    asks = make("odoo-jsonrpc")
    odoo = asks.client.odoo
    for place, sku in (("L1", "A"), ("L2", "B"), ("L4", "D"), ("L4", "E")):
        odoo.request_count(place, sku, TODAY)
    odoo.one("product.product", default_code="A")["tracking"] = "lot"
    odoo.one("product.product", default_code="D")["default_code"] = False
    odoo.add("stock.location", complete_name="WH/Other", barcode="L2")
    problems = {t.problem for t in asks.client.pull_tasks() if t.problem}
    assert len(problems) == 3
    for text in ("A is tracked by lot", "has no reference", "barcode or name is that of another one"):
        assert any(text in p for p in problems), text
    report = asks.sync(MemoryLedger())
    assert report.ok and sorted(t.state for t in report.tasks) == ["closed", "open", "open", "open"]


# Files


def test_folder_says_what_is_wrong_with_each_row_and_takes_the_rest(make: Any) -> None:
    asks = make("folder")
    asks.drop(
        "tasks.csv", "ref,location_code,sku,due_at,asked_at,note\nT1,L2,B,2030-01-01T06:00:00Z,,\n../x,L1,A,,,\nT3,,A,,,\n"
    )
    asks.drop("tasks-2.csv", "ref,location_code,sku,due_at\nT1,L2,B,2030-01-01T06:00:00Z\nT1,L4,,\nT5,L1,A,soon\n,L1,,\n")
    asks.drop("tasks-3.csv", "ref,place\nT9,L1\n")
    asks.drop("tasksheet.csv", "this is none of ours")
    (asks.client.system.root / "in" / "tasks-4.csv.part").write_text("ref,location_code\nT8,L")
    tasks = asks.client.pull_tasks()
    good = [t for t in tasks if not t.problem]
    assert [(t.ref, t.location_code, t.sku) for t in good if t.ref == "T1"] == [("T1", "L2", "B")]
    problems = "\n".join(t.problem for t in tasks if t.problem)
    for text in (
        *("tasks.csv: line 3: ref is '../x'; expected a ref of letters", "tasks.csv: line 4: location_code is empty"),
        *(
            "line 4: due_at is 'soon'; expected an ISO-8601 time",
            "tasks-2.csv: line 5: ref is ''",
            "line 1: missing column loc",
        ),
        "tasks-2.csv: line 3: ref 'T1' is another task's: L2 B",
    ):
        assert text in problems, (text, problems)
    assert len(tasks) == 7
    report = asks.sync(MemoryLedger())
    assert report.ok and [t.ref for t in report.tasks if t.state == "closed"] == ["T1"]
    assert sorted(p.name for p in (asks.client.system.root / "answers").iterdir()) == ["T1.csv"]


def test_folder_answers_once_with_what_was_counted(make: Any) -> None:
    asks = make("folder")
    (ref,) = asks.ask("L1", "A")
    asks.sync(MemoryLedger())
    path = asks.client.system.root / "answers" / f"{ref}.csv"
    first = path.read_bytes()
    head, row = first.decode().splitlines()
    assert head == "ref,location_code,sku,state,message,closed_at"
    assert row.startswith(f"{ref},L1,A,closed,shelfscan m1: A posted: 5,20") and row.endswith("Z")
    asks.client.close_task(ref, "another text")
    assert path.read_bytes() == first
    for bad in ("../T1", "", "a/b"):
        with pytest.raises(WmsRejected, match="expected a ref of letters"):
            asks.client.close_task(bad, "x")


def test_folder_a_system_that_asks_for_nothing_needs_no_folder(make: Any) -> None:
    asks = make("folder")
    (asks.client.system.root / "answers").rmdir()
    assert asks.client.pull_tasks() == [] and asks.sync(MemoryLedger()).ok


@pytest.mark.parametrize("kind", ["folder", "webhook"])
def test_what_was_counted_before_it_was_asked_for_answers_nothing(make: Any, kind: str) -> None:
    asks = make(kind)
    for name, minutes in (("early", -1), ("late", 1)):
        at = f"2030-01-01T00:{minutes:02}:00Z" if minutes > 0 else "2029-12-31T23:59:00Z"
        if kind == "folder":
            asks.drop(f"tasks-{name}.csv", f"ref,location_code,sku,asked_at\n{name},L2,B,{at}\n")
        else:
            asks.service.tasks[name] = {"place": {"code": "L2"}, "sku": "B", "asked_at": at}
    report = asks.sync(MemoryLedger())
    assert {t.ref: t.state for t in report.tasks} == {"early": "closed", "late": "open"}
    assert "was counted before it was asked for" in next(t.text for t in report.tasks if t.ref == "late")
    assert asks.open() == ["late"]


def test_webhook_a_wrong_time_is_named(make: Any) -> None:
    asks = make("webhook")
    asks.service.tasks["1"] = {"place": {"code": "L1"}, "due_at": "soon"}
    with pytest.raises(WmsError, match="tasks: due_at is 'soon'"):
        asks.client.pull_tasks()


# SAP


def test_sap_lists_what_planners_wait_for_and_not_our_own(make: Any) -> None:
    from fakes.sap import begun

    asks = make("sap")
    asks.client.rows = ROWS
    own = begun(asks.client, counted=False)
    assert asks.client.system.documents[own.number] and asks.open() == []
    (ref,) = asks.ask("L2", "B")
    (task,) = asks.client.pull_tasks()
    assert (task.ref, task.location_code, task.products) == (ref, "L2", ("B",)) and task.due_ns > 0
    system = asks.client.system
    n = ref.partition("/")[0]
    etag = system.documents[n]["to_PhysicalInventoryDocumentItem"][0]["etag"]
    system.count(n, {"QuantityInUnitOfEntry": "4", "UnitOfEntry": "PC"}, etag)
    assert asks.open() == [], "somebody counted"


def test_sap_our_count_does_not_get_into_a_planners_document(make: Any) -> None:
    asks = make("sap")
    (ref,) = asks.ask("L1", "A")
    report = asks.sync(MemoryLedger())
    line = next(x for x in report.lines if x.sku == "A")
    assert line.outcome == "rejected" and "already in active physical inventory document" in line.reason
    (answer,) = report.tasks
    assert answer.state == "open" and answer.bins == ("b1",) and f"document {ref} (MI04)" in answer.text
    item = asks.client.system.documents[ref.partition("/")[0]]["to_PhysicalInventoryDocumentItem"][0]
    assert not item["PhysicalInventoryItemIsCounted"] and asks.stock()["L1", "A"] == 7
    with pytest.raises((WmsRejected, WmsConflict), match="MI04"):
        asks.client.close_task(ref, "x")
