"""A checkpoint to train on from, made from exported weights: ``python -m training.detector.warm models/detector.onnx OUT.pt --pool DIR``.

How the folded weights are unfolded is said in `shelfscan.learn.unfold`.
"""

# ruff: noqa: E501
from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from shelfscan.learn.unfold import unfold_detector
from training.detector.data import batch, pictures


def main() -> None:
    p = argparse.ArgumentParser(description="Unfold exported detector weights into a checkpoint.")
    p.add_argument("weights", type=Path)
    p.add_argument("out", type=Path)
    p.add_argument("--pool", type=Path, required=True, help="pictures that set the statistics")
    args = p.parse_args()
    rng = np.random.default_rng(0)
    samples = batch(pictures([args.pool]), rng, 24, 512, (0.6, 1.3), 0.8)
    x = torch.from_numpy(np.stack([s.picture for s in samples])).permute(0, 3, 1, 2).float() / 255
    net = unfold_detector(args.weights, x)
    torch.save({"net": net.state_dict(), "ema": net.state_dict(), "width": net.width}, args.out)


if __name__ == "__main__":
    main()
