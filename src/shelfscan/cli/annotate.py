"""Draws what was found onto a photograph, for people to judge."""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Sequence

import cv2
import numpy as np

from shelfscan.model.imaging import Rgb
from shelfscan.perception.photo import FacingRun, PhotoFacing

UNKNOWN_RGB = (120, 120, 120)


def colour_of(sku: str) -> tuple[int, int, int]:
    """The same SKU always has the same colour; unknown is grey."""
    if not sku:
        return UNKNOWN_RGB
    hue = (zlib.crc32(sku.encode()) % 360) / 360
    r, g, b = colorsys.hsv_to_rgb(hue, 0.85, 0.95)
    return int(r * 255), int(g * 255), int(b * 255)


def draw_audit(picture: Rgb, facings: Sequence[PhotoFacing], runs: Sequence[FacingRun]) -> Rgb:
    """A copy with each facing boxed in its SKU's colour and each run labelled "SKU xN"; unknown ones are grey.

    A facing that is tied with another SKU has a second box within, in that one's colour, and its run says "SKU | OTHER xN".
    """
    canvas = np.ascontiguousarray(picture).copy()
    scale = max(canvas.shape[:2]) / 2000
    thick = max(1, round(3 * scale))
    for f in facings:
        x0, y0, x1, y1 = (round(v) for v in f.box_px)
        cv2.rectangle(canvas, (x0, y0), (x1, y1), colour_of(f.sku), thick)
        if f.tied_with:
            inner = 2 * thick
            cv2.rectangle(canvas, (x0 + inner, y0 + inner), (x1 - inner, y1 - inner), colour_of(f.tied_with), thick)
    size, line = 0.55 * max(scale, 0.5), max(1, round(1.2 * scale))
    for run in runs:
        text = f"{' | '.join((run.sku or '?', *run.tied_with))} x{run.facings}"
        width = max(20, int(run.box_px[2] - run.box_px[0]))
        (w, h), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, line)
        if w > width:
            # A label wider than its run would cover its neighbours' names.
            keep = max(3, int(len(text) * width / w))
            text = text[:keep]
            (w, h), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, line)
        x, y = int(run.box_px[0]), int(run.box_px[3])
        cv2.rectangle(canvas, (x, y - h - base - 4), (x + w + 4, y), (255, 255, 255), -1)
        cv2.putText(canvas, text, (x + 2, y - base - 1), cv2.FONT_HERSHEY_SIMPLEX, size, (20, 20, 20), line, cv2.LINE_AA)
    return canvas
