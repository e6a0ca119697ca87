"""Average checkpoints of one start into one: ``python -m training.detector.average OUT.pt CHECKPOINT …``.

Weights that were trained on from the same start with other data or rates lie in one basin, and their mean is better than each
(model soups, Wortsman et al., ICML 2022): it costs nothing at run time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch


def main() -> None:
    p = argparse.ArgumentParser(description="Average checkpoints of one start.")
    p.add_argument("out", type=Path)
    p.add_argument("checkpoints", type=Path, nargs="+")
    args = p.parse_args()
    states = [torch.load(c, weights_only=False, map_location="cpu") for c in args.checkpoints]
    mean = {
        k: sum(s["ema"][k] for s in states) / len(states) if v.dtype.is_floating_point else v
        for k, v in states[0]["ema"].items()
    }
    torch.save({"net": mean, "ema": mean, "width": states[0]["width"]}, args.out)


if __name__ == "__main__":
    main()
