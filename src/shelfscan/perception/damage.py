"""Damage as an anomaly: where a product looks like none of its kind, neither its neighbours of the SKU nor the SKU's pictures.

Two steps, because few items are damaged. The first holds small copies of a picture's crops of one SKU against each other and
against the reference pictures; the second lays references by their local features on what is left. A difference counts
where nothing compares within a few pixels, in colour and lightness after the light was made alike. Dents show only by how they
warp print and shade it; what the crop's border, a shelf's edge or a bottle's outline covers is not judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.model.imaging import Rgb
from shelfscan.perception.local_features import SIDE_PX, local_features, shared
from shelfscan.perception.recognise import SMALL_PX, Detail

Copy = NDArray[np.float32]
#: Crops are compared at this size, width and height.
WIDTH_PX, HEIGHT_PX = SMALL_PX
#: The same place may lie so many px apart, and an anomaly is the mean over so large a square.
SHIFT_PX, SPOT_PX = 3, 9
#: Left out at the sides and at head and foot, as shares: outlines, backgrounds and neighbours.
BESIDE, HEAD, FOOT = 0.14, 0.10, 0.06
#: What is connected to a reference's corner and differs from it by no more than this (each of L*a*b*) is background.
LIKE_CORNER = 18.0
#: So many neighbours are compared.
NEIGHBOURS = 4
#: Lightness counts this much against colour: lamps and shadows change it.
LIGHTNESS = 0.7
#: Gain of lightness that is taken for other light.
GAIN = (0.6, 1.6)
#: A difference of so much (CIE L*a*b* as 8 bits have it) is 1 on the scale of the answer.
UNIT = 14.0
#: First step: what differs less is not looked at again.
SUSPECT = 1.3
#: Second step: a reference lies on a crop when so many places agree; fewer say nothing.
LAID_PLACES = 8
#: ... and a crop that shows a part of it, or more than it, by this share is no crop of the whole product.
MOST_STRETCH = 0.25
#: A mirrored lamp: as light as this (L* of 8 bits), without tint, and so many px of shine around it.
BLIND_L, BLIND_TINT, HALO_PX = 240.0, 10.0, 12
#: Only crops seen so squarely are judged, of which this share of rows is clear and no more than that hidden.
LEAST_COSINE, LEAST_CLEAR, MOST_HIDDEN = 0.93, 0.6, 0.04


@dataclass(frozen=True)
class Reference:
    """A SKU's picture as it is compared: what the recogniser keeps of it, its colours, and where the product is.

    ``product``: 1 where it is for sure, 0 on what looks like the picture's background; (HEIGHT_PX, WIDTH_PX).
    """

    detail: Detail
    copy: Copy
    product: Copy


def reference_of(detail: Detail) -> Reference:
    """What is compared of a reference picture."""
    copy = _lab(detail.small)
    return Reference(detail, copy, _product(copy))


def _product(copy: Copy) -> Copy:
    """Not what is connected to the corners and coloured like them, nor what is near that."""
    flooded = np.zeros((HEIGHT_PX + 2, WIDTH_PX + 2), np.uint8)
    step = (LIKE_CORNER,) * 3
    for corner in ((0, 0), (WIDTH_PX - 1, 0), (0, HEIGHT_PX - 1), (WIDTH_PX - 1, HEIGHT_PX - 1)):
        how = 4 | cv2.FLOODFILL_FIXED_RANGE | cv2.FLOODFILL_MASK_ONLY | (255 << 8)
        cv2.floodFill(copy.copy(), flooded, corner, (0.0, 0.0, 0.0), step, step, how)
    square = np.ones((2 * SHIFT_PX + 1, 2 * SHIFT_PX + 1), np.uint8)
    return np.asarray(cv2.dilate(flooded[1:-1, 1:-1], square) == 0, np.float32)


def anomalies(crops: Sequence[Rgb], clear_px: Sequence[tuple[int, int]], references: Sequence[Reference]) -> list[float]:
    """How much each crop differs from its kind: 0 not at all or not judged, around 1 clearly.

    ``crops``: upright crops of one SKU from one picture; ``clear_px``: their rows that are not hidden; ``references``: pictures
    of the SKU, without which only neighbours are compared.
    """
    copies = [_small(c) for c in crops]
    pictures = [r.copy for r in references]
    product = np.ones((HEIGHT_PX, WIDTH_PX), np.float32)
    for reference in references:
        product = product * reference.product
    out = []
    for n, (crop, clear) in enumerate(zip(crops, clear_px, strict=True)):
        top, bottom = (v / len(crop) for v in clear)
        if bottom - top < LEAST_CLEAR:
            out.append(0.0)
            continue
        others = [c for k, c in enumerate(copies) if k != n][:NEIGHBOURS]
        differs = _differs(copies[n], others + pictures) * product * _unblinded(copies[n])
        score = _worst(differs, top, bottom)
        if score >= SUSPECT and references:
            laid = _laid(crop, references)
            score = _worst(np.minimum(differs, laid), top, bottom) if laid is not None else 0.0
        out.append(round(score, 3) if others or references else 0.0)
    return out


def _unblinded(copy: Copy) -> Copy:
    """0 where a mirrored lamp whitens the print, and around, where it still shines; (HEIGHT_PX, WIDTH_PX)."""
    white = (copy[..., 0] > BLIND_L) & (np.abs(copy[..., 1:] - 128).max(axis=-1) < BLIND_TINT)
    # Small white print is no lamp.
    lamp = cv2.morphologyEx(white.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    halo = np.ones((2 * HALO_PX + 1, 2 * HALO_PX + 1), np.uint8)
    return np.asarray(cv2.dilate(lamp, halo) == 0, np.float32)


def _size_of_features(shape: float) -> tuple[float, float]:
    """Width and height of the pixels that local features have, from the logarithm of width over height."""
    return SIDE_PX * min(1.0, math.exp(shape)), SIDE_PX * min(1.0, math.exp(-shape))


def _small(picture: Rgb) -> Copy:
    return _lab(np.asarray(cv2.resize(picture, SMALL_PX, interpolation=cv2.INTER_AREA), np.uint8))


def _lab(small: Rgb) -> Copy:
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2LAB), np.float32)


def _differs(copy: Copy, others: Sequence[Copy]) -> Copy:
    """Per pixel the least difference to any of the others, (HEIGHT_PX, WIDTH_PX)."""
    if not others:
        return np.zeros(copy.shape[:2], np.float32)
    return np.asarray(np.min([_difference(copy, _in_light_of(copy, o)) for o in others], axis=0), np.float32)


def _in_light_of(copy: Copy, other: Copy) -> Copy:
    """The other with the first one's lightness and tint."""
    out = np.empty_like(other)
    for k in range(3):
        mine, theirs = float(np.median(copy[..., k])), float(np.median(other[..., k]))
        spread = 1.0
        if k == 0:
            a, b = (float(np.abs(c[..., 0] - m).mean()) + 2 for c, m in ((copy, mine), (other, theirs)))
            spread = float(np.clip(a / b, *GAIN))
        out[..., k] = (other[..., k] - theirs) * spread + mine
    return out


