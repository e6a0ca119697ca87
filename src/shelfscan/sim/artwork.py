"""Draws packaging: one square texture a pack, with front, side, back and top in fixed places.

Layout of the texture (fractions of its side): the front takes x 0..0.62 over the full height; right of it, from the
top, side (0..0.45), back (0.45..0.85) and top (0.85..1).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from shelfscan.sim.packaging import PackSpec

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]
#: (x0, y0, x1, y1) of each face in the texture, as fractions, y downwards.
FACES = {
    "front": (0.0, 0.0, 0.62, 1.0),
    "side": (0.62, 0.0, 1.0, 0.45),
    "back": (0.62, 0.45, 1.0, 0.85),
    "top": (0.62, 0.85, 1.0, 1.0),
}
_FONTS = ("DejaVuSans-Bold", "DejaVuSans", "DejaVuSerif-Bold", "DejaVuSerif", "DejaVuSansMono-Bold", "")


@functools.lru_cache(maxsize=512)
def font(name: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A DejaVu font, or Pillow's own where that is not installed."""
    if name:
        try:
            return ImageFont.truetype(f"{name}.ttf", size)
        except OSError:
            pass
    return ImageFont.load_default(size)


@functools.lru_cache(maxsize=1024)
def pack_texture(spec: PackSpec, px: int = 256) -> Picture:
    """The pack's texture, (px, px, 3) uint8 RGB, read-only; the same spec always gives the same pixels.

    Kept, because the render world of a large store is built anew every few steps from mostly the same packs.
    """
    texture = np.zeros((px, px, 3), np.uint8)
    for name, picture in draw_pack(spec, px).items():
        x0, y0, x1, y1 = (round(f * px) for f in FACES[name])
        texture[y0:y1, x0:x1] = cv2.resize(picture, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    texture.flags.writeable = False
    return texture


def draw_pack(spec: PackSpec, px: int = 256) -> dict[str, Picture]:
    """Front, side, back and top, each (h, w, 3) uint8 RGB in the proportions of their place in the texture."""
    style = _Style(spec)
    h, w = px, round(0.62 * px)
    front = _front(spec, style, w, h)
    side = _plain(style.base, round(0.38 * px), round(0.45 * px))
    _words(side, spec.brand, (0.08, 0.1, 0.92, 0.3), style.ink_on(style.base), style.font)
    _words(side, spec.flavour, (0.08, 0.4, 0.92, 0.55), style.accent, style.font)
    side[-max(2, side.shape[0] // 10) :] = style.accent
    back = _back(spec, style, round(0.38 * px), round(0.4 * px))
    top = _plain(style.cap if spec.shape in ("bottle", "can") else style.base, round(0.38 * px), round(0.15 * px))
    if spec.shape not in ("bottle", "can"):
        _words(top, spec.brand, (0.1, 0.2, 0.9, 0.8), style.ink_on(style.base), style.font)
    return {"front": front, "side": side, "back": back, "top": top}


class _Style:
    """Colours, fonts and layout of a family, with the accents of its variant."""

    def __init__(self, spec: PackSpec) -> None:
        family = np.random.default_rng(spec.family)
        variant = np.random.default_rng([spec.family, spec.variant + 1])
        self.base = _hsv(family.uniform(0, 180), family.choice([0.05, 0.5, 0.85]), family.uniform(0.35, 0.98))
        self.second = _hsv(family.uniform(0, 180), family.uniform(0.3, 1.0), family.uniform(0.25, 0.95))
        self.accent = _hsv(variant.uniform(0, 180), variant.uniform(0.6, 1.0), variant.uniform(0.45, 0.95))
        self.motif = _hsv(variant.uniform(0, 180), variant.uniform(0.5, 1.0), variant.uniform(0.5, 0.95))
        self.cap = _hsv(family.uniform(0, 180), family.uniform(0.0, 1.0), family.uniform(0.3, 0.95))
        self.liquid = _hsv(variant.uniform(0, 180), variant.uniform(0.4, 0.9), variant.uniform(0.3, 0.8))
        self.layout = int(family.integers(len(_LAYOUTS)))
        self.font = str(family.choice(_FONTS))
        self.font2 = str(family.choice(_FONTS))
        self.logo = int(family.integers(4))
        self.brand_at = float(family.uniform(0.04, 0.16))
        self.fruit = int(family.integers(5))
        self.badge = family.random() < 0.35
        self.upper = family.random() < 0.5
        self.seed = int(variant.integers(2**31))
        self.family_seed = int(family.integers(2**31))

    @staticmethod
    def ink_on(colour: Colour) -> Colour:
        """Dark on light, light on dark."""
        return (25, 20, 20) if 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] > 140 else (250, 248, 240)


def _hsv(h: float, s: float, v: float) -> Colour:
    pixel = np.array([[[h % 180, s * 255, v * 255]]]).astype(np.uint8)
    r, g, b = cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0]
    return int(r), int(g), int(b)


def _plain(colour: Colour, w: int, h: int) -> Picture:
    return np.full((h, w, 3), colour, np.uint8)


def _words(img: Picture, text: str, box: tuple[float, float, float, float], colour: Colour, face: str) -> None:
    """Text fitted into a box given as fractions (x0, y0, x1, y1), centred."""
    h, w = img.shape[:2]
    x0, y0, x1, y1 = box[0] * w, box[1] * h, box[2] * w, box[3] * h
    if x1 - x0 < 4 or y1 - y0 < 4 or not text:
        return
    probe = font(face, 40).getbbox(text)
    size = int(40 * min((x1 - x0) / max(1, probe[2] - probe[0]), (y1 - y0) / max(1, probe[3] - probe[1])))
    chosen = font(face, max(6, size))
    b = chosen.getbbox(text)
    canvas = Image.fromarray(img)
    at = ((x0 + x1 - (b[2] - b[0])) / 2 - b[0], (y0 + y1 - (b[3] - b[1])) / 2 - b[1])
    ImageDraw.Draw(canvas).text(at, text, fill=colour, font=chosen)
    img[:] = np.asarray(canvas)


def _gradient(img: Picture, a: Colour, b: Colour, vertical: bool = True) -> None:
    h, w = img.shape[:2]
    t = np.linspace(0, 1, h if vertical else w, dtype=np.float32)
    line = np.array(a, np.float32) * (1 - t[:, None]) + np.array(b, np.float32) * t[:, None]
    img[:] = (line[:, None] if vertical else line[None]).astype(np.uint8)


def _l_band(img: Picture, s: _Style) -> None:
    h, w = img.shape[:2]
    cv2.rectangle(img, (0, int(0.42 * h)), (w, int(0.6 * h)), s.accent, -1)


def _l_diagonal(img: Picture, s: _Style) -> None:
    h, w = img.shape[:2]
    cv2.fillConvexPoly(img, np.array([[0, int(0.65 * h)], [w, int(0.35 * h)], [w, h], [0, h]]), s.second, cv2.LINE_AA)
    cv2.line(img, (0, int(0.65 * h)), (w, int(0.35 * h)), s.accent, max(2, h // 40), cv2.LINE_AA)


def _l_stripes(img: Picture, s: _Style) -> None:
    h, w = img.shape[:2]
    step = max(4, w // 9)
    for x in range(0, w, 2 * step):
        cv2.rectangle(img, (x, int(0.5 * h)), (x + step, h), s.second, -1)
    cv2.rectangle(img, (0, int(0.47 * h)), (w, int(0.53 * h)), s.accent, -1)


def _l_halves(img: Picture, s: _Style) -> None:
    h = img.shape[0]
    img[h // 2 :] = s.accent


def _l_circle(img: Picture, s: _Style) -> None:
    h, w = img.shape[:2]
    cv2.circle(img, (w // 2, int(0.6 * h)), int(0.46 * w), s.second, -1, cv2.LINE_AA)
    cv2.circle(img, (w // 2, int(0.6 * h)), int(0.46 * w), s.accent, max(2, w // 30), cv2.LINE_AA)


def _l_gradient(img: Picture, s: _Style) -> None:
    _gradient(img, s.base, s.accent)


def _l_wave(img: Picture, s: _Style) -> None:
    h, w = img.shape[:2]
    x = np.arange(0, w + 4, 4)
    y = 0.55 * h + 0.06 * h * np.sin(x / w * 6.3)
    cv2.fillPoly(img, [np.array([*zip(x, y, strict=True), (w, h), (0, h)], np.int32)], s.second, cv2.LINE_AA)
    cv2.polylines(img, [np.stack([x, y], 1).astype(np.int32)], False, s.accent, max(2, h // 36), cv2.LINE_AA)


def _l_frame(img: Picture, s: _Style) -> None:
    h, w = img.shape[:2]
    cv2.rectangle(img, (w // 16, w // 16), (w - w // 16, h - w // 16), s.accent, max(3, w // 16))


def _l_panel(img: Picture, s: _Style) -> None:
    h, w = img.shape[:2]
    cv2.rectangle(img, (int(0.1 * w), int(0.38 * h)), (int(0.9 * w), int(0.94 * h)), (248, 246, 238), -1)
    cv2.rectangle(img, (int(0.1 * w), int(0.86 * h)), (int(0.9 * w), int(0.94 * h)), s.accent, -1)


def _l_column(img: Picture, s: _Style) -> None:
    h, w = img.shape[:2]
    cv2.rectangle(img, (0, 0), (int(0.26 * w), h), s.accent, -1)
    cv2.rectangle(img, (int(0.26 * w), 0), (int(0.3 * w), h), s.second, -1)


def _l_dots(img: Picture, s: _Style) -> None:
    h, w = img.shape[:2]
    rng = np.random.default_rng(s.family_seed)
    for _ in range(26):
        cv2.circle(
            img, (int(rng.integers(w)), int(rng.integers(h))), int(rng.integers(3, max(4, w // 9))), s.second, -1, cv2.LINE_AA
        )
    cv2.rectangle(img, (0, int(0.8 * h)), (w, h), s.accent, -1)


def _l_rays(img: Picture, s: _Style) -> None:
    h, w = img.shape[:2]
    centre = (w // 2, int(0.6 * h))
    for k in range(0, 24, 2):
        a, b = 2 * np.pi * k / 24, 2 * np.pi * (k + 1) / 24
        far = 2 * h
        pts = [centre, *[(int(centre[0] + far * np.cos(t)), int(centre[1] + far * np.sin(t))) for t in (a, b)]]
        cv2.fillConvexPoly(img, np.array(pts, np.int32), s.second, cv2.LINE_AA)
    cv2.circle(img, centre, int(0.3 * w), s.accent, -1, cv2.LINE_AA)


_LAYOUTS: tuple[Callable[[Picture, _Style], None], ...] = (
    _l_band,
    _l_diagonal,
    _l_stripes,
    _l_halves,
    _l_circle,
    _l_gradient,
    _l_wave,
    _l_frame,
    _l_panel,
    _l_column,
    _l_dots,
    _l_rays,
)


def _fruit(img: Picture, s: _Style, cx: float, cy: float, r: float) -> None:
    """A food picture: shaded balls, leaves, slices, grains or a bowl in the variant's colour."""
    h, w = img.shape[:2]
    rng = np.random.default_rng(s.seed)
    x, y, rad = int(cx * w), int(cy * h), max(4, int(r * w))
    dark = tuple(int(c * 0.6) for c in s.motif)
    light = tuple(int(c * 0.5 + 127) for c in s.motif)
    if s.fruit == 0:
        for dx, dy in ((-0.6, 0.15), (0.6, 0.2), (0.0, -0.3)):
            p = (int(x + dx * rad), int(y + dy * rad))
            cv2.circle(img, p, int(0.62 * rad), dark, -1, cv2.LINE_AA)
            cv2.circle(img, (p[0] - rad // 12, p[1] - rad // 12), int(0.54 * rad), s.motif, -1, cv2.LINE_AA)
            cv2.circle(img, (p[0] - rad // 5, p[1] - rad // 5), max(1, rad // 7), light, -1, cv2.LINE_AA)
        cv2.ellipse(img, (x, y - rad), (rad // 2, rad // 5), -25, 0, 360, (50, 130, 50), -1, cv2.LINE_AA)
    elif s.fruit == 1:
        cv2.circle(img, (x, y), rad, s.motif, -1, cv2.LINE_AA)
        cv2.circle(img, (x, y), int(0.85 * rad), light, -1, cv2.LINE_AA)
        for k in range(8):
            a = np.pi * k / 4
            tip = (int(x + 0.8 * rad * np.cos(a)), int(y + 0.8 * rad * np.sin(a)))
            cv2.line(img, (x, y), tip, s.motif, max(1, rad // 12), cv2.LINE_AA)
    elif s.fruit == 2:
        for _ in range(40):
            p = (int(x + rng.normal(0, 0.55) * rad), int(y + rng.normal(0, 0.4) * rad))
            shade = tuple(int(c * f) for c, f in zip(s.motif, (rng.uniform(0.6, 1.1),) * 3, strict=True))
            cv2.ellipse(
                img, p, (max(2, rad // 5), max(1, rad // 10)), float(rng.uniform(0, 180)), 0, 360, _clip(shade), -1, cv2.LINE_AA
            )
    elif s.fruit == 3:
        cv2.ellipse(img, (x, y), (rad, int(0.35 * rad)), 0, 0, 360, s.motif, -1, cv2.LINE_AA)
        cv2.ellipse(img, (x, y), (rad, rad), 0, 0, 180, (240, 238, 232), -1, cv2.LINE_AA)
        cv2.ellipse(img, (x, y), (int(0.92 * rad), int(0.28 * rad)), 0, 0, 360, dark, -1, cv2.LINE_AA)
        for _ in range(14):
            p = (int(x + rng.uniform(-0.75, 0.75) * rad), int(y + rng.uniform(-0.18, 0.12) * rad))
            cv2.circle(img, p, max(2, rad // 9), light, -1, cv2.LINE_AA)
    else:
        for k in range(5):
            a = float(rng.uniform(0, 180))
            cv2.ellipse(img, (x, y), (rad, rad // 4), a, 0, 360, s.motif if k % 2 else light, -1, cv2.LINE_AA)
        cv2.circle(img, (x, y), rad // 4, dark, -1, cv2.LINE_AA)


def _clip(c: tuple[int, ...]) -> Colour:
    r, g, b = (min(255, max(0, v)) for v in c)
    return r, g, b


def _logo(img: Picture, s: _Style, text: str, y0: float, y1: float, x0: float = 0.06, x1: float = 0.94) -> None:
    h, w = img.shape[:2]
    a, b = (int(x0 * w), int(y0 * h)), (int(x1 * w), int(y1 * h))
    mid, axes = ((a[0] + b[0]) // 2, (a[1] + b[1]) // 2), ((b[0] - a[0]) // 2, (b[1] - a[1]) // 2)
    plate = s.second
    if s.logo == 0:
        cv2.rectangle(img, a, b, plate, -1)
    elif s.logo == 1:
        cv2.ellipse(img, mid, axes, 0, 0, 360, plate, -1, cv2.LINE_AA)
    elif s.logo == 2:
        d = axes[1] // 2
        cv2.fillConvexPoly(img, np.array([(a[0] + d, a[1]), (b[0], a[1]), (b[0] - d, b[1]), (a[0], b[1])]), plate, cv2.LINE_AA)
    else:
        plate = _median(img, a, b)
    inset = 0.16 if s.logo == 1 else 0.08
    pad = (y1 - y0) * 0.16
    box = (x0 + inset * (x1 - x0), y0 + pad, x1 - inset * (x1 - x0), y1 - pad)
    _words(img, text.upper() if s.upper else text, box, s.ink_on(plate), s.font)


def _median(img: Picture, a: tuple[int, int], b: tuple[int, int]) -> Colour:
    patch = img[a[1] : max(b[1], a[1] + 1), a[0] : max(b[0], a[0] + 1)].reshape(-1, 3)
    r, g, bl = np.median(patch, axis=0)
    return int(r), int(g), int(bl)


def _front(spec: PackSpec, s: _Style, w: int, h: int) -> Picture:
    img = _plain(s.base, w, h)
    if spec.shape == "multipack":
        return _multipack_front(spec, s, w, h)
    _LAYOUTS[s.layout](img, s)
    top, bottom = 0.0, 1.0
    if spec.shape == "bottle":
        # Cap and neck above, liquid showing, and a label from shoulder to foot.
        label = img.copy()
        img[:] = s.liquid
        top, bottom = 0.36, 0.92
        y0, y1 = int(top * h), int(bottom * h)
        img[y0:y1] = cv2.resize(label, (w, y1 - y0), interpolation=cv2.INTER_AREA)
        img[: int(0.1 * h)] = s.cap
        img[int(0.1 * h) : int(0.115 * h)] = tuple(int(c * 0.6) for c in s.cap)
    span = bottom - top
    column = s.layout == 9
    x0 = 0.34 if column else 0.06
    _fruit(img, s, 0.64 if column else 0.5, top + 0.62 * span, 0.2 if column else 0.26)
    _logo(img, s, spec.brand, top + s.brand_at * span, top + (s.brand_at + 0.2) * span, x0)
    ink = s.ink_on(_median(img, (int(x0 * w), int((top + 0.38 * span) * h)), (int(0.94 * w), int((top + 0.44 * span) * h))))
    _words(img, spec.product, (x0, top + 0.36 * span, 0.94, top + 0.45 * span), ink, s.font2)
    flavour = (x0, top + 0.8 * span, 0.94, top + 0.89 * span)
    a = (int(flavour[0] * w), int(flavour[1] * h))
    b = (int(flavour[2] * w), int(flavour[3] * h))
    cv2.rectangle(img, a, b, s.accent, -1)
    _words(img, spec.flavour, (x0 + 0.03, flavour[1] + 0.01, 0.91, flavour[3] - 0.01), s.ink_on(s.accent), s.font2)
    size_ink = s.ink_on(
        _median(img, (int(0.5 * w), int((top + 0.92 * span) * h)), (int(0.96 * w), int((top + 0.98 * span) * h)))
    )
    _words(img, spec.size_text, (0.52, top + 0.92 * span, 0.96, top + 0.985 * span), size_ink, "DejaVuSans-Bold")
    if s.badge:
        centre = (int(0.84 * w), int((top + 0.36 * span) * h))
        cv2.circle(img, centre, int(0.12 * w), (225, 40, 40), -1, cv2.LINE_AA)
        r = 0.09
        _words(img, "NEW", (0.84 - r, centre[1] / h - 0.04, 0.84 + r, centre[1] / h + 0.04), (255, 255, 255), "DejaVuSans-Bold")
    if spec.shape == "can":
        rim = max(2, h // 28)
        img[:rim] = img[-rim:] = (176, 178, 182)
    if spec.shape == "bag":
        img = _crinkle(img, s)
    return img


def _multipack_front(spec: PackSpec, s: _Style, w: int, h: int) -> Picture:
    """A film or carton over repeated units."""
    unit = _plain(s.base, w, h)
    _LAYOUTS[s.layout](unit, s)
    _fruit(unit, s, 0.5, 0.62, 0.26)
    _logo(unit, s, spec.brand, 0.1, 0.32)
    across = 3 if spec.width_m > 0.16 else 2
    small = cv2.resize(unit, (w // across, h), interpolation=cv2.INTER_AREA)
    x = np.linspace(-1, 1, small.shape[1], dtype=np.float32)
    shaded = (small * (0.55 + 0.45 * np.sqrt(np.clip(1 - x**2, 0, 1)))[None, :, None]).astype(np.uint8)
    img = np.asarray(cv2.resize(np.tile(shaded, (1, across, 1)), (w, h)), dtype=np.uint8)
    y0, y1 = int(0.52 * h), int(0.8 * h)
    img[y0:y1] = s.accent
    _words(img, f"{spec.brand} {spec.product}", (0.04, 0.54, 0.96, 0.66), s.ink_on(s.accent), s.font)
    _words(img, f"{spec.flavour}  {spec.size_text}", (0.04, 0.68, 0.96, 0.78), s.ink_on(s.accent), s.font2)
    return img


def _crinkle(img: Picture, s: _Style) -> Picture:
    """Foil: soft folds of light and dark, and sealed seams at both ends."""
    h, w = img.shape[:2]
    noise = np.random.default_rng(s.family_seed).normal(0, 1, (7, 6)).astype(np.float32)
    folds: NDArray[np.float32] = np.asarray(cv2.resize(noise, (w, h), interpolation=cv2.INTER_CUBIC), np.float32)
    out = (img.astype(np.float32) * (1 + 0.11 * folds[..., None]) + 14 * np.maximum(folds, 0)[..., None]).clip(0, 255)
    seam = max(3, h // 26)
    stripes = (np.arange(w) // 2 % 2 * 26 - 13).astype(np.float32)[None, :, None]
    out[:seam] = (out[:seam] * 0.85 + stripes).clip(0, 255)
    out[-seam:] = (out[-seam:] * 0.85 + stripes).clip(0, 255)
    return np.asarray(out, np.uint8)


def _back(spec: PackSpec, s: _Style, w: int, h: int) -> Picture:
    """Name, a table of nutrition and bars."""
    img = _plain(tuple(int(c * 0.4 + 153) for c in s.base), w, h)  # type: ignore[arg-type]
    _words(img, f"{spec.brand} {spec.product}", (0.06, 0.04, 0.94, 0.16), (30, 30, 30), s.font)
    for k in range(7):
        y = int((0.24 + 0.06 * k) * h)
        cv2.line(img, (int(0.08 * w), y), (int(0.92 * w), y), (90, 90, 90), 1)
        cv2.line(img, (int(0.1 * w), y - 4), (int((0.35 + 0.05 * (k % 4)) * w), y - 4), (60, 60, 60), 1)
    rng = np.random.default_rng(s.seed)
    cv2.rectangle(img, (int(0.4 * w), int(0.72 * h)), (int(0.94 * w), int(0.94 * h)), (255, 255, 255), -1)
    for x in range(int(0.43 * w), int(0.91 * w)):
        if rng.random() < 0.5:
            img[int(0.74 * h) : int(0.92 * h), x] = 15
    return img
