"""What a gallery should be told about: pictures twice, products that look alike, unknown products, new pack designs.

Everything works on unit vectors of pictures (`shelfscan.ports.Embedder`); likeness is their dot product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

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
#: So many crops that agree make a design; fewer are bad crops.
LEAST_CROPS = 4
#: They were seen in another night, or this far apart: one place has one light, one neighbour that hides half, one bad look.
APART_M = 1.0
#: A new print is on the same package. A box of other proportions (times or by this) is a part of it, or two of them.
SAME_SHAPE = 1.25
#: A box ends below another when its lower edge is lower by this share of the other's height.
BELOW = 0.2
#: Rows whose likeness to all others is worked out at a time: a gallery may have tens of thousands.
BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Pair:
    """Two SKUs (in order) and the likeness of their nearest pictures."""

    first: str
    second: str
    likeness: float


@dataclass(frozen=True, slots=True)
class Sighting:
    """A crop from a place that was planned for a SKU: which night, where in ``map`` (x, y; metres), width over height."""

    sku: str
    night: str
    position_m: tuple[float, float]
    shape: float


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


def duplicates(prints: Sequence[int], vectors: Vectors, first: int = 0) -> list[tuple[int, int]]:
    """Pairs of indices (i < j) that show the same picture, also saved again or made smaller; only those with j >= ``first``."""
    found = []
    for start, likeness in _blocks(vectors, first):
        for row, i in np.argwhere(likeness >= SAME_LIKENESS).tolist():
            j = start + row
            if i < j and (prints[i] ^ prints[j]).bit_count() <= SAME_BITS:
                found.append((i, j))
    return sorted(found)


def look_alikes(skus: Sequence[str], vectors: Vectors, first: int = 0) -> list[Pair]:
    """SKUs that a picture may be mistaken between, most alike first. ``skus[i]`` is shown by row i of ``vectors``.

    Only pairs of which a row from ``first`` on shows one.
    """
    best: dict[tuple[str, str], float] = {}
    for start, likeness in _blocks(vectors, first):
        for row, i in np.argwhere(likeness >= ALIKE).tolist():
            a, b = sorted((skus[i], skus[start + row]))
            if a != b:
                best[a, b] = max(best.get((a, b), 0.0), float(likeness[row, i]))
    return sorted((Pair(a, b, round(v, 3)) for (a, b), v in best.items()), key=lambda p: (-p.likeness, p.first, p.second))


def _blocks(vectors: Vectors, first: int) -> Iterator[tuple[int, Vectors]]:
    """Likeness of the rows from ``first`` on to all rows, a block at a time, with the block's first row."""
    for start in range(first, len(vectors), BLOCK):
        yield start, vectors[start : start + BLOCK] @ vectors.T


def cluster(vectors: Vectors) -> list[tuple[int, ...]]:
    """Groups of rows, largest first: average linkage, joined while the mean likeness of two groups is `ONE_PRODUCT`.

    Average, because a chain of neighbours, each a little unlike the last, is not one product.
    """
    if len(vectors) < 2:
        return [(i,) for i in range(len(vectors))]
    unlike = 1.0 - vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    condensed = np.clip(unlike[np.triu_indices(len(vectors), 1)], 0.0, None)
    label = fcluster(linkage(condensed, "average"), 1.0 - ONE_PRODUCT, "distance")
    groups = [tuple(np.flatnonzero(label == k).tolist()) for k in np.unique(label)]
    return sorted(groups, key=lambda g: (-len(g), g[0]))


def drifts(
    seen: Sequence[Sighting], crops: Vectors, skus: Sequence[str], shapes: Sequence[float], references: Vectors
) -> list[Drift]:
    """New pack designs. Crop i is ``seen[i]``; reference j shows ``skus[j]``, ``shapes[j]`` times as wide as high.

    A crop that looks like *another* SKU is a misplaced product and no design; one of other proportions than all of the SKU's
    references is no whole package. What remains may still be a product that is in no gallery: only a person knows.
    """
    out: list[Drift] = []
    if not len(crops) or not len(references):
        return out
    best = (crops @ references.T).max(axis=1)
    for sku in sorted({s.sku for s in seen} & set(skus)):
        mine = [j for j, s in enumerate(skus) if s == sku]
        known = [shapes[j] for j in mine]
        unlike = np.array(
            [i for i, s in enumerate(seen) if s.sku == sku and best[i] < KNOWN and _fits(s.shape, known)], np.int64
        )
        for group in cluster(crops[unlike]):
            members = tuple(int(unlike[i]) for i in group)
            if len(members) >= LEAST_CROPS and _twice([seen[i] for i in members]):
                mean = crops[list(members)].mean(axis=0)
                likeness = float((references[mine] @ (mean / max(float(np.linalg.norm(mean)), 1e-9))).max())
                out.append(Drift(sku, members, round(likeness, 3)))
    return out


def _fits(shape: float, known: Sequence[float]) -> bool:
    return any(abs(math.log(shape / k)) <= math.log(SAME_SHAPE) for k in known)


def _twice(seen: Sequence[Sighting]) -> bool:
    """Whether these were seen in two nights, or in two places."""
    first = seen[0]
    return any(s.night != first.night for s in seen) or any(
        math.dist(a.position_m, b.position_m) >= APART_M for n, a in enumerate(seen) for b in seen[:n]
    )


def in_front(boxes_px: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which boxes (N, 4) of a picture of one shelf have no other below them: (N,).

    What is seen above a front item is what stands behind it, from above, or on it; a box there is often of several packages.
    """
    x0, y0, x1, y1 = boxes_px.astype(np.float64).T
    shared = np.minimum(x1[:, None], x1) - np.maximum(x0[:, None], x0)
    beneath = y1 > (y1 + BELOW * (y1 - y0))[:, None]
    return np.asarray(~((shared >= 0.5 * np.minimum(x1 - x0, (x1 - x0)[:, None])) & beneath).any(axis=1))


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
