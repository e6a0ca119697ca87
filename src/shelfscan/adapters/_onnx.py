"""Opening an ONNX file, with one clear error when it cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shelfscan.errors import MissingModel


def open_session(path: Path, threads: int, data: bytes | None = None) -> Any:
    """An ONNX Runtime session on the CPU; ``data`` stands for the file's content. Raises `MissingModel` naming the file."""
    try:
        import onnxruntime as ort
    except ImportError as e:
        raise MissingModel(f"{path}: needs the package onnxruntime: {e}") from e
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores are shared with the rest of the robot
    try:
        return ort.InferenceSession(data or str(path), options, providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime raises its own, undocumented classes
        raise MissingModel(f"{path}: not a usable ONNX model: {str(e).splitlines()[0]}") from e
