"""Counts as EPCIS 2.0 events: what they say, and that each arrives once, whatever happens on the way."""

from __future__ import annotations

import json
import random
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import pytest
from fakes.ledger import MemoryLedger
from fakes.night import HOUR, T0, bundle, state, stock_map

from shelfscan.adapters.epcis_http import HttpCarrier
from shelfscan.adapters.epcis_mqtt import MqttCarrier
from shelfscan.adapters.wms_epcis import EpcisWms, FolderCarrier
from shelfscan.errors import BadInput, WmsAuth, WmsError, WmsRejected, WmsTransient, WmsUnknown
from shelfscan.evaluation.epcis_check import problems
from shelfscan.evaluation.epcis_stub import TOKEN, EpcisRepository
from shelfscan.evaluation.faulty_wms import FaultyTransport, Killed
from shelfscan.evaluation.sync_campaign import DyingLedger
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.stock import BinStatus
from shelfscan.wms.document import CountDocument, CountLine
from shelfscan.wms.epcis import Places, event_id, to_epcis
from shelfscan.wms.rules import ApprovalPolicy, Decision
from shelfscan.wms.sync import Retry, decide, sync_run

GTIN = "04006381333931"
KEY = "0b1e6a0e-0000-5000-8000-000000000001"
GS1 = Places("https://id.gs1.org/414/9506000000008/254/{location}", "https://id.gs1.org/414/9506000000008")
ROWS = tuple(WmsLocation(f"L{n}", "shelf", f"b{n}", f"P{n}", 7, 0) for n in range(8))
ONCE = Retry(attempts=1, wait_s=0, max_wait_s=0)


def count(n: int, qty: int, **facts: Any) -> CountLine:
    return CountLine(n, f"b{n}", f"P{n}", GTIN, qty, T0, T0, 0.0, "", 0.98, zero_confirmed=qty == 0, **facts)


def document(*quantities: int, key: str = KEY) -> CountDocument:
    lines = tuple(count(n, q) for n, q in enumerate(quantities, start=1))
    return CountDocument(key, "store 1", "m", T0 + HOUR, lines)


def repository(server: httpx.BaseTransport, **options: Any) -> EpcisWms:
    return EpcisWms(HttpCarrier("http://epcis.test", TOKEN, transport=server, sleep=lambda s: None, **options), Places())


# What is written


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


# A folder


def test_a_folder_gets_each_document_once(tmp_path: Path) -> None:
    client = EpcisWms(FolderCarrier(tmp_path / "out"), Places())
    assert client.find(KEY) is None and client.health().ok
    receipt = client.submit(document(4, 0))
    assert [s.result for s in receipt.lines] == ["applied", "applied"]
    (path,) = (tmp_path / "out").iterdir()
    before = path.read_bytes()
    assert path.name == f"{KEY}.json" and problems(json.loads(before)) == []
    assert client.submit(document(4, 0)) == receipt == client.find(KEY) == client.status(KEY)
    assert path.read_bytes() == before
    with pytest.raises(WmsRejected, match="another count document"):
        client.submit(document(5, 0))
    with pytest.raises(WmsRejected, match="letters, digits and dashes"):
        client.find("../x")
    path.write_text("{}")
    with pytest.raises(WmsError, match="not an EPCIS document"):
        client.find(KEY)


# A repository


def test_a_capture_is_waited_for_and_found(tmp_path: Path) -> None:
    server = EpcisRepository(lazy=3)
    client = repository(server)
    assert client.find(KEY) is None
    receipt = client.submit(document(*range(1, 46)))
    assert len(receipt.lines) == 45 == len(server.events) and client.find(KEY) == receipt
    assert client.submit(document(*range(1, 46))) == receipt and server.captures == 1, "nothing was sent again"


def test_a_job_that_takes_long_leaves_it_unknown_and_is_found_later() -> None:
    server = EpcisRepository(lazy=99)
    client = repository(server, wait_s=1)
    with pytest.raises(WmsUnknown, match="still at work"):
        client.submit(document(4))
    assert client.find(KEY) is None
    server.finish()
    found = client.find(KEY)
    assert found is not None and [s.result for s in found.lines] == ["applied"]


def test_a_capture_that_failed_is_refused_whole_or_in_part() -> None:
    server = EpcisRepository()
    server.refuses = {event_id(KEY, 2)}
    with pytest.raises(WmsRejected, match="unknown location"):
        repository(server).submit(document(4, 3, 2))
    assert not server.events
    server.proceeds = True
    receipt = repository(server).submit(document(4, 3, 2))
    assert [s.result for s in receipt.lines] == ["applied", "rejected", "applied"] and len(server.events) == 2


