"""Price tags: text a camera can read, and a real EAN-13."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from shelfscan.sim.artwork import font

Picture = NDArray[np.uint8]
WIDTH_M, HEIGHT_M = 0.07, 0.04
WIDTH_PX, HEIGHT_PX = 700, 400
_L = ("0001101", "0011001", "0010011", "0111101", "0100011", "0110001", "0101111", "0111011", "0110111", "0001011")
_PARITY = ("LLLLLL", "LLGLGG", "LLGGLG", "LLGGGL", "LGLLGG", "LGGLLG", "LGGGLL", "LGLGLG", "LGLGGL", "LGGLGL")


@dataclass(frozen=True, slots=True)
class TagStyle:
    """A store's tags: decimal mark, currency text and colours."""

    decimal: str
    currency: str
    paper: tuple[int, int, int]
    bar: tuple[int, int, int]
    ink: tuple[int, int, int]


def tag_style(seed: int) -> TagStyle:
    """The style of a store."""
    rng = np.random.default_rng([seed, 77])
    paper = ((255, 255, 252), (252, 244, 190), (236, 244, 252))[int(rng.integers(3))]
    bar = ((200, 30, 40), (20, 90, 170), (30, 130, 60), (240, 180, 20))[int(rng.integers(4))]
    ink = ((15, 15, 15), (180, 10, 20))[int(rng.integers(2))]
    return TagStyle(".,"[int(rng.integers(2))], ("EUR", "", "€")[int(rng.integers(3))], paper, bar, ink)


def price_text(price: float, style: TagStyle) -> str:
    """A price as the store prints it, for example "2,49"."""
    return f"{price:.2f}".replace(".", style.decimal)


def gtin13(number: int) -> str:
    """The GTIN-13 with GS1's internal prefix 20 for an item number."""
    body = f"20{number:010d}"
    check = (10 - sum(int(d) * (3 if i % 2 else 1) for i, d in enumerate(body)) % 10) % 10
    return f"{body}{check}"


def ean13_modules(ean: str) -> str:
    """The 95 modules of an EAN-13, "1" dark (GS1 General Specifications 5.2.1)."""
    left = ""
    for digit, parity in zip(ean[1:7], _PARITY[int(ean[0])], strict=True):
        code = _L[int(digit)]
        left += code if parity == "L" else "".join("10"[int(c)] for c in code)[::-1]
    right = "".join("".join("10"[int(c)] for c in _L[int(d)]) for d in ean[7:])
    return f"101{left}01010{right}101"


@functools.lru_cache(maxsize=512)
def draw_tag(name: str, price: str, item_text: str, ean: str, unit_text: str, style: TagStyle) -> Picture:
    """A tag of 70 x 40 mm, (400, 700, 3) uint8 RGB, read-only. Kept for the same reason as `pack_texture`."""
    canvas = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), style.paper)
    d = ImageDraw.Draw(canvas)
    d.rectangle((0, 0, WIDTH_PX, 74), fill=style.bar)
    light = sum(style.bar) > 450
    d.text((16, 12), name[:26], fill=(20, 20, 20) if light else (255, 255, 255), font=font("DejaVuSans-Bold", 40))
    d.text((16, 92), item_text, fill=(30, 30, 30), font=font("DejaVuSans", 34))
    d.text((16, 138), unit_text, fill=(60, 60, 60), font=font("DejaVuSans", 28))
    big = font("DejaVuSans-Bold", 140 if len(price) <= 4 else 112)
    width = d.textlength(price, font=big)
    d.text((WIDTH_PX - 24 - width, 150), price, fill=style.ink, font=big)
    if style.currency:
        d.text((WIDTH_PX - 90, 92), style.currency, fill=style.ink, font=font("DejaVuSans-Bold", 36))
    img = np.asarray(canvas).copy()
    modules = ean13_modules(ean)
    x0, y0, module = 24, 206, 3
    for k, dark in enumerate(modules):
        if dark == "1":
            img[y0 : y0 + 120, x0 + k * module : x0 + (k + 1) * module] = 10
    cv2.rectangle(img, (0, 0), (WIDTH_PX - 1, HEIGHT_PX - 1), (120, 120, 120), 2)
    text = Image.fromarray(img)
    ImageDraw.Draw(text).text((x0, y0 + 130), ean, fill=(20, 20, 20), font=font("DejaVuSansMono-Bold", 34))
    drawn = np.asarray(text).copy()
    drawn.flags.writeable = False
    return drawn
