"""All text of a picture with RapidOCR (PP-OCR weights inside its wheel, Apache-2.0)."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import cv2
import numpy as np

from shelfscan.errors import MissingModel
from shelfscan.model.imaging import Rgb
from shelfscan.perception.tags import TextLine


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
        found = self._engine(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        if found is None or found.boxes is None or not found.txts:
            return []
        return [
            TextLine(str(text), float(score), float(np.ptp(np.asarray(box, np.float64)[:, 1])))
            for box, text, score in zip(found.boxes, found.txts, found.scores, strict=True)
        ]
