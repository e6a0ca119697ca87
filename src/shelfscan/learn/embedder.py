"""Training the embedder on a store's own products, from the shipped weights.

As in recognition, a product's gallery views are averaged into its prototype and each shelf view must find it among
all of the batch. Part of the batches are drawn packages, so that what was known is not lost.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from shelfscan.adapters._pack_embedder import PackEmbedder
from shelfscan.adapters.embed_onnx import OnnxEmbedder
from shelfscan.adapters.models import file_sha256, model_path
from shelfscan.errors import BadInput
from shelfscan.learn.export import write_embedder
from shelfscan.learn.loop import average, groups, has_bf16, resume, store
from shelfscan.learn.packnet import SIDE, PackNet
from shelfscan.learn.packs import PackSet, batch_of, drawn, view
from shelfscan.learn.unfold import unfold_embedder
from shelfscan.learn.workset import Report
from shelfscan.model.imaging import Rgb
from shelfscan.perception.recognise import Gallery, Recogniser
from shelfscan.ports import Embedder

GALLERY, SHELF = 2, 2
#: References a SKU when measuring, at most.
REFERENCES = 5
#: Held-out pictures that must be named right beyond those that were before: one alone is chance.
MIN_GAIN = 2
#: What may be lost of the drawn packages' top-1.
MAX_LOSS = 0.01
CHECKPOINT = "checkpoint.pt"
LICENCE = "the site's own: fine-tuned on its pictures from Apache-2.0 weights"
INPUT = "crops: N x 3 x 128 x 128 float32 RGB in 0..1, crops stretched to the square"


@dataclass(frozen=True, slots=True)
class EmbedSettings:
    """``products`` a batch; ``replay``: share of batches that are drawn packages; ``sharpness`` of the similarities."""

    minutes: float = 10.0
    epochs: int | None = None
    lr: float = 5e-4
    products: int = 32
    replay: float = 0.4
    sharpness: float = 16.0
    looks: int = 10
    patience: int = 4
    seed: int = 0
    threads: int = 2


@dataclass(frozen=True, slots=True)
class PackQuality:
    """Shares of pictures in 0..1. ``top1``: held-out pictures named right; ``named``: right and not taken for unknown;
    ``drawn_top1``: the same of drawn packages that no training sees. ``queries``: held-out pictures."""

    top1: float
    named: float
    drawn_top1: float
    queries: int

    def to_json(self) -> dict[str, float]:
        """As a manifest keeps it."""
        return asdict(self)


@dataclass(frozen=True)
class EmbedOutcome:
    """``against``: why the new weights may not replace those in use; empty when they may."""

    file: Path
    new: PackQuality
    used: PackQuality
    shipped: PackQuality
    steps: int
    seconds: float
    stopped_early: bool
    against: list[str]
    init_sha256: str


class Check:
    """The measurement: held-out pictures against the SKUs' other ones, and drawn packages that are always the same."""

    def __init__(self, data: PackSet, packs: int = 120) -> None:
        self.gallery = {p.sku: list(p.train[:REFERENCES]) for p in data.packs if p.train}
        self.queries = [(p.sku, picture) for p in data.packs for picture in p.held_out]
        rng = np.random.default_rng(77)
        fronts = [front for family in drawn("check", 9_000_000, packs) for front in family]
        self.drawn_gallery = {str(i): [view(f, rng, shelf=False)] for i, f in enumerate(fronts)}
        self.drawn_queries = [(str(i), view(f, rng, shelf=True)) for i, f in enumerate(fronts)]

    def measure(self, embedder: Embedder) -> PackQuality:
        """Measure an embedder."""
        top1, named = _right(embedder, self.gallery, self.queries)
        return PackQuality(top1, named, _right(embedder, self.drawn_gallery, self.drawn_queries)[0], len(self.queries))


