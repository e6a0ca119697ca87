"""A stand-in for InvenTree with a line to it that a test has in its hand."""

from __future__ import annotations

from typing import Any

from fakes.night import T0, bundle
from fakes.sap import Line
from shelfscan.adapters.wms_inventree import InvenTreeWms
from shelfscan.evaluation.inventree_night import InvenTreeTill
from shelfscan.evaluation.inventree_stub import InvenTreeStub
from shelfscan.model.bundle import WmsLocation
from shelfscan.wms.document import CountDocument, CountLine

ROWS = (
    WmsLocation("L1", "shelf", "b1", "A", 7, 0),
    WmsLocation("Store/L2", "shelf", "b2", "B", 3, 0),
    WmsLocation("L3", "site", "b3", "C", 9, 0),
)
KEY = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


def fresh(**facts: Any) -> InvenTreeTill:
    """A stand-in with `ROWS`."""
    return InvenTreeTill.of(ROWS, bundle(ROWS).catalogue, lambda: T0, **facts)


def over(till: InvenTreeTill, page: int = 2000) -> tuple[InvenTreeTill, Line]:
    """Another client of the same system, over a line the test has in its hand."""
    lines: list[Line] = []

    def line(stub: InvenTreeStub) -> Line:
        lines.append(Line(stub))  # type: ignore[arg-type]
        return lines[0]

    return InvenTreeTill(till.system, till.rows, line, page=page), lines[0]


def document(wms: InvenTreeWms, code: str, sku: str, qty: int, key: str = KEY) -> CountDocument:
    """A count of one place, compared with what the system has now."""
    row = next((s for s in wms.pull_stock() if (s.location_code, s.sku) == (code, sku)), None)
    have, version = (row.on_hand, row.version) if row else (0.0, "none")
    line = CountLine(1, code, sku, "", qty, T0, T0, have, version, 1.0, zero_confirmed=qty == 0)
    return CountDocument(key, "store-1", "m1", T0, (line,))


def on_hand(wms: InvenTreeWms, code: str = "L1") -> float:
    return {s.location_code: s.on_hand for s in wms.pull_stock()}[code]


def said(wms: InvenTreeWms, doc: CountDocument) -> tuple[str, str]:
    """What became of the only line, and why."""
    (line,) = wms.submit(doc).lines
    return line.result, line.message


def tokens(till: InvenTreeTill) -> list[dict[str, Any]]:
    return [i for i in till.system.items.values() if str(i["batch"] or "").startswith("shelfscan ")]


def counts(wms: InvenTreeWms) -> list[float]:
    return [m.delta for m in wms.pull_movements(0) if m.reference == KEY]


def item(till: InvenTreeTill, code: str = "L1", sku: str = "A") -> dict[str, Any]:
    """The stock item of a place."""
    return till.system.at(code, sku)[0]
