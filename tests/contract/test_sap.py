"""SAP's traps, each on a stand-in that has it; and nights of faults on the line to it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.night import T0, bundle
from fakes.sap import KEY, ROWS, at, begun, counts_of, direct, document, on_hand, over, results, still_open

from shelfscan.adapters.sap_inventory import SapInventory
from shelfscan.adapters.sap_odata import SapRefused
from shelfscan.errors import WmsUnknown
from shelfscan.evaluation.sap_models import ITEMS
from shelfscan.evaluation.sap_night import SapTill
from shelfscan.evaluation.sync_campaign import WRONG, campaign


@pytest.fixture(params=["", "deletes"])
def till(request: pytest.FixtureRequest) -> SapTill:
    return SapTill.of(ROWS, bundle(ROWS).catalogue, lambda: T0, deletes=bool(request.param))


def test_zero_is_a_flag(till: SapTill) -> None:
    s = begun(till, counted=False)
    body = {"QuantityInUnitOfEntry": "0", "UnitOfEntry": "PC", "PhysicalInventoryItemIsZero": False}
    till.system.count(s.number, body, s.etag)
    assert not till.system.documents[s.number][ITEMS][0]["PhysicalInventoryItemIsCounted"], "and nobody says so"
    zero = SapTill.of(ROWS, bundle(ROWS).catalogue, lambda: T0)
    assert results(zero, document(zero, ("L1", "A", 0))) == ["applied"]
    assert on_hand(zero)["L1"] == 0 and counts_of(zero) == [-7]


def test_a_count_needs_the_etag(till: SapTill) -> None:
    s = begun(till, counted=False)
    sheets = SapInventory(direct(till))
    with pytest.raises(SapRefused) as e:
        sheets.count(replace(s, etag=""), 5)
    assert e.value.stale and e.value.status == 428
    sheets.count(s, 5)
    with pytest.raises(SapRefused) as e:
        sheets.count(s, 5)
    assert e.value.stale and e.value.status == 412


@pytest.mark.parametrize("what", ["DocHeader", "PATCH", "PostDifferences"])
def test_every_change_twice_counts_once(till: SapTill, what: str) -> None:
    wms, line = over(till)
    line.at = at(what, "twice")
    assert results(wms, document(till, ("L1", "A", 5))) == ["applied"]
    assert counts_of(till) == [-2] and on_hand(till)["L1"] == 5 and still_open(till) == []


@pytest.mark.parametrize("what", ["DocHeader", "PATCH", "PostDifferences"])
@pytest.mark.parametrize("how", ["stuck", "lost"])
def test_a_document_that_was_begun_is_gone_on_with(till: SapTill, what: str, how: str) -> None:
    wms, line = over(till)
    doc = document(till, ("L1", "A", 5))
    line.at = at(what, how)
    with pytest.raises(WmsUnknown):
        wms.submit(doc)
    line.arrive()
    receipt = till.submit(doc)
    assert [s.result for s in receipt.lines] == ["applied"] and till.find(KEY) == receipt
    assert counts_of(till) == [-2] and len(till.system.documents) == 1


@pytest.mark.parametrize("what", ["DocHeader", "PATCH", "PostDifferences"])
def test_a_request_that_arrives_after_all_undoes_nothing(till: SapTill, what: str) -> None:
    wms, line = over(till)
    doc = document(till, ("L1", "A", 5))
    line.at = at(what, "stuck")
    with pytest.raises(WmsUnknown):
        wms.submit(doc)
    receipt = till.submit(doc)
    till.post_movement("L1", "A", -1)
    line.arrive()
    assert on_hand(till)["L1"] == 4 and counts_of(till) == [-2] and till.find(KEY) == receipt


def test_what_moved_after_the_count_stays_moved(till: SapTill) -> None:
    """Entered before the sale, posted after it: SAP posts the difference to the book quantity of the entry."""
    wms, line = over(till)
    line.at = at("PostDifferences", when=lambda: till.post_movement("L1", "A", -1))
    assert results(wms, document(till, ("L1", "A", 5))) == ["applied"]
    assert on_hand(till)["L1"] == 4 and counts_of(till) == [-2]


def test_what_moved_before_the_count_was_entered_is_a_conflict(till: SapTill) -> None:
    """After the last look and before the entry: the book quantity is another, so this document is never posted."""
    wms, line = over(till)
    line.at = at("PATCH", when=lambda: till.post_movement("L1", "A", -1))
    receipt = wms.submit(document(till, ("L1", "A", 5)))
    assert [s.result for s in receipt.lines] == ["conflict"] and on_hand(till)["L1"] == 6
    assert "on hand was 6 when it was entered, 7 was read" in receipt.lines[0].message
    assert "physical inventory document 100000001/2" in receipt.lines[0].message, "a person has to delete it"
    assert receipt.receipt_id == "" and "post" not in till.system.calls, "and to look again, for somebody may post it"
    assert results(till, document(till, ("L1", "A", 5), key="other")) == ["rejected"], "until then it is in the way"


def test_what_moved_while_it_waited_is_a_conflict(till: SapTill) -> None:
    wms, line = over(till)
    doc = document(till, ("L1", "A", 5))
    line.at = at("PATCH", "stuck")
    with pytest.raises(WmsUnknown):
        wms.submit(doc)
    till.post_movement("L1", "A", -1)
    receipt = till.submit(doc)
    assert [s.result for s in receipt.lines] == ["conflict"]
    assert bool(still_open(till)) is not till.system.deletes and bool(receipt.receipt_id) is till.system.deletes
    assert line.arrive() == ([404] if till.system.deletes else [204]) and on_hand(till)["L1"] == 6
    assert till.find(KEY) is None and counts_of(till) == []


def test_a_sale_and_a_return_are_not_nothing(till: SapTill) -> None:
    doc = document(till, ("L1", "A", 5))
    till.post_movement("L1", "A", -1)
    till.post_movement("L1", "A", 1)
    assert results(till, doc) == ["conflict"] and till.system.calls == []


def test_a_document_of_somebody_else_is_in_the_way(till: SapTill) -> None:
    body = {"Plant": "1010", "StorageLocation": "L1", "PhysInventoryPlannedCountDate": "2030-01-01T00:00:00"}
    till.system.create({**body, "PhysicalInventoryDocumentDesc": "yearly count", ITEMS: [{"Material": "A"}]})
    receipt = till.submit(document(till, ("L1", "A", 5)))
    assert [s.result for s in receipt.lines] == ["rejected"] and len(still_open(till)) == 1
    assert "already in active physical inventory document 100000001" in receipt.lines[0].message
    till.system.documents["100000001"][ITEMS][0]["PhysInvtryItemIsDeleted"] = True
    assert results(till, document(till, ("L1", "A", 5))) == ["applied"]


def test_an_old_one_of_ours_is_cleared_where_sap_can(till: SapTill) -> None:
    wms, line = over(till)
    line.at = at("PATCH", "stuck")
    with pytest.raises(WmsUnknown):
        wms.submit(document(till, ("L1", "A", 5), key="old"))
    assert results(till, document(till, ("L1", "A", 5))) == (["applied"] if till.system.deletes else ["rejected"])


def test_what_somebody_has_open_waits(till: SapTill) -> None:
    doc = document(till, ("L1", "A", 5))
    till.system.locked = {"A"}
    with pytest.raises(WmsUnknown, match="locked by user ANNA"):
        till.submit(doc)
    till.system.locked = set()
    wms, line = over(till)
    line.at = at("PostDifferences", when=lambda: till.system.locked.add("A"))
    with pytest.raises(WmsUnknown, match="locked by user ANNA"):
        wms.submit(doc)
    till.system.locked = set()
    assert results(till, doc) == ["applied"] and counts_of(till) == [-2]


def test_stock_that_would_be_less_than_nothing_is_a_conflict(till: SapTill) -> None:
    wms, line = over(till)
    line.at = at("PostDifferences", when=lambda: till.post_movement("L1", "A", -6))
    receipt = wms.submit(document(till, ("L1", "A", 1)))
    assert [s.result for s in receipt.lines] == ["conflict"] and receipt.receipt_id == "" and on_hand(till)["L1"] == 1
    assert "Deficit of SL Unrestricted-use" in receipt.lines[0].message


def test_what_people_do_with_our_document(till: SapTill) -> None:
    """Counted in SAP with another number; posted there; deleted there."""
    s = begun(till, counted=False)
    till.system.count(s.number, {"QuantityInUnitOfEntry": "6", "UnitOfEntry": "PC"}, s.etag)
    receipt = till.submit(document(till, ("L1", "A", 5)))
    assert "somebody counted 6" in receipt.lines[0].message and receipt.receipt_id == ""
    till.system.post(s.year, s.number)
    assert till.find(KEY) is not None, "whoever posted it"
    other = SapTill.of(ROWS, bundle(ROWS).catalogue, lambda: T0)
    gone = begun(other, counted=False)
    other.system.documents[gone.number][ITEMS][0]["PhysInvtryItemIsDeleted"] = True
    assert results(other, document(other, ("L1", "A", 5))) == ["applied"] and len(other.system.documents) == 2


def test_the_till_goes_on_while_a_document_is_open(till: SapTill) -> None:
    begun(till)
    till.post_movement("L1", "A", -1)
    d = till.system.documents["100000001"]
    assert not d["PostingIsBlockedForPhysInvtry"] and not d["PhysInvtryDocHasQtySnapshot"]
    assert len(d["PhysicalInventoryDocumentDesc"]) <= 40 and len(d["PhysInventoryReferenceNumber"]) == 16


def test_no_difference_is_posted_without_a_movement(till: SapTill) -> None:
    assert results(till, document(till, ("L1", "A", 7))) == ["applied"]
    assert till.find(KEY) is not None and till.pull_movements(0) == []


def test_nights_of_faults() -> None:
    result = campaign("sap", 16, 5000)
    assert {k: result[k] for k in WRONG} == dict.fromkeys(WRONG, 0)
    assert result["posted"] > 5 and result["faults"] > 20
