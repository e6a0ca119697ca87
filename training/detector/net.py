"""The detector's network; it lives in the package because stores train it too."""

from shelfscan.learn.net import CLASSES, STRIDES, Bottleneck, Conv, Csp, Head, Pooling, ShelfNet, boxes_of, cells

__all__ = ["CLASSES", "STRIDES", "Bottleneck", "Conv", "Csp", "Head", "Pooling", "ShelfNet", "boxes_of", "cells"]
