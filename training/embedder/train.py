"""Train the embedder: ``python -m training.embedder.train --minutes M --out FILE``.

Each batch holds whole families of look-alikes. A pack's gallery views are averaged into its prototype, as the runtime
does with reference pictures, and each shelf view must find its prototype among all of the batch.
Resumes from ``--out``.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

from shelfscan.learn.unfold import unfold_embedder
from training.embedder.data import FlatArt, classes_of
from training.embedder.net import PackNet
from training.embedder.pool import Renders
from training.embedder.textures import photographed, printed

GALLERY, SHELF = 2, 2
#: Share of batches from printed fronts and labelled photographs, where there are any.
MORE = 0.55
LABELS = Path("training/labels")


class Views(IterableDataset[Tensor]):
    """Endless batches (P · (GALLERY + SHELF), 3, SIDE, SIDE) uint8: per pack its gallery views, then its shelf views."""

    def __init__(
        self, packs: int, seed: int, count: int, renders: Path | None, share: float, printed: int = 0, data: Path | None = None
    ) -> None:
        self.packs, self.seed, self.count, self.renders, self.share = packs, seed, count, renders, share
        self.printed, self.data = printed, data

    def __iter__(self) -> Iterator[Tensor]:
        cv2.setNumThreads(1)
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0, int(time.time())])
        flat = FlatArt(7_000_001, self.packs)
        renders = Renders(self.renders) if self.renders else None
        more = [printed(self.printed, self.seed + 1, self.data)] if self.printed else []
        more += [photographed(LABELS, self.data)] if self.data else []
        while True:
            views = []
            if more and rng.random() < MORE:
                source = more[int(rng.integers(len(more)))]
                for which in source.classes(rng, self.count):
                    views += source.views(which, rng, GALLERY, SHELF)
            elif renders is not None and rng.random() < self.share:
                for sku in renders.classes(rng, self.count):
                    views += renders.views(sku, rng, GALLERY, SHELF)
            else:
                for i in classes_of(flat, rng, self.count):
                    views += [flat.view(i, rng, True) for _ in range(GALLERY)] + [
                        flat.view(i, rng, False) for _ in range(SHELF)
                    ]
            yield torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2)


def main() -> None:
    p = argparse.ArgumentParser(description="Train the embedder.")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--init", type=Path, help="checkpoint, or exported weights (.onnx)")
    p.add_argument("--minutes", type=float, default=20)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--packs", type=int, default=3000)
    p.add_argument("--classes", type=int, default=40, help="packs a batch")
    p.add_argument("--renders", type=Path, help="crop pool of rendered training stores")
    p.add_argument("--share", type=float, default=0.7, help="share of batches from renders")
    p.add_argument("--printed", type=int, default=0, help="printed fronts with real fonts")
    p.add_argument("--data", type=Path, help="folder with packshots/ and price_tags/: labelled photographs, print on fronts")
    p.add_argument("--sharpness", type=float, default=16.0)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--workers", type=int, default=1)
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    net = PackNet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(net.parameters(), lr=args.lr, betas=(0.9, 0.99), weight_decay=0.03)
    spent, steps = 0.0, 0
    ema = {k: v.clone() for k, v in net.state_dict().items()}
    if args.out.exists():
        state = torch.load(args.out, weights_only=False)
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        ema, spent, steps = state["ema"], state["spent"], state["steps"]
    elif args.init and args.init.suffix == ".onnx":
        first = Views(200, args.seed, args.classes, args.renders, 0.0)
        net.load_state_dict(unfold_embedder(args.init, next(iter(first)).float() / 255).state_dict())
        ema = {k: v.clone() for k, v in net.state_dict().items()}
    elif args.init:
        ema = torch.load(args.init, weights_only=False)["ema"]
        net.load_state_dict(ema)
        ema = {k: v.clone() for k, v in net.state_dict().items()}
    views = Views(args.packs, args.seed, args.classes, args.renders, args.share, args.printed, args.data)
    loader = iter(DataLoader(views, batch_size=None, num_workers=args.workers, prefetch_factor=3))
    budget, last, saved, mean = args.minutes * 60, time.time(), time.time(), np.array([3.0, 0.0])
    while spent < budget:
        x = next(loader).float().div_(255).contiguous(memory_format=torch.channels_last)
        lr = args.lr * min(1.0, (steps + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * spent / budget)))
        for group in optimiser.param_groups:
            group["lr"] = lr
        net.train()
        with torch.autocast("cpu", torch.bfloat16):
            out = net(x)
        classes = len(out) // (GALLERY + SHELF)
        out = out.view(classes, GALLERY + SHELF, -1)
        prototypes = F.normalize(out[:, :GALLERY].mean(1), dim=1)
        queries = out[:, GALLERY:].flatten(0, 1)
        goal = torch.arange(classes).repeat_interleave(SHELF)
        logits = args.sharpness * (queries @ prototypes.t())
        logits = logits - 0.1 * args.sharpness * F.one_hot(goal, classes)  # margin
        loss = F.cross_entropy(logits, goal)
        right = float((logits.detach().argmax(1) == goal).float().mean())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        steps += 1
        keep = min(0.998, steps / (steps + 50))
        with torch.no_grad():
            for k, v in net.state_dict().items():
                ema[k].copy_(v) if not v.dtype.is_floating_point else ema[k].lerp_(v, 1 - keep)
        now = time.time()
        spent, last = spent + min(now - last, 30.0), now
        mean = 0.97 * mean + 0.03 * np.array([float(loss.detach()), right])
        if steps % 50 == 0:
            print(
                f"{spent / 60:6.1f} min  step {steps}  loss {mean[0]:.3f}  rank-1 in batch {mean[1]:.3f}  lr {lr:.5f}",
                flush=True,
            )
        if now - saved > 60 or spent >= budget:
            saved = now
            part = args.out.with_suffix(".part")
            torch.save(
                {
                    "net": net.state_dict(),
                    "ema": ema,
                    "optimiser": optimiser.state_dict(),
                    "spent": spent,
                    "steps": steps,
                    "args": vars(args),
                },
                part,
            )
            part.replace(args.out)


if __name__ == "__main__":
    main()
