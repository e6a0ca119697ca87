"""Is it the shelf or the planogram that is wrong? And what stands in a bay whose planogram is not the shelf's.

A single stray in a row that is otherwise as planned was put there by a shopper. A bay in which most bins show other goods
than planned, and whose price tags say so too, was put up anew, and the file was not: then one thing is wrong, and not ten.
The verdict is a sum of log-likelihood ratios over the bins of a bay (naive Bayes: each bin's tag and each bin's goods speak
for themselves), with ratios that are stated here and not learned.

In such a bay the planned places mean nothing. What stands there is taken as it is seen: each product counts where it stands.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from shelfscan.audit.match import BinMatch, Placed, Seen, misfit
from shelfscan.audit.tags import BinTag, amount
from shelfscan.model.catalogue import Catalogue
from shelfscan.model.planogram import Planogram, PlanogramLine
from shelfscan.model.store import BinPlace

#: One bay in twelve is believed to be stale before anything was seen.
PRIOR = math.log(0.08 / 0.92)
#: How much likelier in a stale bay than in a good one: a tag with the planned price, and one with another price.
TAG_AGREES, TAG_DIFFERS = math.log(0.15 / 0.95), math.log(0.75 / 0.04)
#: The same for the goods of a bin: most of them look like the plan, or most of them clearly like something else.
GOODS_AGREE, GOODS_DIFFER = math.log(0.3 / 0.94), math.log(0.6 / 0.05)
#: Fewer disagreeing bins are strays, whatever the sum.
LEAST_BINS = 2
#: A product looks clearly like another one by this much of similarity, when that is at least so high.
MARGIN, LEAST = 0.2, 0.5
#: What is planned in the same bay, or what the tag to its left says, is likelier to be it.
SAME_BAY, SAME_TAG = 0.1, 0.25
MISFIT_COST = 0.3
#: Two products take the same place when they overlap by this share of the smaller one, along the face and upwards.
SAME_PLACE = 0.4


@dataclass(frozen=True, slots=True)
class Verdict:
    """``log_odds`` that the planogram is stale; ``disagree`` of ``judged`` bins (tags and goods each count) spoke for it."""

    bay_id: str
    log_odds: float
    disagree: int
    judged: int

    @property
    def stale(self) -> bool:
        """Whether the planogram is the likelier one to be wrong."""
        return self.log_odds > 0 and self.disagree >= LEAST_BINS

    @property
    def confidence(self) -> float:
        """That the verdict is right, by the stated ratios."""
        return 1 / (1 + math.exp(-min(30.0, abs(self.log_odds))))


def verdicts(
    places: Sequence[BinPlace],
    planogram: Planogram,
    catalogue: Catalogue,
    seen_in: Mapping[str, Sequence[Seen]],
    tags: Mapping[str, BinTag],
) -> dict[str, Verdict]:
    """One verdict a bay. ``seen_in``: the products whose middle is in a bin; ``tags``: what hangs below it, by bin."""
    out: dict[str, Verdict] = {}
    for place in places:
        product = catalogue[planogram[place.bin_id].sku]
        said: list[tuple[float, bool]] = []
        tag = tags.get(place.bin_id)
        printed = amount(tag.price) if tag and tag.price else None
        if printed is not None:
            same = abs(printed - product.price) < 0.005
            said.append((TAG_AGREES if same else TAG_DIFFERS, not same))
        votes = [_differs(s, product.sku) for s in seen_in.get(place.bin_id, ())]
        clear = [v for v in votes if v is not None]
        if clear:
            other = 2 * sum(clear) > len(clear)
            said.append((GOODS_DIFFER if other else GOODS_AGREE, other))
        before = out.get(place.bay_id, Verdict(place.bay_id, PRIOR, 0, 0))
        out[place.bay_id] = Verdict(
            place.bay_id,
            before.log_odds + sum(v for v, _ in said),
            before.disagree + sum(d for _, d in said),
            before.judged + len(said),
        )
    return out


def _differs(seen: Seen, planned: str) -> bool | None:
    """Whether a product clearly looks like another one than planned; None when that cannot be told."""
    own = seen.similarity(planned)
    other = max((c.score for c in seen.candidates if c.sku != planned), default=0.0)
    if other >= LEAST and other - own >= MARGIN:
        return True
    return False if own >= LEAST and own >= other else None


def in_bins(seen: Sequence[Seen], places: Sequence[BinPlace]) -> dict[str, list[Seen]]:
    """Products by the bin their middle is in (the nearest of the shelf, a gap's width beside it)."""
    out: dict[str, list[Seen]] = {}
    for s in seen:
        x, _, z = s.face_m
        near = [(max(p.x0_m - x, x - p.x1_m, 0.0), p.bin_id) for p in places if p.z0_m - 0.02 <= z <= p.z1_m]
        if near and min(near)[0] < 0.03:
            out.setdefault(min(near)[1], []).append(s)
    return out


def as_seen(
    place: BinPlace,
    line: PlanogramLine,
    catalogue: Catalogue,
    seen: Sequence[Seen],
    of_bay: Collection[str],
    tag_skus: Sequence[tuple[float, frozenset[str]]],
) -> BinMatch:
    """What stands in a bin of a stale bay, whatever is planned there.

    ``of_bay``: SKUs planned anywhere in the bay; ``tag_skus``: the shelf's tags as (place along the face, SKUs whose price it
    shows), from the left.
    """
    placed = []
    columns: list[float] = []
    for s in sorted(_front_row(seen), key=lambda s: (s.face_m[0], s.face_m[2], s.key)):
        if not columns or s.face_m[0] - columns[-1] > 0.5 * s.size_m[0]:
            columns.append(s.face_m[0])
        sku = _name(s, catalogue, of_bay, tag_skus)
        product = catalogue.get(sku)
        tall = product.height_m if product else s.size_m[1]
        row = max(0, round((s.face_m[2] - s.size_m[1] / 2 - place.z0_m) / max(tall, 0.02)))
        planned = sku == line.sku
        placed.append(
            Placed(
                f"{s.key}",
                place.bin_id,
                sku,
                planned,
                len(columns) - 1,
                row,
                s.face_m,
                round(min(0.9, 0.4 + 0.5 * s.score), 3),
                s,
            )
        )
    return BinMatch(tuple(placed), 1.0 if placed else 0.0)


def _front_row(seen: Sequence[Seen]) -> list[Seen]:
    """Products without those of which a nearer one stands before most."""
    out: list[Seen] = []
    for s in sorted(seen, key=lambda s: (s.face_m[1], -s.score, s.key)):
        if not any(_before(o, s) for o in out):
            out.append(s)
    return out


def _before(near: Seen, far: Seen) -> bool:
    """Whether ``near`` and ``far`` take the same place of the front."""
    for k, side in ((0, 0), (2, 1)):
        reach = (near.size_m[side] + far.size_m[side]) / 2 - abs(near.face_m[k] - far.face_m[k])
        if reach < SAME_PLACE * min(near.size_m[side], far.size_m[side]):
            return False
    return True


def _name(seen: Seen, catalogue: Catalogue, of_bay: Collection[str], tag_skus: Sequence[tuple[float, frozenset[str]]]) -> str:
    """The likeliest SKU of a product: how it looks, its size, what the bay sells, and the tag to its left."""
    left = [skus for x, skus in tag_skus if x < seen.face_m[0] + 0.02]
    tagged = left[-1] if left else frozenset[str]()

    def worth(sku: str, score: float) -> float:
        bonus = (SAME_BAY if sku in of_bay else 0.0) + (SAME_TAG if sku in tagged else 0.0)
        return score + bonus - MISFIT_COST * misfit(seen, sku, catalogue)

    best = max(((worth(c.sku, c.score), c.sku) for c in seen.candidates), default=(0.0, ""))
    return best[1]
