"""Odoo's traps, each on a stand-in that has it; and nights of faults on the line to it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes.night import T0, bundle

from shelfscan.adapters.odoo_rpc import Api, OdooRpc
from shelfscan.adapters.wms_odoo import OdooWms
from shelfscan.bootstrap import make_wms
from shelfscan.config import Config, load_config
from shelfscan.errors import BadInput, WmsAuth, WmsRejected, WmsTransient, WmsUnknown
from shelfscan.evaluation.odoo_models import WIZARD
from shelfscan.evaluation.odoo_night import OdooTill
from shelfscan.evaluation.odoo_stub import DATABASE, KEY, USER, OdooStub, server
from shelfscan.evaluation.sync_campaign import WRONG, campaign
from shelfscan.model.bundle import WmsLocation
from shelfscan.wms.document import CountDocument, CountLine

ROWS = (
    WmsLocation("L1", "shelf", "b1", "A", 7, 0),
    WmsLocation("L2", "shelf", "b2", "B", 3, 0),
    WmsLocation("L3", "site", "b3", "C", 9, 0),
)


class Line(httpx.BaseTransport):
    """To the stand-in; what happens at each call is said by the test: None sends it, "stuck" keeps it, "twice" doubles it."""

    def __init__(self, stub: OdooStub) -> None:
        self.stub = stub
        self.at: Callable[[str], str | None] = lambda text: None
        self.stuck: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        what = self.at(f"{request.url.path} {request.content.decode()}")
        if what == "stuck":
            self.stuck.append(request)
            raise httpx.ReadTimeout("no answer", request=request)
        if what == "twice":
            self.stub.handle_request(request)
        return self.stub.handle_request(request)

    def arrive(self) -> list[int]:
        """What was stuck arrives after all."""
        late, self.stuck = self.stuck, []
        return [self.stub.handle_request(r).status_code for r in late]


@pytest.fixture(params=["json2", "jsonrpc"])
def api(request: pytest.FixtureRequest) -> Api:
    return request.param


@pytest.fixture
def till(api: Api) -> OdooTill:
    return OdooTill.of(ROWS, bundle(ROWS).catalogue, lambda: T0, api)


def over(till: OdooTill) -> tuple[OdooTill, Line]:
    """Another client of the same system, over a line the test has in its hand."""
    lines: list[Line] = []

    def line(stub: OdooStub) -> Line:
        lines.append(Line(stub))
        return lines[0]

    return OdooTill(till.odoo, ROWS, till.api, line=line), lines[0]


def document(wms: OdooWms, *counts: tuple[str, str, int], key: str = "k1") -> CountDocument:
    stock = {(s.location_code, s.sku): s for s in wms.pull_stock()}
    lines = tuple(
        CountLine(n, c, s, "", q, T0, T0, stock[c, s].on_hand, stock[c, s].version, 1.0, zero_confirmed=q == 0)
        for n, (c, s, q) in enumerate(counts, start=1)
    )
    return CountDocument(key, "store-1", "m1", T0, lines)


def on_hand(wms: OdooWms) -> dict[str, float]:
    return {s.location_code: s.on_hand for s in wms.pull_stock()}


def counts_of(wms: OdooWms, key: str = "k1") -> list[float]:
    return [m.delta for m in wms.pull_movements(0) if m.reference == key]


def once(*parts: str, then: str, when: Callable[[], Any] = lambda: None) -> Callable[[str], str | None]:
    """At the first call with all these words."""
    left = [then]

    def at(text: str) -> str | None:
        if left and all(p in text for p in parts):
            when()
            return left.pop()
        return None

    return at


def test_a_success_that_reports_a_failure_is_a_success() -> None:
    """JSON-RPC says "cannot marshal None" after the change was committed."""
    till = OdooTill.of(ROWS, bundle(ROWS).catalogue, lambda: T0, "jsonrpc")
    q = till.odoo.one("stock.quant", quantity=7.0)
    q.update(inventory_quantity=5.0, inventory_diff_quantity=-2.0, inventory_quantity_set=True)
    args = [DATABASE, 2, KEY, "stock.quant", "action_apply_inventory", [[q["id"]]], {}]
    body = {"jsonrpc": "2.0", "id": 1, "method": "call", "params": {"service": "object", "method": "execute_kw", "args": args}}
    with httpx.Client(transport=OdooStub(till.odoo, 17)) as http:
        answer = http.post("http://odoo.test/jsonrpc", json=body).json()
    assert "cannot marshal None" in answer["error"]["data"]["message"] and on_hand(till)["L1"] == 5
    receipt = till.submit(document(till, ("L1", "A", 4)))
    assert [s.result for s in receipt.lines] == ["applied"] and counts_of(till) == [-1]


def test_a_conflict_that_is_hidden_in_an_answer(till: OdooTill) -> None:
    """Stock moves after the last look and before the apply: nothing of the batch is applied, and nobody says so."""
    wms, line = over(till)
    line.at = once("action_apply", then="", when=lambda: till.post_movement("L1", "A", -1))
    receipt = wms.submit(document(till, ("L1", "A", 5), ("L2", "B", 2)))
    assert [s.result for s in receipt.lines] == ["conflict", "applied"]
    assert "6 now, 7 was read" in receipt.lines[0].message
    assert on_hand(till) == {"L1": 6, "L2": 2, "L3": 9}
    assert till.odoo.calls.count((WIZARD, "action_apply")) == 2
    left = [q for q in till.odoo.tables["stock.quant"].values() if q["inventory_quantity_set"]]
    assert left == [], "a count that was not applied must not wait for somebody to apply it"


def test_what_moved_while_it_was_set_is_a_conflict(till: OdooTill) -> None:
    """Set after the sale, Odoo would see no conflict at all."""
    wms, line = over(till)
    line.at = once("inventory_quantity_set", "write", then="", when=lambda: till.post_movement("L1", "A", -1))
    receipt = wms.submit(document(till, ("L1", "A", 5)))
    assert [s.result for s in receipt.lines] == ["conflict"] and on_hand(till)["L1"] == 6


def test_applying_twice_counts_once(till: OdooTill) -> None:
    wms, line = over(till)
    line.at = once("action_apply", then="twice")
    receipt = wms.submit(document(till, ("L1", "A", 5)))
    assert [s.result for s in receipt.lines] == ["applied"]
    assert on_hand(till)["L1"] == 5 and counts_of(till) == [-2]


def test_why_the_wizard_applies() -> None:
    """What the adapter keeps clear of: the direct way, twice, counts zero."""
    till = OdooTill.of(ROWS, bundle(ROWS).catalogue, lambda: T0)
    rpc = OdooRpc("http://odoo.test", DATABASE, USER, KEY, transport=OdooStub(till.odoo))
    q = till.odoo.one("stock.quant", quantity=7.0)["id"]
    rpc.change("stock.quant", "write", [q], vals={"inventory_quantity": 5})
    for _ in range(2):
        assert rpc.call("stock.quant", "action_apply_inventory", [q], changes=True, context={"inventory_name": "x"}) is None
    assert on_hand(till)["L1"] == 0


def test_a_setting_that_arrives_late_undoes_nothing(till: OdooTill) -> None:
    """Set late, after a sale and just before the second try's apply, Odoo would take the old count for a fresh one."""
    wms, line = over(till)
    doc = document(till, ("L1", "A", 5))
    line.at = once("inventory_quantity_set", "write", then="stuck")
    with pytest.raises(WmsUnknown):
        wms.submit(doc)
    answers: list[int] = []

    def meanwhile() -> None:
        till.post_movement("L1", "A", -1)
        answers.extend(line.arrive())

    line.at = once("action_apply", then="", when=meanwhile)
    assert [s.result for s in wms.submit(doc).lines] == ["conflict"]
    assert on_hand(till)["L1"] == 6 and answers == ([404] if till.api == "json2" else [200])


