"""The package embedder on an NVIDIA GPU: TensorRT 10 or 11, with PyCUDA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shelfscan.adapters._engine_cache import Profile
from shelfscan.adapters._pack_embedder import BATCH, PackEmbedder, expect_shapes
from shelfscan.adapters._tensorrt import EngineOptions, Shapes, open_engine
from shelfscan.adapters.models import Precision, computed_as, entry_path, file_sha256, model_entry


def embedder_profile() -> Profile:
    """Shapes that an embedder's engine is built for: 1 to `BATCH` crops, most often that many, of the network's own size."""
    own = (None, None, None)
    return {"crops": ((1, *own), (BATCH, *own), (BATCH, *own))}


class TensorrtEmbedder(PackEmbedder):
    """Unit vectors of product crops with TensorRT, 1 to `BATCH` at once: fp16 unless asked otherwise.

    The engine is built once a machine and kept. Raises `MissingModel` and `BackendError`, as `TensorrtDetector` does.
    """

    def __init__(
        self,
        name: str = "embedder",
        *,
        precision: Precision = "auto",
        models: Path | None = None,
        options: EngineOptions | None = None,
    ) -> None:
        entry = model_entry(name, models)
        kind, computed = computed_as(entry, precision, "tensorrt", models)
        path = entry_path(entry, models, kind)

        def check(inputs: Shapes, outputs: Shapes) -> tuple[int, int]:
            return expect_shapes(path, inputs.get("crops"), outputs.get("embedding"))

        engine = open_engine(name, path, file_sha256(path), computed, embedder_profile(), check, options or EngineOptions())
        self._engine = engine
        side, length = check(engine.inputs, engine.outputs)

        def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
            return engine.run({"crops": batch})["embedding"]

        super().__init__(run, side, length, f"{name} ({path.name}), {engine.description}, {computed}")

    def close(self) -> None:
        """Free the GPU's memory; also done when the embedder is forgotten."""
        self._engine.close()
