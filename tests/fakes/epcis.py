"""Count documents for everything about EPCIS."""

from __future__ import annotations

from typing import Any

from fakes.night import HOUR, T0
from shelfscan.wms.document import CountDocument, CountLine

GTIN = "04006381333931"
KEY = "0b1e6a0e-0000-5000-8000-000000000001"


def count(n: int, qty: int, **facts: Any) -> CountLine:
    """Line ``n``, of product Pn in bin bn."""
    return CountLine(n, f"b{n}", f"P{n}", GTIN, qty, T0, T0, 0.0, "", 0.98, zero_confirmed=qty == 0, **facts)


def document(*quantities: int, key: str = KEY) -> CountDocument:
    lines = tuple(count(n, q) for n, q in enumerate(quantities, start=1))
    return CountDocument(key, "store 1", "m", T0 + HOUR, lines)
