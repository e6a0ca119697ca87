"""The embedder's network; it lives in the package because stores train it too."""

from shelfscan.learn.packnet import SIDE, PackNet

__all__ = ["SIDE", "PackNet"]
