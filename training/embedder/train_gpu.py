"""Train the embedder on an accelerator: ``python -m training.embedder.train_gpu --bank FILE --minutes M --out FILE``.

As `training.embedder.train`, with views made on the device (`training.embedder.gpu_views`) and so in batches of hundreds of
classes: the more packs there are to be told apart, the more look-alikes are among them.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from torch.nn import functional as F

from training.embedder.bank import FLAT, PHOTOGRAPHED, PRINTED, RENDERED
from training.embedder.gpu_views import Views
from training.embedder.net import PackNet


def main() -> None:
    p = argparse.ArgumentParser(description="Train the embedder on an accelerator.")
    p.add_argument("--bank", type=Path, required=True, help="from training.embedder.bank")
    p.add_argument("--out", type=Path, required=True, help="checkpoint, resumed when it exists")
    p.add_argument("--minutes", type=float, default=8)
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--classes", type=int, default=640, help="packs a batch")
    p.add_argument("--gallery", type=int, default=2)
    p.add_argument("--shelf", type=int, default=2)
    p.add_argument(
        "--shares", type=float, nargs=4, default=(0.15, 0.3, 0.2, 0.35), help="flat, printed, photographed, rendered"
    )
    p.add_argument("--width", type=int, default=24)
    p.add_argument("--dim", type=int, default=192)
    p.add_argument("--sharpness", type=float, default=20.0)
    p.add_argument("--margin", type=float, default=0.1)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args()
    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    net = PackNet(args.width, args.dim).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = [w for w in net.parameters() if w.ndim > 1]
    others = [w for w in net.parameters() if w.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": weights, "weight_decay": 0.03}, {"params": others, "weight_decay": 0.0}], lr=args.lr, betas=(0.9, 0.99)
    )
    spent, steps = 0.0, 0
    ema = {k: v.clone() for k, v in net.state_dict().items()}
    if args.out.exists():
        state = torch.load(args.out, weights_only=False, map_location=device)
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        ema, spent, steps = state["ema"], state["spent"], state["steps"]
    views = Views(args.bank, device, args.seed + steps)
    shares = dict(zip((FLAT, PRINTED, PHOTOGRAPHED, RENDERED), args.shares))
    each = args.gallery + args.shelf
    budget, last, saved = args.minutes * 60, time.time(), time.time()
    mean = torch.tensor([5.0, 0.0], device=device)
    net.train()
    while spent < budget:
        lr = args.lr * min(1.0, (steps + 1) / 200) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, spent / budget))))
        for group in optimiser.param_groups:
            group["lr"] = lr
        with torch.no_grad():
            x, same = views.batch(args.classes, shares, args.gallery, args.shelf)
        with torch.autocast(device.type, torch.bfloat16):
            out = net(x.contiguous(memory_format=torch.channels_last))
        classes = len(out) // each
        out = out.float().view(classes, each, -1)
        many = int(views.rng.integers(1, args.gallery + 1))
        prototypes = F.normalize(out[:, :many].mean(1), dim=1)
        queries = out[:, args.gallery :].flatten(0, 1)
        goal = torch.arange(classes, device=device).repeat_interleave(args.shelf)
        logits = args.sharpness * (queries @ prototypes.t())
        logits = logits - args.margin * args.sharpness * F.one_hot(goal, classes)
        logits = logits.masked_fill(same.repeat_interleave(args.shelf, 0), -1e4)
        # both ways: a view finds its product, a product its views
        back = torch.stack([logits[i :: args.shelf].t() for i in range(args.shelf)]).flatten(0, 1)
        loss = F.cross_entropy(logits, goal) + 0.5 * F.cross_entropy(
            back, torch.arange(classes, device=device).repeat(args.shelf)
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        steps += 1
        keep = min(0.999, steps / (steps + 50))
        with torch.no_grad():
            for k, v in net.state_dict().items():
                ema[k].copy_(v) if not v.dtype.is_floating_point else ema[k].lerp_(v, 1 - keep)
            right = (logits.argmax(1) == goal).float().mean()
            mean = 0.97 * mean + 0.03 * torch.stack([loss.detach(), right])
        now = time.time()
        spent, last = spent + min(now - last, 30.0), now
        if steps % 100 == 0 or steps < 4:
            print(
                f"{spent / 60:6.2f} min  step {steps}  loss {mean[0]:.3f}  rank-1 in batch {mean[1]:.3f}  lr {lr:.5f}",
                flush=True,
            )
        if now - saved > 60 or spent >= budget:
            saved = now
            part = args.out.with_suffix(".part")
            torch.save(
                {"net": net.state_dict(), "ema": ema, "optimiser": optimiser.state_dict(), "spent": spent, "steps": steps,
                 "width": args.width, "dim": args.dim, "args": vars(args)},
                part,
            )  # fmt: skip
            part.replace(args.out)


if __name__ == "__main__":
    main()