def test_an_apply_that_arrives_late_undoes_nothing(till: OdooTill) -> None:
    wms, line = over(till)
    doc = document(till, ("L1", "A", 5))
    line.at = once("action_apply", then="stuck")
    with pytest.raises(WmsUnknown):
        wms.submit(doc)
    assert [s.result for s in wms.submit(doc).lines] == ["applied"]
    till.post_movement("L1", "A", -1)
    line.arrive()
    assert on_hand(till)["L1"] == 4 and counts_of(till) == [-2]


def test_an_apply_that_arrives_in_the_next_try_applies_nothing(till: OdooTill) -> None:
    """It would apply what the second try has set after a sale and not yet looked at."""
    wms, line = over(till)
    doc = document(till, ("L1", "A", 5))
    line.at = once("action_apply", then="stuck")
    with pytest.raises(WmsUnknown):
        wms.submit(doc)

    def set_after_a_sale() -> None:
        till.post_movement("L1", "A", -1)
        line.at = once("", then="", when=line.arrive)

    line.at = once("inventory_quantity_set", "write", then="", when=set_after_a_sale)
    assert [s.result for s in wms.submit(doc).lines] == ["conflict"] and on_hand(till)["L1"] == 6


def test_an_apply_that_arrives_before_the_next_try_is_found(till: OdooTill) -> None:
    wms, line = over(till)
    doc = document(till, ("L1", "A", 5))
    line.at = once("action_apply", then="stuck")
    with pytest.raises(WmsUnknown):
        wms.submit(doc)
    assert wms.find("k1") is None
    line.arrive()
    found = wms.find("k1")
    assert found == wms.submit(doc) and counts_of(till) == [-2]


