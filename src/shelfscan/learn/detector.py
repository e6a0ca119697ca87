"""Training the detector on a store's own pictures, from the shipped weights.

Classes that no label speaks of stay as the shipped weights see them: what those find of them in the training pictures
counts as labelled. Everything is a function of settings and step, so a training that was stopped goes on as if it had
not been.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shelfscan.adapters._shelf_detector import DetectorSettings, ShelfDetector
from shelfscan.errors import MissingModel
from shelfscan.learn.augment import Crop, crop, mosaic, spoil
from shelfscan.learn.judge import quick_ap
from shelfscan.learn.loop import average, groups, has_bf16, resume, store
from shelfscan.learn.loss import loss
from shelfscan.learn.net import Conv, ShelfNet, cells
from shelfscan.learn.unfold import unfold_detector
from shelfscan.learn.workset import Sample, Workset
from shelfscan.model.detections import DetectionClass
from shelfscan.ports import Detector

#: Told (what goes on, done in 0..1).
Report = Callable[[str, float], None]
#: Scores from here on are looked at while judging.
SENSITIVE = 0.02
#: The last part of every training, in which the rate falls to nothing: what was learned settles then.
COOLING = 0.25
#: Held-out pictures that are looked at during training; all of them are at its end.
QUICK = 24


@dataclass(frozen=True, slots=True)
class FitSettings:
    """``minutes`` of training, or ``epochs`` (each picture seen four times) when given; ``zoom`` of working copies.

    ``norm``: ``unfold`` trains batch normalisation made anew from the folded weights, ``frozen`` keeps its statistics,
    ``fused`` trains the folded network. ``patience``: looks at the held-out pictures without gain before the last part
    (`COOLING`) begins early; averaged weights often gain there once more, so it is never left out.
    """

    minutes: float = 10.0
    epochs: int | None = None
    batch: int = 8
    size: int = 512
    lr: float = 1e-3
    zoom: tuple[float, float] = (0.35, 0.9)
    strength: float = 0.8
    mosaics: float = 0.0
    norm: str = "unfold"
    looks: int = 20
    patience: int = 6
    seed: int = 0
    threads: int = 2


def minutes_for(pictures: int) -> float:
    """Training time that so many pictures are worth: ten minutes for fifty, an hour and a half for five hundred."""
    return min(110.0, max(10.0, 0.2 * pictures))


@dataclass(frozen=True)
class Fitted:
    """The best averaged weights, and how they came about."""

    net: ShelfNet
    best_ap: float
    steps: int
    seconds: float
    stopped_early: bool
    history: list[dict[str, float]]


def starting_net(init: Path, crops: Tensor, norm: str) -> ShelfNet:
    """The network of an ``.onnx`` file or of a checkpoint (``.pt``). Raises `MissingModel` when it is neither."""
    if init.suffix == ".pt":
        try:
            state = torch.load(init, weights_only=True, map_location="cpu")
            net = ShelfNet(int(state["width"]))
            net.load_state_dict(state["ema"])
        except Exception as e:  # torch raises whatever it meets in the file
            raise MissingModel(f"{init}: not a checkpoint of a detector: {str(e).splitlines()[0]}") from e
    else:
        net = unfold_detector(init, crops)
    if norm == "fused":
        from shelfscan.learn.export import fuse

        with torch.no_grad():
            fuse(net.eval())
    return net


def runner(net: ShelfNet) -> Detector:
    """The network as a `Detector` with a threshold near zero, through the runtime's own resizing and decoding."""

    def run(blob: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        device = next(net.parameters()).device
        with torch.no_grad():
            distances, logits = net(torch.from_numpy(blob).to(device).contiguous(memory_format=torch.channels_last))
        return distances.cpu().numpy(), logits.sigmoid().cpu().numpy()

    return ShelfDetector(run, DetectorSettings((SENSITIVE,) * len(DetectionClass)), "the network in training")


def with_drafts(work: Workset, detector: Detector, report: Report) -> tuple[Sample, ...]:
    """Training pictures with ``detector``'s boxes (at its own thresholds) for classes that the labels never speak of."""
    silent = [c for c in DetectionClass if not work.boxes(c)]
    if not silent:
        return work.train
    out = []
    for n, s in enumerate(work.train):
        report("keeping what is known of other classes", n / len(work.train))
        found = detector.detect(s.read())
        extra = found.where(np.isin(found.classes, [int(c) for c in silent]))
        boxes, classes = np.concatenate([s.boxes_px, extra.boxes_px]), np.concatenate([s.classes, extra.classes])
        out.append(replace(s, boxes_px=boxes.astype(np.float32), classes=classes))
    return tuple(out)


class Batches:
    """Batch ``step`` of a training: a function of seed and step, made ahead by one thread."""

    def __init__(self, samples: Sequence[Sample], settings: FitSettings) -> None:
        self.samples, self.settings = samples, settings

    def make(self, step: int) -> list[Crop]:
        """Spoiled crops, two of each picture that is read (reading is the dear part)."""
        s = self.settings
        rng = np.random.default_rng([s.seed, step])
        out: list[Crop] = []
        while len(out) < s.batch:
            # Every picture once before any comes again.
            place = step * math.ceil(s.batch / 2) + len(out) // 2
            order = np.random.default_rng([s.seed, 7, place // len(self.samples)]).permutation(len(self.samples))
            a, b = self._two(self.samples[int(order[place % len(order)])], rng)
            if rng.random() < s.mosaics:
                c, d = self._two(self.samples[int(rng.integers(len(self.samples)))], rng)
                a, b = mosaic([a, c, b, d], rng), mosaic([d, b, c, a], rng)
            out += [a, b]
        return [Crop(spoil(c.picture, rng, s.strength), c.boxes_px, c.classes) for c in out[: s.batch]]

    def _two(self, sample: Sample, rng: np.random.Generator) -> tuple[Crop, Crop]:
        picture, s = sample.read(), self.settings
        one, two = (crop(picture, sample.boxes_px, sample.classes, rng, s.size, s.zoom) for _ in range(2))
        return one, two

    def ahead(self, first: int) -> Generator[tuple[Tensor, list[tuple[Tensor, Tensor]]], None, None]:
        """Batches from step ``first`` on, the next two in the making."""
        with ThreadPoolExecutor(1) as pool:
            waiting = [pool.submit(self.make, first + i) for i in range(2)]
            step = first + 2
            try:
                while True:
                    crops = waiting.pop(0).result()
                    waiting.append(pool.submit(self.make, step))
                    step += 1
                    x = torch.from_numpy(np.stack([c.picture for c in crops])).permute(0, 3, 1, 2)
                    yield x, [(torch.from_numpy(c.boxes_px), torch.from_numpy(c.classes)) for c in crops]
            finally:
                for f in waiting:
                    f.cancel()


def statistics_crops(samples: Sequence[Sample], settings: FitSettings) -> Tensor:
    """(16, 3, S, S) crops in 0..1 of training pictures: what normalisation is made from."""
    crops = [c for i in range(math.ceil(16 / settings.batch)) for c in Batches(samples, settings).make(1_000_000 + i)]
    return torch.from_numpy(np.stack([c.picture for c in crops])[:16]).permute(0, 3, 1, 2).float() / 255


def fit(
    work: Workset, samples: Sequence[Sample], net: ShelfNet, settings: FitSettings, checkpoint: Path, key: str, report: Report
) -> Fitted:
    """Train ``net`` on ``samples``; goes on from ``checkpoint`` when that is of the same ``key`` (data, start, settings).

    Raises `BadInput` for a checkpoint that cannot be read.
    """
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = net.to(device=device, memory_format=torch.channels_last)
    ema = copy.deepcopy(net).eval()
    optimiser = torch.optim.AdamW(groups(net), lr=settings.lr, betas=(0.9, 0.99))
    steps, spent, since, skipped = 0, 0.0, 0, 0.0
    history: list[dict[str, float]] = []
    best_ap, best = -1.0, {k: v.clone() for k, v in ema.state_dict().items()}
    stopped = False
    state = resume(checkpoint, key)
    if state is not None:
        net.load_state_dict(state["net"])
        ema.load_state_dict(state["ema"])
        optimiser.load_state_dict(state["optimiser"])
        steps, spent, since, history = state["steps"], state["spent"], state["since"], state["history"]
        best_ap, best, stopped, skipped = state["best_ap"], state["best"], state["stopped"], state["skipped"]
    per_epoch = max(1, round(4 * len(samples) / settings.batch))
    budget = settings.minutes * 60
    quick = work.held_out[:QUICK]

    def progress() -> float:
        made = steps / (settings.epochs * per_epoch) if settings.epochs is not None else spent / budget
        return made + skipped

    def save() -> None:
        whole = {
            "key": key, "net": net.state_dict(), "ema": ema.state_dict(), "optimiser": optimiser.state_dict(),
            "steps": steps, "spent": spent, "since": since, "history": history, "best_ap": best_ap, "best": best,
            "stopped": stopped, "skipped": skipped, "width": net.width, "settings": asdict(settings),
        }  # fmt: skip
        store(checkpoint, whole)

    def look() -> None:
        nonlocal best_ap, best, since
        ap, ap50 = quick_ap(runner(ema), quick)
        history.append({"steps": steps, "seconds": round(spent, 1), "ap": ap, "ap50": ap50})
        since += 1
        if ap > best_ap:
            best_ap, best, since = ap, {k: v.clone() for k, v in ema.state_dict().items()}, 0

    if not history:
        look()
    points, strides = cells(settings.size, settings.size, device)
    batches = Batches(samples, settings).ahead(steps)
    done, last = progress(), time.monotonic()
    next_look = (math.floor(done * settings.looks) + 1) / settings.looks
    while done < 1:
        x, truths = next(batches)
        rate = settings.lr * min(1.0, (steps + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))
        for group in optimiser.param_groups:
            group["lr"] = rate
        _train_mode(net, settings.norm)
        images = x.to(device).float().div_(255).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" or has_bf16()):
            distances, logits = net(images)
        cls, box = loss(distances, logits, points, strides, [(b.to(device), c.to(device)) for b, c in truths])
        optimiser.zero_grad(set_to_none=True)
        (cls + 3.0 * box).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimiser.step()
        steps += 1
        average(ema, net, min(0.995, steps / (steps + 20)))
        now = time.monotonic()
        # A machine that slept has not trained.
        spent, last = spent + min(now - last, 30.0), now
        done = progress()
        if done >= next_look or done >= 1:
            look()
            if since >= settings.patience and 0.3 < done < 1 - COOLING and not stopped:
                stopped, skipped = True, 1 - COOLING - done
                done = progress()
            next_look = (math.floor(done * settings.looks + 1e-6) + 1) / settings.looks
            save()
            last = time.monotonic()  # looking is not training
        report(f"AP {history[-1]['ap']:.3f}, best {best_ap:.3f}", min(done, 1.0))
    batches.close()
    save()
    ema.load_state_dict(best)
    return Fitted(ema.eval().cpu(), best_ap, steps, spent, stopped, history)


def _train_mode(net: ShelfNet, norm: str) -> None:
    net.train()
    if norm == "frozen":
        for module in net.modules():
            if isinstance(module, Conv):
                module.bn.eval()
