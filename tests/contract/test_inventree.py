"""InvenTree's traps when something is posted, each on a stand-in that has it; and nights of faults on the line to it."""

from __future__ import annotations

import json
import threading
from datetime import timezone
from typing import Any

import httpx
import pytest
from fakes.inventree import KEY, ROWS, counts, document, fresh, item, on_hand, over, said, tokens
from fakes.sap import at

from shelfscan.adapters.inventree_history import InvenTreeHistory
from shelfscan.adapters.inventree_stock import InvenTreeStock
from shelfscan.adapters.wms_inventree import InvenTreeWms
from shelfscan.errors import WmsAuth, WmsRejected, WmsUnknown
from shelfscan.evaluation.inventree_night import InvenTreeTill
from shelfscan.evaluation.inventree_stub import PASSWORD, RIGHTS, TOKEN, USER, server
from shelfscan.evaluation.sync_campaign import WRONG, campaign

CHANGES = [(5, "/api/stock/"), (5, "remove"), (9, "/api/stock/"), (9, "merge")]


@pytest.fixture(params=["one", "listed"])
def till(request: pytest.FixtureRequest) -> InvenTreeTill:
    return fresh(listed=request.param == "listed")


def test_the_stand_in_has_the_trap(till: InvenTreeTill) -> None:
    """InvenTree's own count undoes a sale, and takes off no more than there is without a word."""
    pk = item(till)["pk"]
    till.post_movement("L1", "A", -2)
    till.system.adjust("count", [{"pk": pk, "quantity": 7}], "late")
    assert on_hand(till) == 7
    till.system.adjust("remove", [{"pk": pk, "quantity": 9}], "too many")
    assert on_hand(till) == 0


@pytest.mark.parametrize(("qty", "path"), CHANGES)
def test_every_change_twice_counts_once(till: InvenTreeTill, qty: int, path: str) -> None:
    wms, line = over(till)
    line.at = at(path, "twice")
    assert said(wms, document(till, "L1", "A", qty))[0] == "applied"
    assert on_hand(till) == qty and counts(till) == [qty - 7] and tokens(till) == []


@pytest.mark.parametrize(("qty", "path"), CHANGES)
@pytest.mark.parametrize("how", ["stuck", "lost"])
def test_a_try_of_unknown_outcome(till: InvenTreeTill, qty: int, path: str, how: str) -> None:
    wms, line = over(till)
    doc = document(till, "L1", "A", qty)
    line.at = at(path, how)
    with pytest.raises(WmsUnknown):
        wms.submit(doc)
    assert said(wms, doc)[0] == "applied" and wms.find(KEY) == wms.submit(doc)
    late = line.arrive()
    assert late in ([], [400], [201]) and (201 not in late or path == "/api/stock/"), (
        "a late token is made, a late change is not"
    )
    assert on_hand(till) == qty and counts(till) == [qty - 7]


@pytest.mark.parametrize(("qty", "path"), [(5, "remove"), (9, "merge")])
def test_a_late_change_after_a_sale_and_a_conflict(till: InvenTreeTill, qty: int, path: str) -> None:
    wms, line = over(till)
    doc = document(till, "L1", "A", qty)
    line.at = at(path, "stuck")
    with pytest.raises(WmsUnknown):
        wms.submit(doc)
    till.post_movement("L1", "A", -1)
    result, why = said(wms, doc)
    assert result == "conflict" and "on hand is 6 now, 7 was read" in why
    assert line.arrive() == [400] and on_hand(till) == 6 and counts(till) == []


@pytest.mark.parametrize("qty", [5, 9])
def test_what_moves_between_comparing_and_posting_stays_moved(till: InvenTreeTill, qty: int) -> None:
    wms, line = over(till)
    line.at = at("remove" if qty < 7 else "merge", when=lambda: till.post_movement("L1", "A", -2))
    assert said(wms, document(till, "L1", "A", qty))[0] == "applied"
    assert on_hand(till) == qty - 2 and counts(till) == [qty - 7]


