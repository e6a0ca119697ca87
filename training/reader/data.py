"""Endless batches of rendered and photographed tags with their targets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from shelfscan.perception.price_map import CLASSES, HEIGHT_PX, STRIDE, WIDTH_PX
from training.reader.render import IGNORE, Fonts, Picture, flat_tag, spoil

GRID = (HEIGHT_PX // STRIDE, WIDTH_PX // STRIDE)
#: Letters lower than this are not asked for.
LEAST_PX = 9.0


def targets(
    rows: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """What `training.reader.net.loss` wants, of one picture, from truth rows of `render`."""
    gh, gw = GRID
    goal = np.zeros((CLASSES, gh, gw), np.float32)
    weight = np.ones((1, gh, gw), np.float32)
    boxes = np.zeros((4, gh, gw), np.float32)
    roles = np.full((gh, gw), -1, np.int64)
    near = np.full((gh, gw), 1e9, np.float32)
    ys, xs = np.mgrid[:gh, :gw].astype(np.float32)
    # Other texts first: where they meet the price, the price counts.
    for x0, y0, x1, y1, cls, role in sorted(rows.tolist(), key=lambda r: -r[5]):
        cx, cy, w, h = (x0 + x1) / 2 / STRIDE - 0.5, (y0 + y1) / 2 / STRIDE - 0.5, (x1 - x0) / STRIDE, (y1 - y0) / STRIDE
        a, b, c, d = int(max(0, x0 // STRIDE)), int(max(0, y0 // STRIDE)), int(np.ceil(x1 / STRIDE)), int(np.ceil(y1 / STRIDE))
        mark = cls == 10
        if cls == IGNORE or (h * STRIDE < LEAST_PX and not mark) or (mark and h * STRIDE < 2.5):
            weight[0, b:d, a:c] = 0
            continue
        weight[0, b:d, a:c] = 1
        i, j = int(np.clip(round(cx), 0, gw - 1)), int(np.clip(round(cy), 0, gh - 1))
        sx, sy = max(0.45, w / 7), max(0.45, h / 9)
        blob = np.exp(-(((xs - i) / sx) ** 2 + ((ys - j) / sy) ** 2) / 2)
        blob[blob < 0.02] = 0
        np.maximum(goal[int(cls)], blob, out=goal[int(cls)])
        goal[int(cls), j, i] = 1.0
        distance = ((xs - cx) / max(w, 1)) ** 2 + ((ys - cy) / max(h, 1)) ** 2
        core = ((np.abs(xs - i) <= max(1.0, w / 5)) & (np.abs(ys - j) <= max(1.0, h / 6))) & (distance < near)
        near[core] = distance[core]
        roles[core] = int(role)
        boxes[0][core] = (cx - xs)[core]
        boxes[1][core] = (cy - ys)[core]
        boxes[2][core] = np.log(max(w, 0.3))
        boxes[3][core] = np.log(max(h, 0.3))
    return goal, weight, boxes, roles


class Pool:
    """Photographed tags with marked digits, and backgrounds, as `training.reader.real` writes them."""

    def __init__(self, folder: Path) -> None:
        self.backgrounds: list[Picture] = []
        self.tags: list[tuple[Picture, NDArray[np.float64], NDArray[np.float64]]] = []
        sheet = folder / "backgrounds.jpg"
        if sheet.exists():
            s = cv2.imread(str(sheet))[..., ::-1]
            n = 96
            self.backgrounds = [
                s[y : y + n, x : x + n].copy() for y in range(0, s.shape[0], n) for x in range(0, s.shape[1], n)
            ]
        if (folder / "tags.npz").exists():
            z = np.load(folder / "tags.npz")
            for i in range(int(z["count"])):
                picture = cv2.imdecode(z[f"jpeg{i}"], cv2.IMREAD_COLOR)[..., ::-1].copy()
                self.tags.append((picture, z[f"rows{i}"], z[f"tag{i}"]))


class Tags(IterableDataset[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]):
    """Batches: pictures (N, 3, H, W) uint8 and the four targets; ``real``: share of photographed tags."""

    def __init__(self, folder: Path, batch: int, real: float, seed: int, turns: int = 3) -> None:
        self.folder, self.batch, self.real, self.seed, self.turns = folder, batch, real, seed, turns

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]:
        cv2.setNumThreads(1)
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0, int(time.time())])
        fonts, pool = Fonts(self.folder / "fonts"), Pool(self.folder)
        recent: list[tuple[Picture, NDArray[np.float64]]] = []
        while True:
            xs, ts = [], []
            for _ in range(self.batch):
                if pool.tags and rng.random() < self.real:
                    img, rows, tag = pool.tags[int(rng.integers(len(pool.tags)))]
                    x, y = spoil(rng, img, rows, pool.backgrounds, gentle=True, tag=tag)
                else:
                    # A drawn tag is photographed several times, not in a row.
                    if len(recent) < 64 or rng.random() < 1.0 / self.turns:
                        recent.append(flat_tag(rng, fonts))
                        if len(recent) > 256:
                            recent.pop(int(rng.integers(len(recent))))
                    img, rows = recent[int(rng.integers(len(recent)))]
                    x, y = spoil(rng, img, rows, pool.backgrounds)
                xs.append(x)
                ts.append(targets(y))
            pictures = torch.from_numpy(np.stack(xs)).permute(0, 3, 1, 2)
            yield pictures, *(torch.from_numpy(np.stack(t)) for t in zip(*ts, strict=True))  # type: ignore[misc]
