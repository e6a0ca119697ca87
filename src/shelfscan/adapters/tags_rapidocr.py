"""Price tags read with RapidOCR (PP-OCR weights inside its wheel, Apache-2.0)."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.model.imaging import Rgb
from shelfscan.perception.tags import TextLine, parse_tag
from shelfscan.ports import TagText

#: Tags are brought to this width: digits are then 15 to 60 px high, which the engine reads best, and text is found fast.
WIDTH_PX = 256
#: The price is among the tallest lines.
PRICE_LINES = 2


class RapidOcrTagReader:
    """A `TagReader`. The engine is made at the first tag; not thread-safe.

    By default only the tallest lines are read, which hold the price: finding text costs a third of reading all of it.
    ``all_lines`` reads item number and EAN too. ``decimals``: see `parse_tag`.
    """

    def __init__(self, *, all_lines: bool = False, decimals: int | None = None, threads: int = 1) -> None:
        self._all_lines, self._decimals, self._threads = all_lines, decimals, threads
        self._engine: Any = None

    def _start(self) -> Any:
        from rapidocr import EngineType, RapidOCR

        logging.getLogger("RapidOCR").setLevel(logging.ERROR)
        params: dict[str, Any] = {
            "Global.use_cls": False,
            "Global.log_level": "error",
            # The engine enlarges pictures to 736 px by default: ten times the work for a tag.
            "Det.limit_side_len": WIDTH_PX,
            "Det.limit_type": "max",
            "Rec.rec_batch_num": 1,
            "EngineConfig.onnxruntime.intra_op_num_threads": self._threads,
            "EngineConfig.openvino.inference_num_threads": self._threads,
        }
        if importlib.util.find_spec("openvino"):
            params |= {"Det.engine_type": EngineType.OPENVINO, "Rec.engine_type": EngineType.OPENVINO}
        return RapidOCR(params=params)

    def read(self, crop: Rgb) -> TagText:
        """See `TagReader.read`."""
        if min(crop.shape[:2]) < 12:
            return TagText()
        if self._engine is None:
            self._engine = self._start()
        scale = WIDTH_PX / crop.shape[1]
        bgr = cv2.cvtColor(cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), cv2.COLOR_RGB2BGR)
        found = self._engine(bgr, use_det=True, use_cls=False, use_rec=False)
        if found is None or found.boxes is None or len(found.boxes) == 0:
            return TagText()
        boxes = sorted((np.asarray(b, np.float64) for b in found.boxes), key=lambda b: -float(np.ptp(b[:, 1])))
        lines = []
        for box in boxes if self._all_lines else boxes[:PRICE_LINES]:
            read = self._engine(_line(bgr, box), use_det=False, use_cls=False, use_rec=True)
            if read is not None and read.txts:
                lines.append(TextLine(str(read.txts[0]), float(read.scores[0]), float(np.ptp(box[:, 1]))))
        return parse_tag(lines, decimals=self._decimals)


def _line(bgr: NDArray[Any], box: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The upright rectangle of a line's box (4, 2): tags hang straight in an upright picture."""
    (x0, y0), (x1, y1) = box.min(axis=0), box.max(axis=0)
    h, w = bgr.shape[:2]
    part = bgr[max(0, int(y0)) : min(h, int(np.ceil(y1))), max(0, int(x0)) : min(w, int(np.ceil(x1)))]
    return np.ascontiguousarray(part)
