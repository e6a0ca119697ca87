"""SAP's sessions, errors, pages, and what it says about stock; each on a stand-in."""

from __future__ import annotations

import threading
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest
from fakes.night import T0, bundle
from fakes.sap import KEY, ROWS, SECOND, at, begun, counts_of, direct, document, on_hand, over, results

from shelfscan.adapters.sap_inventory import SapInventory
from shelfscan.adapters.sap_odata import SapRefused, quoted
from shelfscan.adapters.wms_sap import SapWms
from shelfscan.bootstrap import make_wms
from shelfscan.config import Config, load_config
from shelfscan.errors import BadInput, WmsAuth, WmsError, WmsUnknown
from shelfscan.evaluation.sap_models import ITEMS, SapSystem
from shelfscan.evaluation.sap_night import SapTill
from shelfscan.evaluation.sap_stub import CLIENT, PASSWORD, USER, SapStub, server
from shelfscan.model.bundle import WmsLocation


@pytest.fixture(params=["", "deletes"])
def till(request: pytest.FixtureRequest) -> SapTill:
    return SapTill.of(ROWS, bundle(ROWS).catalogue, lambda: T0, deletes=bool(request.param))


# Sessions, tokens and errors


def test_a_change_needs_a_token_and_its_cookie(till: SapTill) -> None:
    with httpx.Client(transport=till.stub, auth=(USER, PASSWORD), params={"sap-client": CLIENT}) as http:
        root = "http://sap.test/sap/opu/odata/sap/API_PHYSICAL_INVENTORY_DOC_SRV/"
        token = http.get(root, headers={"X-CSRF-Token": "Fetch"}).headers["x-csrf-token"]
        http.cookies.clear()
        answer = http.post(f"{root}PostDifferences", headers={"X-CSRF-Token": token})
    assert answer.status_code == 403 and answer.headers["x-csrf-token"] == "Required"


def test_a_session_that_ends_is_begun_anew(till: SapTill) -> None:
    wms, line = over(till)
    line.at = at("PATCH", when=line.stub.expire)
    assert results(wms, document(till, ("L1", "A", 5))) == ["applied"]
    assert till.system.calls == ["create", "count", "post"] and on_hand(till)["L1"] == 5


def test_a_session_that_never_holds_is_an_error_that_ends(till: SapTill) -> None:
    wms, line = over(till)

    def expire(text: str) -> None:
        line.stub.expire()

    line.at = expire
    with pytest.raises(WmsAuth, match="over and over"):
        wms.submit(document(till, ("L1", "A", 5)))


def test_a_wrong_password_is_said_and_not_shown(till: SapTill) -> None:
    wrong = SapTill(till.system, ROWS, password="not-it-77")
    with pytest.raises(WmsAuth) as e:
        wrong.pull_stock()
    assert "not-it-77" not in str(e.value)
    assert not wrong.health().ok and till.health().ok and "3 storage locations" in till.health().text


def test_an_error_says_what_its_details_say(till: SapTill) -> None:
    sap, sheets = direct(till), SapInventory(direct(till))
    with pytest.raises(SapRefused, match="no counted item") as e:
        sheets.post(begun(till, counted=False))
    assert e.value.code == "M7/704" and "posting period" not in str(e.value), "a warning is no error"
    assert str(e.value).count("no counted item") == 1
    with pytest.raises(WmsError, match="nonsense is not known"):
        sap.rows("API_PRODUCT_SRV", "A_Product", "Product", where="nonsense eq 'x'")
    assert quoted("O'Hara") == "'O''Hara'"


