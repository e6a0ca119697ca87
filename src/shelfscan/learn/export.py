"""From trained networks to the ONNX files that the runtime reads.

Batch normalisation is folded into the convolutions. The detector keeps H and W free (multiples of 32) and ends in
distances (softplus) and scores (sigmoid); the embedder takes any number of crops.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from shelfscan.learn.net import Conv, ShelfNet
from shelfscan.learn.packnet import SIDE, PackNet

OPSET = 17


class Deployed(nn.Module):
    """The detector with scores in 0..1."""

    def __init__(self, net: ShelfNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        distances, logits = self.net(image)
        return distances, logits.sigmoid()


def load_detector(checkpoint: Path) -> ShelfNet:
    """The averaged weights of a checkpoint, ready to run."""
    state = torch.load(checkpoint, weights_only=False, map_location="cpu")
    net = ShelfNet(state["width"])
    net.load_state_dict(state["ema"])
    return net.eval()


def fuse(net: nn.Module) -> nn.Module:
    """Fold batch normalisation into the convolution before it, in place."""
    for module in net.modules():
        if isinstance(module, Conv) and not isinstance(module.bn, nn.Identity):
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = nn.Identity()
    return net


def write_detector(net: ShelfNet, path: Path) -> None:
    """Write a detector (in eval mode); ``net`` stays as it is."""
    _write(
        Deployed(fuse(copy.deepcopy(net).cpu().float().to(memory_format=torch.contiguous_format))),
        torch.zeros(1, 3, 256, 320),
        path,
        ["image"],
        ["distances", "scores"],
        {"image": {2: "height", 3: "width"}, "distances": {2: "cells"}, "scores": {2: "cells"}},
    )


def write_embedder(net: PackNet, path: Path) -> None:
    """Write an embedder (in eval mode); ``net`` stays as it is."""
    plain = fuse(copy.deepcopy(net).cpu().float().to(memory_format=torch.contiguous_format))
    axes = {"crops": {0: "count"}, "embedding": {0: "count"}}
    _write(plain, torch.zeros(2, 3, SIDE, SIDE), path, ["crops"], ["embedding"], axes)


def _write(net: nn.Module, example: Tensor, path: Path, inputs: list[str], outputs: list[str], axes: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        # The other exporter needs one more package and gives the same graph.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        torch.onnx.export(
            net.eval(), (example,), str(path), opset_version=OPSET, input_names=inputs, output_names=outputs,
            dynamic_axes=axes, dynamo=False,
        )  # fmt: skip