def test_what_a_cut_off_capture_left_out_is_sent_and_the_rest_is_not() -> None:
    server = EpcisRepository()
    client = repository(server)
    client.submit(document(4, 3, 2))
    del server.events[event_id(KEY, 2)]
    assert client.find(KEY) is None, "not all of it is there"
    client.submit(document(4, 3, 2))
    assert len(server.events) == 3 and client.find(KEY) is not None


def test_a_server_that_answers_anything_is_not_believed() -> None:
    server = EpcisRepository()
    repository(server).submit(document(4))
    server.deaf = True
    with pytest.raises(WmsError, match="EQ_eventID"):
        repository(server).find("k2")


def test_secrets_go_to_no_other_server() -> None:
    asked: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        if request.method == "POST":
            return httpx.Response(202, headers={"location": "https://elsewhere.test/job/1"})
        body = {"queryResults": {"resultsBody": {"eventList": []}}}
        return httpx.Response(200, json={"epcisBody": body})

    with pytest.raises(WmsUnknown, match="names no job of its own"):
        repository(httpx.MockTransport(handle)).submit(document(4))
    assert set(asked) == {"epcis.test"}


@pytest.mark.parametrize("code", [404, 405, 415])
def test_a_wrong_address_ends_no_document(code: int) -> None:
    server = httpx.MockTransport(lambda request: httpx.Response(code, json={}))
    for call in (lambda c: c.find(KEY), lambda c: c.submit(document(4))):
        with pytest.raises(WmsError, match=r"is wms.epcis.url right\?") as caught:
            call(repository(server))
        assert type(caught.value) is WmsError
    assert not repository(server).health().ok


def test_a_wrong_token_is_said_and_not_shown() -> None:
    client = EpcisWms(HttpCarrier("http://epcis.test", "secret-thing", transport=EpcisRepository()), Places())
    with pytest.raises(WmsAuth) as caught:
        client.find(KEY)
    assert "secret-thing" not in str(caught.value) and not client.health().ok


# A broker


class Broker:
    """Stands in for paho-mqtt's client: connects, acknowledges, or does not."""

    def __init__(self, *, down: bool = False, refuses: int = 0, silent: bool = False) -> None:
        self.messages: list[tuple[str, Any, int]] = []
        broker = self

        class Client:
            on_connect: Any = None

            def __init__(self, version: object) -> None:
                self.user: tuple[str, str] | None = None

            def username_pw_set(self, user: str, password: str) -> None:
                self.user = (user, password)

            def tls_set(self) -> None: ...

            def connect(self, host: str, port: int, keepalive: int) -> None:
                if down:
                    raise ConnectionRefusedError("refused")

            def loop_start(self) -> None:
                reason = SimpleNamespace(is_failure=bool(refuses), value=refuses)
                threading.Thread(target=lambda: self.on_connect(self, None, None, reason, None)).start()

            def publish(self, topic: str, payload: str, qos: int, retain: bool) -> Any:
                broker.messages.append((topic, json.loads(payload), qos))
                return SimpleNamespace(wait_for_publish=lambda timeout: None, is_published=lambda: not silent)

            def disconnect(self) -> None: ...

            def loop_stop(self) -> None: ...

        self.module = ModuleType("paho.mqtt.client")
        self.module.Client = Client  # type: ignore[attr-defined]
        self.module.CallbackAPIVersion = SimpleNamespace(VERSION2=2)  # type: ignore[attr-defined]


