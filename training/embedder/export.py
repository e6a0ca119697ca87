"""Write a trained embedder as ONNX: ``python -m training.embedder.export CHECKPOINT OUT.onnx``."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from training.detector.export import fuse
from training.embedder.net import SIDE, PackNet


def load(checkpoint: Path) -> PackNet:
    """The averaged weights of a checkpoint, ready to run."""
    net = PackNet()
    net.load_state_dict(torch.load(checkpoint, weights_only=False, map_location="cpu")["ema"])
    return net.eval()


def export(net: PackNet, path: Path) -> None:
    """Write ``net`` (in eval mode) to an ONNX file, opset 17, any batch size."""
    torch.onnx.export(
        fuse(net),
        (torch.zeros(2, 3, SIDE, SIDE),),
        str(path),
        opset_version=17,
        input_names=["crops"],
        output_names=["embedding"],
        dynamic_axes={"crops": {0: "count"}, "embedding": {0: "count"}},
        dynamo=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a trained embedder as ONNX.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    export(load(args.checkpoint), args.out)


if __name__ == "__main__":
    main()
