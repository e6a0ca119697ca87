"""Train the shelf detector: ``python -m training.detector.train --pool DIR … --minutes M --out FILE``.

Runs for a stated time (cosine schedule over it), keeps a checkpoint with an exponential moving average of the
weights every minute, and goes on from it when started again with the same ``--out``.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from training.detector.data import batch, pictures
from training.detector.loss import loss
from training.detector.net import ShelfNet, cells
from training.embedder.bank import PHOTOGRAPHED, PRINTED


class Crops(IterableDataset[tuple[Tensor, list[tuple[Tensor, Tensor]]]]):
    """Endless batches of spoiled crops from pools, each pool with a weight."""

    def __init__(
        self,
        pools: list[tuple[Path, float]],
        count: int,
        size: int,
        zoom: tuple[float, float],
        strength: float,
        seed: int,
        restock: tuple[str, NDArray[np.uint8]] | None = None,
    ) -> None:
        self.restock = restock
        self.pools, self.count, self.size, self.zoom, self.strength, self.seed = pools, count, size, zoom, strength, seed

    def __iter__(self) -> Iterator[tuple[Tensor, list[tuple[Tensor, Tensor]]]]:
        cv2.setNumThreads(1)
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0, int(time.time())])
        weights = np.array([w for _, w in self.pools])
        lists = [pictures([p]) for p, _ in self.pools]
        turn = 0
        while True:
            turn += 1
            if turn % 50 == 0:  # pools may grow
                lists = [pictures([p]) for p, _ in self.pools]
            usable = weights * np.array([len(x) > 0 for x in lists])
            if not usable.any():
                raise SystemExit(f"no pictures in {[str(p) for p, _ in self.pools]}")
            share = rng.multinomial(self.count // 2, usable / usable.sum())
            samples = []
            for (pool, _), paths, n in zip(self.pools, lists, share):
                if n:
                    fronts = self.restock[1] if self.restock and pool.name == self.restock[0] else None
                    samples += batch(paths, rng, 2 * int(n), self.size, self.zoom, self.strength, fronts)
            x = torch.from_numpy(np.stack([s.picture for s in samples])).permute(0, 3, 1, 2)
            yield x, [(torch.from_numpy(s.boxes), torch.from_numpy(s.classes)) for s in samples]


def _fronts(bank: Path) -> NDArray[np.uint8]:
    """The printed and photographed fronts of a bank that fill their picture, (N, 3, h, w)."""
    data = np.load(bank)
    mine = np.unique(data["shelf"][np.isin(data["source"], (PRINTED, PHOTOGRAPHED))])
    pictures = data["pictures"][mine]
    return np.ascontiguousarray(pictures[pictures[:, 3].mean((1, 2)) > 250, :3])


def _groups(net: nn.Module, decay: float) -> list[dict[str, object]]:
    weights = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    return [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def train(args: argparse.Namespace) -> None:
    """Train as the command line says; see the module's docstring."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    net = ShelfNet(args.width).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(_groups(net, 0.03), lr=args.lr, betas=(0.9, 0.99))
    spent, steps = 0.0, 0
    if args.out.exists():
        state = torch.load(args.out, weights_only=False, map_location=device)
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        spent, steps = state["spent"], state["steps"]
    elif args.init:
        net.load_state_dict(torch.load(args.init, weights_only=False, map_location=device)["ema"])
    ema = copy.deepcopy(net).eval()
    if args.out.exists():
        ema.load_state_dict(state["ema"])
    data = Crops(
        [(Path(p.split("=")[0]), float(p.split("=")[1]) if "=" in p else 1.0) for p in args.pool],
        args.batch,
        args.size,
        tuple(args.zoom),
        args.strength,
        args.seed,
        (args.restock, _fronts(args.fronts)) if args.restock else None,
    )
    loader = iter(DataLoader(data, batch_size=None, num_workers=args.workers, prefetch_factor=4))
    points, strides = cells(args.size, args.size, device)
    budget = args.minutes * 60
    mean = np.zeros(2)
    last = saved = time.time()
    net.train()
    while spent < budget:
        x, truths = next(loader)
        progress = spent / budget
        lr = args.lr * min(1.0, (steps + 1) / args.warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimiser.param_groups:
            group["lr"] = lr
        truths = [(b.to(device, non_blocking=True), c.to(device, non_blocking=True)) for b, c in truths]
        images = x.to(device, non_blocking=True).float().div_(255).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=args.bf16):
            distances, logits = net(images)
        cls, box = loss(distances, logits, points, strides, truths)
        optimiser.zero_grad(set_to_none=True)
        (cls + args.box * box).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimiser.step()
        steps += 1
        keep = min(args.ema, steps / (steps + 50))
        with torch.no_grad():
            for a, b in zip(ema.state_dict().values(), net.state_dict().values()):
                a.copy_(b) if not a.dtype.is_floating_point else a.lerp_(b, 1 - keep)
        now = time.time()
        spent, last = spent + min(now - last, 30.0), now
        if steps == 1 or steps % 5 == 0:  # asking an accelerator for a number makes it wait
            now_at = np.array([float(cls.detach()), float(box.detach())])
            mean = 0.9 * mean + 0.1 * now_at if steps > 1 else now_at
        if steps % 50 == 0:
            print(f"{spent / 60:6.1f} min  step {steps}  class {mean[0]:.3f}  box {mean[1]:.3f}  lr {lr:.5f}", flush=True)
        if now - saved > 60 or spent >= budget:
            saved = now
            part = args.out.with_suffix(".part")
            torch.save(
                {
                    "net": net.state_dict(),
                    "ema": ema.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "spent": spent,
                    "steps": steps,
                    "width": args.width,
                    "args": vars(args),
                },
                part,
            )
            part.replace(args.out)


def main() -> None:
    p = argparse.ArgumentParser(description="Train the shelf detector.")
    p.add_argument("--pool", nargs="+", required=True, help="pool folders, each with an optional weight: DIR=2.0")
    p.add_argument("--out", type=Path, required=True, help="checkpoint, resumed when it exists")
    p.add_argument("--init", type=Path, help="checkpoint to start from")
    p.add_argument("--minutes", type=float, default=20)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--box", type=float, default=3.0, help="weight of the box loss")
    p.add_argument("--batch", type=int, default=12)
    p.add_argument("--size", type=int, default=512)
    p.add_argument("--zoom", type=float, nargs=2, default=(0.6, 1.3))
    p.add_argument("--strength", type=float, default=1.0, help="strength of the camera's faults")
    p.add_argument("--warmup", type=int, default=100, help="steps")
    p.add_argument("--width", type=int, default=16)
    p.add_argument("--ema", type=float, default=0.998, help="how slowly the averaged weights follow")
    p.add_argument("--device", default="cpu", help="cpu or cuda")
    p.add_argument("--restock", metavar="POOL", help="name of the pool whose products get other fronts, those of --fronts")
    p.add_argument("--fronts", type=Path, help="a bank of training.embedder.bank")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--workers", type=int, default=1)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    train(p.parse_args())


if __name__ == "__main__":
    main()
