"""The package embedder on ONNX Runtime (CPU)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shelfscan.adapters._onnx import open_session
from shelfscan.adapters._pack_embedder import PackEmbedder, expect_shapes
from shelfscan.adapters.models import model_path


class OnnxEmbedder(PackEmbedder):
    """Unit vectors of product crops with ONNX Runtime. Raises `MissingModel`."""

    def __init__(self, name: str = "embedder", *, threads: int = 2, models: Path | None = None) -> None:
        path = model_path(name, models)
        session = open_session(path, threads)
        inputs = {i.name: i.shape for i in session.get_inputs()}
        outputs = {o.name: o.shape for o in session.get_outputs()}
        side, length = expect_shapes(path, inputs.get("crops"), outputs.get("embedding"))

        def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.asarray(session.run(["embedding"], {"crops": batch})[0], np.float32)

        super().__init__(run, side, length, f"{name} ({path.name}), ONNX Runtime CPU, fp32, {threads} threads")