def test_a_change_that_is_being_carried_out_is_waited_for(till: InvenTreeTill, monkeypatch: pytest.MonkeyPatch) -> None:
    """It found its token before that was taken from it, and ends only afterwards."""
    wms, line = over(till)
    doc = document(till, "L1", "A", 9)
    line.at = at("merge", "stuck")
    with pytest.raises(WmsUnknown):
        wms.submit(doc)
    (late,) = line.stuck

    def ends(seconds: float) -> None:
        assert seconds == 5 and tokens(till) == []
        till.system.adjust("add", [{"pk": item(till)["pk"], "quantity": 2}], json.loads(late.content)["notes"])

    monkeypatch.setattr(wms, "_sleep", ends)
    assert said(wms, doc)[0] == "applied" and on_hand(till) == 9 and counts(till) == [2]


def test_zero_keeps_the_item_and_its_history(till: InvenTreeTill) -> None:
    assert said(till, document(till, "L1", "A", 0))[0] == "applied"
    assert on_hand(till) == 0 and counts(till) == [-7] and till.find(KEY)


@pytest.mark.parametrize("qty", [0, 5, 9])
def test_an_item_that_would_be_deleted_is_left_alone(till: InvenTreeTill, qty: int) -> None:
    item(till)["delete_on_deplete"] = True
    result, why = said(till, document(till, "L1", "A", qty))
    assert result == "rejected" and "switch off its Delete on Deplete" in why and on_hand(till) == 7


def test_what_a_count_of_pieces_cannot_say(till: InvenTreeTill) -> None:
    doc = document(till, "L1", "A", 5)
    for name, value, part in (("serial", "77", "serial number 77"), ("batch", "B1", "batch B1")):
        item(till)[name] = value
        result, why = said(till, doc)
        assert result == "rejected" and part in why
        item(till)[name] = None
    next(p for p in till.system.parts.values() if p["IPN"] == "A")["trackable"] = True
    result, why = said(over(till)[0], doc)
    assert result == "rejected" and "trackable" in why and on_hand(till) == 7


def test_a_place_without_an_item_is_not_nothing(till: InvenTreeTill) -> None:
    """Sold out and deleted with its history: nobody knows any more whether that was after the look."""
    item(till)["delete_on_deplete"] = True
    till.post_movement("L1", "A", -7)
    assert "L1" not in {s.location_code for s in till.pull_stock()} and till.pull_movements(0) == []
    result, why = said(till, document(till, "L1", "A", 1))
    assert result == "rejected" and "took its history along" in why


def test_several_items_of_a_place(till: InvenTreeTill) -> None:
    first = item(till)
    second = till.system.make(first["part"], first["location"], 2)
    assert on_hand(till) == 9
    assert said(till, document(till, "L1", "A", 10))[0] == "applied"
    assert till.system.items[first["pk"]]["quantity"] == 8 and till.system.items[second]["quantity"] == 2
    result, why = said(till, document(till, "L1", "A", 1, "k2"))
    assert result == "rejected" and "several stock items" in why and on_hand(till) == 10


def test_half_a_piece(till: InvenTreeTill) -> None:
    item(till)["quantity"] = 6.5
    assert said(till, document(till, "L1", "A", 7))[0] == "applied" and on_hand(till) == 7


def test_a_token_is_no_stock_and_goes_with_the_next_count(till: InvenTreeTill) -> None:
    wms, line = over(till)
    line.at = at("merge", "stuck")
    with pytest.raises(WmsUnknown):
        wms.submit(document(till, "L1", "A", 9))
    assert len(tokens(till)) == 1 and on_hand(till) == 7 and till.pull_movements(0) == []
    assert said(till, document(till, "Store/L2", "B", 2, "k2"))[0] == "applied"
    assert tokens(till) == [] and line.arrive() == [400]