def _right(embedder: Embedder, gallery: Mapping[str, Sequence[Rgb]], queries: Sequence[tuple[str, Rgb]]) -> tuple[float, float]:
    recogniser = Recogniser(embedder, Gallery.build(embedder, gallery))
    first = [c[0] for c in recogniser.recognise([q for _, q in queries])]
    right = [c.sku == sku for c, (sku, _) in zip(first, queries, strict=True)]
    sure = [r and c.score >= recogniser.unknown_below for r, c in zip(right, first, strict=True)]
    return round(float(np.mean(right)), 4), round(float(np.mean(sure)), 4)


def better(new: PackQuality, old: PackQuality) -> list[str]:
    """Why the new one may not replace the old one; nothing when it may."""
    reasons = []
    gained = round((new.top1 - old.top1) * new.queries)
    if gained < MIN_GAIN:
        reasons.append(f"of {new.queries} held-out pictures {gained} more are named right; at least {MIN_GAIN} are asked for")
    if new.named < old.named:
        reasons.append(f"named right and not unknown: {new.named:.3f} instead of {old.named:.3f}")
    if new.drawn_top1 < old.drawn_top1 - MAX_LOSS:
        reasons.append(f"top-1 of drawn packages fell from {old.drawn_top1:.3f} to {new.drawn_top1:.3f}")
    return reasons


def runner(net: PackNet, dim: int) -> Embedder:
    """The network as an `Embedder`, through the runtime's own resizing."""

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            return np.asarray(net(torch.from_numpy(batch)).numpy(), np.float32)

    return PackEmbedder(run, SIDE, dim, "the network in training")


class Views:
    """Batch ``step``: per product its gallery views, then its shelf views; a function of seed and step."""

    def __init__(self, data: PackSet, settings: EmbedSettings) -> None:
        self.settings = settings
        self.own = [[p.train] for p in data.packs if p.train]
        self.drawn = [[[front] for front in family] for family in drawn("replay", 8_000_000, 300)]

    def make(self, step: int) -> Tensor:
        """(P · (GALLERY + SHELF), 3, SIDE, SIDE) uint8."""
        s = self.settings
        rng = np.random.default_rng([s.seed, step])
        source = self.drawn if rng.random() < s.replay else self.own
        out = []
        for pictures in batch_of(source, rng, s.products):
            picks = rng.permutation(max(len(pictures), GALLERY + SHELF)) % len(pictures)
            out += [view(pictures[int(i)], rng, shelf=n >= GALLERY) for n, i in enumerate(picks[: GALLERY + SHELF])]
        return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2)


def train_embedder(
    data: PackSet, out: Path, settings: EmbedSettings, report: Report, *, name: str, site: Path | None, init: Path | None
) -> EmbedOutcome:
    """Train from ``init`` (by default the shipped weights) and compare with those in use; goes on when stopped.

    Raises `BadInput`, `MissingModel`.
    """
    start = init or model_path(name)
    if not start.is_file():
        raise BadInput(f"{start}: no such weights to start from")
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    report("drawing packages", 0.0)
    views, check = Views(data, settings), Check(data)
    net = unfold_embedder(start, views.make(1_000_000).float() / 255)
    sha = file_sha256(start)
    relevant = {k: v for k, v in asdict(settings).items() if k not in ("threads", "minutes", "epochs")}
    key = hashlib.sha256(json.dumps([sha, data.fingerprint, relevant], sort_keys=True).encode()).hexdigest()
    steps, spent, stopped = _fit(net, views, check, data, settings, out / CHECKPOINT, key, report)
    report("comparing", 1.0)
    folder = out / "candidate"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "embedder.onnx"
    write_embedder(net.eval(), file)
    entry = {
        "name": "embedder", "file": file.name, "sha256": file_sha256(file), "bytes": file.stat().st_size, "input": INPUT,
        "licence": LICENCE, "data": "see the training's own entry", "command": "shelfscan train embedder",
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps({"models": [entry]}, indent=1) + "\n", encoding="utf-8")
    new = check.measure(OnnxEmbedder(models=folder, threads=settings.threads))
    used = check.measure(OnnxEmbedder(name, models=site, threads=settings.threads))
    shipped = check.measure(OnnxEmbedder(name, threads=settings.threads)) if site is not None else used
    return EmbedOutcome(file, new, used, shipped, steps, spent, stopped, better(new, used), sha)


