"""Views of the classes of a bank, made on the training device: what `training.embedder.data` does one by one.

A view is the product before its surroundings (neighbours, the row behind, an edge of the shelf, something that covers a part),
cut out slightly off and from the side, perhaps turned about its axis, at the resolution it was seen in, under some light,
through some lens, as a JPEG.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.embedder.bank import MARGIN, PHOTOGRAPHED, PRINTED, RENDERED
from training.embedder.data import SIDE

#: Sides, in pixels, at which a shelf's crop is seen: multiples of a JPEG block.
SEEN_PX = (24, 32, 40, 48, 56, 72, 96, 128)
_JPEG = torch.tensor(
    [[16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55], [14, 13, 16, 24, 40, 57, 69, 56],
     [14, 17, 22, 29, 51, 87, 80, 62], [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
     [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99]], dtype=torch.float32,
)  # fmt: skip
_YCC = torch.tensor([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])


class Views:
    """Random batches of a bank; all of it lives on ``device``."""

    def __init__(self, file: Path, device: torch.device, seed: int) -> None:
        data = np.load(file)
        self.device = device
        self.pictures = torch.from_numpy(data["pictures"]).to(device)
        self.margin = torch.from_numpy(data["margin"]).to(device)
        self.source, self.group, self.distinct = data["source"], data["group"], data["distinct"]
        self.gallery, self.shelf = data["gallery"], data["shelf"]
        self.gallery_count, self.shelf_count = data["gallery_count"], data["shelf_count"]
        self.rng = np.random.default_rng(seed)
        self.members: dict[int, dict[int, list[int]]] = {}
        for c, (s, g) in enumerate(zip(self.source.tolist(), self.group.tolist())):
            self.members.setdefault(s, {}).setdefault(g, []).append(c)
        self.gen = torch.Generator(device=device)
        self.gen.manual_seed(seed)

    def classes(self, count: int, shares: dict[int, float]) -> np.ndarray:
        """``count`` classes, whole families of each source, in the shares given; of photographs single cuts."""
        present = {s: w for s, w in shares.items() if s in self.members}
        total = sum(present.values())
        out: list[int] = []
        for source, weight in present.items():
            want = round(count * weight / total)
            groups = self.members[source]
            mine: list[int] = []
            if source == PHOTOGRAPHED:
                everyone = [c for g in groups.values() for c in g]
                mine = self.rng.permutation(everyone)[:want].tolist()
            else:
                for g in self.rng.permutation(list(groups)).tolist():
                    mine += groups[g]
                    if len(mine) >= want:
                        break
            out += mine[:want]
        return np.array(out)

    def batch(self, count: int, shares: dict[int, float], gallery: int, shelf: int) -> tuple[Tensor, Tensor]:
        """Crops (P · (gallery + shelf), 3, SIDE, SIDE) in 0..1, a class after the other, and what must not be told apart
        (P, P) bool: different classes that may be the same product."""
        which = self.classes(count, shares)
        p = len(which)
        g = self.gallery[which[:, None], self.rng.integers(0, self.gallery_count[which][:, None], (p, gallery))]
        s = self.shelf[which[:, None], self.rng.integers(0, self.shelf_count[which][:, None], (p, shelf))]
        front = torch.from_numpy(np.concatenate([g, s], 1).reshape(-1)).to(self.device)
        like_gallery = np.concatenate([self.rng.random((p, gallery)) < 0.5, np.zeros((p, shelf), bool)], 1).reshape(-1)
        # beside: the same, a sibling (the next of the batch is one most of the time)
        each = gallery + shelf
        order = np.repeat(np.arange(p), each)
        side = [(order + self.rng.integers(-2, 3, len(order))) % p for _ in range(2)]
        beside = [torch.from_numpy(self.shelf[which[o], 0]).to(self.device) for o in side]
        # a product that photographs show is straight already, one that was rendered has its own light
        tame = np.repeat(np.isin(self.source[which], (RENDERED,)), each)
        round_ = np.repeat(np.isin(self.source[which], (PRINTED,)), each) & (self.rng.random(len(order)) < 0.25)
        x = self.views(front, beside, torch.from_numpy(like_gallery).to(self.device), torch.from_numpy(tame).to(self.device),
                       torch.from_numpy(round_).to(self.device))  # fmt: skip
        group, distinct = self.group[which], self.distinct[which]
        same = (group[:, None] == group[None]) & ~distinct[:, None] & ~np.eye(p, dtype=bool)
        return x, torch.from_numpy(same).to(self.device)

    # -- making ----------------------------------------------------------------------------------------------------------
    def _u(self, n: int, low: float = 0.0, high: float = 1.0, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand((n, *shape), generator=self.gen, device=self.device)

    def _n(self, n: int, sigma: float, *shape: int) -> Tensor:
        return sigma * torch.randn((n, *shape), generator=self.gen, device=self.device)

    def _sample(self, index: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Pictures at u, v (N, H, W), 0..1 over the product → (N, 4, H, W) in 0..255, alpha 0..1 and 0 outside."""
        m = self.margin[index].float()[:, None, None] * MARGIN
        su, sv = (u + m) / (1 + 2 * m), (v + m) / (1 + 2 * m)
        tex = self.pictures[index].half() if self.device.type == "cuda" else self.pictures[index].float()
        grid = torch.stack([su, sv], -1) * 2 - 1
        out = F.grid_sample(tex, grid.to(tex.dtype), mode="bilinear", padding_mode="border", align_corners=False).float()
        inside = (su >= 0) & (su <= 1) & (sv >= 0) & (sv <= 1)
        out[:, 3] = out[:, 3] / 255 * inside
        return out

    def views(self, front: Tensor, beside: list[Tensor], gallery: Tensor, tame: Tensor, round_: Tensor) -> Tensor:
        """Views of pictures ``front`` (N,), see `batch`: (N, 3, SIDE, SIDE) in 0..1."""
        n = len(front)
        soft = gallery.float() * 0.5
        k = (1.0 - soft)[:, None, None]
        # which part of the scene the crop shows: its corners in units of the product
        slack = torch.where(gallery, 0.03, 0.07)[:, None]
        j = (self._n(n, 1.0, 4) * slack / 2).clamp(-0.08, 0.08)
        tilt = torch.where(gallery, 0.03, 0.08)[:, None, None]
        corners = torch.stack(
            [torch.stack([j[:, 0], j[:, 1]], -1), torch.stack([1 + j[:, 2], j[:, 1]], -1),
             torch.stack([1 + j[:, 2], 1 + j[:, 3]], -1), torch.stack([j[:, 0], 1 + j[:, 3]], -1)], 1,
        )  # fmt: skip
        corners = corners + self._u(n, -1, 1, 4, 2) * tilt * self._u(n, 0, 1, 1, 1)
        t = (torch.arange(SIDE, device=self.device) + 0.5) / SIDE
        b, a = torch.meshgrid(t, t, indexing="ij")
        # perspective over the crop: one side nearer than the other
        near = self._n(n, 0.12)[:, None, None].clamp(-0.3, 0.3) * k
        a_ = (a[None] * (1 + near)) / (1 + near * a[None])
        w = torch.stack([(1 - a_) * (1 - b), a_ * (1 - b), a_ * b, (1 - a_) * b], 1)  # (N, 4, H, W)
        u = (w * corners[:, :, 0, None, None]).sum(1)
        v = (w * corners[:, :, 1, None, None]).sum(1)
        # things about an axis: the sides squeezed, turned by some degrees
        centre = 0.5 + self._n(n, 0.1)[:, None, None].clamp(-0.25, 0.25)
        across = ((u - 0.5) * 2).clamp(-1, 1)
        bent = torch.asin(across) / math.pi + centre
        fu = torch.where(round_[:, None, None], torch.where((u >= 0) & (u <= 1), bent, u), u)
        shade_round = torch.where(round_[:, None, None], 0.5 + 0.5 * torch.sqrt((1 - across**2).clamp(min=0.0)), 1.0)
        # background, and what stands on both sides
        plain = torch.where(
            gallery[:, None], self._u(n, 60, 255, 1).expand(n, 3), self._u(n, 5, 160, 1) * self._u(n, 0.8, 1.1, 3)
        )
        img = plain[:, :, None, None].expand(n, 3, SIDE, SIDE).clone()
        for side, other in enumerate(beside):
            there = (self._u(n) < 0.75) & ~gallery
            gap = self._u(n, 0, 0.05)[:, None, None]
            low = torch.where(self._u(n) < 0.4, self._u(n, 0.7, 1.2), torch.ones(n, device=self.device))[:, None, None]
            lu = (u + gap + 1) if side == 0 else (u - 1 - gap)
            lv = (v - (1 - low)) / low
            part = self._sample(other, lu, lv)
            img = _over(
                img, part * self._u(n, 0.6, 1.0)[:, None, None, None].clamp(max=1), part[:, 3:] * there[:, None, None, None]
            )
        edge = (self._u(n) < 0.6) & ~gallery
        tone = self._u(n, 60, 255)
        below = (v > 1 + self._u(n, 0, 0.03)[:, None, None]) & edge[:, None, None]
        img = torch.where(below[:, None], tone[:, None, None, None], img)
        behind = (self._u(n) < 0.4) & ~gallery
        part = self._sample(front, (u - 0.05) / 0.9, (v + 0.04) / 0.9)
        img = _over(img, part * 0.6, part[:, 3:] * behind[:, None, None, None])
        part = self._sample(front, fu, v)
        img = _over(img, part * shade_round[:, None], part[:, 3:])
        img = self._cover(img, u, v, (self._u(n) < 0.2) & ~gallery & ~tame)
        return self._spoil(img, gallery, tame)

    def _cover(self, img: Tensor, u: Tensor, v: Tensor, there: Tensor) -> Tensor:
        """The shelf above, a neighbour or a tag covers a part."""
        n = len(img)
        part = self._u(n, 0.05, 0.3)[:, None, None]
        side = torch.randint(0, 4, (n,), generator=self.gen, device=self.device)[:, None, None]
        hit = torch.where(side == 0, v < part, torch.where(side == 1, v > 1 - part,
                          torch.where(side == 2, u < 0.7 * part, u > 1 - 0.7 * part)))  # fmt: skip
        return torch.where((hit & there[:, None, None])[:, None], self._u(n, 0, 230, 3)[:, :, None, None], img)

    def _spoil(self, img: Tensor, gallery: Tensor, tame: Tensor) -> Tensor:
        """Light, lens and JPEG."""
        n = len(img)
        k = torch.where(gallery | tame, 0.5, 1.0)[:, None, None, None]
        one = (n, 1, 1, 1)
        img = img * torch.exp(self._n(n, 0.25, 1, 1, 1) * k - 0.1 * (k - 0.5) * 2)
        img = img * (1 + self._n(n, 0.08, 3, 1, 1) * k)
        t = torch.linspace(0, 1, SIDE, device=self.device)
        ramp_a, ramp_b = 1 - 0.45 * k * self._u(n).view(one), 1 - 0.45 * k * self._u(n).view(one) + 0.1
        ramp = ramp_a + (ramp_b - ramp_a) * t
        across = (self._u(n) < 0.5).view(one)
        lit = (self._u(n) < 0.7).view(one)
        img = img * torch.where(
            lit, torch.where(across, ramp.expand(n, 1, SIDE, SIDE), ramp.transpose(2, 3).expand(n, 1, SIDE, SIDE)), 1.0
        )
        # glare: a stripe or a spot
        c, s = self._u(n, 0.1, 0.9).view(one), self._u(n, 0.03, 0.12).view(one)
        stripe = torch.exp(-(((t - c) / s) ** 2))
        spot = stripe * torch.exp(-(((t[:, None] - self._u(n).view(one)) / (2 * s)) ** 2))
        glare = torch.where((self._u(n) < 0.5).view(one), stripe.expand(n, 1, SIDE, SIDE), spot)
        img = img + (self._u(n) < 0.25).view(one) * k * self._u(n, 40, 160).view(one) * glare
        # a door's reflection, haze
        veil = torch.roll(img, 1, 0).mean((2, 3), keepdim=True)
        haze = (self._u(n) < 0.1).view(one) * self._u(n, 0.05, 0.35).view(one)
        img = img * (1 - haze) + veil * haze
        img = 255 * (img.clamp(0, 255) / 255) ** (1 + (self._u(n, -0.25, 0.3).view(one)) * k)
        out = torch.empty_like(img)
        # seen small: average down, lens, noise, JPEG there, then up again
        sizes = torch.tensor(SEEN_PX, device=self.device)
        weights = torch.tensor([0.5, 1, 1, 1.2, 1.2, 1.2, 1.2, 1.2], device=self.device)
        pick = torch.multinomial(weights.expand(n, -1), 1, generator=self.gen)[:, 0]
        pick = torch.where(gallery, torch.randint(3, len(SEEN_PX), (n,), generator=self.gen, device=self.device), pick)
        for i, px in enumerate(sizes.tolist()):
            at = (pick == i).nonzero()[:, 0]
            if not len(at):
                continue
            x = img[at]
            if px < SIDE:
                x = F.interpolate(x, size=(px, px), mode="bilinear", antialias=True, align_corners=False)
            m = len(at)
            x = self._lens(x)
            x = x + torch.randn(x.shape, generator=self.gen, device=self.device) * self._u(m, 0, 7).view(m, 1, 1, 1) * k[at]
            x = self._jpeg(x.clamp(0, 255))
            out[at] = F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", align_corners=False) if px < SIDE else x
        return out.clamp(0, 255) / 255

    def _lens(self, x: Tensor) -> Tensor:
        """Each picture out of focus or moved, by its own kernel of 5 px; half of them neither."""
        n = len(x)
        d = torch.arange(-2, 3, device=self.device).float()
        sigma = self._u(n, 0.25, 1.0)
        g = torch.exp(-(d[None] ** 2) / (2 * sigma[:, None] ** 2))
        kernel = g[:, :, None] * g[:, None]
        angle = self._u(n, 0, math.pi)[:, None, None]
        off = d[None, None] * torch.sin(angle) - d[None, :, None] * torch.cos(angle)
        moved = torch.exp(-(off**2) / 0.5)
        kernel = torch.where((self._u(n) < 0.3)[:, None, None], moved, kernel)
        still = torch.zeros(5, 5, device=self.device)
        still[2, 2] = 1.0
        kernel = torch.where((self._u(n) < 0.5)[:, None, None], still, kernel)
        kernel = kernel / kernel.sum((1, 2), keepdim=True)
        h, w = x.shape[2:]
        flat = F.pad(x, (2, 2, 2, 2), mode="replicate").reshape(1, n * 3, h + 4, w + 4)
        return F.conv2d(flat, kernel[:, None].repeat_interleave(3, 0), groups=n * 3).reshape(n, 3, h, w)

    def _jpeg(self, x: Tensor) -> Tensor:
        """The loss of a JPEG of quality 30 to 95, six in ten pictures."""
        n, _, h, w = x.shape
        quality = self._u(n, 30, 95)
        scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50).clamp(min=0.05)
        scale = torch.where(self._u(n) < 0.6, scale, torch.full_like(scale, 0.02))
        ycc = torch.einsum("dc,nchw->ndhw", _YCC.to(self.device), x - 128)
        i = torch.arange(8, device=self.device).float()
        dct = torch.cos((2 * i[None] + 1) * i[:, None] * math.pi / 16) * 0.5
        dct[0] = dct[0] / math.sqrt(2)
        blocks = ycc.reshape(n, 3, h // 8, 8, w // 8, 8).permute(0, 1, 2, 4, 3, 5)
        coefficients = dct @ blocks @ dct.t()
        step = _JPEG.to(self.device) * scale[:, None, None, None, None, None]
        step = torch.cat([step, step.expand(-1, 2, -1, -1, -1, -1) * 1.4], 1).clamp(min=1)
        blocks = dct.t() @ (torch.round(coefficients / step) * step) @ dct
        ycc = blocks.permute(0, 1, 2, 4, 3, 5).reshape(n, 3, h, w)
        return torch.einsum("dc,nchw->ndhw", torch.linalg.inv(_YCC).to(self.device), ycc) + 128


def _over(below: Tensor, top: Tensor, alpha: Tensor) -> Tensor:
    return below + (top[:, :3] - below) * alpha
