"""Pictures kept as evidence: small JPEGs of a bin's front, or of one item."""

from __future__ import annotations

import cv2
import numpy as np

from shelfscan.model.imaging import Rgb
from shelfscan.perception.coverage import FrontSeen
from shelfscan.perception.localise import FaceView

EVIDENCE_PX = 400


def front_picture(view: FaceView, front: FrontSeen, picture: Rgb) -> bytes:
    """A picture of a bin's front with a little around it, at most `EVIDENCE_PX` long."""
    p = front.place
    corners = np.array([[x, 0.0, z] for x in (p.x0_m - 0.02, p.x1_m + 0.02) for z in (p.z0_m - 0.05, p.z1_m + 0.01)])
    px = view.to_pixels(corners)
    h, w = picture.shape[:2]
    x0, y0 = (int(max(0, v)) for v in px.min(axis=0))
    x1, y1 = int(min(w, px[:, 0].max())), int(min(h, px[:, 1].max()))
    crop = picture[y0:y1, x0:x1]
    return jpeg(crop)


def jpeg(crop: Rgb) -> bytes:
    """JPEG bytes of a picture, at most `EVIDENCE_PX` long."""
    scale = min(1.0, EVIDENCE_PX / max(crop.shape[:2]))
    small = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
