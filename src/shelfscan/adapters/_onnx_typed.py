"""A network typed fp16: what TensorRT, which takes types from the file, is given for precision fp16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shelfscan.errors import BackendError, MissingModel

#: Stay in float: a vector's length is a sum of squares, which leaves the range of fp16 for no reason of accuracy.
KEEP_FLOAT = ("ReduceL2", "Clip", "Div")


def fp16_typed(path: Path) -> bytes:
    """The ONNX file with weights and arithmetic in fp16; inputs and outputs stay float32.

    Raises `BackendError` when the package onnx is missing, `MissingModel` when the file is no ONNX model.
    """
    try:
        import onnx
        from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    except ImportError as e:
        raise BackendError(f"precision fp16 needs the packages onnx and onnxruntime: {e}; install them, or ask for fp32") from e
    try:
        model = onnx.load_model_from_string(path.read_bytes())
        typed = convert_float_to_float16(model, keep_io_types=True, op_block_list=[*DEFAULT_OP_BLOCK_LIST, *KEEP_FLOAT])
        once_each(typed.graph.node)
        return bytes(typed.SerializeToString())
    except Exception as e:  # protobuf's and onnx's own classes
        raise MissingModel(f"{path}: not a usable ONNX model: {e}") from e


def once_each(nodes: Any) -> None:
    """Take out nodes that are there twice, letter by letter, from a graph's list of them.

    Some releases of the converter (ONNX Runtime 1.30 is one) write a cast once for each node that reads it. A file with two
    nodes of one name is refused by ONNX Runtime and TensorRT alike.
    """
    seen: set[bytes] = set()
    again = []
    for n, node in enumerate(nodes):
        said = node.SerializeToString(deterministic=True)
        if said in seen:
            again.append(n)
        seen.add(said)
    for n in reversed(again):  # the first stays: whoever reads it comes after
        del nodes[n]
