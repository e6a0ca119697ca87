"""Price tags read with RapidOCR (PP-OCR weights inside its wheel, Apache-2.0)."""

from __future__ import annotations

import logging
from typing import Any

import cv2
import numpy as np

from shelfscan.model.imaging import Rgb
from shelfscan.perception.tags import TextLine, parse_tag
from shelfscan.ports import TagText

#: Tags are brought to this width: the engine reads digits of 15 to 60 px height best.
WIDTH_PX = 320


class RapidOcrTagReader:
    """A `TagReader`. The engine is made at the first tag; not thread-safe."""

    def __init__(self) -> None:
        self._engine: Any = None

    def read(self, crop: Rgb) -> TagText:
        """See `TagReader.read`."""
        if min(crop.shape[:2]) < 12:
            return TagText()
        if self._engine is None:
            from rapidocr import RapidOCR

            logging.getLogger("RapidOCR").setLevel(logging.ERROR)
            self._engine = RapidOCR(params={"Global.use_cls": False, "Global.log_level": "error"})
        scale = WIDTH_PX / crop.shape[1]
        bgr = cv2.cvtColor(cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), cv2.COLOR_RGB2BGR)
        result = self._engine(bgr)
        if result is None or result.txts is None:
            return TagText()
        lines = []
        for box, text, score in zip(result.boxes, result.txts, result.scores, strict=True):
            corners = np.asarray(box, dtype=np.float64)
            lines.append(TextLine(str(text), float(score), float(np.ptp(corners[:, 1]))))
        return parse_tag(lines)
