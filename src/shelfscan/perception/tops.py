"""What is behind the front row, as far as it shows: the top sides of the items, seen from above.

A bin whose goods were pulled forward looks full from the front. But a camera that looks down on a column sees the top of each
item behind the first one, or sees that there is none. The plane through the tops is cut out of the picture as seen straight
from above; each stretch as deep as one item is held against the first one, whose item is known to stand there: the same SKU
has the same top. How alike means "there" is learned (`models/units.json`), not stated here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.model.catalogue import Catalogue, Product
from shelfscan.model.front import FaceFront, place_surface
from shelfscan.model.geometry import apply, inverse
from shelfscan.model.imaging import Rgb
from shelfscan.model.planogram import Planogram, PlanogramLine
from shelfscan.model.scan import FrontGrid, TopLook
from shelfscan.model.store import BinPlace
from shelfscan.perception.localise import GRID, FaceView

#: Columns further away along the face than this show their neighbours' sides.
REACH_M = 0.45
#: The camera looks down at least so steeply (rise over run), and one item's top is so many pixels deep.
LEAST_SLOPE, LEAST_PX = 0.08, 5.0
#: Samples of one item's top: along its depth and its width, and the middle share of its width.
DEEP, WIDE, MIDDLE = 12, 10, 0.7
#: Tops of one SKU may lie so many samples apart.
SHIFT = 2
#: The board above hides what is seen past its edge by less than this.
CLEAR_M = 0.006
#: What was measured nearer than a top by so much stands before it; and a top is seen of which so much is free.
BEFORE_M, FREE = 0.04, 0.7
#: Rows of goods that stand on each other form one front where they differ in depth by less than this share of an item.
SAME_ROW = 0.5
AIR_M = 0.004


def top_looks(
    view: FaceView, picture: Rgb, grid: FrontGrid, places: Sequence[BinPlace], planogram: Planogram, catalogue: Catalogue
) -> list[TopLook]:
    """All columns of planned goods on whose tops one head looks down, each with what the tops behind the first look like."""
    front = FaceFront.fuse([grid], view.gondola.length_m, view.gondola.height_m)
    eye = view.eye_face_m
    out = []
    for place in places:
        if place.x1_m < eye[0] - REACH_M or place.x0_m > eye[0] + REACH_M:
            continue
        line = planogram[place.bin_id]
        product = catalogue[line.sku]
        pitch = (place.x1_m - place.x0_m) / line.facings_wide
        for column in range(line.facings_wide):
            x = place.x0_m + (column + 0.5) * pitch
            if abs(x - eye[0]) > REACH_M:
                continue
            top = _top_of(front, place, line, product, x)
            if top is None:
                continue
            cells = _cells(view, picture, place, product, x, *top)
            if cells is not None:
                likeness = tuple(_alike(cells[0], c) if c is not None else None for c in cells[1:])
                if any(v is not None for v in likeness):
                    out.append(TopLook(place.bin_id, column, view.head.name, round(top[0], 4), likeness))
    return out


def _top_of(front: FaceFront, place: BinPlace, line: PlanogramLine, product: Product, x_m: float) -> tuple[float, float] | None:
    """(depth of the front, height of the tops) of the highest stack at the front of a column; None where nothing stands."""
    found: tuple[float, float] | None = None
    for row in range(line.facings_high):
        depth, known = place_surface(front, product, x_m, place.z0_m + row * product.height_m)
        if known < 0.25 or not depth < place.depth_m - 0.5 * product.depth_m:
            break
        if found is not None and abs(depth - found[0]) > SAME_ROW * product.depth_m:
            break
        found = (depth, place.z0_m + (row + 1) * product.height_m)
    return found


def _cells(
    view: FaceView, picture: Rgb, place: BinPlace, product: Product, x_m: float, y_m: float, top_m: float
) -> list[NDArray[np.float32] | None] | None:
    """The tops as seen from above, one stretch an item, from the first one on; None for what is hidden.

    Each (DEEP, WIDE, 3) of L*a*b* as 8 bits have it. None altogether where the first one is not seen.
    """
    eye = view.eye_face_m
    step = product.depth_m + AIR_M
    count = int((place.depth_m + 0.01 - y_m) / step)
    if count < 2 or (eye[2] - top_m) / (y_m - eye[1]) < LEAST_SLOPE:
        return None
    half = MIDDLE * product.width_m / 2
    xs = np.linspace(x_m - half, x_m + half, WIDE)
    ys = y_m + (np.arange(count * DEEP) + 0.5) / DEEP * step
    points = np.zeros((len(ys), WIDE, 3))
    points[..., 0], points[..., 1], points[..., 2] = xs[None], ys[:, None], top_m
    px = view.to_pixels(points).astype(np.float32)
    h, w = picture.shape[:2]
    inside = (px[..., 0] > 1) & (px[..., 0] < w - 2) & (px[..., 1] > 1) & (px[..., 1] < h - 2)
    # Where the ray to a top passes the edge of the board above.
    passes = top_m + (eye[2] - top_m) * ys / (ys - eye[1])
    seen = inside & (passes < place.z1_m - CLEAR_M)[:, None]
    rows = np.clip(px[..., 1] / GRID, 0, view.depth.shape[0] - 1).astype(np.int64)
    cols = np.clip(px[..., 0] / GRID, 0, view.depth.shape[1] - 1).astype(np.int64)
    away = apply(inverse(view.T_face_rgb), points)[..., 2]
    with np.errstate(invalid="ignore"):
        seen &= ~(view.depth[rows, cols] < away - BEFORE_M) & ~view.hidden[rows, cols]
    lab = cv2.cvtColor(cv2.remap(picture, px[..., 0], px[..., 1], cv2.INTER_LINEAR), cv2.COLOR_RGB2LAB).astype(np.float32)
    cells: list[NDArray[np.float32] | None] = []
    for k in range(count):
        part = slice(k * DEEP, (k + 1) * DEEP)
        deep_px = float(np.linalg.norm(px[part][-1].mean(axis=0) - px[part][0].mean(axis=0)))
        cells.append(lab[part] if seen[part].mean() >= FREE and deep_px >= LEAST_PX else None)
    return cells if cells[0] is not None else None


def _alike(first: NDArray[np.float32] | None, other: NDArray[np.float32]) -> tuple[float, float, float]:
    """How a stretch differs from the first one: in colour (mean difference, 0..), in pattern (1 - correlation, 0..2), and in
    how strong the pattern is (logarithm of the ratio)."""
    assert first is not None
    best_colour, best_pattern = math.inf, 2.0
    a = first[SHIFT:-SHIFT]
    for shift in range(-SHIFT, SHIFT + 1):
        b = other[SHIFT + shift : DEEP - SHIFT + shift]
        best_colour = min(best_colour, float(np.abs(a - b).mean()))
        best_pattern = min(best_pattern, 1 - _correlation(a[..., 0], b[..., 0]))
    strength = math.log((float(other[..., 0].std()) + 2) / (float(first[..., 0].std()) + 2))
    return round(best_colour, 2), round(best_pattern, 3), round(strength, 3)


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    a, b = a - a.mean(), b - b.mean()
    # A little is added, so that two even surfaces are neither alike nor unlike.
    return float((a * b).sum() / (math.sqrt(float((a * a).sum() * (b * b).sum())) + 4.0 * a.size))
