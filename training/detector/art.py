"""Textures for composed shelves: procedural packages and tags, and crops of photographs whose licence allows training.

A texture is (h, w, 4) uint8 RGBA. These packages are deliberately other ones than the simulator's: variety is what
a detector learns from.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
_FONTS = (0, 1, 2, 3, 4, 5, 6, 7)
_LETTERS = list("ABCDEFGHIJKLMNOPRSTUVZaeiounrstl ")


@dataclass(frozen=True)
class Art:
    """How one package looks from the front: ``shape`` is box, can, bottle or bag; sizes in metres."""

    texture: Image
    shape: str
    width_m: float
    height_m: float
    depth_m: float


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    hsv = np.uint8([[[rng.integers(180), int(255 * rng.beta(2, 1.5)), int(255 * rng.beta(3, 1.3))]]])
    r, g, b = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0]
    return int(r), int(g), int(b)


def _word(rng: np.random.Generator, low: int = 3, high: int = 10) -> str:
    return "".join(rng.choice(_LETTERS, rng.integers(low, high)))


def _text(img: Image, rng: np.random.Generator, box: tuple[int, int, int, int], colour: tuple[int, int, int]) -> None:
    x0, y0, x1, y1 = box
    word = _word(rng)
    font = int(rng.choice(_FONTS))
    (w, h), _ = cv2.getTextSize(word, font, 1.0, 2)
    scale = min((x1 - x0) / max(w, 1), (y1 - y0) / max(h, 1))
    cv2.putText(img, word, (x0, y1), font, scale, colour, max(1, int(scale * rng.uniform(1.5, 5))), cv2.LINE_AA)


def paint(rng: np.random.Generator, w: int, h: int, base: tuple[int, int, int] | None = None) -> Image:
    """A printed surface (h, w, 3): bands, blobs, gradients, words."""
    a = np.array(base or _colour(rng), np.float32)
    b = np.array(_colour(rng), np.float32)
    t = np.linspace(0, 1, h, dtype=np.float32)[:, None, None]
    img = np.broadcast_to(a + (b - a) * t * rng.choice([0.0, 0.0, 0.4, 1.0]), (h, w, 3)).clip(0, 255).astype(np.uint8).copy()
    for _ in range(rng.integers(0, 4)):
        c = _colour(rng)
        kind = rng.integers(4)
        if kind == 0:
            y0 = int(rng.integers(0, h))
            cv2.rectangle(img, (0, y0), (w, y0 + int(h * rng.uniform(0.05, 0.4))), c, -1)
        elif kind == 1:
            cv2.ellipse(
                img,
                (int(w * rng.uniform(0.2, 0.8)), int(h * rng.uniform(0.2, 0.8))),
                (int(w * rng.uniform(0.1, 0.6)), int(h * rng.uniform(0.05, 0.3))),
                float(rng.uniform(0, 180)),
                0,
                360,
                c,
                -1,
                cv2.LINE_AA,
            )
        elif kind == 2:
            points = np.stack([rng.integers(0, w, 4), rng.integers(0, h, 4)], 1).astype(np.int32)
            cv2.fillConvexPoly(img, cv2.convexHull(points), c, cv2.LINE_AA)
        else:
            x0 = int(rng.integers(0, w))
            cv2.rectangle(img, (x0, 0), (x0 + int(w * rng.uniform(0.05, 0.3)), h), c, -1)
    for _ in range(rng.integers(1, 5)):
        y = int(h * rng.uniform(0.05, 0.9))
        x = int(w * rng.uniform(0.02, 0.3))
        _text(img, rng, (x, y, int(w * rng.uniform(0.6, 1.0)), y + int(h * rng.uniform(0.04, 0.2)) + 3), _colour(rng))
    for _ in range(rng.integers(0, 3)):  # small print
        y = int(h * rng.uniform(0.5, 0.95))
        for i in range(rng.integers(2, 6)):
            cv2.line(img, (int(w * 0.1), y + 4 * i), (int(w * rng.uniform(0.4, 0.9)), y + 4 * i), _colour(rng), 1)
    return img


def _mask(shape: str, w: int, h: int, rng: np.random.Generator) -> Image:
    mask = np.full((h, w), 255, np.uint8)
    if shape == "bottle":
        neck, shoulder = rng.uniform(0.22, 0.5), rng.uniform(0.12, 0.38)
        y = np.linspace(0, 1, h)
        half = np.where(y < shoulder * 0.6, neck, 1.0)
        ramp = (y >= shoulder * 0.6) & (y < shoulder)
        half = np.where(ramp, neck + (1 - neck) * np.sin((y - shoulder * 0.6) / (shoulder * 0.4) * np.pi / 2), half)
        waist = rng.uniform(0, 0.12) * np.exp(-(((y - rng.uniform(0.5, 0.7)) / 0.1) ** 2))
        half = half - waist * (y > shoulder)
        x = np.abs(np.linspace(-1, 1, w))[None]
        mask = np.where(x <= half[:, None], 255, 0).astype(np.uint8)
    elif shape == "bag":
        pts = []
        wobble = rng.uniform(0.0, 0.05, 24)
        for i, (u, v) in enumerate(
            [(t, 0.0) for t in np.linspace(0, 1, 7)]
            + [(1.0, t) for t in np.linspace(0.15, 0.9, 5)]
            + [(t, 1.0) for t in np.linspace(1, 0, 7)]
            + [(0.0, t) for t in np.linspace(0.9, 0.15, 5)]
        ):
            d = wobble[i % 24]
            pts.append([w * (u + (0.5 - u) * 2 * d), h * (v + (0.5 - v) * 2 * d)])
        mask = np.zeros((h, w), np.uint8)
        cv2.fillPoly(mask, [np.array(pts, np.int32)], 255)
    elif shape == "can" and rng.random() < 0.7:
        r = int(w * 0.12)
        mask = np.zeros((h, w), np.uint8)
        cv2.rectangle(mask, (0, r), (w, h - r), 255, -1)
        cv2.rectangle(mask, (r // 2, 0), (w - r // 2, h), 255, -1)
    return mask


def procedural(rng: np.random.Generator, base: tuple[int, int, int] | None = None) -> Art:
    """A random package."""
    shape = str(rng.choice(["box", "box", "can", "bottle", "bag", "multipack"]))
    width, height, depth = {
        "box": (rng.uniform(0.04, 0.24), rng.uniform(0.04, 0.32), rng.uniform(0.03, 0.12)),
        "can": (rng.uniform(0.05, 0.11), rng.uniform(0.07, 0.18), rng.uniform(0.05, 0.1)),
        "bottle": (rng.uniform(0.05, 0.12), rng.uniform(0.14, 0.34), rng.uniform(0.05, 0.1)),
        "bag": (rng.uniform(0.09, 0.24), rng.uniform(0.1, 0.32), rng.uniform(0.03, 0.08)),
        "multipack": (rng.uniform(0.15, 0.38), rng.uniform(0.1, 0.3), rng.uniform(0.1, 0.25)),
    }[shape]
    h = 160
    w = int(np.clip(h * width / height, 32, 400))
    img = paint(rng, w, h, base)
    if shape == "multipack":
        if rng.random() < 0.5:  # several units behind film, one product
            n = int(rng.integers(2, 6))
            unit = cv2.resize(img, (max(w // n, 8), h), interpolation=cv2.INTER_AREA)
            img = cv2.resize(np.tile(unit, (1, n, 1)), (w, h), interpolation=cv2.INTER_AREA)
            _text(img, rng, (w // 6, h // 3, w - w // 6, h * 2 // 3), _colour(rng))
        shape = "box"
    if shape in ("can", "bottle"):
        x = np.linspace(-1, 1, w, dtype=np.float32)
        shade = 0.45 + 0.55 * np.sqrt(np.clip(1 - x**2, 0, 1))
        shine = rng.uniform(0, 0.5) * np.exp(-(((x - rng.uniform(-0.6, 0.6)) / 0.12) ** 2))
        img = (img * shade[None, :, None] + 255 * shine[None, :, None]).clip(0, 255).astype(np.uint8)
        if shape == "bottle":
            cv2.rectangle(img, (0, 0), (w, int(h * rng.uniform(0.05, 0.14))), _colour(rng), -1)
        elif rng.random() < 0.6:
            cv2.rectangle(img, (0, 0), (w, int(h * 0.05)), (190, 190, 195), -1)
    elif shape == "bag":
        noise = cv2.resize(rng.normal(0, 1, (6, 6)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
        img = (img * (1 + 0.18 * noise[..., None])).clip(0, 255).astype(np.uint8)
    return Art(np.dstack([img, _mask(shape, w, h, rng)]), shape, width, height, depth)


def tag(rng: np.random.Generator) -> Image:
    """A price tag (h, w, 4): a card with big digits and small print."""
    w, h = int(rng.integers(90, 170)), int(rng.integers(50, 90))
    card = np.array([255, 255, 255]) if rng.random() < 0.6 else np.array(_colour(rng))
    if rng.random() < 0.25:
        card = np.array([250, 225, 60])
    img = np.full((h, w, 3), card.clip(60, 255), np.uint8)
    ink = (10, 10, 10) if img.mean() > 120 else (245, 245, 245)
    if rng.random() < 0.25:
        ink = (200, 20, 20)
    if rng.random() < 0.4:
        cv2.rectangle(img, (0, 0), (w, int(h * rng.uniform(0.15, 0.35))), _colour(rng), -1)
    price = f"{rng.integers(0, 60)}{rng.choice(['.', ',', ' '])}{rng.integers(0, 100):02d}"
    font = int(rng.choice([0, 2, 3]))
    scale = h * rng.uniform(0.012, 0.022)
    x = int(w * rng.uniform(0.05, 0.5))
    cv2.putText(img, price, (x, int(h * rng.uniform(0.55, 0.95))), font, scale, ink, int(rng.integers(1, 4)), cv2.LINE_AA)
    for i in range(rng.integers(1, 4)):
        cv2.putText(img, _word(rng, 5, 18), (4, 11 + 11 * i), 0, 0.32, ink, 1, cv2.LINE_AA)
    if rng.random() < 0.6:  # bars
        x0, y0 = int(w * rng.uniform(0.02, 0.5)), int(h * rng.uniform(0.65, 0.8))
        for x in range(x0, min(w - 3, x0 + int(w * 0.4)), 2):
            if rng.random() < 0.5:
                img[y0 : h - 3, x] = 20
    if rng.random() < 0.5:
        cv2.rectangle(img, (0, 0), (w - 1, h - 1), (120, 120, 120), 1)
    return np.dstack([img, np.full((h, w), 255, np.uint8)])


def photographed(data: Path | None) -> tuple[list[Image], list[Image]]:
    """Crops of photographs that may be used for training: (product textures, tag textures), (h, w, 4).

    ``data`` holds ``packshots/`` (MIT) and ``price_tags/`` (CC BY 4.0); without it both lists are empty.
    """
    products: list[Image] = []
    tags: list[Image] = []
    if data is None:
        return products, tags
    listing = data / "packshots" / "labels.csv"
    if listing.is_file():
        names = [row["file"] for row in csv.DictReader(listing.open())]
        for name in names:
            img = cv2.imread(str(data / "packshots" / name))
            if img is None:
                continue
            h, w = img.shape[:2]
            # the product fills the middle of these photographs: take the middle, it serves as a printed surface
            img = img[int(h * 0.22) : int(h * 0.78), int(w * 0.3) : int(w * 0.7)]
            img = cv2.cvtColor(cv2.resize(img, (160, 224), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
            products.append(np.dstack([img, np.full(img.shape[:2], 255, np.uint8)]))
    for path in sorted((data / "packshots" / "gallery_iconic").glob("*.jpg")):
        img = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        ys, xs = np.where((img < 235).any(2))
        if len(xs) < 100:
            continue
        img = img[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        scale = 240 / max(img.shape[:2])
        img = cv2.resize(img, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        alpha = np.where((img < 240).any(2), 255, 0).astype(np.uint8)
        alpha = cv2.morphologyEx(alpha, cv2.MORPH_CLOSE, np.ones((15, 15), np.uint8))
        products.append(np.dstack([img, alpha]))
    listing = data / "price_tags" / "annotations.json"
    if listing.is_file():
        coco = json.loads(listing.read_text())
        for info in sorted(coco["images"], key=lambda i: str(i["file_name"]))[::2]:  # the others stay for evaluation
            path = data / "price_tags" / "images" / info["file_name"]
            picture = cv2.imread(str(path))
            if picture is None:
                continue
            picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
            for a in coco["annotations"]:
                if a["image_id"] != info["id"]:
                    continue
                x, y, w, h = (round(v) for v in a["bbox"])
                crop = picture[max(y, 0) : y + h, max(x, 0) : x + w]
                if min(crop.shape[:2]) >= 16:
                    tags.append(np.dstack([crop, np.full(crop.shape[:2], 255, np.uint8)]))
    return products, tags
