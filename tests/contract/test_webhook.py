"""A REST service of one's own: wrong keys, wrong answers, field names, and nights of faults."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from fakes.ledger import MemoryLedger
from fakes.night import HOUR, T0, bundle

from shelfscan.adapters.webhook_body import load_body
from shelfscan.adapters.wms_webhook import WebhookWms
from shelfscan.errors import BadInput, WmsAuth, WmsError, WmsUnknown
from shelfscan.evaluation.sync_campaign import WRONG
from shelfscan.evaluation.webhook_stub import TOKEN, WebhookService, WebhookTill, night
from shelfscan.model.bundle import WmsLocation
from shelfscan.wms.document import CountDocument, CountLine

ROWS = (WmsLocation("L1", "shelf", "b1", "A", 7, 4), WmsLocation("L2", "site", "b2", "B", 3, 0))
DOC = CountDocument("k1", "s", "m", T0, (CountLine(1, "L1", "A", "", 5, T0, T0, 7.0, "1", 1.0),))


def answering(answer: Any, code: int = 200, **options: Any) -> WebhookWms:
    transport = httpx.MockTransport(lambda request: httpx.Response(code, json=answer))
    return WebhookWms("http://x.test", "t", ROWS, transport=transport, **options)


def test_a_wrong_token_is_said_and_not_shown() -> None:
    service = WebhookService(ROWS, bundle(ROWS).catalogue, lambda: T0 + HOUR)
    client = WebhookTill(service, ROWS, token="secret-thing")
    with pytest.raises(WmsAuth) as caught:
        client.pull_stock()
    assert "secret-thing" not in str(caught.value)
    assert not client.health().ok and "secret-thing" not in client.health().text


@pytest.mark.parametrize(
    "answer", [{}, {"lines": []}, {"lines": [{"line_no": 1, "result": "fine"}]}, {"lines": ["x"]}, [1], None, {"ok": True}]
)
def test_an_answer_that_says_nothing_of_the_lines_leaves_the_document_unknown(answer: Any) -> None:
    with pytest.raises(WmsUnknown):
        answering(answer).submit(DOC)


def test_what_is_not_there_or_no_number_is_named() -> None:
    with pytest.raises(WmsError, match="stock: version is missing"):
        answering([{"location_code": "L1", "sku": "A", "on_hand": 3}]).pull_stock()
    with pytest.raises(WmsError, match="on_hand is no number"):
        answering([{"location_code": "L1", "sku": "A", "on_hand": "x", "version": 1}]).pull_stock()
    with pytest.raises(WmsError, match="expected a list of objects"):
        answering({"rows": []}).pull_stock()
    moved = {"location_code": "L1", "sku": "A", "delta": -1, "kind": "sale", "moved_at": "2026-01-01T10:00:00"}
    with pytest.raises(WmsError, match="with its zone"):
        answering([moved]).pull_movements(0)


def test_field_names_of_ones_own_and_the_larger_scope_wins() -> None:
    rows = [{"where": {"id": "L1"}, "scope": "shelf"}, {"where": {"id": "L2"}, "scope": "shelf"}]
    client = answering(rows, fields={"location_code": "where.id"})
    assert [(p.location_code, p.scope) for p in client.pull_locations()] == [("L1", "shelf"), ("L2", "site")]


class Translator(httpx.BaseTransport):
    """A service with words of its own in front of the stub."""

    def __init__(self, service: WebhookService) -> None:
        self.service, self.bodies = service, []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method != "POST":
            return self.service.handle_request(request)
        said = json.loads(request.content)
        self.bodies.append(request.content)
        lines = [
            {**asdict(DOC.lines[0]), "line_no": r["no"], "location_code": r["bin"], "sku": r["item"], "qty": r["counted"]}
            | {"expected_version": r["if_version"]}
            for r in said["rows"]
        ]
        plain = {**DOC.to_json(), "doc_id": said["reference"], "lines": lines}
        headers = {k: request.headers[k] for k in ("authorization", "idempotency-key")}
        return self.service.handle_request(httpx.Request("POST", request.url, headers=headers, json=plain))


JSON = (
    '{"reference": $doc_id, "of": $site, "price": "$$5",\n "rows": [$lines]}',
    '{"no": $line_no, "bin": $location_code, "item": $sku, "counted": $qty, "if_version": ${expected_version}}',
)
XML = (
    "<count ref='$doc_id' site=\"$site\">$lines</count>",
    "<l n='$line_no' at='$location_code' item='$sku' was='$expected_version'>$qty<z>$zero_confirmed</z></l>",
)


def templates(folder: Path, texts: tuple[str, str], suffix: str) -> tuple[Path, Path]:
    paths = (folder / f"count.{suffix}", folder / f"line.{suffix}")
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return paths


def test_a_document_in_the_services_own_words_counts_once(tmp_path: Path) -> None:
    service = WebhookService(ROWS, bundle(ROWS).catalogue, lambda: T0 + HOUR)
    translator = Translator(service)
    body = load_body(*templates(tmp_path, JSON, "json"))
    client = WebhookWms("http://x.test", TOKEN, ROWS, body=body, transport=translator)
    receipt = client.submit(DOC)
    assert [s.result for s in receipt.lines] == ["applied"] and service.books.stock["L1", "A"].on_hand == 5
    service.books.post_movement("L1", "A", -1)
    assert client.submit(DOC) == receipt == client.find("k1") and service.books.stock["L1", "A"].on_hand == 4
    assert translator.bodies[0] == translator.bodies[1]
    late = replace(DOC, doc_id="k2")
    assert [s.result for s in client.submit(late).lines] == ["conflict"] and service.books.stock["L1", "A"].on_hand == 4


def test_no_value_breaks_out_of_its_place(tmp_path: Path) -> None:
    nasty = 'x", "counted": 0, "y": "$qty <&>\' \\ ü'
    doc = replace(DOC, site=nasty, lines=(replace(DOC.lines[0], sku=nasty),))
    said = json.loads(load_body(*templates(tmp_path, JSON, "json")).render(doc))
    assert said["of"] == nasty == said["rows"][0]["item"] and said["rows"][0]["counted"] == 5 and said["price"] == "$5"
    made = load_body(*templates(tmp_path, XML, "xml"))
    tree = ElementTree.fromstring(made.render(doc))
    assert made.content_type == "application/xml" and tree.get("site") == nasty
    assert tree[0].get("item") == nasty and tree[0].text == "5" and tree[0][0].text == "false"


@pytest.mark.parametrize(
    ("document", "line", "named"),
    [
        ('{"r": $doc_id,\n "rows": $lins}', JSON[1], r"count.json: line 2: unknown \$lins"),
        ('{"r": $doc_id,\n "cost": "$5", "rows": [$lines]}', JSON[1], "count.json: line 2: a \\$ without a name"),
        ('{"r": $doc_id}', JSON[1], r"count.json: \$lines is missing"),
        (JSON[0], JSON[1].replace("${expected_version}", "0"), r"line.json: \$expected_version is missing"),
        ('{"r": "$doc_id", "rows": [$lines]}', JSON[1], "do not make JSON together"),
        ('{"r": $doc_id, "rows": $lines}', JSON[1], "do not make JSON together"),
    ],
)
def test_templates_are_tried_before_anything_is_sent(tmp_path: Path, document: str, line: str, named: str) -> None:
    with pytest.raises(BadInput, match=named):
        load_body(*templates(tmp_path, (document, line), "json"))


def test_templates_of_two_kinds_or_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="expected two"):
        load_body(tmp_path / "a.json", tmp_path / "b.xml")
    with pytest.raises(BadInput, match=r"a\.json: cannot be read"):
        load_body(tmp_path / "a.json", tmp_path / "b.json")


def test_twenty_nights_of_faults() -> None:
    total: Counter[str] = Counter()
    for seed in range(20):
        made = night(seed, MemoryLedger())
        total.update(made.check(made.run()))
    assert {k: total[k] for k in WRONG} == dict.fromkeys(WRONG, 0)
    assert total["posted"] > 15 and total["faults"] > 20
