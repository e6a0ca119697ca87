"""The price reader's network: letters as peaks on a map of stride 4, each with its class, box and role; ReLU only."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shelfscan.learn.net import Conv
from shelfscan.perception.price_map import CHANNELS, CLASSES, ROLES


class Pair(nn.Module):
    """Two 3×3 convolutions with a shortcut."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.a, self.b = Conv(c, c), Conv(c, c)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.b(self.a(x))
        return y


class PriceNet(nn.Module):
    """(N, 3, H, W) RGB in 0..1, H and W multiples of 32 → (N, CLASSES + ROLES + 4, H/4, W/4).

    Channels: class logits, role logits, then the letter's centre (x, y) from the cell's centre and the logarithm of its size
    (w, h), all in strides.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.width = w = width
        self.stem = nn.Sequential(Conv(3, w, 3, 2), Conv(w, 2 * w, 3, 2))
        self.s4 = Conv(2 * w, 2 * w)
        self.s8 = nn.Sequential(Conv(2 * w, 4 * w, 3, 2), Pair(4 * w))
        self.s16 = nn.Sequential(Conv(4 * w, 6 * w, 3, 2), Pair(6 * w), Pair(6 * w))
        self.s32 = nn.Sequential(Conv(6 * w, 8 * w, 3, 2), Pair(8 * w))
        self.l32, self.l16, self.l8 = Conv(8 * w, 6 * w, 1), Conv(6 * w, 4 * w, 1), Conv(4 * w, 4 * w, 1)
        self.m16 = Conv(6 * w, 6 * w)
        self.m8 = Conv(4 * w, 4 * w)
        self.l4, self.up4 = Conv(2 * w, 3 * w, 1), Conv(4 * w, 3 * w, 1)
        self.m4 = Conv(3 * w, 3 * w)
        self.head = Conv(3 * w, 3 * w)
        self.out = nn.Conv2d(3 * w, CHANNELS, 1)
        nn.init.constant_(self.out.bias[:CLASSES], -4.6)
        nn.init.constant_(self.out.bias[-2:], 1.2)

    def forward(self, x: Tensor) -> Tensor:
        f4 = self.s4(self.stem(x))
        f8 = self.s8(f4)
        f16 = self.s16(f8)
        up = F.interpolate(self.l32(self.s32(f16)), scale_factor=2.0, mode="nearest")
        f16 = self.m16(f16 + up)
        f8 = self.m8(self.l8(f8) + F.interpolate(self.l16(f16), scale_factor=2.0, mode="nearest"))
        f4 = self.m4(self.l4(f4) + F.interpolate(self.up4(f8), scale_factor=2.0, mode="nearest"))
        y: Tensor = self.out(self.head(f4)).float()
        return y


def loss(out: Tensor, goal: Tensor, weight: Tensor, boxes: Tensor, roles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Class, box and role loss.

    ``goal`` (N, CLASSES, h, w) peaks in 0..1; ``weight`` (N, 1, h, w) 0 where nothing is asked; ``boxes`` (N, 4, h, w) with
    ``roles`` (N, h, w) at the cells of a letter's middle, -1 elsewhere.
    """
    logits = out[:, :CLASSES]
    p = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    peak = goal > 0.999
    hit = torch.where(peak, -((1 - p) ** 2) * p.log(), -((1 - goal) ** 4) * p**2 * (1 - p).log())
    count = peak.sum().clamp(min=1)
    cls = (hit * weight).sum() / count
    on = roles >= 0
    n = on.sum().clamp(min=1)
    delta = (out[:, -4:] - boxes).abs().sum(1)
    box = (delta * on).sum() / n
    role = F.cross_entropy(out[:, CLASSES : CLASSES + ROLES], roles.clamp(min=0), reduction="none")
    return cls, box, (role * on).sum() / n
