"""EPCIS into a folder and a repository, and through the bridge: each event arrives once, whatever happens on the way."""

from __future__ import annotations

import itertools
import json
import random
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes.epcis import KEY, document
from fakes.ledger import MemoryLedger
from fakes.night import HOUR, T0, bundle, state, stock_map

from shelfscan.adapters.epcis_http import HttpCarrier
from shelfscan.adapters.wms_epcis import EpcisWms, FolderCarrier
from shelfscan.errors import WmsAuth, WmsError, WmsRejected, WmsUnknown
from shelfscan.evaluation.epcis_check import problems
from shelfscan.evaluation.epcis_night import EpcisNight, FaultyEpcis
from shelfscan.evaluation.epcis_stub import TOKEN, EpcisRepository, server
from shelfscan.evaluation.epcis_ways import by_folder, by_mqtt
from shelfscan.evaluation.faulty_wms import FaultyTransport, Killed
from shelfscan.evaluation.sync_campaign import WRONG, DyingLedger, campaign
from shelfscan.model.bundle import WmsLocation
from shelfscan.model.stock import BinStatus
from shelfscan.wms.epcis import Places, event_id, to_epcis
from shelfscan.wms.rules import ApprovalPolicy, Decision
from shelfscan.wms.sync import Retry, decide, sync_run

ROWS = tuple(WmsLocation(f"L{n}", "shelf", f"b{n}", f"P{n}", 7, 0) for n in range(8))
ONCE = Retry(attempts=1, wait_s=0, max_wait_s=0)


def repository(server: httpx.BaseTransport, **options: Any) -> EpcisWms:
    return EpcisWms(HttpCarrier("http://epcis.test", TOKEN, transport=server, sleep=lambda s: None, **options), Places())


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
    server.refuses = {event_id(KEY, n) for n in (1, 2, 3)}
    receipt = repository(server).submit(document(4, 3, 2))
    assert [s.result for s in receipt.lines] == ["rejected"] * 3 and "unknown location" in receipt.lines[0].message
    assert not server.events and not receipt.receipt_id, "it is looked up again"
    server.refuses = {event_id(KEY, 2)}
    for server.proceeds in (False, True):
        server.events.clear()
        receipt = repository(server).submit(document(4, 3, 2))
        assert [s.result for s in receipt.lines] == ["applied", "rejected", "applied"] and len(server.events) == 2


def test_a_repository_that_takes_a_few_at_once_gets_a_few_under_the_same_identities() -> None:
    server = EpcisRepository(limit=3)
    receipt = repository(server).submit(document(*range(1, 12)))
    assert {s.result for s in receipt.lines} == {"applied"} and set(server.events) == {event_id(KEY, n) for n in range(1, 12)}
    assert repository(server).find(KEY) == receipt


def test_over_a_real_socket() -> None:
    repo = EpcisRepository()
    running = server(repo)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        port = running.server_address[1]
        carrier = HttpCarrier(f"http://127.0.0.1:{port}", TOKEN, sleep=lambda s: None)
        receipt = EpcisWms(carrier, Places()).submit(document(4, 3))
        assert {s.result for s in receipt.lines} == {"applied"} and len(repo.events) == 2 and carrier.lines_of(KEY) == 2
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


def test_somebody_in_the_way_ends_no_document() -> None:
    """409 says neither that an event is there nor that it is not: the next try looks."""
    server = EpcisRepository()

    class Busy(httpx.BaseTransport):
        takes = False

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            answer = server.handle_request(request) if self.takes or request.method == "GET" else None
            busy = httpx.Response(409, json={"title": "there already"})
            return busy if request.method == "POST" or answer is None else answer

    line = Busy()
    for line.takes, there in ((False, 0), (True, 1)):
        with pytest.raises(WmsUnknown, match="409"):
            repository(line).submit(document(4))
        assert len(server.events) == there
    assert [s.result for s in repository(line).submit(document(4)).lines] == ["applied"] and server.captures == 1


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


def test_the_campaigns_nights_find_nothing() -> None:
    total = campaign("epcis", 40, 7000)
    assert {k: total[k] for k in WRONG} == dict.fromkeys(WRONG, 0)
    assert total["posted"] > 150 and total["faults"] > 80 and total["refused"] > 5


@pytest.mark.parametrize("way", ["folder", "mqtt"])
def test_by_folder_and_broker_too(way: str) -> None:
    total = campaign(f"epcis-{way}", 20, 7000)
    assert {k: total[k] for k in WRONG} == dict.fromkeys(WRONG, 0)
    assert total["posted"] > 80 and total["faults"] > 8 and total["again"] > 10, "an event comes again, as the same one"


def sends_again(client: FaultyEpcis) -> None:
    """Looks nothing up before it sends."""
    carrier: Any = client._carrier
    carrier.lines_of = lambda key: None
    carrier._events = lambda ids: {}


def names_anew(client: FaultyEpcis, numbers: Any = itertools.count()) -> None:
    """Gives an event another identity with every try."""
    changed(client, lambda e: {**e, "eventID": f"{e['eventID']}-{next(numbers)}"})


def tells_when_it_is_sent(client: FaultyEpcis) -> None:
    changed(client, lambda e: {**e, "eventTime": "2031-01-01T00:00:00.000Z"})


def gives_out_a_location(client: FaultyEpcis) -> None:
    """States what was counted for the location of the warehouse system instead of the shelf place."""
    changed(client, lambda e: {**e, "readPoint": {"id": e["readPoint"]["id"].replace(":b", ":L")}})


def leaves_one_out(client: FaultyEpcis) -> None:
    carrier: Any = client._carrier
    send = carrier.send
    carrier.send = lambda key, document: send(key, with_events(document, lambda all_of_them: all_of_them[:1]))


def changed(client: FaultyEpcis, change: Any) -> None:
    carrier: Any = client._carrier
    send = carrier.send
    carrier.send = lambda key, document: send(key, with_events(document, lambda events: [change(e) for e in events]))


def with_events(document: dict[str, Any], change: Any) -> dict[str, Any]:
    return {**document, "epcisBody": {"eventList": change(document["epcisBody"]["eventList"])}}


@pytest.mark.parametrize(
    "wrong, what",
    [
        (sends_again, "doubled"),
        (names_anew, "doubled"),
        (tells_when_it_is_sent, "overwritten"),
        (gives_out_a_location, "erased"),
        (leaves_one_out, "lost"),
    ],
)
def test_the_campaign_finds_out_a_client_that_is_wrong(wrong: Any, what: str) -> None:
    def make(*args: Any) -> FaultyEpcis:
        client = FaultyEpcis(*args)
        wrong(client)
        return client

    found = 0
    for seed in range(7000, 7024):
        made = EpcisNight(seed, MemoryLedger(), make)
        found += made.check(made.run())[what]
    assert found > 0


@pytest.mark.parametrize("by", [by_folder, by_mqtt])
@pytest.mark.parametrize(
    "wrong, what", [(names_anew, "doubled"), (tells_when_it_is_sent, "overwritten"), (gives_out_a_location, "erased")]
)
def test_and_on_the_other_ways(by: Any, wrong: Any, what: str) -> None:
    def make(*args: Any) -> Any:
        client = by(*args)
        wrong(client)
        return client

    found = 0
    for seed in range(7000, 7006):
        made = EpcisNight(seed, MemoryLedger(), make, http=False)
        try:
            found += made.check(made.run())[what]
        finally:
            made.line.close()
    assert found > 0
