"""The package embedder on ONNX Runtime (CPU)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shelfscan.adapters._onnx import open_session
from shelfscan.adapters._pack_embedder import PackEmbedder, expect_shapes
from shelfscan.adapters.models import Precision, computed_as, entry_path, model_entry


class OnnxEmbedder(PackEmbedder):
    """Unit vectors of product crops with ONNX Runtime. Raises `MissingModel`."""

    def __init__(
        self, name: str = "embedder", *, threads: int = 2, precision: Precision = "auto", models: Path | None = None
    ) -> None:
        entry = model_entry(name, models)
        kind, computed = computed_as(entry, precision, "onnxruntime", models)
        path = entry_path(entry, models, kind)
        session = open_session(path, threads)
        inputs = {i.name: i.shape for i in session.get_inputs()}
        outputs = {o.name: o.shape for o in session.get_outputs()}
        side, length = expect_shapes(path, inputs.get("crops"), outputs.get("embedding"))

        def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.asarray(session.run(["embedding"], {"crops": batch})[0], np.float32)

        super().__init__(run, side, length, f"{name} ({path.name}), ONNX Runtime CPU, {computed}, {threads} threads")
