"""Packagings drawn with real fonts and pictograms: what shelves of a real store are full of and flat colour fields are not.

Fonts are whatever the machine has (`fonts`); pictograms are the glyphs of Noto Color Emoji (drawings Apache-2.0) when that font
is installed. Photographs whose licence allows training serve as print on some packs. Without either the packs are plainer.
"""

# ruff: noqa: E501
from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as Pil
from PIL import ImageDraw, ImageFont

from training.detector.art import Art, Image

_EMOJI = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
#: Food, drink, plants, animals, household: code points of pictograms that packs show.
_SIGNS = [*range(0x1F330, 0x1F394), *range(0x1F400, 0x1F43F), *range(0x1F950, 0x1F970), *range(0x1F9C0, 0x1F9CC), 0x1F9F4, 0x1F9FB, 0x2728, 0x2764, 0x1F31E, 0x1F30A]  # fmt: skip
_LATIN = "aaaabcdeeeefghiiijklmnnooopqrrsssttuuvwxyz"
_KANA = [chr(c) for c in (*range(0x3041, 0x3094), *range(0x30A1, 0x30F7), *range(0x4E00, 0x4E00 + 600, 3))]


@lru_cache(maxsize=1)
def fonts() -> tuple[list[str], list[str]]:
    """Paths of Latin fonts and of fonts with Japanese letters on this machine."""
    latin, kana = [], []
    for p in sorted(Path("/usr/share/fonts").rglob("*")):
        if p.suffix.lower() not in (".ttf", ".otf", ".ttc") or "Emoji" in p.name:
            continue
        (kana if "CJK" in p.name else latin).append(str(p))
    return latin, kana


@lru_cache(maxsize=4096)
def _font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


@lru_cache(maxsize=512)
def sign(code: int) -> Image | None:
    """A pictogram (h, w, 4) RGBA, or None."""
    if not _EMOJI.is_file():
        return None
    img = Pil.new("RGBA", (140, 140))
    ImageDraw.Draw(img).text((2, 2), chr(code), font=_font(str(_EMOJI), 109), embedded_color=True)
    a = np.asarray(img)
    ys, xs = np.where(a[..., 3] > 20)
    return a[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] if len(xs) > 200 else None


def word(rng: np.random.Generator, kana: bool, low: int = 3, high: int = 9) -> str:
    """A made-up word."""
    n = int(rng.integers(low, high))
    if kana:
        return "".join(rng.choice(_KANA, max(2, n - 2)))
    w = "".join(rng.choice(list(_LATIN), n))
    return str(rng.choice([w.upper(), w.capitalize(), w]))


def _hsv(rng: np.random.Generator, hue: float | None = None) -> tuple[int, int, int]:
    h = rng.uniform(0, 180) if hue is None else (hue + rng.normal(0, 6)) % 180
    c = cv2.cvtColor(np.uint8([[[h, 255 * rng.beta(2.2, 1.2), 255 * rng.beta(3, 1.1)]]]), cv2.COLOR_HSV2RGB)[0, 0]
    if rng.random() < 0.2:  # white, black, silver, kraft
        c = np.array([(246, 246, 244), (18, 18, 20), (190, 192, 196), (196, 160, 112)][rng.integers(4)])
    return int(c[0]), int(c[1]), int(c[2])


def _write(img: Pil.Image, rng: np.random.Generator, box: tuple[float, float, float, float], kana: bool, bold: bool) -> None:
    """One word fitted into ``box`` (x0, y0, x1, y1 px), perhaps outlined, perhaps slanted."""
    latin, cjk = fonts()
    pool = cjk if kana and cjk else latin
    if not pool:
        return
    text = word(rng, bool(kana and cjk))
    path = pool[rng.integers(len(pool))]
    x0, y0, x1, y1 = box
    size = max(6, int((y1 - y0) * 0.95))
    f = _font(path, size)
    x_a, y_a, x_b, y_b = f.getbbox(text)
    if x_b - x_a > x1 - x0 and x_b > x_a:
        size = max(6, int(size * (x1 - x0) / (x_b - x_a)))
        f = _font(path, size)
        x_a, y_a, x_b, y_b = f.getbbox(text)
    ink = _hsv(rng)
    layer = Pil.new("RGBA", (int(x_b - x_a) + 12, int(y_b - y_a) + 12))
    edge = int(size * rng.uniform(0.04, 0.12)) if bold and rng.random() < 0.5 else 0
    ImageDraw.Draw(layer).text((6 - x_a, 6 - y_a), text, font=f, fill=ink, stroke_width=edge, stroke_fill=_hsv(rng))
    if rng.random() < 0.25:
        layer = layer.rotate(float(rng.choice([90, rng.uniform(-25, 25)])), expand=True)
    img.paste(layer, (int(x0), int(y0)), layer)


