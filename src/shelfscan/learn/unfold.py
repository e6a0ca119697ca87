"""Networks to train on from, made from the ONNX files that are shipped: no checkpoint is.

The files have batch normalisation folded into the convolutions. It is unfolded again so that the network computes the
same and trains as before: each normalisation gets the mean and variance that its convolution gives on real crops, and
the scale and shift that undo them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from shelfscan.errors import MissingModel
from shelfscan.learn.net import Conv, ShelfNet
from shelfscan.learn.packnet import PackNet


def unfold_detector(file: Path, crops: Tensor) -> ShelfNet:
    """The detector of an ONNX file, in eval mode; ``crops`` (N, 3, H, W) in 0..1 set its statistics. Raises `MissingModel`."""
    given = _weights(file, "net.")
    stem = given.get("stem.0.conv.weight")
    if stem is None:
        raise MissingModel(f"{file}: not a detector of this project: no weight stem.0.conv.weight")
    net = ShelfNet(int(stem.shape[0]))
    _unfold(net, given, file, crops)
    return net


def unfold_embedder(file: Path, crops: Tensor) -> PackNet:
    """The embedder of an ONNX file, in eval mode; ``crops`` (N, 3, SIDE, SIDE) in 0..1. Raises `MissingModel`."""
    given = _weights(file, "")
    first, last = given.get("body.0.conv.weight"), given.get("out.weight")
    if first is None or last is None:
        raise MissingModel(f"{file}: not an embedder of this project: no weights body.0.conv.weight and out.weight")
    net = PackNet(int(first.shape[0]), int(last.shape[0]))
    _unfold(net, given, file, crops)
    return net


def _weights(file: Path, prefix: str) -> dict[str, Any]:
    try:
        graph = onnx.load(str(file)).graph
    except Exception as e:  # protobuf raises its own classes
        raise MissingModel(f"{file}: not an ONNX file: {e}") from e
    return {i.name.removeprefix(prefix): torch.tensor(numpy_helper.to_array(i)) for i in graph.initializer}


def _unfold(net: nn.Module, given: dict[str, Any], file: Path, crops: Tensor) -> None:
    hooks = []
    try:
        with torch.no_grad():
            for name, module in net.named_modules():
                if isinstance(module, Conv):
                    module.conv.weight.copy_(given[f"{name}.conv.weight"])
                    hooks.append(module.bn.register_forward_pre_hook(_settle(given[f"{name}.conv.bias"])))
                elif isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
                    module.weight.copy_(given[f"{name}.weight"])
                    module.bias.copy_(given[f"{name}.bias"])
            net.eval()
            net(crops)
    except (KeyError, RuntimeError) as e:
        raise MissingModel(f"{file}: its weights are not those of the network that is trained here: {e}") from e
    finally:
        for hook in hooks:
            hook.remove()


def _settle(bias: Tensor) -> Any:
    """A hook that sets a normalisation from what it is about to see, so that its output is its input plus ``bias``."""

    def settle(bn: Any, inputs: tuple[Tensor]) -> None:
        mean, var = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), unbiased=False)
        bn.running_mean.copy_(mean)
        bn.running_var.copy_(var)
        bn.weight.copy_((var + bn.eps).sqrt())
        bn.bias.copy_(mean + bias)

    return settle
