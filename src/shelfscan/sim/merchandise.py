"""Which product goes where: a seeded planogram that a store could have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from shelfscan.model.catalogue import Product
from shelfscan.model.planogram import PlanogramLine
from shelfscan.model.store import Aisle, Bay, Bin, Gondola, Shelf, Store
from shelfscan.sim.packaging import PackSpec
from shelfscan.sim.tags import gtin13

#: Air between two columns of one bin, and around a bin's outer columns (half of it each).
GAP_M = 0.008
#: Air kept above the tallest item of a shelf.
HEADROOM_M = 0.03
MAX_BIN_M = 0.5
#: Where the front row stands behind the shelf's front edge when a bin is full.
FRONT_M = 0.012
DEPTH_GAP_M = 0.004


def merchandise(store: Store, packs: Sequence[PackSpec], seed: int) -> tuple[Store, dict[str, PlanogramLine]]:
    """Fill every shelf with bins in blocks of category; each pack is used once before any is used again."""
    rng = np.random.default_rng([seed, 22])
    queue = sorted(range(len(packs)), key=lambda i: (packs[i].category, packs[i].family, packs[i].variant))
    start = int(rng.integers(len(queue)))
    queue = queue[start:] + queue[:start]
    lines: dict[str, PlanogramLine] = {}

    def fill(shelf: Shelf, bay: Bay) -> Shelf:
        bins: list[Bin] = []
        x = GAP_M
        while True:
            left = min(bay.width_m - GAP_M - x, MAX_BIN_M)
            chosen = next((k for k, i in enumerate(queue) if _fits(packs[i], shelf, left)), None)
            if chosen is None:
                break
            index = queue.pop(chosen)
            queue.append(index)
            pack = packs[index]
            most = int(left // (pack.width_m + GAP_M))
            wide = min(most, int(rng.choice([1, 2, 3, 4, 5], p=[0.15, 0.35, 0.3, 0.15, 0.05])))
            stackable = pack.shape in ("box", "can") and 2 * pack.height_m <= shelf.clear_height_m - HEADROOM_M
            high = 2 if stackable and rng.random() < 0.35 else 1
            deep = max(1, int((shelf.depth_m - FRONT_M - 0.01 + DEPTH_GAP_M) // (pack.depth_m + DEPTH_GAP_M)))
            bin_id = f"{shelf.shelf_id}-{len(bins) + 1:02d}"
            width = round(wide * (pack.width_m + GAP_M), 4)
            bins.append(Bin(bin_id, round(x, 4), width))
            lines[bin_id] = PlanogramLine(bin_id, pack.sku, wide, high, deep)
            x = round(x + width, 4)
        return replace(shelf, bins=tuple(bins))

    def stock(g: Gondola) -> Gondola:
        return replace(g, bays=tuple(replace(b, shelves=tuple(fill(s, b) for s in b.shelves)) for b in g.bays))

    aisles = tuple(Aisle(a.aisle_id, tuple(stock(g) for g in a.gondolas)) for a in store.aisles)
    return Store(store.site, aisles), lines


def _fits(pack: PackSpec, shelf: Shelf, left_m: float) -> bool:
    low = pack.height_m < 0.45 * shelf.clear_height_m and pack.shape not in ("box", "can")
    return pack.width_m + GAP_M <= left_m and pack.height_m <= shelf.clear_height_m - HEADROOM_M and not low


def catalogue_of(packs: Sequence[PackSpec], seed: int) -> dict[str, Product]:
    """The catalogue's idea of the packs: here the true sizes."""
    rng = np.random.default_rng([seed, 33])
    out = {}
    for pack in packs:
        number = int(pack.sku.split("-")[1])
        cents = (0.0, 0.09, 0.29, 0.49, 0.79, 0.99)[int(rng.integers(6))]
        price = round(int(rng.gamma(2.0, 1.5)) + cents, 2)
        # Nothing costs less than the least that a tag shows.
        price = price if price >= 0.29 else 0.99
        name = f"{pack.product} {pack.flavour} {pack.size_text}"
        dims = (pack.width_m, pack.depth_m, pack.height_m)
        out[pack.sku] = Product(pack.sku, gtin13(number), name, pack.brand, pack.category, *dims, price)
    return out
