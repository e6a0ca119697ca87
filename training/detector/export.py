"""Write a trained detector as ONNX: ``python -m training.detector.export CHECKPOINT OUT.onnx``.

The graph keeps H and W free (multiples of 32), ends in distances (softplus) and scores (sigmoid), and has batch
normalisation folded into the convolutions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from training.detector.net import Conv, ShelfNet


class Deployed(nn.Module):
    """The network with scores in 0..1."""

    def __init__(self, net: ShelfNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        distances, logits = self.net(image)
        return distances, logits.sigmoid()


def load(checkpoint: Path) -> ShelfNet:
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
            module.bn = nn.Identity()  # type: ignore[assignment]
    return net


def export(net: ShelfNet, path: Path) -> None:
    """Write ``net`` (in eval mode) to an ONNX file, opset 17."""
    model = Deployed(fuse(net))  # type: ignore[arg-type]
    torch.onnx.export(
        model,
        (torch.zeros(1, 3, 256, 320),),
        str(path),
        opset_version=17,
        input_names=["image"],
        output_names=["distances", "scores"],
        dynamic_axes={"image": {2: "height", 3: "width"}, "distances": {2: "cells"}, "scores": {2: "cells"}},
        dynamo=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a trained detector as ONNX.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    export(load(args.checkpoint), args.out)


if __name__ == "__main__":
    main()
