"""Train the price reader: ``python -m training.reader.train --data FOLDER --minutes M --out FILE``.

FOLDER holds ``fonts/`` (`training.reader.fonts`), ``tags.npz`` and ``backgrounds.jpg`` (`training.reader.real`). Runs for a stated time
(cosine schedule over it), keeps a checkpoint with averaged weights, and goes on from it when started again with the same ``--out``.
"""

# ruff: noqa: E501
from __future__ import annotations

import argparse
import copy
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from training.reader.data import Tags
from training.reader.net import PriceNet, loss


def train(args: argparse.Namespace) -> None:
    """Train as the command line says; see the module's docstring."""
    began = time.time()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    net = PriceNet(args.width).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    decay = [p for p in net.parameters() if p.ndim > 1]
    other = [p for p in net.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.03}, {"params": other, "weight_decay": 0.0}], lr=args.lr, betas=(0.9, 0.99)
    )
    spent, steps, seen = 0.0, 0, 0
    if args.out.exists():
        state = torch.load(args.out, weights_only=False, map_location=device)
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        spent, steps, seen = state["spent"], state["steps"], state.get("seen", 0)
    elif args.init:
        net.load_state_dict(torch.load(args.init, weights_only=False, map_location=device)["ema"])
    ema = copy.deepcopy(net).eval()
    if args.out.exists():
        ema.load_state_dict(state["ema"])
    data = Tags(args.data, args.batch, args.real, args.seed)
    options = {"prefetch_factor": 4} if args.workers else {}
    loader = iter(DataLoader(data, batch_size=None, num_workers=args.workers, **options))  # type: ignore[arg-type]
    budget = args.minutes * 60 + (spent if args.more else 0.0)
    spent += min(time.time() - began, 20.0)
    mean = np.zeros(3)
    last = saved = time.time()
    half = torch.bfloat16
    while spent < budget:
        x, goal, weight, boxes, roles = next(loader)
        lr = (
            args.lr
            * min(1.0, (steps + 1) / args.warmup)
            * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, spent / budget))))
        )
        for group in optimiser.param_groups:
            group["lr"] = lr
        x = x.to(device, non_blocking=True).float().div_(255).contiguous(memory_format=torch.channels_last)
        goal, weight, boxes, roles = (t.to(device, non_blocking=True) for t in (goal, weight, boxes, roles))
        with torch.autocast(device.type, half, enabled=args.bf16):
            out = net(x)
        cls, box, role = loss(out, goal, weight, boxes, roles)
        optimiser.zero_grad(set_to_none=True)
        (cls + 0.5 * box + 0.5 * role).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimiser.step()
        steps, seen = steps + 1, seen + len(x)
        keep = min(0.998, steps / (steps + 50))
        with torch.no_grad():
            for a, b in zip(ema.state_dict().values(), net.state_dict().values(), strict=True):
                a.copy_(b) if not a.dtype.is_floating_point else a.lerp_(b, 1 - keep)
        now = time.time()
        spent, last = spent + min(now - last, 30.0), now
        if steps % 25 == 0 or steps == 1:
            values = np.array([float(v.detach()) for v in (cls, box, role)])
            mean = values if steps <= 25 else 0.8 * mean + 0.2 * values
        if steps % 100 == 0:
            print(
                f"{spent / 60:5.1f} min  step {steps}  tags {seen}  class {mean[0]:.3f} box {mean[1]:.3f} role {mean[2]:.3f}",
                flush=True,
            )
        if now - saved > 30 or spent >= budget:
            saved = now
            state = {"net": net.state_dict(), "ema": ema.state_dict(), "optimiser": optimiser.state_dict(), "spent": spent,
                     "steps": steps, "seen": seen, "width": args.width, "args": vars(args)}  # fmt: skip
            part = args.out.with_suffix(".part")
            torch.save(state, part)
            part.replace(args.out)


def main() -> None:
    p = argparse.ArgumentParser(description="Train the price reader.")
    p.add_argument("--data", type=Path, required=True, help="folder with fonts/, tags.npz and backgrounds.jpg")
    p.add_argument("--out", type=Path, required=True, help="checkpoint, resumed when it exists")
    p.add_argument("--init", type=Path, help="checkpoint to start from")
    p.add_argument("--minutes", type=float, default=20)
    p.add_argument("--more", action="store_true", help="so many minutes more than a checkpoint had")
    p.add_argument("--device", default="cpu")
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--real", type=float, default=0.2, help="share of photographed tags")
    p.add_argument("--warmup", type=int, default=100, help="steps")
    p.add_argument("--width", type=int, default=16)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--workers", type=int, default=1)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    train(p.parse_args())


if __name__ == "__main__":
    main()