def test_an_item_that_goes_meanwhile(till: InvenTreeTill) -> None:
    wms, line = over(till)
    line.at = at("remove", when=lambda: till.system.ship(item(till)["pk"]))
    result, why = said(wms, document(till, "L1", "A", 5))
    assert result == "rejected" and "no stock item" in why and tokens(till) == []


def test_a_refusal_that_stays_is_told(till: InvenTreeTill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shelfscan.adapters.wms_inventree.OURS", "shelfscan " + "x" * 90)
    result, why = said(till, document(till, "L1", "A", 5))
    assert result == "rejected" and "batch: Ensure this field has no more than 100 characters" in why


def test_a_merge_takes_the_item_back(till: InvenTreeTill) -> None:
    """A limit that the page names: an item that is moved away as a whole just before an increase comes back."""
    wms, line = over(till)
    line.at = at("merge", when=lambda: till.system.transfer(item(till)["pk"], 3, 7))
    assert said(wms, document(till, "L1", "A", 9))[0] == "applied" and on_hand(till) == 9


def test_a_key_belongs_to_one_document(till: InvenTreeTill) -> None:
    till.submit(document(till, "L1", "A", 5))
    with pytest.raises(WmsRejected, match="belongs to another"):
        till.submit(document(till, "L1", "A", 6))


@pytest.mark.parametrize("missing", sorted(RIGHTS))
def test_a_right_that_is_missing_is_named(till: InvenTreeTill, missing: str) -> None:
    doc = document(till, "L1", "A", 5)
    wms, line = over(till)
    line.stub.rights = RIGHTS - {missing}  # type: ignore[attr-defined]
    with pytest.raises(WmsAuth, match="permission"):
        wms.submit(doc)
    assert on_hand(till) == 7


def test_a_wrong_token_and_no_secret_in_errors(till: InvenTreeTill) -> None:
    wms = InvenTreeTill(till.system, ROWS, token="inv-wrong-secret")
    with pytest.raises(WmsAuth) as e:
        wms.pull_stock()
    assert "inv-wrong-secret" not in str(e.value) + wms.health().text and not wms.health().ok


def test_over_a_socket(till: InvenTreeTill) -> None:
    running = server(till.stub)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        url = f"http://127.0.0.1:{running.server_port}"
        token = httpx.get(f"{url}/api/user/token/", auth=(USER, PASSWORD)).json()["token"]
        wms = InvenTreeWms(url, token, ROWS, zone=timezone.utc)
        assert said(wms, document(wms, "L1", "A", 5))[0] == "applied"
        assert on_hand(wms) == 5 and wms.find(KEY) and "InvenTree 1.2.0" in wms.health().text and token == TOKEN
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


# Nights of faults, and adapters that are broken on purpose

CLEAN = dict.fromkeys(WRONG, 0)


def test_nights_of_faults() -> None:
    total = campaign("inventree", 25, 3000)
    assert {k: total[k] for k in WRONG} == CLEAN and total["posted"] > 15 and total["faults"] > 40


def _without_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InvenTreeHistory, "of", lambda self, key: [])


def _without_token(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(self: Any, target: Any, units: float, batch: str, notes: str) -> None:
        items = [{"pk": target["pk"], "quantity": abs(units)}]
        self._api.change(f"/api/stock/{'add' if units > 0 else 'remove'}/", {"items": items, "notes": notes})

    monkeypatch.setattr(InvenTreeStock, "change", change)


def _without_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shelfscan.adapters.wms_inventree.version", lambda rows: "1")


@pytest.mark.parametrize(
    ("breaks", "first", "what"),
    [(_without_look_up, 1, "lost"), (_without_token, 47, "doubled"), (_without_version, 6, "overwritten")],
)
def test_the_nights_find_a_broken_adapter(monkeypatch: pytest.MonkeyPatch, breaks: Any, first: int, what: str) -> None:
    breaks(monkeypatch)
    assert campaign("inventree", 4, first)[what] > 0
