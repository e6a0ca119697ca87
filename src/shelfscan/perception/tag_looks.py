"""Price tags where a head sees them: which of them are read, and where they hang; and where all of them were measured."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from shelfscan.model.detections import DetectionClass, Detections
from shelfscan.model.imaging import Rgb
from shelfscan.model.scan import TagReading
from shelfscan.perception.localise import FaceView, box_depth, rounded
from shelfscan.perception.looks import HIDDEN_SHARE
from shelfscan.ports import TagText

#: A tag is read by the capture that sees it near the middle, so that neighbouring captures don't read it again.
TAG_HALF_WIDTH_M = 0.31
TAG_HALF_HEIGHT_M = 0.48


def read_tags(view: FaceView, picture: Rgb, found: Detections, read: Callable[[Rgb], TagText]) -> list[TagReading]:
    """The price tags of one head's picture that hang near its middle, read with ``read``."""
    out = []
    boxes = found.of(DetectionClass.PRICE_TAG)
    standoff = -float(view.eye_face_m[1])
    for box, score in zip(boxes.boxes_px.tolist(), boxes.scores.tolist(), strict=True):
        x0, y0, x1, y1 = (float(v) for v in box)
        if view.hidden_share((x0, y0, x1, y1)) > HIDDEN_SHARE:
            continue
        depth, _ = box_depth(view.depth, (x0, y0, x1, y1))
        # Tags hang on the shelf's edge: without depth the front plane is where they are.
        p = view.to_face(((x0 + x1) / 2, (y0 + y1) / 2), depth if math.isfinite(depth) else standoff)
        dx, dz = abs(p[0] - view.eye_face_m[0]), abs(p[2] - view.eye_face_m[2])
        if abs(p[1]) > 0.08 or dx > TAG_HALF_WIDTH_M or dz > TAG_HALF_HEIGHT_M:
            continue
        pad = 0.06 * (x1 - x0)
        crop = picture[max(0, int(y0 - pad)) : int(y1 + pad) + 1, max(0, int(x0 - pad)) : int(x1 + pad) + 1]
        text = read(crop)
        out.append(
            TagReading(
                view.head.name,
                view.gondola.gondola_id,
                rounded(p),
                (round(x0, 1), round(y0, 1), round(x1, 1), round(y1, 1)),
                round(score, 4),
                text.price_text,
                text.item_text,
                text.ean_text,
                round(text.confidence, 3),
                text.currency,
                text.unit_price_text,
                text.unit_text,
                text.name_text,
                text.promotion,
            )
        )
    return out


def tag_points(view: FaceView, found: Detections) -> NDArray[np.float64]:
    """(N, 4) where one head's price tags were measured, metres in the face frame, and their scores."""
    boxes = found.of(DetectionClass.PRICE_TAG)
    out = []
    for box, score in zip(boxes.boxes_px.tolist(), boxes.scores.tolist(), strict=True):
        x0, y0, x1, y1 = (float(v) for v in box)
        depth, _ = box_depth(view.depth, (x0, y0, x1, y1))
        if math.isfinite(depth) and view.hidden_share((x0, y0, x1, y1)) <= HIDDEN_SHARE:
            out.append((*view.to_face(((x0 + x1) / 2, (y0 + y1) / 2), depth), score))
    return np.array(out, np.float64).reshape(-1, 4)
