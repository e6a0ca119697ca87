"""The network that finds people on OpenVINO (Intel and AMD CPUs)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shelfscan.adapters._openvino import open_model, shape_of
from shelfscan.adapters._people_net import PeopleNet, check_shapes
from shelfscan.adapters.models import model_path


class OpenvinoPeople(PeopleNet):
    """Finds people with OpenVINO. Raises `MissingModel`."""

    def __init__(self, name: str = "people", *, threads: int = 1, models: Path | None = None) -> None:
        path = model_path(name, models)
        model = open_model(path, threads, "fp32")
        inputs = {p.get_any_name(): shape_of(p) for p in model.inputs}
        outputs = {p.get_any_name(): shape_of(p) for p in model.outputs}
        check_shapes(path, inputs.get("image"), outputs.get("scores"))
        request = model.create_infer_request()

        def run(blob: NDArray[np.float32]) -> NDArray[np.float32]:
            request.infer({"image": blob})
            return np.array(request.get_tensor("scores").data, np.float32)

        super().__init__(run, f"{name} ({path.name}), OpenVINO CPU, fp32, {threads} threads")