def _difference(copy: Copy, other: Copy) -> Copy:
    """Beyond what the other has within `SHIFT_PX`."""
    square = np.ones((2 * SHIFT_PX + 1, 2 * SHIFT_PX + 1), np.uint8)
    above, below = copy - cv2.dilate(other, square), cv2.erode(other, square) - copy
    beyond = np.maximum(0.0, np.maximum(above, below))
    beyond[..., 0] *= LIGHTNESS
    return np.asarray(np.sqrt((beyond * beyond).sum(axis=-1)), np.float32)


def _worst(differs: Copy, top: float, bottom: float) -> float:
    """The strongest spot inside the borders and between the clear rows (shares of the height)."""
    spots = cv2.blur(differs, (SPOT_PX, SPOT_PX), borderType=cv2.BORDER_REFLECT)
    y0, y1 = (round(HEIGHT_PX * v) for v in (max(HEAD, top + HEAD), min(1 - FOOT, bottom - FOOT)))
    x0 = round(WIDTH_PX * BESIDE)
    inside = spots[y0:y1, x0 : WIDTH_PX - x0]
    return float(inside.max()) / UNIT if inside.size else 0.0


def _laid(crop: Rgb, references: Sequence[Reference]) -> Copy | None:
    """Least difference to the references laid on a crop, each where it covers it; None when none can be laid."""
    features, (w, h) = local_features(crop), _size_of_features(math.log(crop.shape[1] / crop.shape[0]))
    mine = _small(crop)
    out: Copy | None = None
    theirs = [r.detail.of()[0] for r in references]
    for reference, seen in zip(references, shared(features, theirs), strict=True):
        if seen.affine is None or seen.places < LAID_PLACES or np.linalg.det(seen.affine[:, :2]) <= 0:
            continue
        # From the crop's copy to its features' pixels, to the reference's, to the reference's copy.
        affine = np.vstack([seen.affine, [0, 0, 1]]).astype(np.float64)
        to_features = np.diag([w / WIDTH_PX, h / HEIGHT_PX, 1.0])
        their_w, their_h = _size_of_features(reference.detail.shape)
        to_copy = np.diag([WIDTH_PX / their_w, HEIGHT_PX / their_h, 1.0])
        whole = (to_copy @ affine @ to_features)[:2]
        size, how = (WIDTH_PX, HEIGHT_PX), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        if abs(whole[0, 0] - 1) + abs(whole[1, 1] - 1) > 2 * MOST_STRETCH:
            continue
        over = cv2.warpAffine(reference.copy, whole, size, flags=how, borderMode=cv2.BORDER_REPLICATE)
        covered = cv2.warpAffine(reference.product, whole, size, flags=how) > 0.99
        differs = _difference(mine, _in_light_of(mine, np.asarray(over, np.float32))) * covered
        out = differs if out is None else np.minimum(out, differs)
    return out
