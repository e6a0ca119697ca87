"""A checkpoint to train on from, made from exported weights: ``python -m training.detector.warm models/detector.onnx OUT.pt --pool DIR``.

The file has batch normalisation folded into the convolutions. It is unfolded again so that the network computes the same and
trains as before: each normalisation gets the mean and variance that its convolution gives on real crops, and the scale
and shift that undo them.
"""

# ruff: noqa: E501
from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from training.detector.data import batch, pictures
from training.detector.net import Conv, ShelfNet


def unfold(net: ShelfNet, file: Path, crops: Tensor) -> ShelfNet:
    """``net`` with the weights of ``file``; ``crops`` (N, 3, H, W) in 0..1 set its statistics. Returned in eval mode."""
    given = {i.name.removeprefix("net."): numpy_helper.to_array(i) for i in onnx.load(str(file)).graph.initializer}
    hooks = []
    with torch.no_grad():
        for name, module in net.named_modules():
            if isinstance(module, Conv):
                module.conv.weight.copy_(torch.tensor(given[f"{name}.conv.weight"]))
                bias = torch.tensor(given[f"{name}.conv.bias"])

                def settle(bn: nn.Module, inputs: tuple[Tensor], bias: Tensor = bias) -> None:
                    x = inputs[0]
                    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
                    bn.running_mean.copy_(mean)  # type: ignore[operator, union-attr]
                    bn.running_var.copy_(var)  # type: ignore[operator, union-attr]
                    bn.weight.copy_((var + bn.eps).sqrt())  # type: ignore[operator, union-attr]
                    bn.bias.copy_(mean + bias)  # type: ignore[operator, union-attr]

                hooks.append(module.bn.register_forward_pre_hook(settle))
            elif isinstance(module, nn.Conv2d) and module.bias is not None:
                module.weight.copy_(torch.tensor(given[f"{name}.weight"]))
                module.bias.copy_(torch.tensor(given[f"{name}.bias"]))
        net.eval()
        net(crops)
    for hook in hooks:
        hook.remove()
    return net


def main() -> None:
    p = argparse.ArgumentParser(description="Unfold exported detector weights into a checkpoint.")
    p.add_argument("weights", type=Path)
    p.add_argument("out", type=Path)
    p.add_argument("--pool", type=Path, required=True, help="pictures that set the statistics")
    p.add_argument("--width", type=int, default=16)
    args = p.parse_args()
    rng = np.random.default_rng(0)
    samples = batch(pictures([args.pool]), rng, 24, 512, (0.6, 1.3), 0.8)
    x = torch.from_numpy(np.stack([s.picture for s in samples])).permute(0, 3, 1, 2).float() / 255
    net = unfold(ShelfNet(args.width), args.weights, x)
    torch.save({"net": net.state_dict(), "ema": net.state_dict(), "width": args.width}, args.out)


if __name__ == "__main__":
    main()
