"""What a gallery should be told about: pictures twice, products that look alike, unknown products, new pack designs.

Everything works on unit vectors of pictures (`shelfscan.ports.Embedder`); likeness is their dot product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.model.imaging import Rgb

Vectors = NDArray[np.float32]

#: Reduced to 8 x 8 gray steps, two pictures that differ in at most this many of 64 are one picture saved twice ...
SAME_BITS = 3
#: ... when their vectors are also this near: flat pictures have few steps to tell apart.
SAME_LIKENESS = 0.985
#: Products whose nearest pictures are at least so near are told apart by little.
ALIKE = 0.9
#: Crops this near on average are one product.
ONE_PRODUCT = 0.7
#: A crop nearer to some reference than this shows a known appearance.
KNOWN = 0.6
#: So many crops that agree make a design; one alone is a bad crop.
LEAST_CROPS = 3


@dataclass(frozen=True, slots=True)
class Pair:
    """Two SKUs (in order) and the likeness of their nearest pictures."""

    first: str
    second: str
    likeness: float


@dataclass(frozen=True, slots=True)
class Drift:
    """Crops (``members``: indices) that agree with each other, are the SKU's by their place, and look like no reference.

    ``likeness`` is the best of their mean to any reference of the SKU.
    """

    sku: str
    members: tuple[int, ...]
    likeness: float


def fingerprint(picture: Rgb) -> int:
    """64 bits: whether gray gets lighter from cell to cell of a row of 9 x 8 (difference hash)."""
    gray = cv2.cvtColor(cv2.resize(picture, (9, 8), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY).astype(np.int16)
    bits = (gray[:, 1:] > gray[:, :-1]).ravel()
    return sum(1 << i for i, bit in enumerate(bits.tolist()) if bit)


def duplicates(prints: Sequence[int], vectors: Vectors) -> list[tuple[int, int]]:
    """Pairs of indices (i < j) that show the same picture, also saved again or made smaller."""
    likeness = vectors @ vectors.T
    near = np.argwhere(np.triu(likeness >= SAME_LIKENESS, 1))
    return [(int(i), int(j)) for i, j in near.tolist() if (prints[i] ^ prints[j]).bit_count() <= SAME_BITS]


def look_alikes(skus: Sequence[str], vectors: Vectors, at_least: float = ALIKE) -> list[Pair]:
    """SKUs that a picture may be mistaken between, most alike first. ``skus[i]`` is shown by row i of ``vectors``."""
    names = sorted(set(skus))
    owner = np.array([names.index(s) for s in skus])
    best = np.full((len(names), len(names)), -1.0, np.float32)
    np.maximum.at(best, (owner[:, None], owner[None, :]), vectors @ vectors.T)
    found = np.argwhere(np.triu(best >= at_least, 1)).tolist()
    return sorted((Pair(names[i], names[j], round(float(best[i, j]), 3)) for i, j in found), key=lambda p: -p.likeness)


def cluster(vectors: Vectors, at_least: float = ONE_PRODUCT) -> list[tuple[int, ...]]:
    """Groups of rows, largest first: average linkage, joined while the mean likeness of two groups is at least that.

    Every row is in one group. Memory grows with the square of the rows, time with its cube: thousands, not more.
    """
    groups: list[list[int]] = [[i] for i in range(len(vectors))]
    if not groups:
        return []
    likeness = (vectors @ vectors.T).astype(np.float32)
    np.fill_diagonal(likeness, -np.inf)
    size = np.ones(len(groups), np.float32)
    while True:
        a, b = divmod(int(likeness.argmax()), len(groups))
        if not likeness[a, b] >= at_least:
            break
        joined = (likeness[a] * size[a] + likeness[b] * size[b]) / (size[a] + size[b])
        likeness[a], likeness[:, a] = joined, joined
        likeness[a, a] = -np.inf
        likeness[b], likeness[:, b] = -np.inf, -np.inf
        size[a] += size[b]
        groups[a] += groups[b]
        groups[b] = []
    return sorted((tuple(sorted(g)) for g in groups if g), key=lambda g: (-len(g), g[0]))


def drifts(owners: Sequence[str], crops: Vectors, skus: Sequence[str], references: Vectors) -> list[Drift]:
    """New pack designs: ``owners[i]`` is the SKU that crop i should show, ``skus[j]`` the one that reference j shows.

    A crop that looks like *another* SKU is a misplaced product and no design. What remains may still be a product that is in
    no gallery: only a person knows.
    """
    out: list[Drift] = []
    if not len(crops) or not len(references):
        return out
    best = (crops @ references.T).max(axis=1)
    for sku in sorted(set(owners) & set(skus)):
        unlike = np.array([i for i, owner in enumerate(owners) if owner == sku and best[i] < KNOWN], np.int64)
        own = references[[j for j, s in enumerate(skus) if s == sku]]
        for group in cluster(crops[unlike]):
            if len(group) >= LEAST_CROPS:
                members = tuple(int(unlike[i]) for i in group)
                mean = crops[list(members)].mean(axis=0)
                likeness = float((own @ (mean / max(float(np.linalg.norm(mean)), 1e-9))).max())
                out.append(Drift(sku, members, round(likeness, 3)))
    return out


def contact_sheet(crops: Sequence[Rgb], side_px: int = 160, columns: int = 6, most: int = 24) -> Rgb:
    """The first ``most`` crops side by side on white, each fitted into a square."""
    shown = crops[:most]
    rows = max(1, -(-len(shown) // columns))
    sheet = np.full((rows * side_px, min(columns, max(1, len(shown))) * side_px, 3), 255, np.uint8)
    for n, crop in enumerate(shown):
        h, w = crop.shape[:2]
        scale = (side_px - 8) / max(h, w)
        small = cv2.resize(crop, (max(1, round(w * scale)), max(1, round(h * scale))), interpolation=cv2.INTER_AREA)
        y = n // columns * side_px + (side_px - small.shape[0]) // 2
        x = n % columns * side_px + (side_px - small.shape[1]) // 2
        sheet[y : y + small.shape[0], x : x + small.shape[1]] = small
    return sheet