def _fit(
    net: PackNet, views: Views, check: Check, data: PackSet, s: EmbedSettings, checkpoint: Path, key: str, report: Report
) -> tuple[int, float, bool]:
    """Train in place; ``net`` ends as the best averaged weights. Returns steps, seconds and whether it stopped early."""
    net.to(memory_format=torch.channels_last)
    ema = copy.deepcopy(net).eval()
    optimiser = torch.optim.AdamW(groups(net), lr=s.lr, betas=(0.9, 0.99))
    dim = net.out.out_features
    steps, spent, since, stopped = 0, 0.0, 0, False
    best_score, best = -1.0, {k: v.clone() for k, v in ema.state_dict().items()}
    if (state := resume(checkpoint, key)) is not None:
        net.load_state_dict(state["net"])
        ema.load_state_dict(state["ema"])
        optimiser.load_state_dict(state["optimiser"])
        steps, spent, since, stopped = state["steps"], state["spent"], state["since"], state["stopped"]
        best_score, best = state["best_score"], state["best"]
    start = check.measure(runner(ema, dim)) if state is None else PackQuality(*state["start"])
    per_epoch = max(1, round(data.train / (s.products * GALLERY)))

    def progress() -> float:
        return steps / (s.epochs * per_epoch) if s.epochs is not None else spent / (s.minutes * 60)

    def save() -> None:
        whole = {
            "key": key, "net": net.state_dict(), "ema": ema.state_dict(), "optimiser": optimiser.state_dict(), "steps": steps,
            "spent": spent, "since": since, "stopped": stopped, "best_score": best_score, "best": best,
            "start": (start.top1, start.named, start.drawn_top1, start.queries),
        }  # fmt: skip
        store(checkpoint, whole)

    def look() -> PackQuality:
        nonlocal best_score, best, since
        q = check.measure(runner(ema, dim))
        # What would be refused in the end is not the best, however well it names the held-out pictures.
        score = q.top1 - (1.0 if q.drawn_top1 < start.drawn_top1 - MAX_LOSS else 0.0)
        since += 1
        if score > best_score:
            best_score, best, since = score, {k: v.clone() for k, v in ema.state_dict().items()}, 0
        return q

    now_q = look()
    done, last = progress(), time.monotonic()
    next_look = (math.floor(done * s.looks) + 1) / s.looks
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(views.make, steps)
        while done < 1 and not stopped:
            x = ahead.result().float().div_(255).contiguous(memory_format=torch.channels_last)
            ahead = pool.submit(views.make, steps + 1)
            rate = s.lr * min(1.0, (steps + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))
            for group in optimiser.param_groups:
                group["lr"] = rate
            loss = _loss(net, x, s.sharpness)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimiser.step()
            steps += 1
            average(ema, net, min(0.995, steps / (steps + 20)))
            now = time.monotonic()
            spent, last = spent + min(now - last, 30.0), now
            done = progress()
            if done >= next_look or done >= 1:
                next_look += 1 / s.looks
                now_q = look()
                stopped = since >= s.patience and 0.3 < done < 1
                save()
                last = time.monotonic()
            report(f"top-1 {now_q.top1:.3f}, best {max(best_score, 0.0):.3f}", min(done, 1.0))
    save()
    net.load_state_dict(best)
    return steps, spent, stopped


def _loss(net: PackNet, x: Tensor, sharpness: float) -> Tensor:
    net.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16()):
        out = net(x)
    products = len(x) // (GALLERY + SHELF)
    out = out.float().view(products, GALLERY + SHELF, -1)
    prototypes = F.normalize(out[:, :GALLERY].mean(1), dim=1)
    queries = out[:, GALLERY:].flatten(0, 1)
    goal = torch.arange(products).repeat_interleave(SHELF)
    logits = sharpness * (queries @ prototypes.t())
    return F.cross_entropy(logits - 0.1 * sharpness * F.one_hot(goal, products), goal)