def published(monkeypatch: pytest.MonkeyPatch, broker: Broker) -> EpcisWms:
    for name in ("paho", "paho.mqtt"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", broker.module)
    return EpcisWms(MqttCarrier("broker.test", 8883, "store/counts", user="u", password="p", wait_s=5), Places())


def test_a_broker_gets_one_message_a_document(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker()
    client = published(monkeypatch, broker)
    client.submit(document(4, 0))
    ((topic, message, qos),) = broker.messages
    assert topic == "store/counts" and qos == 1 and problems(message) == [] and client.find(KEY) is None
    client.submit(document(4, 0))
    assert broker.messages[0] == broker.messages[1], "the same events, which the receiver recognises"
    assert client.health().ok


def test_a_broker_that_is_down_refuses_or_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for broker, error in (
        (Broker(down=True), WmsTransient),
        (Broker(refuses=134), WmsAuth),
        (Broker(refuses=136), WmsTransient),
        (Broker(silent=True), WmsUnknown),
    ):
        with pytest.raises(error):
            published(monkeypatch, broker).submit(document(4))


def test_without_the_client_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(BadInput, match=r"shelfscan\[mqtt\]"):
        MqttCarrier("broker.test", 8883, "t")
    with pytest.raises(BadInput, match="topic"):
        MqttCarrier("broker.test", 8883, "a/#")


# The bridge


def bins() -> tuple[Any, ...]:
    return (
        state("b0", "P0", 4),
        state("b1", "P1", 0),
        state("b2", "P2", 5, confidence=0.5),
        state("b3", "P3", 5, status=BinStatus.UNSEEN, reason="occluded"),
        state("b4", "P4", 9, low=2, high=15),
        state("b5", "P5", 7, misplaced=True),
        state("b6", "P6", 7),
    )


def synced(client: Any, ledger: Any, **options: Any) -> Any:
    policy = ApprovalPolicy(**{"auto_post": True, **options})
    now = T0 + 40 * HOUR  # an observation does not get too old
    args = (stock_map(*bins()), bundle(ROWS), ledger, client, policy)
    return sync_run(*args, mission_id="m1", now_ns=now, retry=ONCE, sleep=lambda s: None)


def test_only_sure_counts_are_sent_and_only_once() -> None:
    server, ledger = EpcisRepository(), MemoryLedger()
    client = repository(server)
    assert synced(client, ledger, auto_post=False).counts["held"] == 6 and not server.events
    report = synced(client, ledger)
    what = {x.bin_id: x.outcome for x in report.lines}
    assert what == {"b0": "posted", "b1": "held", "b2": "held", "b3": "recount", "b4": "held", "b5": "held", "b6": "posted"}
    assert all(x.on_hand is None and x.delta is None for x in report.lines)
    assert synced(client, ledger).counts == report.counts and server.captures == 1
    wms = client.capabilities().name
    decide(ledger, "m1", wms, Decision("b1/P1", True, "anna", "looked", T0, 0, 0.0))
    assert synced(client, ledger).counts["posted"] == 3
    counted = sorted(e["quantityList"][0]["quantity"] for e in server.events.values())
    assert counted == [0, 4, 7] and all(problems_of(e) == [] for e in server.events.values())


def problems_of(e: dict[str, Any]) -> list[str]:
    made = to_epcis(document(1), Places())
    return problems({**made, "epcisBody": {"eventList": [e]}})


def test_there_is_no_stock_to_ask_for(tmp_path: Path) -> None:
    client = EpcisWms(FolderCarrier(tmp_path), Places())
    assert not client.capabilities().keeps_stock
    for pull in (client.pull_stock, client.pull_locations, client.pull_products, lambda: client.pull_movements(0)):
        with pytest.raises(WmsError, match="takes note of what was seen and has no"):
            pull()


def test_every_destination_gets_its_own(tmp_path: Path) -> None:
    ledger = MemoryLedger()
    for name in ("a", "b"):
        assert synced(EpcisWms(FolderCarrier(tmp_path / name), Places()), ledger).counts["posted"] == 2
        assert len(list((tmp_path / name).iterdir())) == 1


def test_nights_of_faults_leave_each_event_once() -> None:
    """Requests and answers lost, doubled, late, refused, and kills: everything arrives, with one identity a count."""
    faults = 0
    for seed in range(60):
        rng = random.Random(seed)
        server = EpcisRepository(lazy=rng.choice((0, 2)))
        p = rng.choice((0.1, 0.3, 0.5))
        line = FaultyTransport(rng, p, lambda: None, server)
        ledger, client = MemoryLedger(), repository(line)
        dying = DyingLedger(ledger, rng, p / 4)

        def through(client: EpcisWms = client, dying: DyingLedger = dying) -> Any:
            for _ in range(400):
                try:
                    report = synced(client, dying)
                except Killed:
                    continue
                if report.ok:
                    return report
            raise AssertionError("never came to an end")

        through()
        line.deliver_late()
        server.finish()
        report = through()
        said = {(e["readPoint"]["id"], e["quantityList"][0]["quantity"]) for e in server.events.values()}
        assert said == {("urn:shelfscan:store-1:b0", 4), ("urn:shelfscan:store-1:b6", 7)}, seed
        assert len(server.events) == 2 == report.counts["posted"], seed
        faults += line.faults
    assert faults > 100
