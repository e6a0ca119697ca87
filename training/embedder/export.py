"""Write a trained embedder as ONNX: ``python -m training.embedder.export CHECKPOINT OUT.onnx``."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from shelfscan.learn.export import write_embedder
from training.embedder.net import PackNet


def load(checkpoint: Path) -> PackNet:
    """The averaged weights of a checkpoint, ready to run."""
    state = torch.load(checkpoint, weights_only=False, map_location="cpu")
    net = PackNet(state.get("width", 16), state.get("dim", 192))
    net.load_state_dict(state["ema"])
    return net.eval()


export = write_embedder


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a trained embedder as ONNX.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    export(load(args.checkpoint), args.out)


if __name__ == "__main__":
    main()
