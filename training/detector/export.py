"""Write a trained detector as ONNX: ``python -m training.detector.export CHECKPOINT OUT.onnx``."""

from __future__ import annotations

import argparse
from pathlib import Path

from shelfscan.learn.export import Deployed, fuse, load_detector, write_detector

load, export = load_detector, write_detector

__all__ = ["Deployed", "export", "fuse", "load"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a trained detector as ONNX.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    export(load(args.checkpoint), args.out)


if __name__ == "__main__":
    main()
