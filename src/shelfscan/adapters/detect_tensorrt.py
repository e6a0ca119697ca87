"""The shelf detector on an NVIDIA GPU: TensorRT 10 or 11, with PyCUDA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shelfscan.adapters._engine_cache import Profile
from shelfscan.adapters._shelf_detector import ShelfDetector, check_shapes, settings_of
from shelfscan.adapters._tensorrt import EngineOptions, open_engine
from shelfscan.adapters.models import Precision, file_sha256
from shelfscan.perception.decode import MULTIPLE

#: Longest side of a picture when a scale is asked for, which may make it larger than ``max_side_px``.
SCALED_SIDE_PX = 2592


def detector_profile(max_side_px: int) -> Profile:
    """Shapes that a detector's engine is built for: any picture up to a square of this side, most often an upright one."""
    side = -(-max_side_px // MULTIPLE) * MULTIPLE
    usual = -(-side * 3 // 4 // MULTIPLE) * MULTIPLE
    return {"image": ((1, 3, MULTIPLE, MULTIPLE), (1, 3, side, usual), (1, 3, side, side))}


class TensorrtDetector(ShelfDetector):
    """Products, price tags and empty places with TensorRT: fp16 unless asked otherwise. May be called from any thread.

    The engine is built once a machine and kept (``options.cache``). Raises `MissingModel`, and `BackendError` saying what is
    missing when there is no driver, no TensorRT, no PyCUDA, too little GPU memory, or no engine can be built.
    """

    def __init__(
        self,
        name: str = "detector",
        *,
        scale: float | None = None,
        max_side_px: int = 1296,
        threshold: float | None = None,
        precision: Precision = "auto",
        models: Path | None = None,
        options: EngineOptions | None = None,
    ) -> None:
        path, computed, settings = settings_of(name, models, scale, max_side_px, threshold, precision, "tensorrt")
        profile = detector_profile(max_side_px if scale is None else SCALED_SIDE_PX)
        # Not known to `run` as ours: in a circle of references the GPU's memory would wait for the garbage collector.
        engine = open_engine(
            name, path, file_sha256(path), computed, profile, lambda i, o: check_shapes(path, i, o), options or EngineOptions()
        )
        self._engine = engine

        def run(blob: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            out = engine.run({"image": blob})
            return out["distances"], out["scores"]

        super().__init__(run, settings, f"{name} ({path.name}), {engine.description}, {computed}")

    def close(self) -> None:
        """Free the GPU's memory; also done when the detector is forgotten."""
        self._engine.close()
