"""Explicit int8: an ONNX file with QuantizeLinear and DequantizeLinear around the convolutions, of two makes.

`UNSIGNED` is for processors: activations behind a ReLU are not negative, so all 256 steps are theirs. (With *signed* ones
OpenVINO 2026.4 computes something else than ONNX Runtime: the detector then loses 14 points of AP75 there, and none in ONNX
Runtime.) `SYMMETRIC` is for TensorRT, which knows signed steps around zero alone, and reads unsigned ones as if they were.

In both, weights are signed, a scale a channel, and biases float. What comes out of a convolution is not quantised, so that it
is computed together with its ReLU. The first convolutions stay in float: in an over-exposed picture, what tells a thing from
the white around it is a few steps of theirs. So do the last of each branch and all after them: their outputs are distances
and logits, where one step of an int8 scale is many pixels.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

Feed = dict[str, NDArray[np.float32]]
Item = TypeVar("Item")
#: Share of an activation's values that its scale covers: the very last ones would make every step wider.
PERCENTILE = 99.9995


@dataclass(frozen=True, slots=True)
class Make:
    """How activations are quantised."""

    kind: Literal["int8", "int8_symmetric"]
    activations: QuantType
    symmetric: bool


UNSIGNED = Make("int8", QuantType.QUInt8, False)
SYMMETRIC = Make("int8_symmetric", QuantType.QInt8, True)


class Feeds(CalibrationDataReader, Generic[Item]):  # type: ignore[misc] # onnxruntime has no types
    """Feeds of items, made one at a time: a histogram of all activations of all pictures at once does not fit into memory."""

    def __init__(self, items: Sequence[Item], feed: Callable[[Item], Feed]) -> None:
        self._items, self._feed = items, feed
        self._range = iter(range(len(items)))

    def __len__(self) -> int:
        return len(self._items)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Go on with these."""
        self._range = iter(range(start_index, end_index))

    def get_next(self) -> Feed | None:
        """The next feed, None at the end."""
        n = next(self._range, None)
        return None if n is None else self._feed(self._items[n])


def float_nodes(model: onnx.ModelProto, first: int) -> list[str]:
    """Names of nodes that stay in float: the ``first`` convolutions, and those that no ReLU follows with all behind them."""
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)

    def hidden(name: str) -> bool:
        """Whether a ReLU or another convolution still comes."""
        return any(u.op_type in ("Relu", "Conv") or hidden(u.output[0]) for u in users.get(name, []))

    last = [n.name for n in model.graph.node if n.op_type not in ("Constant", "Shape") and not hidden(n.output[0])]
    return [n.name for n in model.graph.node if n.op_type == "Conv"][:first] + last


def quantise(
    source: Path, out: Path, make: Make, feeds: Feeds[Item], float_first: int = 1, percentile: float = PERCENTILE
) -> None:
    """Write the int8 form of ``source`` to ``out``, calibrated on ``feeds``; ``float_first`` convolutions stay in float."""
    # The calibration tells of itself on stdout, where a tool's answer is.
    with tempfile.TemporaryDirectory() as scratch, redirect_stdout(sys.stderr):
        plain = Path(scratch) / "plain.onnx"
        quant_pre_process(str(source), str(plain), skip_symbolic_shape=True)
        quantize_static(
            str(plain),
            str(out),
            feeds,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=make.activations,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=float_nodes(onnx.load(str(plain)), float_first),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={
                "ActivationSymmetric": make.symmetric,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "OpTypesToExcludeOutputQuantization": ["Conv"],
                "CalibPercentile": percentile,
                "CalibStridedMinMax": 1,  # one item at a time, for histograms too
            },
        )
