"""Write a trained price reader as ONNX: ``python -m training.reader.export CHECKPOINT OUT.onnx``."""

from __future__ import annotations

import argparse
import copy
import warnings
from pathlib import Path

import torch

from shelfscan.learn.export import OPSET, fuse
from shelfscan.perception.price_map import HEIGHT_PX, WIDTH_PX
from training.reader.net import PriceNet


def load(checkpoint: Path) -> PriceNet:
    """The averaged weights of a checkpoint, ready to run."""
    state = torch.load(checkpoint, weights_only=False, map_location="cpu")
    net = PriceNet(state["width"])
    net.load_state_dict(state["ema"])
    return net.eval()


def export(net: PriceNet, path: Path) -> None:
    """Write the network, batch normalisation folded in; any number of pictures at once."""
    plain = fuse(copy.deepcopy(net).float().to(memory_format=torch.contiguous_format))
    axes = {"tags": {0: "count"}, "map": {0: "count"}}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        torch.onnx.export(
            plain.eval(), (torch.zeros(2, 3, HEIGHT_PX, WIDTH_PX),), str(path), opset_version=OPSET,
            input_names=["tags"], output_names=["map"], dynamic_axes=axes, dynamo=False,
        )  # fmt: skip


def main() -> None:
    p = argparse.ArgumentParser(description="Write a trained price reader as ONNX.")
    p.add_argument("checkpoint", type=Path)
    p.add_argument("out", type=Path)
    args = p.parse_args()
    export(load(args.checkpoint), args.out)


if __name__ == "__main__":
    main()
