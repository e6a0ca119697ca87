"""A checkpoint as the file that capture reads: ``python -m training.people.export CHECKPOINT --out models/people.onnx``."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from shelfscan.learn.export import _write, fuse
from training.people.net import Deployed, PeopleNet


def main() -> None:
    p = argparse.ArgumentParser(description="Export the network that finds people.")
    p.add_argument("checkpoint", type=Path)
    p.add_argument("--out", type=Path, required=True)
    args = p.parse_args()
    state = torch.load(args.checkpoint, weights_only=True, map_location="cpu")
    net = PeopleNet(state["width"])
    net.load_state_dict(state["state"])
    plain = Deployed(fuse(net.eval()))  # type: ignore[arg-type]
    axes = {"image": {2: "height", 3: "width"}, "scores": {2: "rows", 3: "columns"}}
    _write(plain, torch.zeros(1, 3, 320, 256), args.out, ["image"], ["scores"], axes)
    print(args.out, args.out.stat().st_size)


if __name__ == "__main__":
    main()
