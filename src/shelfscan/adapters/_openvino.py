"""Opening a model with OpenVINO, with one clear error when it cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shelfscan.errors import MissingModel


def open_model(path: Path, threads: int, precision: str) -> Any:
    """A compiled OpenVINO model on the CPU; ``precision`` is fp32 or bf16. Raises `MissingModel` naming the file."""
    try:
        import openvino as ov
        from openvino.frontend import FrontEndManager
    except ImportError as e:
        raise MissingModel(f"{path}: needs the package openvino: {e}") from e
    wanted = {"fp32": "f32", "bf16": "bf16"}[precision]
    try:
        # Asked for by name: reading a broken file otherwise tries every format there is, each with errors of its own.
        reader = FrontEndManager().load_by_framework("onnx")
        return ov.Core().compile_model(
            reader.convert(reader.load(str(path))),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": wanted,
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": 1,
                "PERFORMANCE_HINT": "LATENCY",
            },
        )
    except Exception as e:  # openvino raises RuntimeError and its own classes
        raise MissingModel(f"{path}: not a usable model for OpenVINO: {_reason(e)}") from e


def _reason(e: Exception) -> str:
    """The part of an exception that is about the model: the last line, where those before name places in OpenVINO."""
    lines = [line.strip() for line in str(e).splitlines() if line.strip()]
    return lines[-1] if lines else type(e).__name__


def shape_of(port: Any) -> list[int | None]:
    """The partial shape of an input or output, None where free."""
    return [d.get_length() if d.is_static else None for d in port.get_partial_shape()]
