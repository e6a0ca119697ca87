"""A stand-in for SAP with a line to it that a test has in its hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from fakes.night import T0
from shelfscan.adapters.sap_inventory import SapInventory
from shelfscan.adapters.sap_odata import SapOData
from shelfscan.adapters.wms_sap import SapWms
from shelfscan.errors import WmsUnknown
from shelfscan.evaluation.sap_models import ITEMS
from shelfscan.evaluation.sap_night import SapTill
from shelfscan.evaluation.sap_stub import CLIENT, PASSWORD, USER, SapStub
from shelfscan.model.bundle import WmsLocation
from shelfscan.wms.document import CountDocument, CountLine

ROWS = (
    WmsLocation("L1", "shelf", "b1", "A", 7, 0),
    WmsLocation("1020/L2", "shelf", "b2", "B", 3, 0),
    WmsLocation("L3", "site", "b3", "C", 9, 0),
)
KEY = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
SECOND = 1_000_000_000


class Line(httpx.BaseTransport):
    """To the stand-in; what happens at each change is said by the test: None sends it, "stuck" keeps it, "twice" doubles it."""

    def __init__(self, stub: SapStub) -> None:
        self.stub = stub
        self.at: Callable[[str], str | None] = lambda text: None
        self.stuck: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        what = self.at(f"{request.method} {request.url.path}") if request.method != "GET" else None
        if what == "stuck":
            self.stuck.append(request)
            raise httpx.ReadTimeout("no answer", request=request)
        if what == "twice":
            self.stub.handle_request(request)
        response = self.stub.handle_request(request)
        if what == "lost":
            raise httpx.ReadTimeout("no answer", request=request)
        return response

    def arrive(self) -> list[int]:
        """What was stuck arrives after all."""
        late, self.stuck = self.stuck, []
        return [self.stub.handle_request(r).status_code for r in late]


def at(part: str, then: str = "", when: Callable[[], Any] = lambda: None) -> Callable[[str], str | None]:
    """Once, at the first change whose method and path have this."""
    left = [then]

    def happen(text: str) -> str | None:
        if left and part in text:
            when()
            return left.pop()
        return None

    return happen


def over(till: SapTill) -> tuple[SapTill, Line]:
    """Another client of the same system, over a line the test has in its hand."""
    lines: list[Line] = []

    def line(stub: SapStub) -> Line:
        lines.append(Line(stub))
        return lines[0]

    return SapTill(till.system, till.rows, line), lines[0]


def document(wms: SapWms, *counts: tuple[str, str, int], key: str = KEY) -> CountDocument:
    stock = {(s.location_code, s.sku): s for s in wms.pull_stock()}
    lines = tuple(
        CountLine(n, c, s, "", q, T0, T0, stock[c, s].on_hand, stock[c, s].version, 1.0, zero_confirmed=q == 0)
        for n, (c, s, q) in enumerate(counts, start=1)
    )
    return CountDocument(key, "store-1", "m1", T0, lines)


def on_hand(wms: SapWms) -> dict[str, float]:
    return {s.location_code: s.on_hand for s in wms.pull_stock()}


def counts_of(wms: SapWms) -> list[float]:
    return [m.delta for m in wms.pull_movements(0) if m.reference == KEY]


def results(wms: SapWms, doc: CountDocument) -> list[str]:
    return [s.result for s in wms.submit(doc).lines]


def still_open(till: SapTill) -> list[dict[str, Any]]:
    return [d for d in till.system.documents.values() if not d["gone"] and not d[ITEMS][0]["PhysInvtryDifferenceIsPosted"]]


def direct(till: SapTill) -> SapOData:
    return SapOData("http://sap.test", CLIENT, USER, PASSWORD, transport=till.stub)


def begun(till: SapTill, counted: bool = True) -> Any:
    """A document of ours that was begun."""
    wms, line = over(till)
    line.at = at("PostDifferences" if counted else "PATCH", "stuck")
    with pytest.raises(WmsUnknown):
        wms.submit(document(till, ("L1", "A", 5)))
    return SapInventory(direct(till)).of(KEY)[0]
