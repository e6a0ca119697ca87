"""The shelf detector on OpenVINO (Intel and AMD CPUs): the fastest backend without an accelerator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shelfscan.adapters._openvino import open_model, shape_of
from shelfscan.adapters._shelf_detector import ShelfDetector, check_shapes, settings_of
from shelfscan.adapters.models import Precision


class OpenvinoDetector(ShelfDetector):
    """Products, price tags and empty places with OpenVINO; ``bf16`` runs the float network so. Raises `MissingModel`."""

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
        path, computed, settings = settings_of(name, models, scale, max_side_px, threshold, precision, "openvino")
        model = open_model(path, threads, "bf16" if computed == "bf16" else "fp32")
        check_shapes(
            path,
            {p.get_any_name(): shape_of(p) for p in model.inputs},
            {p.get_any_name(): shape_of(p) for p in model.outputs},
        )
        request = model.create_infer_request()

        def run(blob: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            request.infer({"image": blob})
            return request.get_tensor("distances").data.copy(), request.get_tensor("scores").data.copy()

        super().__init__(run, settings, f"{name} ({path.name}), OpenVINO CPU, {computed}, {threads} threads")