def test_negative_counts_and_lots(till: OdooTill) -> None:
    """Odoo takes both; we send neither."""
    quant = till.odoo.one("stock.quant", quantity=7.0)
    till.odoo.one("product.product", default_code="A")["tracking"] = "lot"
    name = {"vals_list": [{"product_id": quant["product_id"], "location_id": quant["location_id"], "inventory_quantity": -1}]}
    assert till.odoo.transaction("stock.quant", "create", [], name, {"inventory_mode": True}) == [quant["id"]]
    assert quant["id"] and till.odoo.one("stock.quant", id=quant["id"])["inventory_quantity"] == -1
    receipt = till.submit(document(till, ("L1", "A", 5)))
    assert receipt.lines[0].result == "rejected" and "tracked by lot" in receipt.lines[0].message
    assert on_hand(till)["L1"] == 7
    with pytest.raises(WmsRejected, match="-1"):
        document(till, ("L2", "B", -1))


def test_two_quants_of_one_product_are_one_stock(till: OdooTill) -> None:
    """Parallel counts of a new product left them."""
    q = till.odoo.one("stock.quant", quantity=7.0)
    till.odoo.add("stock.quant", product_id=q["product_id"], location_id=q["location_id"], quantity=2.0)
    assert on_hand(till)["L1"] == 9
    assert [s.result for s in till.submit(document(till, ("L1", "A", 1))).lines] == ["applied"]
    assert on_hand(till)["L1"] == 1
    till.submit(document(till, ("L1", "A", 4), key="k2"))
    assert on_hand(till)["L1"] == 4


def test_a_place_without_a_quant_gets_one(till: OdooTill) -> None:
    q = till.odoo.one("stock.quant", quantity=3.0)
    del till.odoo.tables["stock.quant"][q["id"]]
    assert on_hand(till)["L2"] == 0
    assert [s.result for s in till.submit(document(till, ("L2", "B", 2))).lines] == ["applied"]
    assert on_hand(till)["L2"] == 2


def test_no_difference_makes_no_move_and_is_found(till: OdooTill) -> None:
    doc = document(till, ("L1", "A", 7))
    receipt = till.submit(doc)
    assert [s.result for s in receipt.lines] == ["applied"]
    assert till.pull_movements(0) == [] and till.find("k1") == receipt
    assert (WIZARD, "action_apply") not in till.odoo.calls


def test_conflicts_and_refusals_are_found_by_the_next_process(till: OdooTill) -> None:
    doc = document(till, ("L1", "A", 5), ("L2", "B", 2), ("L3", "C", 1))
    till.post_movement("L1", "A", -1)
    receipt = till.submit(doc)
    assert [s.result for s in receipt.lines] == ["conflict", "applied", "rejected"]
    after, _ = over(till)
    assert after.find("k1") == receipt == after.submit(doc)
    with pytest.raises(WmsRejected, match="another count document"):
        after.submit(document(till, ("L1", "A", 4)))


def test_killed_before_the_answers_were_kept(till: OdooTill) -> None:
    wms, line = over(till)
    doc = document(till, ("L1", "A", 5), ("L2", "B", 2))
    till.post_movement("L1", "A", -1)
    line.at = once("ir.attachment", "answer", "create", then="stuck")
    with pytest.raises(WmsUnknown):
        wms.submit(doc)
    assert wms.find("k1") is None
    receipt = wms.submit(doc)
    line.arrive()
    assert [s.result for s in receipt.lines] == ["conflict", "applied"] and wms.find("k1") == receipt


