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
from dataclasses import dataclass, replace
from itertools import pairwise

from shelfscan.audit.match import BinMatch, Placed, Seen, match_bin, misfit
from shelfscan.audit.tags import BinTag, amount
from shelfscan.model.catalogue import Catalogue, Product
from shelfscan.model.front import FaceFront
from shelfscan.model.planogram import Planogram, PlanogramLine
from shelfscan.model.store import BinPlace, PlacesAlong

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
#: Air between two columns, and how near two items are in one.
GAP_M, SAME_COLUMN_M = 0.008, 0.025
#: What it costs, in likeness, to change the name from one product to the next, to do so where a tag hangs, and not to there.
CHANGE, CHANGE_AT_TAG, STAY_OVER_TAG = 0.45, 0.05, 0.25


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
    along = PlacesAlong(places, 0.03)
    for s in seen:
        x, _, z = s.face_m
        near = [(max(p.x0_m - x, x - p.x1_m, 0.0), p.bin_id) for p in along.near(x) if p.z0_m - 0.02 <= z <= p.z1_m]
        if near and min(near)[0] < 0.03:
            out.setdefault(min(near)[1], []).append(s)
    return out


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of a shelf on which one SKU stands side by side; metres along the face."""

    sku: str
    x0_m: float
    x1_m: float
    seen: tuple[Seen, ...]


def shelf_as_seen(
    places: Sequence[BinPlace],
    planogram: Planogram,
    catalogue: Catalogue,
    seen: Sequence[Seen],
    of_bay: Collection[str],
    tags: Sequence[tuple[float, frozenset[str]]],
    front: FaceFront,
) -> dict[str, BinMatch]:
    """What stands in each bin of one shelf of a stale bay, whatever is planned there.

    First the shelf's own planogram is put together from what is seen (`runs`), then each run is matched by boxes and depth like
    a planned bin, and what is found counts for the bin of the file that it stands in. ``of_bay``: SKUs planned anywhere in the
    bay; ``tags``: the shelf's tags as (place along the face, SKUs whose price it shows).
    """
    placed: dict[str, list[Placed]] = {p.bin_id: [] for p in places}
    for n, run in enumerate(runs(_front_row(seen), catalogue, of_bay, sorted(tags, key=lambda t: t[0]))):
        product = catalogue.get(run.sku)
        found = _as_boxes(run) if product is None else _as_bin(places[0], run, product, catalogue, front)
        for p in found:
            bin_id = min(places, key=lambda b: (max(b.x0_m - p.face_m[0], p.face_m[0] - b.x1_m, 0.0), b.bin_id)).bin_id
            planned = p.sku == planogram[bin_id].sku
            key = p.key if p.seen else f"{bin_id}/r{n}c{p.column}r{p.row}"
            placed[bin_id].append(replace(p, key=key, bin_id=bin_id, planned=planned))
    return {b: BinMatch(_with_columns(found), 1.0 if found else 0.0) for b, found in placed.items()}


def _with_columns(placed: Sequence[Placed]) -> tuple[Placed, ...]:
    """The columns of a bin counted from its left."""
    out: list[Placed] = []
    column, last = -1, -math.inf
    for p in sorted(placed, key=lambda p: (p.face_m[0], p.row, p.key)):
        if p.face_m[0] - last > SAME_COLUMN_M:
            column, last = column + 1, p.face_m[0]
        out.append(replace(p, column=column))
    return tuple(out)


def _as_boxes(run: Run) -> list[Placed]:
    """Products of no known size, each as its box has it."""
    return [
        Placed(s.key, "", run.sku, False, n, 0, s.face_m, round(min(0.9, 0.4 + 0.5 * s.score), 3), s)
        for n, s in enumerate(run.seen)
    ]


def _as_bin(shelf: BinPlace, run: Run, product: Product, catalogue: Catalogue, front: FaceFront) -> tuple[Placed, ...]:
    """A run matched as though it were a planned bin of its own."""
    pitch = product.width_m + GAP_M
    wide = max(1, round((run.x1_m - run.x0_m + GAP_M) / pitch))
    feet = [(s.face_m[2] - s.size_m[1] / 2 - shelf.z0_m) / max(product.height_m, 0.02) for s in run.seen]
    fit = max(1, int((shelf.z1_m - shelf.z0_m) / max(product.height_m, 0.02)))
    high = min(fit, 1 + max(0, round(max(feet, default=0.0))))
    deep = max(1, int((shelf.depth_m - 0.02) / (product.depth_m + 0.004)))
    middle = (run.x0_m + run.x1_m) / 2
    place = replace(shelf, bin_id="", x0_m=middle - wide * pitch / 2, x1_m=middle + wide * pitch / 2)
    return match_bin(place, PlanogramLine("", run.sku, wide, high, deep), catalogue, run.seen, front).placed


def runs(
    seen: Sequence[Seen], catalogue: Catalogue, of_bay: Collection[str], tags: Sequence[tuple[float, frozenset[str]]]
) -> list[Run]:
    """The shelf's stretches of one SKU, from the left: the likeliest sequence of names (Viterbi, 1967).

    A product's name speaks by likeness, size and what the bay sells; from one to the next the name changes seldom, and best
    where a tag hangs; the tag's price speaks for some names.
    """
    row = sorted(seen, key=lambda s: (s.face_m[0], s.face_m[2], s.key))
    if not row:
        return []
    names = sorted({c.sku for s in row for c in s.candidates}) or [""]
    best = {n: _worth(row[0], n, catalogue, of_bay, tags) for n in names}
    back: list[dict[str, str]] = []
    for before, s in pairwise(row):
        between = any(before.face_m[0] - 0.01 < x < s.face_m[0] + 0.02 for x, _ in tags)
        stay, change = (-STAY_OVER_TAG, -CHANGE_AT_TAG) if between else (0.0, -CHANGE)
        top = max(names, key=lambda n: (best[n], n))
        step: dict[str, str] = {}
        score: dict[str, float] = {}
        for n in names:
            step[n] = n if best[n] + stay >= best[top] + change else top
            come = best[n] + stay if step[n] == n else best[top] + change
            score[n] = come + _worth(s, n, catalogue, of_bay, tags)
        best, back = score, [*back, step]
    name = max(names, key=lambda n: (best[n], n))
    path = [name]
    for step in reversed(back):
        name = step[name]
        path.append(name)
    path.reverse()
    out: list[Run] = []
    for s, sku in zip(row, path, strict=True):
        x0, x1 = s.face_m[0] - s.size_m[0] / 2, s.face_m[0] + s.size_m[0] / 2
        if out and out[-1].sku == sku:
            out[-1] = Run(sku, min(out[-1].x0_m, x0), max(out[-1].x1_m, x1), (*out[-1].seen, s))
        else:
            out.append(Run(sku, x0, x1, (s,)))
    return out


def _worth(
    seen: Seen, sku: str, catalogue: Catalogue, of_bay: Collection[str], tags: Sequence[tuple[float, frozenset[str]]]
) -> float:
    """How much speaks for a product's name: likeness, size, what the bay sells, and the tag to its left."""
    left = [skus for x, skus in tags if x < seen.face_m[0] + 0.03]
    bonus = (SAME_BAY if sku in of_bay else 0.0) + (SAME_TAG if left and sku in left[-1] else 0.0)
    return seen.similarity(sku) + bonus - MISFIT_COST * misfit(seen, sku, catalogue)


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
