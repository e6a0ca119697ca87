"""The network that finds people on ONNX Runtime (CPU)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shelfscan.adapters._onnx import open_session
from shelfscan.adapters._people_net import PeopleNet, check_shapes
from shelfscan.adapters.models import model_path


class OnnxPeople(PeopleNet):
    """Finds people with ONNX Runtime. Raises `MissingModel`."""

    def __init__(self, name: str = "people", *, threads: int = 1, models: Path | None = None) -> None:
        path = model_path(name, models)
        session = open_session(path, threads)
        inputs = {i.name: i.shape for i in session.get_inputs()}
        outputs = {o.name: o.shape for o in session.get_outputs()}
        check_shapes(path, inputs.get("image"), outputs.get("scores"))

        def run(blob: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.asarray(session.run(["scores"], {"image": blob})[0], np.float32)

        super().__init__(run, f"{name} ({path.name}), ONNX Runtime CPU, fp32, {threads} threads")
