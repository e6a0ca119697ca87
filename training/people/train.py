"""Train the network that finds people: ``python -m training.people.train --pool FILE --val FILE --photos DIR … --out FILE``.

Figures are also pasted onto photographs, and photographs without people are shown as such, so that a package with a face
on it is not taken for a person. Runs for a stated time with a cosine schedule and keeps averaged weights.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from training.people.net import STRIDE, PeopleNet

HEIGHT, WIDTH = 224, 192
RATE = 2e-3
Bytes = NDArray[np.uint8]


def photographs(folders: list[Path], most: int = 500) -> list[Bytes]:
    """Pictures without people, reduced to about the size the network sees."""
    out = []
    files = sorted(p for f in folders for p in f.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    for path in files[:: max(1, len(files) // most)]:
        bgr = cv2.imread(str(path))
        if bgr is None:
            continue
        scale = 1.6 * HEIGHT / max(bgr.shape[:2])
        out.append(np.ascontiguousarray(cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[..., ::-1]))
    return out


def background(photos: list[Bytes], shape: tuple[int, int], rng: np.random.Generator) -> Bytes:
    """A random part of a photograph."""
    photo = photos[int(rng.integers(len(photos)))]
    h, w = photo.shape[:2]
    side = rng.uniform(0.4, 1.0)
    a, b = max(16, int(h * side)), max(16, int(w * side))
    y, x = int(rng.integers(0, h - a + 1)), int(rng.integers(0, w - b + 1))
    return np.asarray(cv2.resize(photo[y : y + a, x : x + b], shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def sample(picture: Bytes, ids: Bytes, photos: list[Bytes], rng: np.random.Generator) -> tuple[NDArray[np.float32], Bytes]:
    """A spoiled picture (H, W, 3) in 0..1 and its ids (H, W)."""
    draw = rng.random()
    if draw < 0.15:
        picture, ids = background(photos, picture.shape[:2], rng), np.zeros_like(ids)
    elif draw < 0.5 and ids.any():
        edge = cv2.GaussianBlur((ids > 0).astype(np.float32), (3, 3), 0)[..., None]
        picture = (picture * edge + background(photos, picture.shape[:2], rng) * (1 - edge)).astype(np.uint8)
    zoom = float(np.exp(rng.uniform(math.log(0.6), math.log(1.7))))
    turn = rng.normal(0, 4)
    h, w = ids.shape
    M = cv2.getRotationMatrix2D((w / 2, h / 2), turn, zoom)
    M[:, 2] += [WIDTH / 2 - w / 2 + rng.uniform(-0.2, 0.2) * WIDTH, HEIGHT / 2 - h / 2 + rng.uniform(-0.2, 0.2) * HEIGHT]
    if rng.random() < 0.5:
        M = np.array([[-1, 0, WIDTH - 1], [0, 1, 0], [0, 0, 1.0]])[:2, :2] @ M + np.array([[0, 0, WIDTH - 1], [0, 0, 0]])
    picture = cv2.warpAffine(picture, M, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    ids = cv2.warpAffine(ids, M, (WIDTH, HEIGHT), flags=cv2.INTER_NEAREST)
    x = picture.astype(np.float32) / 255
    if rng.random() < 0.35:
        x = np.repeat(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=-1)
    elif rng.random() < 0.5:
        hsv = cv2.cvtColor(x, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + rng.uniform(-40, 40)) % 360
        hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(0.5, 1.4), 0, 1)
        x = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    x = np.clip(x, 0, 1) ** rng.uniform(0.7, 1.4) * rng.uniform(0.5, 1.4) + rng.uniform(-0.08, 0.08)
    if rng.random() < 0.35:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.4, 1.6))
    x = x + rng.normal(0, rng.uniform(0, 0.05), x.shape)
    return np.clip(x, 0, 1).astype(np.float32), ids


def targets(ids: Tensor) -> tuple[Tensor, Tensor]:
    """(N, H, W) ids to (N, 2, h, w) of person and head in each cell, and (N, 1, h, w) of which cells count."""
    layers = torch.stack([(ids == 1) | (ids == 2), ids == 2, ids == 3], 1).float()
    cells = nn.functional.max_pool2d(layers, STRIDE)
    return cells[:, :2], torch.maximum(1 - cells[:, 2:], cells[:, :1])


class Batches(IterableDataset[tuple[Tensor, Tensor]]):
    """Endless spoiled batches."""

    def __init__(self, pool: list[Path], photos: list[Path], count: int, seed: int) -> None:
        self.pool, self.photos, self.count, self.seed = pool, photos, count, seed

    def __iter__(self):  # type: ignore[no-untyped-def]
        cv2.setNumThreads(1)
        worker = get_worker_info()
        pools = [np.load(p) for p in self.pool]
        pictures, ids = (np.concatenate([p[k] for p in pools]) for k in ("pictures", "ids"))
        photos = photographs(self.photos)
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            made = [sample(pictures[k], ids[k], photos, rng) for k in rng.integers(0, len(pictures), self.count)]
            images = np.stack([m[0] for m in made]).transpose(0, 3, 1, 2).copy()
            yield torch.from_numpy(images), torch.from_numpy(np.stack([m[1] for m in made]))


def judge(net: PeopleNet, pool: Path, device: str = "cpu") -> dict[str, float]:
    """Share of person and head cells found, and of cells without people taken for some, at a score of 0.4."""
    data = np.load(pool)
    found = np.zeros((2, 2))
    false = np.zeros(2)
    net.eval()
    with torch.no_grad():
        for k in range(0, len(data["pictures"]), 16):
            x = torch.from_numpy(data["pictures"][k : k + 16]).to(device).permute(0, 3, 1, 2).float() / 255
            ids = torch.from_numpy(data["ids"][k : k + 16]).to(device)
            pad = (0, -x.shape[3] % 32, 0, -x.shape[2] % 32)
            x, ids = nn.functional.pad(x, pad), nn.functional.pad(ids, pad)
            said = net(x).sigmoid() > 0.4
            want, counts = targets(ids)
            for c in range(2):
                found[c] += [(said[:, c] & (want[:, c] > 0)).sum().item(), want[:, c].sum().item()]
            none = (want[:, 0] == 0) & (counts[:, 0] > 0)
            false += [(said[:, 0] & none).sum().item(), none.sum().item()]
    net.train()
    person, head = (round(float(a / b), 4) for a, b in found)
    return {"person": person, "head": head, "false": round(float(false[0] / false[1]), 5)}


def main() -> None:
    p = argparse.ArgumentParser(description="Train the network that finds people.")
    p.add_argument("--pool", type=Path, nargs="+", required=True)
    p.add_argument("--val", type=Path, required=True)
    p.add_argument("--photos", type=Path, nargs="+", required=True)
    p.add_argument("--minutes", type=float, default=15)
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--width", type=int, default=8)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--device", default="cpu", help="cpu or cuda")
    p.add_argument("--workers", type=int, default=1, help="processes that spoil pictures")
    p.add_argument("--start", type=Path, help="Weights to go on from.")
    p.add_argument("--out", type=Path, required=True)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    net = PeopleNet(args.width)
    if args.start:
        net.load_state_dict(torch.load(args.start, weights_only=True)["state"])
    net = net.train().to(args.device, memory_format=torch.channels_last)
    ema = copy.deepcopy(net)
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=1e-3)
    data = Batches(args.pool, args.photos, args.batch, 1)
    batches = iter(DataLoader(data, batch_size=None, num_workers=args.workers, prefetch_factor=4))
    begun, step, told = time.monotonic(), 0, time.monotonic()
    while (done := (time.monotonic() - begun) / (60 * args.minutes)) < 1:
        x, ids = (t.to(args.device, non_blocking=True) for t in next(batches))
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        with torch.autocast(args.device, dtype=torch.bfloat16):
            logits = net(x.to(memory_format=torch.channels_last))
        logits = logits.float()
        want, counts = targets(ids)
        weight = torch.tensor([2.0, 3.0], device=args.device)[:, None, None]
        bce = nn.functional.binary_cross_entropy_with_logits(logits, want, pos_weight=weight, reduction="none")
        score = logits[:, :1].sigmoid() * counts
        dice = 1 - (2 * (score * want[:, :1]).sum() + 1) / (score.sum() + want[:, :1].sum() + 1)
        loss = (bce * counts).mean() + 0.3 * dice
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        step += 1
        keep = min(0.995, step / (step + 20))
        with torch.no_grad():
            for a, b in zip(ema.state_dict().values(), net.state_dict().values()):
                a.mul_(keep).add_(b, alpha=1 - keep) if a.dtype.is_floating_point else a.copy_(b)
        if time.monotonic() - told > 60:
            told = time.monotonic()
            torch.save({"width": args.width, "state": {k: v.cpu() for k, v in ema.state_dict().items()}}, args.out)
            print(
                f"{done:.2f} step {step} loss {loss.item():.4f} {judge(copy.deepcopy(ema), args.val, args.device)}", flush=True
            )
    torch.save({"width": args.width, "state": {k: v.cpu() for k, v in ema.state_dict().items()}}, args.out)
    print(f"step {step} {judge(ema, args.val, args.device)}", flush=True)


if __name__ == "__main__":
    main()
