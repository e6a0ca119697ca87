"""The package embedder on OpenVINO (Intel and AMD CPUs)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shelfscan.adapters._openvino import open_model, shape_of
from shelfscan.adapters._pack_embedder import PackEmbedder, expect_shapes
from shelfscan.adapters.models import Precision, computed_as, entry_path, model_entry


class OpenvinoEmbedder(PackEmbedder):
    """Unit vectors of product crops with OpenVINO. Raises `MissingModel`."""

    def __init__(
        self,
        name: str = "embedder",
        *,
        threads: int = 2,
        precision: Precision = "auto",
        models: Path | None = None,
    ) -> None:
        entry = model_entry(name, models)
        kind, computed = computed_as(entry, precision, "openvino", models)
        path = entry_path(entry, models, kind)
        model = open_model(path, threads, "bf16" if computed == "bf16" else "fp32")
        inputs = {p.get_any_name(): shape_of(p) for p in model.inputs}
        outputs = {p.get_any_name(): shape_of(p) for p in model.outputs}
        side, length = expect_shapes(path, inputs.get("crops"), outputs.get("embedding"))
        request = model.create_infer_request()

        def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
            request.infer({"crops": batch})
            return np.array(request.get_tensor("embedding").data, np.float32)

        super().__init__(run, side, length, f"{name} ({path.name}), OpenVINO CPU, {computed}, {threads} threads")
