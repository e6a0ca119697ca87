"""Crops cut from rendered training stores, by product: shelf views with their surroundings, and gallery pictures.

A pool is a folder with ``index.csv`` (file, sku, family, kind, x0, y0, x1, y1): ``kind`` is shelf or gallery, the box is
the product's in the crop, which is wider than the product so that training can place the cut itself.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from training.detector.art import Image
from training.embedder.data import SIDE, spoil


class Renders:
    """Random access to a pool. Product names must be unique over its stores (``<store>/<sku>``)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shelf: dict[str, list[tuple[str, list[float]]]] = defaultdict(list)
        self.gallery: dict[str, list[tuple[str, list[float]]]] = defaultdict(list)
        family: dict[str, list[str]] = defaultdict(list)
        for row in csv.DictReader((folder / "index.csv").open()):
            sku = row["sku"]
            box = [float(row[k]) for k in ("x0", "y0", "x1", "y1")]
            (self.shelf if row["kind"] == "shelf" else self.gallery)[sku].append((row["file"], box))
            if sku not in family[row["family"]]:
                family[row["family"]].append(sku)
        self.families = [[s for s in f if self.shelf[s] and self.gallery[s]] for f in family.values()]
        self.families = [f for f in self.families if f]

    def classes(self, rng: np.random.Generator, count: int) -> list[str]:
        """``count`` products, whole families at a time, none twice."""
        out: list[str] = []
        for i in rng.permutation(len(self.families)):
            out += self.families[int(i)]
            if len(out) >= count:
                break
        return out[:count]

    def views(self, sku: str, rng: np.random.Generator, gallery: int, shelf: int) -> list[Image]:
        """``gallery`` gallery views, then ``shelf`` shelf views, each (SIDE, SIDE, 3) uint8 RGB."""
        pick = [self.gallery[sku][int(i)] for i in rng.integers(len(self.gallery[sku]), size=gallery)]
        out = [spoil(self._cut(f, b, rng, 0.02, 160), rng, True) for f, b in pick]
        pick = [self.shelf[sku][int(i)] for i in rng.integers(len(self.shelf[sku]), size=shelf)]
        return out + [spoil(self._cut(f, b, rng, 0.06, int(rng.uniform(45, 170))), rng, True) for f, b in pick]

    def _cut(self, name: str, box: list[float], rng: np.random.Generator, slack: float, seen: int) -> Image:
        img = cv2.imread(str(self.folder / name))[..., ::-1]
        w, h = box[2] - box[0], box[3] - box[1]
        j = rng.normal(0, slack / 2, 4).clip(-slack, slack) * (w, h, w, h)
        x0, y0, x1, y1 = (float(b + d) for b, d in zip(box, j))
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, img.shape[1]), min(y1, img.shape[0])
        cut = img[int(y0) : max(int(y1), int(y0) + 4), int(x0) : max(int(x1), int(x0) + 4)]
        side = min(seen, SIDE)
        return cv2.resize(cut, (side, side), interpolation=cv2.INTER_AREA if min(cut.shape[:2]) > side else cv2.INTER_LINEAR)


def whole(path: Path) -> Image:
    """A picture as (SIDE, SIDE, 3) uint8 RGB."""
    return cv2.resize(cv2.imread(str(path))[..., ::-1], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
