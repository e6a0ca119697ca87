"""The shelf detector on ONNX Runtime (CPU): the portable default."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shelfscan.adapters._onnx import open_session
from shelfscan.adapters._shelf_detector import ShelfDetector, check_shapes, settings_of
from shelfscan.adapters.models import Precision


class OnnxDetector(ShelfDetector):
    """Products, price tags and empty places with ONNX Runtime.

    ``models`` is a folder with a manifest (default: the shipped one). Raises `MissingModel`.
    """

    def __init__(
        self,
        name: str = "detector",
        *,
        scale: float | None = None,
        max_side_px: int = 1296,
        threshold: float | None = None,
        threads: int = 2,
        precision: Precision = "auto",
        models: Path | None = None,
    ) -> None:
        path, computed, settings = settings_of(name, models, scale, max_side_px, threshold, precision, "onnxruntime")
        session = open_session(path, threads)
        check_shapes(path, {i.name: i.shape for i in session.get_inputs()}, {o.name: o.shape for o in session.get_outputs()})

        def run(blob: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            distances, scores = session.run(["distances", "scores"], {"image": blob})
            return distances, scores

        super().__init__(run, settings, f"{name} ({path.name}), ONNX Runtime CPU, {computed}, {threads} threads")
