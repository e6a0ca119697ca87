"""The shelf detector: a compact anchor-free network (CSP backbone, PAN neck, decoupled heads), ReLU only.

ReLU keeps int8 cheap. Strides 8, 16 and 32: a product of 30 to 350 px has several cells of a fitting stride.
The network gives, per cell, the distances from the cell's centre to the box's four sides in units of the stride
and one logit a class; `shelfscan.perception.decode` turns them into boxes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

STRIDES = (8, 16, 32)
CLASSES = 3


class Conv(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, c_in: int, c_out: int, k: int = 3, s: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, k, s, k // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(c_out, eps=1e-3, momentum=0.03)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.bn(self.conv(x)))
        return y


class Bottleneck(nn.Module):
    """1×1 then 3×3 with a shortcut."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.a = Conv(c, c, 1)
        self.b = Conv(c, c, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.b(self.a(x))
        return y


class Csp(nn.Module):
    """Cross-stage partial block: half the channels through ``n`` bottlenecks, half around them."""

    def __init__(self, c_in: int, c_out: int, n: int) -> None:
        super().__init__()
        half = c_out // 2
        self.left = Conv(c_in, half, 1)
        self.right = Conv(c_in, half, 1)
        self.blocks = nn.Sequential(*(Bottleneck(half) for _ in range(n)))
        self.out = Conv(2 * half, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(torch.cat([self.blocks(self.left(x)), self.right(x)], 1))
        return y


class Pooling(nn.Module):
    """Three max poolings in a row, concatenated: a wide view at little cost."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.reduce = Conv(c, c // 2, 1)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.out = Conv(2 * c, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.reduce(x)
        b = self.pool(a)
        c = self.pool(b)
        y: Tensor = self.out(torch.cat([a, b, c, self.pool(c)], 1))
        return y


class Head(nn.Module):
    """Decoupled head of one level: 4 distances and ``CLASSES`` logits a cell."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.box = nn.Sequential(Conv(c, c, 3), Conv(c, c, 1), nn.Conv2d(c, 4, 1))
        self.cls = nn.Sequential(Conv(c, c, 3), Conv(c, c, 1), nn.Conv2d(c, CLASSES, 1))
        prior = self.cls[-1]
        nn.init.constant_(prior.bias, -math.log((1 - 0.01) / 0.01))
        nn.init.constant_(self.box[-1].bias, 2.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.box(x), self.cls(x)


class ShelfNet(nn.Module):
    """(N, 3, H, W) RGB in 0..1, H and W multiples of 32 → distances (N, 4, A) and logits (N, CLASSES, A).

    A runs over the cells of stride 8, then 16, then 32, each row by row.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.width = w = width
        self.stem = nn.Sequential(Conv(3, w, 3, 2), Conv(w, 2 * w, 3, 2), Csp(2 * w, 2 * w, 1))
        self.c3 = nn.Sequential(Conv(2 * w, 4 * w, 3, 2), Csp(4 * w, 4 * w, 2))
        self.c4 = nn.Sequential(Conv(4 * w, 8 * w, 3, 2), Csp(8 * w, 8 * w, 2))
        self.c5 = nn.Sequential(Conv(8 * w, 12 * w, 3, 2), Pooling(12 * w), Csp(12 * w, 12 * w, 1))
        n = 5 * w
        self.l5, self.l4, self.l3 = Conv(12 * w, n, 1), Conv(8 * w, n, 1), Conv(4 * w, n, 1)
        self.up = nn.Upsample(scale_factor=2.0, mode="nearest")
        self.t4, self.t3 = Csp(2 * n, n, 1), Csp(2 * n, n, 1)
        self.d4, self.d5 = Conv(n, n, 3, 2), Conv(n, n, 3, 2)
        self.p4, self.p5 = Csp(2 * n, n, 1), Csp(2 * n, n, 1)
        self.heads = nn.ModuleList(Head(n) for _ in STRIDES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        f3 = self.c3(self.stem(x))
        f4 = self.c4(f3)
        f5 = self.l5(self.c5(f4))
        m4 = self.t4(torch.cat([self.up(f5), self.l4(f4)], 1))
        m3 = self.t3(torch.cat([self.up(m4), self.l3(f3)], 1))
        m4 = self.p4(torch.cat([self.d4(m3), m4], 1))
        m5 = self.p5(torch.cat([self.d5(m4), f5], 1))
        boxes, logits = [], []
        for head, f in zip(self.heads, (m3, m4, m5), strict=True):
            b, c = head(f)
            boxes.append(b.flatten(2))
            logits.append(c.flatten(2))
        return nn.functional.softplus(torch.cat(boxes, 2).float()), torch.cat(logits, 2).float()


def cells(height: int, width: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Centres (A, 2) x, y in pixels and strides (A,) of the cells, in the network's order."""
    points, strides = [], []
    for s in STRIDES:
        ys, xs = torch.meshgrid(torch.arange(height // s), torch.arange(width // s), indexing="ij")
        points.append((torch.stack([xs, ys], -1).reshape(-1, 2).float() + 0.5) * s)
        strides.append(torch.full((points[-1].shape[0],), float(s)))
    return torch.cat(points).to(device), torch.cat(strides).to(device)


def boxes_of(distances: Tensor, points: Tensor, strides: Tensor) -> Tensor:
    """Distances (N, 4, A) to boxes (N, A, 4) x_min, y_min, x_max, y_max in pixels."""
    d = distances.transpose(1, 2) * strides[None, :, None]
    return torch.cat([points[None] - d[..., :2], points[None] + d[..., 2:]], -1)
