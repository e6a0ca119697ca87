"""The embedder: a small ReLU network that keeps the layout of a package, (N, 3, 128, 128) RGB in 0..1 → (N, D) of length 1."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shelfscan.learn.net import Bottleneck, Conv

SIDE = 128


class PackNet(nn.Module):
    """Five strides, then the last 4×4 map is reduced and flattened: where a colour or a word stands matters on packages."""

    def __init__(self, width: int = 16, dim: int = 192) -> None:
        super().__init__()
        w = width
        self.body = nn.Sequential(
            Conv(3, w, 3, 2), Conv(w, 2 * w, 3, 2), Bottleneck(2 * w),
            Conv(2 * w, 4 * w, 3, 2), Bottleneck(4 * w), Bottleneck(4 * w),
            Conv(4 * w, 6 * w, 3, 2), Bottleneck(6 * w), Bottleneck(6 * w),
            Conv(6 * w, 8 * w, 3, 2), Bottleneck(8 * w),
        )  # fmt: skip
        self.reduce = Conv(8 * w, 32, 1)
        self.out = nn.Linear(32 * 16 + 8 * w, dim)

    def forward(self, x: Tensor) -> Tensor:
        f = self.body(x)
        flat = torch.cat([self.reduce(f).flatten(1), f.mean((2, 3))], 1)
        return F.normalize(self.out(flat).float(), dim=1)
