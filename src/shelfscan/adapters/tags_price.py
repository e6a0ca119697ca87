"""Price tags read with the project's own small network, and RapidOCR as second opinion where it is in doubt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from shelfscan.adapters._price_net import Runner, read_price
from shelfscan.model.imaging import Rgb
from shelfscan.perception.price_map import Price
from shelfscan.ports import TagReader, TagText

#: Confidence from which the network is believed alone, and in two looks that say the same. Chosen on photographed tags of
#: frames never trained on: from there on no price of theirs was wrong (``python -m training.reader.evaluate``).
SURE, TWICE = 0.5, 0.4
#: What it says with less than that is no objection to what the other reader says.
OBJECTION = 0.3
#: Currencies as ISO 4217 where a sign is that of one alone.
_ISO = {"€": "EUR", "£": "GBP", "円": "JPY"}


class PriceTagReader:
    """A `TagReader`. Not thread-safe.

    ``run``: the network (`_price_net.runner`). ``second``: asked where the network is in doubt. ``details``: reads whole tags,
    for name, unit price, item number and EAN; it is asked for every tag and is the second opinion too. ``codes``: reads the
    barcode of a tag, as GTIN-14 texts, where there are details. ``decimals``: how many the currency has on tags, 2 or 0;
    None: not known. Prices are told with a decimal point, whatever mark is printed.
    """

    def __init__(
        self,
        run: Runner,
        *,
        second: TagReader | None = None,
        details: TagReader | None = None,
        codes: Callable[[Rgb], Sequence[str]] | None = None,
        decimals: int | None = None,
    ) -> None:
        self._run, self._second, self._details, self._codes, self._decimals = run, second, details, codes, decimals

    def read(self, crop: Rgb) -> TagText:
        """See `TagReader.read`."""
        if min(crop.shape[:2]) < 12:
            return TagText()
        details = self._details.read(crop) if self._details is not None else None
        price = self._price(crop)
        if price.confidence < SURE:
            again = self._price(_farther(crop))
            if again.text == price.text and min(again.confidence, price.confidence) >= TWICE:
                price = replace(price, confidence=max(SURE, price.confidence, again.confidence))
        if price.confidence >= SURE:
            told = TagText(price.text, confidence=_probability(price.confidence), currency=_ISO.get(price.sign, price.sign))
        else:
            told = self._asked(crop, price, details)
        if details is None:
            return told
        same = bool(details.currency) and _plain(details.price_text) == told.price_text
        found = self._codes(crop) if self._codes is not None else ()
        return replace(
            details,
            price_text=told.price_text,
            confidence=told.confidence,
            currency=details.currency if same else told.currency,
            # Bars are guarded better than printed digits; one code a tag.
            ean_text=found[0].removeprefix("0") if len(found) == 1 else details.ean_text,
        )

    def _price(self, crop: Rgb) -> Price:
        """The network's price, none where it has decimals that the currency lacks, or the other way round."""
        price = read_price(self._run, crop)
        if price.text and self._decimals is not None and ("." in price.text) != (self._decimals == 2):
            return Price("", why="decimals are not the currency's")
        return price

    def _asked(self, crop: Rgb, price: Price, details: TagText | None) -> TagText:
        """What the second reader says, unless the network has something against it."""
        other = details or (self._second.read(crop) if self._second is not None else None)
        if other is None or not other.price_text:
            return TagText()
        if _plain(other.price_text) != price.text and price.confidence >= OBJECTION:
            return TagText()
        return TagText(price_text=_plain(other.price_text), confidence=other.confidence, currency=other.currency)


def _probability(confidence: float) -> float:
    """How often a price is right that the network says with a confidence of `SURE` or more, on tags it never saw."""
    return round(min(0.998, 0.95 + 0.06 * confidence), 3)


def _plain(text: str) -> str:
    return text.replace(",", ".")


def _farther(crop: Rgb) -> Rgb:
    """The tag a little smaller and off the middle: letters fall on other cells."""
    w = crop.shape[1]
    side, end = int(0.09 * w), int(0.03 * w)
    return np.asarray(cv2.copyMakeBorder(crop, end, side, side, end, cv2.BORDER_REPLICATE), np.uint8)
