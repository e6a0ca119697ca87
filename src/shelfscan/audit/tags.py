"""Which bin a price tag belongs to, and what the tags of a bin say together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from shelfscan.model.scan import TagReading
from shelfscan.model.store import BinPlace

#: A tag's centre hangs this far below its shelf's surface (the middle of a 45 mm edge strip, as most shelves have),
#: give or take the slack.
TAG_BELOW_M = 0.0225
TAG_SLACK_M = 0.03
#: Its face lies so far before the front plane, whose boards end where the edge strip begins.
TAG_BEFORE_M = 0.0075
#: How much surer the best reading must be than the best one that contradicts it.
CLEARLY = 1.3


@dataclass(frozen=True, slots=True)
class BinTag:
    """All readings of one bin's tag. ``price`` is the printed text, empty when unread or contradictory."""

    looks: int
    price: str
    item: str
    confidence: float


def place_tags(tags: Sequence[TagReading], places: Sequence[BinPlace]) -> dict[str, list[TagReading]]:
    """Tags of one face by the bin whose shelf edge they hang on."""
    out: dict[str, list[TagReading]] = {}
    for tag in tags:
        x, _, z = tag.face_m
        near = [
            (abs(z - (p.z0_m - TAG_BELOW_M)), p.bin_id)
            for p in places
            if p.x0_m <= x < p.x1_m and abs(z - (p.z0_m - TAG_BELOW_M)) < TAG_SLACK_M
        ]
        if near:
            out.setdefault(min(near)[1], []).append(tag)
    return out


def agree(readings: Sequence[TagReading]) -> BinTag:
    """What several readings of one tag say; abstains where they contradict each other about equally."""
    # "2,49" and "2.49" are one price, whichever reader says it.
    price, confidence = _vote([(r.price_text.replace(",", "."), r.confidence) for r in readings])
    item, _ = _vote([(r.item_text, max(r.confidence, 0.1)) for r in readings])
    return BinTag(len(readings), price, item, confidence)


def _vote(said: Sequence[tuple[str, float]]) -> tuple[str, float]:
    weight: dict[str, float] = {}
    for text, confidence in said:
        if text:
            weight[text] = weight.get(text, 0.0) + confidence
    ranked = sorted(weight.items(), key=lambda w: (-w[1], w[0]))
    if not ranked or (len(ranked) > 1 and ranked[0][1] < CLEARLY * ranked[1][1]):
        return "", 0.0
    best = max(c for t, c in said if t == ranked[0][0])
    return ranked[0][0], best


def amount(text: str) -> float | None:
    """The number a printed price means: the last separator before two digits is the decimal one."""
    match = re.fullmatch(r"(\d[\d.,\s]*?)(?:[.,](\d{2}))?", text.strip())
    if match is None:
        return None
    whole = re.sub(r"\D", "", match.group(1))
    return int(whole) + int(match.group(2) or 0) / 100 if whole else None
