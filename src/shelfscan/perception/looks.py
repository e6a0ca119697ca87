"""Crops of planned places, taken exactly where the measured front says the planned item is.

Boxes of the detector are often cut or merged where items stand close; such a crop is right when the plan is, and shows
something else when it is not. What follows from it is for matching to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shelfscan.model.catalogue import Catalogue, Product
from shelfscan.model.front import FaceFront, place_surface
from shelfscan.model.geometry import apply, inverse
from shelfscan.model.imaging import Rgb
from shelfscan.model.planogram import Planogram, PlanogramLine
from shelfscan.model.scan import FrontGrid
from shelfscan.model.store import BinPlace
from shelfscan.perception.localise import GRID, FaceView

#: Places within this distance along the face are looked at, when so much of their depth is known and the angle is fair.
REACH_M = 0.65
LEAST_KNOWN = 0.15
LEAST_COSINE = 0.75
LEAST_PX = 12
#: A crop of which more was made unreadable shows a blur, not a product.
HIDDEN_SHARE = 0.1
#: Shelf edges, with the tags on them, lie this far behind the front plane (before it: negative).
EDGE_Y_M = -0.01
#: What is nearer than an item's front by so much is another one's.
BEFORE_M = 0.03


@dataclass(frozen=True)
class PlannedLook:
    """A crop of one planned place; ``cosine`` of the angle between the ray to it and the face normal.

    ``clear_px``: the first row of the crop and the one after the last that no shelf's edge hides. ``hidden``: share of its
    measured depth that lies before the item, of something that stands there.
    """

    bin_id: str
    column: int
    row: int
    depth_m: float
    cosine: float
    crop: Rgb
    clear_px: tuple[int, int]
    hidden: float


def planned_looks(
    view: FaceView, picture: Rgb, grid: FrontGrid, places: Sequence[BinPlace], planogram: Planogram, catalogue: Catalogue
) -> list[PlannedLook]:
    """All planned places of a face that one head sees well and where something stands."""
    front = FaceFront.fuse([grid], view.gondola.length_m, view.gondola.height_m)
    eye = view.eye_face_m
    to_camera = inverse(view.T_face_rgb)
    height_px, width_px = picture.shape[:2]
    out = []
    for place in places:
        if place.x1_m < eye[0] - REACH_M or place.x0_m > eye[0] + REACH_M:
            continue
        line = planogram[place.bin_id]
        product = catalogue[line.sku]
        for column, row, x, foot in _slots(place, line, product):
            depth, known = place_surface(front, product, x, foot)
            if not (known >= LEAST_KNOWN and depth < place.depth_m - product.depth_m / 2):
                continue
            half, top = product.width_m / 2, foot + product.height_m
            ray = np.array([x, depth, (foot + top) / 2]) - eye
            cosine = float(ray[1] / np.linalg.norm(ray))
            if cosine < LEAST_COSINE:
                continue
            px = view.to_pixels(np.array([[u, depth, v] for u in (x - half, x + half) for v in (foot, top)]))
            (x0, y0), (x1, y1) = px.min(axis=0), px.max(axis=0)
            if x0 < 0 or y0 < 0 or x1 > width_px or y1 > height_px or min(x1 - x0, y1 - y0) < LEAST_PX:
                continue
            if view.hidden_share((x0, y0, x1, y1)) > HIDDEN_SHARE:
                continue
            crop = picture[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1]
            # The own shelf's edge hides the foot from below, the next one's hides the head from above.
            edges = view.to_pixels(np.array([[x, EDGE_Y_M, place.z1_m], [x, EDGE_Y_M, place.z0_m]]))[:, 1] - int(y0)
            clear = (max(0, int(edges[0])), min(len(crop), max(0, int(edges[1]))))
            away = float(apply(to_camera, np.array([x, depth, (foot + top) / 2]))[2])
            rows = (y0 + clear[0], min(y1, y0 + clear[1]))
            hidden = _hidden(view, (float(x0), float(rows[0]), float(x1), float(rows[1])), away)
            out.append(PlannedLook(place.bin_id, column, row, depth, cosine, crop, clear, hidden))
    return out


def _hidden(view: FaceView, box_px: tuple[float, float, float, float], away_m: float) -> float:
    """Share of a box's measured depth that is nearer to the camera than ``away_m``."""
    x0, y0, x1, y1 = (int(v / GRID) for v in box_px)
    patch = view.depth[y0 : y1 + 1, x0 : x1 + 1]
    measured = patch[np.isfinite(patch)]
    return float((measured < away_m - BEFORE_M).mean()) if len(measured) else 1.0


def _slots(place: BinPlace, line: PlanogramLine, product: Product) -> Iterator[tuple[int, int, float, float]]:
    """(column, row, middle along the face, foot height) of every place of a bin, metres in the face frame."""
    pitch = (place.x1_m - place.x0_m) / line.facings_wide
    for column in range(line.facings_wide):
        for row in range(line.facings_high):
            yield column, row, place.x0_m + (column + 0.5) * pitch, place.z0_m + row * product.height_m
