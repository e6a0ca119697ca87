"""The network that finds people: a narrow encoder with one way back up; logits of person and head for each cell of 4 x 4 px."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shelfscan.learn.net import Conv, Csp, Pooling

STRIDE = 4


class PeopleNet(nn.Module):
    """(N, 3, H, W) RGB in 0..1, H and W multiples of 32 → logits (N, 2, H / 4, W / 4): a person is there, a head is there."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.width = w = width
        self.f2 = nn.Sequential(Conv(3, w, 3, 2), Conv(w, 2 * w, 3, 2), Csp(2 * w, 2 * w, 1))
        self.f3 = nn.Sequential(Conv(2 * w, 3 * w, 3, 2), Csp(3 * w, 4 * w, 1))
        self.f4 = nn.Sequential(Conv(4 * w, 6 * w, 3, 2), Csp(6 * w, 6 * w, 2))
        self.f5 = nn.Sequential(Conv(6 * w, 8 * w, 3, 2), Pooling(8 * w), Csp(8 * w, 6 * w, 1))
        self.up = nn.Upsample(scale_factor=2.0, mode="nearest")
        self.t4, self.t3, self.t2 = Csp(12 * w, 4 * w, 1), Csp(8 * w, 3 * w, 1), Csp(5 * w, 3 * w, 1)
        self.out = nn.Sequential(Conv(3 * w, 3 * w, 3), nn.Conv2d(3 * w, 2, 1))
        nn.init.constant_(self.out[-1].bias, -2.0)

    def forward(self, x: Tensor) -> Tensor:
        f2 = self.f2(x)
        f3 = self.f3(f2)
        f4 = self.f4(f3)
        m = self.t4(torch.cat([self.up(self.f5(f4)), f4], 1))
        m = self.t3(torch.cat([self.up(m), f3], 1))
        m = self.t2(torch.cat([self.up(m), f2], 1))
        y: Tensor = self.out(m)
        return y


class Deployed(nn.Module):
    """Scores in 0..1 instead of logits."""

    def __init__(self, net: PeopleNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        return self.net(image).sigmoid()