def paint(rng: np.random.Generator, w: int, h: int, hue: float | None, photos: list[Image]) -> Image:
    """A printed front (h, w, 3): ground, picture, brand, name, badges, small print."""
    a, b = np.array(_hsv(rng, hue), np.float32), np.array(_hsv(rng, hue), np.float32)
    kind = rng.integers(6)
    yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
    if kind == 0:
        t = yy / h
    elif kind == 1:
        t = np.clip(np.hypot(xx / w - 0.5, yy / h - rng.uniform(0.2, 0.8)) * 1.8, 0, 1)
    elif kind == 2:
        t = (((xx + yy * rng.uniform(-1, 1)) / (w * rng.uniform(0.08, 0.4))).astype(int) % 2).astype(np.float32)
    elif kind == 3:
        t = (yy / h > rng.uniform(0.2, 0.8) + 0.1 * np.sin(xx / w * rng.uniform(2, 9))).astype(np.float32)
    else:
        t = np.zeros((h, w), np.float32)
    img = (a + (b - a) * t[..., None]).clip(0, 255).astype(np.uint8)
    if photos and rng.random() < 0.5:
        p = photos[rng.integers(len(photos))][..., :3]
        ph, pw = p.shape[:2]
        ch, cw = max(8, int(ph * rng.uniform(0.3, 0.9))), max(8, int(pw * rng.uniform(0.3, 0.9)))
        y, x = rng.integers(ph - ch + 1), rng.integers(pw - cw + 1)
        patch = p[y : y + ch, x : x + cw]
        th, tw = max(6, int(h * rng.uniform(0.3, 1.0))), max(6, int(w * rng.uniform(0.5, 1.0)))
        patch = cv2.resize(patch, (tw, th), interpolation=cv2.INTER_AREA)
        if rng.random() < 0.5:  # other colours than the photograph's
            hsv = cv2.cvtColor(patch, cv2.COLOR_RGB2HSV)
            hsv[..., 0] = ((hsv[..., 0].astype(int) + rng.integers(180)) % 180).astype(np.uint8)
            patch = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
        y, x = rng.integers(h - th + 1), rng.integers(w - tw + 1)
        m = np.zeros((th, tw), np.float32)
        cv2.ellipse(m, (tw // 2, th // 2), (tw // 2, th // 2), 0, 0, 360, 1, -1) if rng.random() < 0.4 else m.fill(1)
        roi = img[y : y + th, x : x + tw]
        roi[:] = (roi * (1 - m[..., None]) + patch * m[..., None]).astype(np.uint8)
    for _ in range(rng.integers(0, 3)):
        c = _hsv(rng)
        if rng.random() < 0.5:
            y = int(rng.uniform(0, h))
            cv2.rectangle(img, (0, y), (w, y + int(h * rng.uniform(0.05, 0.3))), c, -1)
        else:
            o = (int(w * rng.uniform(0, 1)), int(h * rng.uniform(0, 1)))
            cv2.ellipse(img, o, (int(w * rng.uniform(0.1, 0.5)), int(h * rng.uniform(0.05, 0.3))), float(rng.uniform(0, 180)), 0, 360, c, -1, cv2.LINE_AA)  # fmt: skip
    pil = Pil.fromarray(img)
    for _ in range(int(rng.choice([0, 1, 1, 2, 3]))):
        s = sign(int(_SIGNS[rng.integers(len(_SIGNS))]))
        if s is not None:
            side = rng.uniform(0.25, 0.95) * min(w, h)
            k = side / max(s.shape[:2])
            q = Pil.fromarray(cv2.resize(s, None, fx=k, fy=k, interpolation=cv2.INTER_AREA))
            n = int(rng.choice([1, 1, 2, 4]))
            for _ in range(n):
                pil.paste(q, (int(rng.uniform(-0.1, 0.8) * w), int(rng.uniform(0.1, 0.8) * h)), q)
    kana = bool(rng.random() < 0.35)
    y = rng.uniform(0.05, 0.35) * h
    _write(pil, rng, (w * rng.uniform(0.02, 0.15), y, w * 0.96, y + h * rng.uniform(0.1, 0.28)), kana, True)
    for _ in range(rng.integers(0, 4)):
        y = rng.uniform(0.1, 0.92) * h
        _write(pil, rng, (w * rng.uniform(0.02, 0.5), y, w * 0.97, y + h * rng.uniform(0.03, 0.12)), kana, False)
    out = np.array(pil)
    for _ in range(rng.integers(0, 3)):  # small print
        y, x, c = int(h * rng.uniform(0.4, 0.95)), int(w * rng.uniform(0.03, 0.4)), _hsv(rng)
        for i in range(rng.integers(2, 7)):
            cv2.line(out, (x, y + 3 * i), (min(w, x + int(w * rng.uniform(0.2, 0.5))), y + 3 * i), c, 1)
    return out


def _bottle_mask(h: int, w: int, rng: np.random.Generator, jar: bool) -> np.ndarray:
    y = np.linspace(0, 1, h)
    if jar:
        lid, step = rng.uniform(0.1, 0.25), rng.uniform(0.85, 1.0)
        half = np.where(y < lid, step, 1.0)
    else:
        neck, cap, shoulder = rng.uniform(0.22, 0.55), rng.uniform(0.05, 0.14), rng.uniform(0.22, 0.5)
        half = np.where(y < cap, neck * 1.05, neck)
        ramp = (y >= shoulder * rng.uniform(0.4, 0.7)) & (y < shoulder)
        u = (y - y[ramp].min()) / max(np.ptp(y[ramp]), 1e-6) if ramp.any() else y
        half = np.where(ramp, neck + (1 - neck) * np.sin(np.clip(u, 0, 1) * np.pi / 2) ** rng.uniform(0.6, 1.6), half)
        half = np.where(y >= shoulder, 1.0, half)
        half = half - rng.uniform(0, 0.14) * np.exp(-(((y - rng.uniform(0.55, 0.75)) / 0.1) ** 2)) * (y > shoulder)
    return half * np.where(y > 0.97, 0.94, 1.0)


def rich(rng: np.random.Generator, hue: float | None, photos: list[Image]) -> Art:
    """One packaging."""
    shape = str(
        rng.choice(
            ["carton", "carton", "box", "can", "bottle", "bottle", "jar", "bag", "bag", "pouch", "multipack", "tub", "stick"]
        )
    )
    size = {
        "carton": (0.06, 0.11, 0.14, 0.27, 0.05, 0.1), "box": (0.06, 0.26, 0.04, 0.32, 0.03, 0.12), "can": (0.05, 0.1, 0.06, 0.17, 0.05, 0.1),
        "bottle": (0.05, 0.11, 0.15, 0.34, 0.05, 0.1), "jar": (0.06, 0.11, 0.08, 0.18, 0.06, 0.1), "bag": (0.1, 0.24, 0.12, 0.32, 0.03, 0.09),
        "pouch": (0.08, 0.18, 0.12, 0.24, 0.03, 0.07), "multipack": (0.15, 0.36, 0.1, 0.28, 0.1, 0.25), "tub": (0.08, 0.15, 0.06, 0.13, 0.08, 0.14),
        "stick": (0.03, 0.06, 0.12, 0.24, 0.02, 0.05),
    }[shape]  # fmt: skip
    width, height, depth = (float(rng.uniform(size[i], size[i + 1])) for i in (0, 2, 4))
    h = 176
    w = int(np.clip(h * width / height, 28, 420))
    img = paint(rng, w, h, hue, photos).astype(np.float32)
    mask = np.full((h, w), 255, np.uint8)
    x = np.linspace(-1, 1, w, dtype=np.float32)
    y = np.linspace(0, 1, h, dtype=np.float32)[:, None]
    kind = "box"
    if shape in ("can", "bottle", "jar", "tub"):
        kind = "can" if shape in ("can", "tub") else "bottle"
        if shape == "tub":
            half = np.linspace(1.0, rng.uniform(0.8, 0.95), h)
        elif shape == "can":
            half = np.where((y[:, 0] < 0.04) | (y[:, 0] > 0.96), 0.93, 1.0)
        else:
            half = _bottle_mask(h, w, rng, shape == "jar")
        if shape in ("bottle", "jar") and rng.random() < 0.75:  # glass or clear plastic with a label around it
            content = np.array(_hsv(rng), np.float32)
            clear = np.broadcast_to(content * rng.uniform(0.4, 1.0), img.shape).copy()
            if rng.random() < 0.35:  # one sees what is behind, dimly
                clear = 0.5 * clear + rng.uniform(30, 170)
            top, low = (
                (rng.uniform(0.3, 0.5), rng.uniform(0.75, 0.98))
                if shape == "bottle"
                else (rng.uniform(0.2, 0.35), rng.uniform(0.8, 1.0))
            )
            on = ((y >= top) & (y < low))[..., None]
            print_h = max(8, int((low - top) * h))
            label = cv2.resize(img.astype(np.uint8), (w, print_h), interpolation=cv2.INTER_AREA)
            clear[int(top * h) : int(top * h) + print_h][: label.shape[0]] = label[
                : clear[int(top * h) : int(top * h) + print_h].shape[0]
            ]
            img = np.where(on, clear, clear)
        cap = np.array(_hsv(rng), np.float32)
        lid = rng.uniform(0.05, 0.13) if shape == "bottle" else rng.uniform(0.08, 0.2) if shape in ("jar", "tub") else 0.035
        if shape == "can":
            cap = np.array([190, 190, 195], np.float32)
        img[: int(lid * h)] = cap
        u = x[None] / np.maximum(half[:, None], 0.05)
        mask = np.where(np.abs(u) <= 1, 255, 0).astype(np.uint8)
        shade = rng.uniform(0.25, 0.6) + 0.55 * np.sqrt(np.clip(1 - u**2, 0, 1))
        img = img * shade[..., None]
        for _ in range(rng.integers(0, 3)):
            img += (
                255 * rng.uniform(0, 0.55) * np.exp(-(((u - rng.uniform(-0.7, 0.7)) / rng.uniform(0.03, 0.15)) ** 2))[..., None]
            )
    elif shape in ("bag", "pouch"):
        kind = "bag"
        n = rng.normal(0, 1, (int(rng.integers(4, 9)), int(rng.integers(3, 8)))).astype(np.float32)
        relief = cv2.resize(n, (w, h), interpolation=cv2.INTER_CUBIC)
        img = img * (1 + rng.uniform(0.08, 0.25) * relief[..., None])
        creases = cv2.GaussianBlur((rng.random((h, w)) < 0.004).astype(np.float32), (0, 0), 2.5)
        img += 255 * rng.uniform(1, 7) * creases[..., None]  # foil glints
        if rng.random() < 0.25:  # a window on the goods
            c = (int(w * rng.uniform(0.3, 0.7)), int(h * rng.uniform(0.55, 0.8)))
            win = np.zeros((h, w), np.uint8)
            cv2.ellipse(win, c, (int(w * 0.3), int(h * rng.uniform(0.1, 0.18))), 0, 0, 360, 255, -1)
            goods = (
                cv2.resize(rng.integers(0, 255, (14, 14), dtype=np.uint8), (w, h), interpolation=cv2.INTER_CUBIC)[..., None]
                / 255.0
            )
            img = np.where(win[..., None] > 0, np.array(_hsv(rng), np.float32) * (0.4 + 0.6 * goods), img)
        crimp = int(h * rng.uniform(0.02, 0.07))
        tone = rng.uniform(0.6, 1.3)
        img[:crimp] *= tone
        img[h - crimp :] *= tone
        amp = rng.uniform(0.01, 0.07)
        t = y[:, 0]
        left = amp * (1 + np.sin(t * rng.uniform(3, 9) + rng.uniform(0, 6))) * np.sin(np.pi * t).clip(0) ** 0.3
        right = amp * (1 + np.sin(t * rng.uniform(3, 9) + rng.uniform(0, 6))) * np.sin(np.pi * t).clip(0) ** 0.3
        inside = (x[None] * 0.5 + 0.5 >= left[:, None]) & (x[None] * 0.5 + 0.5 <= 1 - right[:, None])
        if rng.random() < 0.4:  # its top leans or folds
            fold = (y < 0.08 + 0.06 * np.sin(x[None] * rng.uniform(1, 5) + rng.uniform(0, 6))) & (rng.random() < 0.7)
            inside &= ~fold
        mask = np.where(inside, 255, 0).astype(np.uint8)
        img *= (1 - rng.uniform(0.1, 0.45) * np.abs(x[None]) ** 3)[..., None]
    elif shape == "carton":
        if rng.random() < 0.6:  # gable top and cap
            roof = rng.uniform(0.1, 0.22)
            img[: int(roof * h)] *= rng.uniform(0.6, 1.25)
            slope = np.where(y[:, 0] < roof, 1 - (roof - y[:, 0]) * rng.uniform(0, 1.0), 1.0)
            mask = np.where(np.abs(x[None]) <= slope[:, None], 255, 0).astype(np.uint8)
            if rng.random() < 0.6:
                r = max(3, int(w * rng.uniform(0.12, 0.2)))
                cv2.circle(img, (w // 2, int(roof * h * rng.uniform(0.4, 1.0))), r, _hsv(rng), -1, cv2.LINE_AA)
    elif shape == "multipack":
        n = int(rng.integers(2, 6))
        pick = rng.random()
        if pick < 0.6:
            unit = cv2.resize(img.astype(np.uint8), (max(w // n, 8), h), interpolation=cv2.INTER_AREA).astype(np.float32)
            ux = np.linspace(-1, 1, unit.shape[1], dtype=np.float32)
            unit *= (0.5 + 0.5 * np.sqrt(np.clip(1 - ux**2, 0, 1)))[None, :, None]
            img = cv2.resize(np.tile(unit, (1, n, 1)), (w, h))
            if pick < 0.4:  # film over them
                glare = cv2.GaussianBlur((rng.random((h, w)) < 0.01).astype(np.float32), (0, 0), float(rng.uniform(1, 4)))
                img = img * 0.85 + 20 + 255 * rng.uniform(0.5, 3) * glare[..., None]
            pil = Pil.fromarray(img.clip(0, 255).astype(np.uint8))
            _write(pil, rng, (w * 0.2, h * rng.uniform(0.2, 0.6), w * 0.8, h * 0.75), False, True)
            img = np.array(pil).astype(np.float32)
    if shape == "box" and rng.random() < 0.2:  # hanging blister: card with a hole, goods in a clear shell
        cv2.circle(img, (w // 2, int(h * 0.06)), max(2, int(min(w, h) * 0.05)), (60, 60, 60), -1)
        y0 = int(h * rng.uniform(0.35, 0.6))
        img[y0 : h - 6, 6 : w - 6] = 0.5 * img[y0 : h - 6, 6 : w - 6] + 0.5 * np.array(_hsv(rng), np.float32)
    return Art(
        np.dstack([img.clip(0, 255).astype(np.uint8), mask]),
        "box" if shape in ("carton", "multipack", "stick") else kind,
        width,
        height,
        depth,
    )


def rich_arts(rng: np.random.Generator, photos: list[Image], count: int = 34) -> list[Art]:
    """Packs of one picture: families that share colour and mostly size, as brands do."""
    out: list[Art] = []
    while len(out) < count:
        hue = float(rng.uniform(0, 180)) if rng.random() < 0.7 else None
        first = rich(rng, hue, photos)
        out.append(first)
        for _ in range(rng.integers(0, 5)):
            other = rich(rng, hue, photos)
            out.append(Art(other.texture, other.shape, other.width_m, other.height_m, other.depth_m))
    return out