@pytest.mark.parametrize("most", [5000, 3])
def test_pages_and_a_next_address_of_another_name(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Gateway gives two at once, however many are asked for; what is asked for may be less than there is."""
    monkeypatch.setattr("shelfscan.adapters.sap_odata.PAGE", most)
    rows = tuple(WmsLocation(f"L{i}", "shelf", f"b{i}", f"S{i}", i, 0) for i in range(7))
    wms = SapTill.of(rows, bundle(rows).catalogue, lambda: T0, page=2)
    assert on_hand(wms) == {f"L{i}": i for i in range(7)} and len(wms.pull_products()) == 7
    for i in range(1, 6):
        wms.post_movement(f"L{i}", f"S{i}", -1)
    assert len(wms.pull_movements(0)) == 5


def test_a_record_without_a_field_is_an_error_that_names_it(till: SapTill) -> None:
    del till.system.products["A"]["BaseUnit"]
    with pytest.raises(WmsUnknown, match="a record without BaseUnit"):
        till.submit(document(till, ("L1", "A", 5)))


def test_what_moves_while_pages_are_read_hides_nothing() -> None:
    """Numbers are not in order: one that is new stands before what was read already, and everything shifts."""
    till = SapTill.of(ROWS, bundle(ROWS).catalogue, lambda: T0)
    for _ in range(4):
        till.post_movement("L3", "C", -1)

    class Selling(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = till.stub.handle_request(request)
            if "DocumentHeader" in request.url.path and len(till.system.heads) < 8:
                till.post_movement("L3", "C", -1)
            return response

    wms = SapTill(till.system, ROWS, lambda stub: Selling())
    till.stub = SapStub(till.system, 2)
    before = {m.reference for m in till.pull_movements(0)}
    found = [m.reference for m in wms.pull_movements(0)]
    assert before <= set(found) and len(set(found)) == len(found)


# Reading


def test_only_unrestricted_stock_of_our_own_counts(till: SapTill) -> None:
    before = {s.location_code: s.version for s in till.pull_stock()}
    row = {"Material": "A", "Plant": "1010", "StorageLocation": "L1", "Batch": "", "InventorySpecialStockType": ""}
    till.system.others.append({**row, "InventoryStockType": "07", "MatlWrhsStkQtyInMatlBaseUnit": "4.000"})
    consigned = {"InventoryStockType": "01", "InventorySpecialStockType": "K", "MatlWrhsStkQtyInMatlBaseUnit": "9.000"}
    till.system.others.append({**row, **consigned})
    till.system.move(("A", "1010", "L1"), 4.0, "344", stock_type="07")
    assert {s.location_code: s.version for s in till.pull_stock()} == before and till.pull_movements(0) == []


def test_stock_of_nothing_has_no_row_and_is_nothing(till: SapTill) -> None:
    till.post_movement("L1", "A", -7)
    assert on_hand(till)["L1"] == 0
    assert results(till, document(till, ("L1", "A", 2))) == ["applied"] and on_hand(till)["L1"] == 2


def test_places_materials_and_units(till: SapTill) -> None:
    rows = (WmsLocation("1010/101A", "shelf", "b1", "42", 7, 0), WmsLocation("101B", "shelf", "b2", "B", 3, 0))
    sap = SapSystem(rows, bundle(rows).catalogue, lambda: T0)
    padded = "42".zfill(18)
    sap.products[padded] = {**sap.products.pop("42"), "Product": padded}
    sap.stock[(padded, "1010", "101A")] = sap.stock.pop(("42", "1010", "101A"))
    sap.stock["X", "1010", "101C"] = 1.0
    wms = SapTill(sap, rows)
    assert {p.location_code for p in wms.pull_locations()} == {"1010/101A", "101B", "1010/101C"}
    assert {(s.location_code, s.sku): s.on_hand for s in wms.pull_stock()} == {("1010/101A", "42"): 7, ("101B", "B"): 3}
    assert {p.sku: p.gtin14 for p in wms.pull_products()}["42"] == "04006381333931"
    assert results(wms, document(wms, ("1010/101A", "42", 5))) == ["applied"] and counts_of(wms) == [-2]
    sap.products["B"]["BaseUnit"] = "KG"
    assert "kept in KG" in wms.submit(document(wms, ("101B", "B", 2), key="k2")).lines[0].message
    sap.products["B"].update(BaseUnit="PC", IsBatchManagementRequired=True)
    assert "managed in batches" in wms.submit(document(wms, ("101B", "B", 2), key="k3")).lines[0].message


def test_times_are_of_saps_own_clock() -> None:
    sap = SapSystem(ROWS, bundle(ROWS).catalogue, lambda: T0, zone="Europe/Berlin")
    wms = SapTill(sap, ROWS)
    assert sap.zone == ZoneInfo("Europe/Berlin")
    wms.post_movement("L1", "A", -1, moved_at_ns=T0)
    assert sap.heads[0]["CreationTime"] != f"PT{(T0 // SECOND // 3600) % 24:02d}H00M00S"
    (move,) = wms.pull_movements(T0 - SECOND)
    assert move.moved_at_ns // SECOND == T0 // SECOND and wms.pull_movements(T0 + SECOND) == []


def test_counts_of_others_are_no_counts_of_ours(till: SapTill) -> None:
    body = {"Plant": "1010", "StorageLocation": "L1", "PhysInventoryPlannedCountDate": "2030-01-01T00:00:00"}
    d = till.system.create({**body, "PhysicalInventoryDocumentDesc": f"{KEY}/1", ITEMS: [{"Material": "A"}]})
    till.system.count(d["n"], {"QuantityInUnitOfEntry": "6", "UnitOfEntry": "PC"}, d[ITEMS][0]["etag"])
    till.system.post("2030", d["n"])
    assert [(m.kind, m.reference) for m in till.pull_movements(0)] == [("inventory", d["n"])]
    assert till.find(KEY) is None, "the text alone makes no document ours"


def test_over_a_socket(till: SapTill) -> None:
    running = server(till.stub)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{running.server_port}"
        wms = SapWms(url, CLIENT, USER, PASSWORD, ROWS, plant="1010", zone=ZoneInfo("UTC"))
        assert results(wms, document(wms, ("L1", "A", 5), ("1020/L2", "B", 0))) == ["applied", "applied"]
        assert on_hand(wms) == {"L1": 5, "1020/L2": 0, "L3": 9} and wms.health().ok
    finally:
        running.shutdown()
        running.server_close()
        thread.join(5)


def test_it_is_chosen_by_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("wms:\n  name: sap\n  sap: {url: 'http://sap.test', client: '200', time_zone: Europe/Berlin}\n")
    config = load_config(path)
    with pytest.raises(BadInput, match=r"wms\.sap\.password: environment variable SHELFSCAN_SAP_PASSWORD"):
        make_wms(bundle(ROWS), tmp_path, config)
    monkeypatch.setenv("SHELFSCAN_SAP_PASSWORD", "secret")
    assert isinstance(make_wms(bundle(ROWS), tmp_path, config), SapWms)
    for name, value, said in (
        ("token", "env:SHELFSCAN_SAP_TOKEN", "token: environment variable SHELFSCAN_SAP_TOKEN"),
        ("time_zone", "Berlin", "time_zone: 'Berlin' is no time zone"),
    ):
        with pytest.raises(BadInput, match=rf"wms\.sap\.{said}"):
            make_wms(bundle(ROWS), tmp_path, load_config(path, {f"wms.sap.{name}": value}))
    assert Config().wms.sap.client == "100"
