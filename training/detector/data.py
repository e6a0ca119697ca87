"""Pools of labelled pictures on disk, and the crops that training takes from them.

A pool is a folder of ``<number>.jpg`` with ``<number>.npz`` (boxes (N, 4) float32 pixels, classes (N,) int64, -1 to be
ignored). Pools are made once (``python -m training.detector.data``), read many times, and may grow while they are read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.detector.art import Art, Image, photographed, procedural
from training.detector.compose import IGNORE, PRODUCT, Sample, compose, default_arts, spoil
from training.detector.rich import rich_arts


def save(sample: Sample, folder: Path, number: int) -> None:
    """Write one sample; the picture last, so that a reader never finds a picture without labels."""
    np.savez(folder / f"{number:06d}.npz", boxes=sample.boxes, classes=sample.classes)
    part = folder / f"{number:06d}.part.jpg"
    cv2.imwrite(str(part), sample.picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 94])
    part.rename(folder / f"{number:06d}.jpg")


def load(path: Path) -> Sample:
    """The sample whose picture is ``path``."""
    data = np.load(path.with_suffix(".npz"))
    return Sample(cv2.imread(str(path))[..., ::-1], data["boxes"], data["classes"])


def pictures(folders: list[Path]) -> list[Path]:
    """All finished pictures of some pools, in order."""
    return [p for f in folders for p in sorted(f.glob("*.jpg")) if p.name.count(".") == 1]


def crop(sample: Sample, rng: np.random.Generator, size: int, zoom: tuple[float, float]) -> Sample:
    """A square crop at a random zoom, mirrored half of the time; boxes cut at its edges.

    A product or tag that keeps less than 30 % of its box is to be ignored (the label rule of `compose`).
    """
    h, w = sample.picture.shape[:2]
    scale = float(np.exp(rng.uniform(np.log(zoom[0]), np.log(zoom[1]))))
    stretch = float(np.exp(rng.normal(0, 0.05)))
    sx, sy = scale * stretch, scale / stretch
    need_w, need_h = size / sx, size / sy
    x0 = rng.uniform(min(0, w - need_w), max(0, w - need_w))
    y0 = rng.uniform(min(0, h - need_h), max(0, h - need_h))
    mirror = rng.random() < 0.5
    m = np.array([[sx, 0, -x0 * sx], [0, sy, -y0 * sy]])
    if mirror:
        m[0] = [-sx, 0, size + x0 * sx]
    interpolation = cv2.INTER_AREA if scale < 0.7 else cv2.INTER_LINEAR
    if scale < 0.7:  # average first: warpAffine alone would alias
        small = cv2.resize(sample.picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        k = m.copy()
        k[:, :2] /= scale
        img = cv2.warpAffine(small, k, (size, size), borderValue=(114, 114, 114))
    else:
        img = cv2.warpAffine(sample.picture, m, (size, size), flags=interpolation, borderValue=(114, 114, 114))
    boxes = sample.boxes.copy()
    boxes[:, [0, 2]] = boxes[:, [0, 2]] * m[0, 0] + m[0, 2]
    boxes[:, [1, 3]] = boxes[:, [1, 3]] * m[1, 1] + m[1, 2]
    if mirror:
        boxes[:, [0, 2]] = boxes[:, [2, 0]]
    whole = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    boxes = boxes.clip(0, size)
    sides = np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    left = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    keep = sides > 2
    classes = np.where((left < 0.3 * whole) | (sides < 6), IGNORE, sample.classes)
    return Sample(img, boxes[keep].astype(np.float32), classes[keep])


def restocked(sample: Sample, rng: np.random.Generator, fronts: NDArray[np.uint8]) -> Sample:
    """The picture with some of its products replaced by other fronts (N, 3, h, w), in the light of the place.

    Few photographs are labelled; their shelves, lenses and lamps are worth keeping while what stands there changes.
    """
    picture = sample.picture.copy()
    h, w = picture.shape[:2]
    share = rng.uniform(0.1, 0.9)
    order = np.lexsort((sample.boxes[:, 0], (sample.boxes[:, 3] / max(8.0, 0.05 * h)).round()))
    which = int(rng.integers(len(fronts)))
    for i in order.tolist():
        if sample.classes[i] != PRODUCT or rng.random() > share:
            continue
        x0, y0, x1, y1 = sample.boxes[i].round().astype(int).clip(0, (w, h, w, h)).tolist()
        if min(x1 - x0, y1 - y0) < 8:
            continue
        if rng.random() < 0.5:
            which = int(rng.integers(len(fronts)))
        here = picture[y0:y1, x0:x1].astype(np.float32)
        front = fronts[which].transpose(1, 2, 0)
        front = cv2.resize(front, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA).astype(np.float32)
        light = cv2.GaussianBlur(here.mean(2), (0, 0), max(2.0, 0.3 * (x1 - x0)))
        level = (light.mean() + 8) / (front.mean() + 8)
        light = (light / max(1.0, float(light.mean()))).clip(0.6, 1.5) * np.float32(level ** rng.uniform(0.2, 0.8))
        picture[y0:y1, x0:x1] = (front * light[..., None]).clip(0, 255).astype(np.uint8)
    return Sample(picture, sample.boxes, sample.classes)


def batch(
    paths: list[Path],
    rng: np.random.Generator,
    count: int,
    size: int,
    zoom: tuple[float, float],
    strength: float,
    fronts: NDArray[np.uint8] | None = None,
) -> list[Sample]:
    """``count`` spoiled crops, two from each picture read (reading is the dear part); ``fronts``: for `restocked`."""
    out: list[Sample] = []
    while len(out) < count:
        whole = load(paths[int(rng.integers(len(paths)))])
        if fronts is not None and rng.random() < 0.6:
            whole = restocked(whole, rng, fronts)
        for _ in range(2):
            out.append(spoil(crop(whole, rng, size, zoom), rng, strength))
    return out[:count]


def art_maker(data: Path | None) -> tuple[object, list[Image]]:
    """How composed shelves get their packages: procedural ones, simulator packs of the name space ``train``, photo textures."""
    products, tags = photographed(data)
    packs: list[Art] = []
    try:
        from training.detector.packs import pack_arts

        packs = pack_arts(seed=7_000_000, count=600)
    except ImportError as e:
        print(f"without simulator packs: {e}", file=sys.stderr)

    def make(rng: np.random.Generator) -> list[Art]:
        out = default_arts(rng) if rng.random() < 0.25 else rich_arts(rng, products)
        if packs and rng.random() < 0.35:
            first = int(rng.integers(len(packs)))
            out = [*out[: int(rng.integers(1, 12))], *(packs[(first + i) % len(packs)] for i in range(30))]
        if products and rng.random() < 0.6:
            for _ in range(int(rng.integers(2, 24))):
                texture = products[int(rng.integers(len(products)))]
                like = procedural(rng)
                h = like.height_m if like.shape != "multipack" else 0.2
                out.append(Art(texture, "box", h * texture.shape[1] / texture.shape[0], h, like.depth_m))
        return out

    return make, tags


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a pool of composed shelf pictures.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, help="folder with packshots/ and price_tags/ (textures)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    make, tags = art_maker(args.data)
    for i in range(args.count):
        if (args.out / f"{i:06d}.jpg").exists():
            continue
        rng = np.random.default_rng([args.seed, i])
        save(compose(rng, make, tags), args.out, i)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
