"""What EPCIS events say of a count, and that the check knows what is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fakes.epcis import GTIN, count, document

from shelfscan.errors import BadInput, WmsRejected
from shelfscan.evaluation.epcis_check import problems
from shelfscan.wms.epcis import Places, to_epcis

GS1 = Places("https://id.gs1.org/414/9506000000008/254/{location}", "https://id.gs1.org/414/9506000000008")


def test_a_document_is_epcis() -> None:
    made = to_epcis(document(4, 0), GS1)
    assert problems(made) == []
    full, empty = made["epcisBody"]["eventList"]
    assert full["quantityList"] == [{"epcClass": f"https://id.gs1.org/01/{GTIN}", "quantity": 4}]
    assert full["eventTime"] == "2030-01-01T00:00:00.000Z" and full["disposition"] == "sellable_accessible"
    assert full["readPoint"]["id"].endswith("/254/b1") and full["bizStep"] == "cycle_counting" and full["action"] == "OBSERVE"
    assert empty["quantityList"][0]["quantity"] == 0 and "disposition" not in empty and "persistentDisposition" not in empty
    assert problems(to_epcis(replace(document(4), kind="stock_taking"), Places())) == []


def test_an_event_keeps_its_identity() -> None:
    first, again = (to_epcis(document(4, 2), Places())["epcisBody"]["eventList"] for _ in range(2))
    assert first == again and first[0]["eventID"] != first[1]["eventID"]
    assert to_epcis(document(4, 2, key="k2"), Places())["epcisBody"]["eventList"][0]["eventID"] != first[0]["eventID"]


def test_a_difference_from_known_books_is_told() -> None:
    known = replace(count(1, 4), expected_qty=6.0, expected_version="3")
    event = to_epcis(replace(document(4), lines=(known,)), Places())["epcisBody"]["eventList"][0]
    assert event["persistentDisposition"] == {"set": ["mismatch_quantity"]}


def test_names_that_are_no_uris_are_quoted() -> None:
    doc = replace(document(4), lines=(replace(count(1, 4), location_code="aisle 1/ü:3"),))
    made = to_epcis(doc, Places())
    assert problems(made) == [] and made["epcisBody"]["eventList"][0]["readPoint"]["id"].count(":") == 3


@pytest.mark.parametrize(
    ("read_point", "named"),
    [
        ("https://id.gs1.org/414/9506000000005/254/{location}", "GLN"),
        ("https://id.gs1.org/414/950600000000/254/{location}", "GLN"),
        ("urn:epc:id:sgln:95060.0000.{location}", "12 digits"),
        ("urn:shelfscan:{shop}:{location}", "{shop}"),
        ("no uri {location}", "not a URI"),
        ("urn:shelfscan:{site}", "{location} is missing"),
    ],
)
def test_templates_that_cannot_work_are_named(read_point: str, named: str) -> None:
    with pytest.raises(BadInput, match="wms.epcis.read_point") as caught:
        Places(read_point)
    assert named in str(caught.value)
    Places("urn:epc:id:sgln:9506000.00000.{location}")


def test_lines_that_cannot_be_said_are_named() -> None:
    lines = (
        replace(count(1, 4), gtin14=""),
        replace(count(2, 4), location_code="a place with much too long a name"),
        count(3, 1),
    )
    with pytest.raises(WmsRejected, match="line 1: .*GTIN.*line 2: .*1 to 20 characters") as caught:
        to_epcis(replace(document(4), lines=lines), GS1)
    assert "line 3" not in str(caught.value)


def broken(change: Callable[[dict[str, Any]], object]) -> list[str]:
    made = json.loads(json.dumps(to_epcis(document(4), GS1)))
    change(made)
    return problems(made)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d.pop("creationDate"), "creationDate"),
        (lambda d: d.update(schemaVersion="1.2"), "schemaVersion"),
        (lambda d: d["@context"].pop(), "unknown field shelfscan:"),
        (lambda d: d["@context"].pop(0), "@context"),
        (lambda d: d["epcisBody"].update(eventList=[]), "epcisBody"),
        (lambda d: d["epcisBody"]["eventList"].append(d["epcisBody"]["eventList"][0]), "a second time"),
        (lambda d: event(d).update(eventTime="2030-01-01T00:00:00"), "eventTime"),
        (lambda d: event(d).update(eventTime="2030-13-01T00:00:00Z"), "eventTime"),
        (lambda d: event(d).update(eventTimeZoneOffset="Z"), "eventTimeZoneOffset"),
        (lambda d: event(d).update(bizStep="counting"), "bizStep"),
        (lambda d: event(d).update(bizStep="urn:epcglobal:cbv:bizstep:cycle_counting"), "bizStep"),
        (lambda d: event(d).update(disposition="on_shelf"), "disposition"),
        (lambda d: event(d).update(persistentDisposition={"set": ["wrong"]}), "persistentDisposition"),
        (lambda d: event(d).update(action="COUNT"), "action"),
        (lambda d: event(d).update(note="x"), "unknown field note"),
        (lambda d: event(d).update(readPoint={"id": "bin 1"}), "readPoint"),
        (lambda d: event(d).pop("eventID"), "eventID"),
        (lambda d: event(d).update(quantityList=[]), "quantityList"),
        (lambda d: event(d)["quantityList"][0].update(uom="EA"), "uom"),
        (lambda d: event(d)["quantityList"][0].update(quantity=-1), "quantity"),
        (lambda d: event(d)["quantityList"][0].update(epcClass="https://id.gs1.org/01/04006381333932"), "check digit"),
        (lambda d: event(d)["quantityList"][0].update(epcClass="4006381333931"), "epcClass"),
    ],
)
def test_the_check_sees_what_is_no_epcis(change: Callable[[dict[str, Any]], object], named: str) -> None:
    assert any(named in p for p in broken(change)), broken(change)


def event(d: dict[str, Any]) -> dict[str, Any]:
    return d["epcisBody"]["eventList"][0]  # type: ignore[no-any-return]
