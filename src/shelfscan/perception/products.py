"""Products where a head sees them, before they have names."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shelfscan.model.detections import DetectionClass, Detections
from shelfscan.model.geometry import apply
from shelfscan.model.imaging import Rgb
from shelfscan.model.scan import Observation
from shelfscan.perception.localise import FaceView, box_depth, rounded
from shelfscan.perception.looks import HIDDEN_SHARE
from shelfscan.perception.recognise import Look
from shelfscan.perception.upright import upright_size

Array = NDArray[np.float64]
#: Boxes this near to the picture's border are cut; another view has them whole.
CUT_PX = 4.0
#: Products stand at most so far before and behind the front plane.
FRONT_SLACK_M = 0.06


@dataclass(frozen=True)
class UnnamedProduct:
    """A product without a name yet, its crop held against the gallery, and the SKUs planned near it."""

    observation: Observation
    held: Look
    near: Collection[str]


def placed_products(
    capture_id: str, view: FaceView, picture: Rgb, found: Detections, planned_near: Callable[[Array], Collection[str]]
) -> list[tuple[Observation, Rgb, Collection[str]]]:
    """The boxed products that stand on the face, each with its crop (h, w, 3) and the SKUs planned near it.

    ``planned_near``: those of a place (x, y, z) m of the face. Cut and hidden boxes are left out.
    """
    w, h = upright_size(view.head.rgb)
    products = found.of(DetectionClass.PRODUCT)
    placed: list[tuple[Observation, Rgb, Collection[str]]] = []
    focal = view.head.rgb.intrinsics.fx_px
    for n, (box, score) in enumerate(zip(products.boxes_px.tolist(), products.scores.tolist(), strict=True)):
        x0, y0, x1, y1 = (float(v) for v in box)
        if x0 < CUT_PX or y0 < CUT_PX or x1 > w - CUT_PX or y1 > h - CUT_PX:
            continue
        if view.hidden_share((x0, y0, x1, y1)) > HIDDEN_SHARE:
            continue
        depth, sure = box_depth(view.depth, (x0, y0, x1, y1))
        if not math.isfinite(depth):
            continue
        p = view.to_face(((x0 + x1) / 2, (y0 + y1) / 2), depth)
        if not -FRONT_SLACK_M <= p[1] <= view.gondola.depth_m or not -0.1 <= p[0] <= view.gondola.length_m + 0.1:
            continue
        on_map = apply(view.T_map_face, p)
        ray = p - view.eye_face_m
        angle = math.acos(float(np.clip(ray[1] / np.linalg.norm(ray), -1.0, 1.0)))
        observation = Observation(
            observation_id=f"{capture_id}/{view.head.name}/{n}",
            head=view.head.name,
            gondola_id=view.gondola.gondola_id,
            box_px=(round(x0, 1), round(y0, 1), round(x1, 1), round(y1, 1)),
            score=round(score, 4),
            position_map_m=rounded(on_map),
            face_m=rounded(p),
            size_m=(round((x1 - x0) * depth / focal, 4), round((y1 - y0) * depth / focal, 4)),
            depth_confidence=round(sure, 3),
            view_angle_rad=round(angle, 4),
        )
        crop = picture[int(y0) : math.ceil(y1), int(x0) : math.ceil(x1)]
        placed.append((observation, crop, planned_near(p)))
    return placed
