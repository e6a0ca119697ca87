"""What the text on a price tag says, by rules; abstains when a rule is not met."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from shelfscan.ports import TagText

_PRICE = re.compile(r"^[^\d]{0,3}(\d{1,4}[.,]\d{2})[^\d]{0,4}$")
_ITEM = re.compile(r"\b(?:art|item|nr|no)\.?\s*[:#]?\s*(\d{4,8})\b", re.IGNORECASE)
_EAN = re.compile(r"(?<!\d)(\d{13}|\d{8})(?!\d)")


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line an OCR engine read: its text, confidence in 0..1 and height in pixels."""

    text: str
    confidence: float
    height_px: float


def parse_tag(lines: Sequence[TextLine], least_confidence: float = 0.6) -> TagText:
    """Price (the tallest line that is a price), item number and EAN (with a right check digit)."""
    prices = [(line, m.group(1)) for line in lines if (m := _PRICE.match(line.text.replace(" ", "")))]
    prices = [(line, text) for line, text in prices if line.confidence >= least_confidence]
    price, sure = "", 0.0
    if prices:
        tallest = max(prices, key=lambda p: p[0].height_px)
        rivals = [p for p in prices if p[1] != tallest[1] and p[0].height_px > 0.75 * tallest[0].height_px]
        if not rivals:
            price, sure = tallest[1], tallest[0].confidence
    item = next((m.group(1) for line in lines if (m := _ITEM.search(line.text))), "")
    ean = next((m.group(1) for line in lines if (m := _EAN.search(line.text.replace(" ", ""))) and _check(m.group(1))), "")
    return TagText(price, item, ean, sure)


def _check(code: str) -> bool:
    digits = [int(c) for c in reversed(code)]
    return sum(d * (3 if i % 2 else 1) for i, d in enumerate(digits)) % 10 == 0
