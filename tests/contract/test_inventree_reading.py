"""What InvenTree's lists and histories say, and what they leave out."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from fakes.inventree import KEY, ROWS, counts, document, fresh, item, on_hand, over, said
from fakes.night import HOUR, MINUTE, T0, bundle

from shelfscan.adapters.inventree_api import InvenTreeApi
from shelfscan.adapters.inventree_stock import InvenTreeStock
from shelfscan.adapters.wms_inventree import InvenTreeWms
from shelfscan.bootstrap import make_wms
from shelfscan.config import Config
from shelfscan.errors import BadInput, WmsTransient, WmsUnknown
from shelfscan.evaluation.inventree_models import ADD, CREATED, InvenTreeSystem
from shelfscan.evaluation.inventree_night import InvenTreeTill


@pytest.fixture
def till() -> InvenTreeTill:
    return fresh()


def deltas(till: InvenTreeTill, since_ns: int = 0) -> list[tuple[str, float]]:
    return [(m.location_code, m.delta) for m in till.pull_movements(since_ns)]


# Names


def test_locations_by_name_or_path(till: InvenTreeTill) -> None:
    s = till.system
    s.add_location("Room", 3)
    for parent in (2, 3):
        s.add_location("Twice", parent)
    codes = [p.location_code for p in till.pull_locations()]
    assert codes == ["L1", "L3", "Room", "Store/L1/Twice", "Store/L2", "Store/L2/Twice"], "the store itself holds nothing"
    assert [p.scope for p in till.pull_locations() if p.location_code == "L3"] == ["site"]


def test_an_ipn_of_two_parts_names_neither(till: InvenTreeTill) -> None:
    till.system.add_part("A", "another")
    till.system.add_part("", "no number")
    assert [p.sku for p in till.pull_products()] == ["B", "C"]
    assert "L1" not in {s.location_code for s in till.pull_stock()}


def test_an_ipn_may_be_a_gtin(till: InvenTreeTill) -> None:
    till.system.add_part("4006381333931", "Tea")
    assert {p.sku: p.gtin14 for p in till.pull_products()}["4006381333931"] == "04006381333931"


# Stock


def test_sub_locations_and_variants_are_others(till: InvenTreeTill) -> None:
    s, own = till.system, item(till)
    room = s.add_location("Room", own["location"])
    variant = s.add_part("A-red", "red", variant_of=own["part"])
    s.make(own["part"], room, 20)
    s.make(variant, own["location"], 30)
    assert said(till, document(till, "L1", "A", 5))[0] == "applied" and item(till)["quantity"] == 5
    held = {(s.location_code, s.sku): s.on_hand for s in till.pull_stock()}
    assert held["L1", "A"] == 5 and held["Room", "A"] == 20 and held["L1", "A-red"] == 30


@pytest.mark.parametrize(
    "fact",
    [
        {"customer": 1},
        {"sales_order": 1},
        {"belongs_to": 1},
        {"consumed_by": 1},
        {"is_building": True},
        {"status": 75},
        {"status": 60},
    ],
)
def test_what_is_not_there_is_not_counted(till: InvenTreeTill, fact: dict[str, Any]) -> None:
    own = item(till)
    till.system.make(own["part"], own["location"], 4, **fact)
    assert on_hand(till) == 7


def test_the_version_tells_of_a_movement_to_and_fro(till: InvenTreeTill) -> None:
    before = {s.location_code: s.version for s in till.pull_stock()}["L1"]
    till.post_movement("L1", "A", -1)
    till.post_movement("L1", "A", 1)
    after = {s.location_code: s.version for s in till.pull_stock()}["L1"]
    assert before != after and on_hand(till) == 7


# Pages


def many(till: InvenTreeTill) -> InvenTreeTill:
    for n in range(20):
        till.system.make(item(till)["part"], 3, n)
    return over(till, page=6)[0]


def test_a_list_in_pages(till: InvenTreeTill) -> None:
    wms = many(till)
    assert {(s.location_code, s.sku): s.on_hand for s in wms.pull_stock()}["Store/L2", "A"] == 190


@pytest.mark.parametrize("how", ["sold", "deleted", "made"])
def test_a_list_that_changes_while_it_is_read_is_read_again(till: InvenTreeTill, how: str) -> None:
    """A sale changes the order, so that a record goes from a page that is not yet read to one that was, or back."""
    wms, s = many(till), till.system
    left = [1]

    def happen(path: str) -> None:
        if path == "/api/stock/" and left:
            left.pop()
            last, first = max(s.items), min(s.items)
            if how == "sold":
                s.adjust("remove", [{"pk": last, "quantity": s.items[last]["quantity"]}], "till")
            elif how == "deleted":
                s.delete(first)
            else:
                s.make(s.items[last]["part"], 3, 5)

    wms.stub.meanwhile = till.stub.meanwhile = happen
    wms._api._system._http._transport.stub.meanwhile = happen  # type: ignore[attr-defined]
    got = {(r.location_code, r.sku): r.on_hand for r in wms.pull_stock()}
    assert not left and got["Store/L2", "A"] == {"sold": 171, "deleted": 190, "made": 195}[how]


def test_a_list_that_never_rests(till: InvenTreeTill) -> None:
    wms = many(till)
    wms._api._system._http._transport.stub.meanwhile = lambda path: till.system.make(101, 3, 1)  # type: ignore[attr-defined]
    with pytest.raises(WmsTransient, match="changed whenever it was read"):
        wms.pull_stock()


def test_new_entries_push_older_ones_to_the_next_page(till: InvenTreeTill) -> None:
    for _ in range(3):
        till.post_movement("L1", "A", -1)
    wms = over(till, page=2)[0]
    left = [1]

    def happen(path: str) -> None:
        if path == "/api/stock/track/" and left:
            left.pop()
            till.post_movement("L1", "A", -1)

    wms._api._system._http._transport.stub.meanwhile = happen  # type: ignore[attr-defined]
    assert [m.delta for m in wms.pull_movements(0)] == [-1, -1, -1, -1] and not left


# History


def test_whole_minutes_and_the_servers_clock() -> None:
    system = InvenTreeSystem(ROWS, bundle(ROWS).catalogue, lambda: T0, zone=ZoneInfo("Europe/Berlin"))
    till = InvenTreeTill(system, ROWS)
    till.post_movement("L1", "A", -1, moved_at_ns=T0 + 20_000_000_000)
    (m,) = till.pull_movements(0)
    assert system.track[m_pk(system)]["date"] == "2030-01-01 01:00" and m.moved_at_ns == T0 + MINUTE - 1
    assert till.pull_movements(T0 + 50_000_000_000) == [m], "as late as it can have been"
    assert till.pull_movements(T0 + MINUTE) == []


def m_pk(system: InvenTreeSystem) -> int:
    return max(system.track)


def test_the_later_of_two_equal_hours() -> None:
    system = InvenTreeSystem(ROWS, bundle(ROWS).catalogue, lambda: T0, zone=ZoneInfo("Europe/Berlin"))
    till = InvenTreeTill(system, ROWS)
    # 02:30 in Berlin, which comes twice
    night = int(datetime(2029, 10, 28, 0, 30, tzinfo=timezone.utc).timestamp()) * 1_000_000_000
    till.post_movement("L1", "A", -1, moved_at_ns=night)
    (m,) = till.pull_movements(0)
    assert system.track[m_pk(system)]["date"] == "2029-10-28 02:30" and m.moved_at_ns == night + HOUR + MINUTE - 1


def test_a_count_and_a_merge_say_only_what_is_there_after(till: InvenTreeTill) -> None:
    s, own = till.system, item(till)
    till.post_movement("L1", "A", -1)
    s.adjust("count", [{"pk": own["pk"], "quantity": 9}], "stocktake")
    other = s.make(own["part"], None, 4)
    s.merge([{"item": own["pk"]}, {"item": other}], own["location"], "", False)
    assert deltas(till) == [("L1", -1), ("L1", 3), ("L1", 4)]


def test_more_is_taken_off_than_there_is(till: InvenTreeTill) -> None:
    pk = item(till)["pk"]
    till.post_movement("L1", "A", -5)
    till.system.adjust("remove", [{"pk": pk, "quantity": 9}], "")
    assert deltas(till) == [("L1", -5), ("L1", -2)]


def test_a_transfer_of_some_and_of_all(till: InvenTreeTill) -> None:
    s, own = till.system, item(till)
    pk = s.make(own["part"], own["location"], 8)
    s.transfer(pk, 3, 3)
    assert sorted(deltas(till)) == [("L1", -3), ("L1", 8), ("Store/L2", 3)]
    s.transfer(pk, 3, 99)
    assert sorted(deltas(till)) == [("L1", -5), ("L1", -3), ("L1", 8), ("Store/L2", 3), ("Store/L2", 5)]


def test_a_transfer_from_nobody_knows_where(till: InvenTreeTill) -> None:
    """Its history begins with the transfer: it may have stood at any place of the part."""
    till.system.transfer(item(till)["pk"], 3, 99)
    assert deltas(till) == [("L1", 0), ("Store/L2", 0)]


def test_what_is_shipped_leaves_its_place(till: InvenTreeTill) -> None:
    own = item(till)
    pk = till.system.make(own["part"], own["location"], 4)
    till.system.ship(pk)
    assert deltas(till) == [("L1", 4), ("L1", -4)] and on_hand(till) == 7


def test_what_is_quarantined_leaves_its_place(till: InvenTreeTill) -> None:
    s, own = till.system, item(till)
    pk = s.make(own["part"], own["location"], 4)
    s.items[pk]["status"] = 75
    s.note(pk, 5, {"status": 75})
    assert deltas(till) == [("L1", 4), ("L1", -4)]


def test_a_history_that_begins_late(till: InvenTreeTill) -> None:
    """Nothing says what there was before the first count: that it was counted is told all the same."""
    till.system.adjust("count", [{"pk": item(till)["pk"], "quantity": 2}], "")
    assert deltas(till) == [("L1", 0)]
    assert said(till, document(till, "L1", "A", 6))[0] == "applied" and counts(till) == [4]


def test_where_it_was_before_it_was_said(till: InvenTreeTill) -> None:
    """Ours is the first entry with a location; the sale before it was there too."""
    till.post_movement("L1", "A", -1)
    assert said(till, document(till, "L1", "A", 9))[0] == "applied"
    assert deltas(till) == [("L1", -1), ("L1", 3)] and counts(till) == [3]


def test_only_what_is_since(till: InvenTreeTill) -> None:
    pk = item(till)["pk"]
    for day in range(30):
        till.system.note(pk, ADD, {"added": 1, "quantity": day}, "", T0 - (31 - day) * 24 * HOUR)
    till.post_movement("L1", "A", -1, moved_at_ns=T0)
    assert deltas(over(till, page=4)[0], T0 - HOUR) == [("L1", -23)], "by what there was, not by what is asked for"


def test_a_key_that_is_part_of_another(till: InvenTreeTill) -> None:
    till.submit(document(till, "L1", "A", 5, key=KEY + "-x"))
    assert till.find(KEY) is None and till.find(KEY + "-x")
    pk = item(till)["pk"]
    till.system.note(pk, ADD, {"added": 1, "quantity": 6}, f"somebody wrote {KEY} by hand")
    assert till.find(KEY) is None


# Answers that are none


def answering(status: int, text: str) -> InvenTreeApi:
    transport = httpx.MockTransport(lambda request: httpx.Response(status, text=text))
    return InvenTreeApi("http://inventree.test", "t", transport=transport)


@pytest.mark.parametrize("text", ["<html>", "{}", "[]", '{"count": 1, "results": 3}', '{"results": []}'])
def test_a_list_that_is_none(text: str) -> None:
    with pytest.raises(WmsTransient):
        answering(200, text).rows("/api/stock/")


@pytest.mark.parametrize("text", ["<html>", "{}", "[]", '[{"pk": 1}, {"pk": 2}]', '{"pk": "x"}'])
def test_a_made_record_without_a_number(text: str) -> None:
    with pytest.raises(WmsUnknown):
        answering(201, text).create("/api/stock/", {})


def test_a_record_that_lacks_something_and_another_server() -> None:
    row = '{"count": 1, "results": [{"pk": 1, "location": 2, "part": 3}]}'
    with pytest.raises(WmsTransient, match="without is_building"):
        InvenTreeStock(answering(200, row), set()).rows()
    with pytest.raises(WmsTransient, match="not InvenTree's"):
        answering(200, '{"server": "else"}').about()


def test_a_time_that_is_none(till: InvenTreeTill) -> None:
    till.system.note(item(till)["pk"], CREATED, {})
    till.system.track[m_pk(till.system)]["date"] = "yesterday"
    with pytest.raises(WmsTransient, match="'yesterday' is not a time"):
        till.pull_movements(0)


# Configuration


def test_the_time_zone_is_checked(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELFSCAN_INVENTREE_TOKEN", "inv-1")
    wms = {"name": "inventree", "inventree": {"time_zone": "Europe/Nowhere"}}
    with pytest.raises(BadInput, match="wms.inventree.time_zone: 'Europe/Nowhere'"):
        make_wms(bundle(ROWS), tmp_path, Config.model_validate({"wms": wms}))
    made = make_wms(bundle(ROWS), tmp_path, Config.model_validate({"wms": {"name": "inventree"}}))
    assert isinstance(made, InvenTreeWms) and made.capabilities().name == "inventree"
