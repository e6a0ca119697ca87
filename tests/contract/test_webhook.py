"""A REST service of one's own: wrong keys, wrong answers, field names, and nights of faults."""

from __future__ import annotations

from collections import Counter
from typing import Any

import httpx
import pytest
from fakes.ledger import MemoryLedger
from fakes.night import HOUR, T0, bundle

from shelfscan.adapters.wms_webhook import WebhookWms
from shelfscan.errors import WmsAuth, WmsError, WmsUnknown
from shelfscan.evaluation.sync_campaign import WRONG
from shelfscan.evaluation.webhook_stub import WebhookService, WebhookTill, night
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


def test_twenty_nights_of_faults() -> None:
    total: Counter[str] = Counter()
    for seed in range(20):
        made = night(seed, MemoryLedger())
        total.update(made.check(made.run()))
    assert {k: total[k] for k in WRONG} == dict.fromkeys(WRONG, 0)
    assert total["posted"] > 15 and total["faults"] > 20
