"""What the text on a price tag says, by rules; abstains when a rule is not met."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from shelfscan.model.gtin import valid_gtin
from shelfscan.ports import TagText

#: Confidence from which a whole number is taken for a price where the currency is not known.
SURE = 0.9
_PRICE = re.compile(r"^[^\d]{0,3}(\d{1,4}[.,]\d{2})[^\d]{0,4}$")
_WHOLE = re.compile(r"^[^\w]{0,3}(\d{1,5})(?:[^\w]{0,3}|円|元|kr)$", re.IGNORECASE)
_ITEM = re.compile(r"\b(?:art|item|nr|no)\.?\s*[:#]?\s*(\d{4,8})\b", re.IGNORECASE)
_EAN = re.compile(r"(?<!\d)(\d{13}|\d{8})(?!\d)")


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line an OCR engine read: its text, confidence in 0..1 and height in pixels."""

    text: str
    confidence: float
    height_px: float


def parse_tag(lines: Sequence[TextLine], least_confidence: float = 0.6, decimals: int | None = 2) -> TagText:
    """Price (the tallest line that is a price), item number and EAN (with a right check digit).

    ``decimals`` is how many the currency has on tags, 2 or 0. None: not known; then a whole number counts as a price only
    when nothing looks like one with decimals and the number is the tallest line and surely read. Where decimals are
    known to be there, a number without them is one whose point was lost, a hundred times too much.
    """
    prices = _priced(lines, _WHOLE if decimals == 0 else _PRICE, least_confidence)
    if decimals is None and not prices:
        tallest_px = max((line.height_px for line in lines), default=0.0)
        prices = [p for p in _priced(lines, _WHOLE, SURE) if p[0].height_px >= tallest_px]
    price, sure = "", 0.0
    if prices:
        tallest = max(prices, key=lambda p: p[0].height_px)
        rivals = [p for p in prices if p[1] != tallest[1] and p[0].height_px > 0.75 * tallest[0].height_px]
        if not rivals:
            price, sure = tallest[1], tallest[0].confidence
    item = next((m.group(1) for line in lines if (m := _ITEM.search(line.text))), "")
    ean = next((m.group(1) for line in lines if (m := _EAN.search(line.text.replace(" ", ""))) and valid_gtin(m.group(1))), "")
    return TagText(price, item, ean, sure)


def _priced(lines: Sequence[TextLine], style: re.Pattern[str], least: float) -> list[tuple[TextLine, str]]:
    """The lines that are prices of a style, with the price."""
    found = [(line, m.group(1)) for line in lines if (m := style.match(line.text.replace(" ", "")))]
    return [(line, text) for line, text in found if line.confidence >= least]
