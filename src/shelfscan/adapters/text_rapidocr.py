"""All text of a picture with RapidOCR (PP-OCR weights inside its wheel, Apache-2.0)."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.errors import MissingModel
from shelfscan.model.imaging import Rgb
from shelfscan.perception.tags import TextLine


@dataclass(frozen=True, eq=False)
class FoundText:
    """A line and the corners (4, 2) of its box in pixels: top left, top right, bottom right, bottom left."""

    line: TextLine
    corners_px: NDArray[np.float64]


class RapidOcrText:
    """Lines of text anywhere in a picture. Not thread-safe. Raises `MissingModel` when RapidOCR is not installed."""

    def __init__(self, *, threads: int = 1) -> None:
        try:
            from rapidocr import EngineType, RapidOCR
        except ImportError as e:
            raise MissingModel(f"rapidocr is not installed ({e}): pip install 'shelfscan[tags]'") from e
        logging.getLogger("RapidOCR").setLevel(logging.ERROR)
        params: dict[str, Any] = {
            "Global.use_cls": False,
            "Global.log_level": "error",
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.openvino.inference_num_threads": threads,
        }
        if importlib.util.find_spec("openvino"):
            params |= {"Det.engine_type": EngineType.OPENVINO, "Rec.engine_type": EngineType.OPENVINO}
        self._engine: Any = RapidOCR(params=params)

    def lines(self, picture: Rgb) -> list[TextLine]:
        """What stands in an upright (H, W, 3) uint8 RGB picture, top to bottom."""
        return [f.line for f in self.find(picture)]

    def find(self, picture: Rgb) -> list[FoundText]:
        """The lines of an upright (H, W, 3) uint8 RGB picture and where they stand, top to bottom."""
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        # Said each time: the engine remembers what it was last asked for.
        found = self._engine(bgr, use_det=True, use_cls=False, use_rec=True)
        if found is None or found.boxes is None or not found.txts:
            return []
        out = []
        for box, text, score in zip(found.boxes, found.txts, found.scores, strict=True):
            q = np.asarray(box, np.float64)
            x, y = (float(v) for v in q.mean(axis=0))
            out.append(FoundText(TextLine(str(text), float(score), float(np.ptp(q[:, 1])), x, y), q))
        return out

    def line(self, picture: Rgb) -> TextLine | None:
        """The one line of text that an (h, w, 3) uint8 RGB picture shows; None when nothing is read."""
        bgr = np.ascontiguousarray(picture[..., ::-1])
        read = self._engine(bgr, use_det=False, use_cls=False, use_rec=True)
        if read is None or not read.txts or not read.txts[0]:
            return None
        return TextLine(str(read.txts[0]), float(read.scores[0]), float(picture.shape[0]))
