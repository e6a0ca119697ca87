"""What the text on a price tag says, by rules; abstains when a rule is not met."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from shelfscan.model.gtin import valid_gtin
from shelfscan.perception.prices import PrintedPrice, parse_price, parse_unit_price, plain
from shelfscan.ports import TagText

#: Confidence from which a whole number is taken for a price where the currency is not known.
SURE = 0.9
#: A name has at least so many letters, and they are at least this share of its line.
NAME_LETTERS, NAME_SHARE = 3, 0.5
_PRICE = re.compile(r"^[^\d]{0,3}(\d{1,4}[.,]\d{2})[^\d]{0,4}$")
_WHOLE = re.compile(r"^[^\w]{0,3}(\d{1,5})(?:[^\w]{0,3}|円|元|kr)$", re.IGNORECASE)
_NO_PRICE = re.compile(r"^\s*[+\-–]\s*\d|%")
_ITEM = re.compile(r"\b(?:art|item|nr|no)\.?\s*[:#]?\s*(\d{4,8})\b", re.IGNORECASE)
_EAN = re.compile(r"(?<!\d)(\d{13}|\d{8})(?!\d)")
_PROMO = re.compile(
    r"\b(?:aktion|angebot|sonderpreis|reduziert|rabatt|sale|offer|promo\w*|special|save|deal|extrapris|tilbud|kampanj\w*|"
    r"soldes?|oferta|offerta|sconto|korting|aanbieding)\b|-\s?\d{1,2}\s?%|\d{1,2}\s?%\s?(?:off|rabatt|引)|"
    r"特売|セール|広告|割引|期間限定|お買得|お買い得|値下|増量|特価",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line an OCR engine read: its text, confidence in 0..1, height in pixels, and the pixel its box is centred on."""

    text: str
    confidence: float
    height_px: float
    x_px: float = 0.0
    y_px: float = 0.0


def parse_tag(lines: Sequence[TextLine], least_confidence: float = 0.6, decimals: int | None = 2) -> TagText:
    """What stands on a tag: the price (the tallest line that is one, in the styles of `shelfscan.perception.prices`), its
    currency, the unit price, the name (the longest line of words), item number, EAN (with a right check digit), and whether
    it is a promotion.

    ``decimals`` is how many the currency has on tags, 2 or 0. None: not known; then a whole number counts as a price only
    when nothing looks like one with decimals and the number is the tallest line and surely read. Where decimals are
    known to be there, a number without them is one whose point was lost, a hundred times too much.
    """
    prices = _priced(lines, decimals == 0, least_confidence)
    if decimals is None and not prices:
        tallest_px = max((line.height_px for line in lines), default=0.0)
        prices = [p for p in _priced(lines, True, SURE) if p[0].height_px >= tallest_px]
    price, currency, sure = "", "", 0.0
    if prices:
        tallest = max(prices, key=lambda p: p[0].height_px)
        rivals = [p for p in prices if p[1] != tallest[1] and p[0].height_px > 0.75 * tallest[0].height_px]
        if not rivals:
            price, currency, sure = tallest[1], tallest[2], tallest[0].confidence
    fair = [line for line in lines if line.confidence >= least_confidence]
    item = next((m.group(1) for line in lines if (m := _ITEM.search(line.text))), "")
    ean = next((m.group(1) for line in lines if (m := _EAN.search(line.text.replace(" ", ""))) and valid_gtin(m.group(1))), "")
    units = [u for line in fair if (u := parse_unit_price(line.text)) is not None]
    unit = units[0] if len({(u.amount, u.per) for u in units}) == 1 else None
    return TagText(
        price,
        item,
        ean,
        sure,
        currency=currency,
        unit_price_text=unit.amount if unit else "",
        unit_text=unit.per if unit else "",
        name_text=_name(fair),
        promotion=any(_PROMO.search(plain(line.text)) for line in fair),
    )


def _priced(lines: Sequence[TextLine], whole: bool, least: float) -> list[tuple[TextLine, str, str]]:
    """The lines that are prices, without decimals (``whole``) or with them: line, price, currency."""
    found = []
    for line in lines:
        # "+10" points and "-20 %" are printed bigger than many a price.
        if line.confidence < least or _NO_PRICE.search(line.text) or parse_unit_price(line.text) is not None:
            continue
        m = (_WHOLE if whole else _PRICE).match(line.text.replace(" ", ""))
        printed = parse_price(line.text)
        if m:
            # Noise before and behind it is left out; the sign, if it is one, tells the currency.
            found.append((line, m.group(1), printed.currency if printed else ""))
        elif printed is not None and _fits(printed, whole):
            found.append((line, printed.amount, printed.currency))
    return found


def _fits(printed: PrintedPrice, whole: bool) -> bool:
    return ("." not in printed.amount) == whole


def _name(lines: Sequence[TextLine]) -> str:
    """The longest line of words."""
    best = ""
    for line in lines:
        text = line.text.strip()
        letters = sum(c.isalpha() for c in text)
        worded = letters >= NAME_LETTERS and letters >= NAME_SHARE * len(text)
        if worded and len(text) > len(best) and parse_unit_price(text) is None and not _PROMO.search(plain(text)):
            best = text
    return best
