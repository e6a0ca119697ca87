"""More packs to tell apart: printed fronts with real fonts (`training.detector.rich`) and products of labelled photographs.

A product cut from a photograph is a class of its own: its views are that one cut, placed, lit and spoiled anew. Two cuts of
one photograph may be the same product, so a batch never holds two of one photograph.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from training.detector.art import Image
from training.detector.art import photographed as photographs
from training.detector.compose import PRODUCT
from training.detector.real import samples
from training.detector.rich import rich_arts
from training.embedder.data import place, spoil

TEXTURE_PX = 200
LEAST_PX = 36


class Textures:
    """Fronts (h, w, 4) uint8 RGBA in groups; what stands beside a front is of its group."""

    def __init__(self, groups: list[list[Image]], one_a_group: bool) -> None:
        self.groups = [g for g in groups if g]
        self.one_a_group = one_a_group

    def classes(self, rng: np.random.Generator, count: int) -> list[tuple[int, int]]:
        """(group, front) of at most ``count`` fronts: whole groups, or one of each."""
        out: list[tuple[int, int]] = []
        for g in rng.permutation(len(self.groups)).tolist():
            n = len(self.groups[g])
            out += [(g, int(rng.integers(n)))] if self.one_a_group else [(g, k) for k in range(n)]
            if len(out) >= count:
                break
        return out[:count]

    def views(self, which: tuple[int, int], rng: np.random.Generator, gallery: int, shelf: int) -> list[Image]:
        """``gallery`` gallery views, then ``shelf`` shelf views, each (SIDE, SIDE, 3) uint8 RGB."""
        group = self.groups[which[0]]
        front = group[which[1]]
        out = []
        for n in range(gallery + shelf):
            beside = [front if rng.random() < 0.5 else group[int(rng.integers(len(group)))] for _ in range(2)]
            out.append(spoil(place(front, beside, rng, n < gallery), rng, n < gallery))
        return out


def _fitted(front: Image) -> Image:
    scale = TEXTURE_PX / max(front.shape[:2])
    if scale >= 1:
        return front
    return np.asarray(cv2.resize(front, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def printed(count: int, seed: int, data: Path | None) -> Textures:
    """Drawn fronts, by families of one colour."""
    rng = np.random.default_rng(seed)
    photos = photographs(data)[0] if data else []
    groups: list[list[Image]] = []
    total = 0
    while total < count:
        arts = rich_arts(rng, photos, 6)
        groups.append([_fitted(a.texture) for a in arts])
        total += len(arts)
    return Textures(groups, one_a_group=False)


def photographed(labels: Path, data: Path) -> Textures:
    """Products of the labelled photographs, one group a photograph; held-out frames are left out."""
    groups = []
    for file in sorted(labels.glob("*.json")):
        for sample in samples(file, data, held_out=False):
            group = []
            for x0, y0, x1, y1 in sample.boxes[sample.classes == PRODUCT].round().astype(int).tolist():
                cut = sample.picture[max(0, y0) : y1, max(0, x0) : x1]
                if min(cut.shape[:2]) >= LEAST_PX:
                    group.append(_fitted(np.dstack([cut, np.full(cut.shape[:2], 255, np.uint8)])))
            groups.append(group)
    return Textures(groups, one_a_group=True)