def test_an_old_move_line_that_is_done_late_is_another_version(till: OdooTill) -> None:
    """Its number is older than the last one's: a version that were the last number would not change."""
    q = till.odoo.one("stock.quant", quantity=7.0)
    ends = {"location_id": q["location_id"], "location_dest_id": till.odoo.customers}
    waiting = till.odoo.add("stock.move.line", product_id=q["product_id"], **ends, quantity_product_uom=1.0, state="assigned")
    till.post_movement("L1", "A", -1)
    till.post_movement("L1", "A", 1)
    doc = document(till, ("L1", "A", 5))
    till.odoo.tables["stock.move.line"][waiting].update(state="done", date="2030-01-01 00:00:00")
    assert [s.result for s in till.submit(doc).lines] == ["conflict"]


def test_the_name_of_who_was_to_count_hides_no_key(till: OdooTill) -> None:
    till.odoo.one("stock.quant", quantity=7.0)["user_id"] = 2
    receipt = till.submit(document(till, ("L1", "A", 5)))
    assert [s.result for s in receipt.lines] == ["applied"] and counts_of(till) == [-2]
    assert till.odoo.one("stock.move.line", quantity_product_uom=2.0)["reference"] == "shelfscan k1 (Stock Manager)"


def test_places_go_by_barcode_or_by_name(till: OdooTill) -> None:
    place = till.odoo.one("stock.location", barcode="L1")
    place["barcode"] = False
    assert {p.location_code for p in till.pull_locations()} == {"WH/Stock/L1", "L2", "L3"}
    place["barcode"] = "L2"
    assert {p.location_code for p in till.pull_locations()} == {"L3"}, "a name of two places is no name"
    rows = (WmsLocation("WH/Stock/L1", "shelf", "b1", "A", 7, 0),)
    assert OdooTill(till.odoo, rows, till.api).pull_locations()[0].location_code == "L2"
    till.odoo.one("product.product", default_code="A")["default_code"] = "B"
    assert {p.sku for p in till.pull_products()} == {"C"}
    assert till.pull_products()[0].gtin14 == "04006381333931"


def test_a_wrong_key_is_said_and_not_shown(till: OdooTill) -> None:
    wrong = OdooTill(till.odoo, ROWS, till.api, key="not-it-77")
    with pytest.raises(WmsAuth) as e:
        wrong.pull_stock()
    assert "not-it-77" not in str(e.value)
    assert not wrong.health().ok and till.health().ok


def test_what_odoo_refuses(till: OdooTill, api: Api) -> None:
    rpc = OdooRpc("http://odoo.test", DATABASE, USER, KEY, api=api, transport=OdooStub(till.odoo, 19))
    for model, method, values in (
        ("no.such.model", "search_read", {}),
        ("stock.quant", "no_such_method", {}),
        ("stock.quant", "search_read", {"domain": [["nonsense", "=", 1]]}),
        ("stock.quant", "search_read", {"nonsense": 1}),
    ):
        with pytest.raises((WmsRejected, WmsTransient), match=r"no.such|no_such|nonsense|unexpected"):
            rpc.call(model, method, changes=False, **values)
    with pytest.raises(WmsAuth):
        rpc.call("stock.quant", "unlink", [till.odoo.one("stock.quant")["id"]], changes=True)


def test_over_a_socket(till: OdooTill, api: Api) -> None:
    running = server(OdooStub(till.odoo))
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        wms = OdooWms(f"http://127.0.0.1:{running.server_port}", DATABASE, KEY, ROWS, api=api, user=USER)
        assert [s.result for s in wms.submit(document(wms, ("L1", "A", 5))).lines] == ["applied"]
        assert on_hand(wms)["L1"] == 5 and wms.health().text.startswith("Odoo 19 at http://127.0.0.1")
    finally:
        running.shutdown()
        running.server_close()
        thread.join(5)


def test_it_is_chosen_by_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("wms:\n  name: odoo\n  odoo: {url: 'http://odoo.test', database: shop, api: jsonrpc}\n")
    config = load_config(path)
    with pytest.raises(BadInput, match=r"wms\.odoo\.key: environment variable SHELFSCAN_ODOO_KEY"):
        make_wms(bundle(ROWS), tmp_path, config)
    monkeypatch.setenv("SHELFSCAN_ODOO_KEY", "secret")
    assert isinstance(make_wms(bundle(ROWS), tmp_path, config), OdooWms)
    assert Config().wms.odoo.api == "json2"


def test_nights_of_faults() -> None:
    result = campaign("odoo", 20, 5000)
    assert {k: result[k] for k in WRONG} == dict.fromkeys(WRONG, 0)
    assert result["posted"] > 5 and result["faults"] > 20
