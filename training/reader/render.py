"""Price tags drawn with real fonts, with the box, class and role of every letter that matters.

A tag is drawn flat (`flat_tag`) and then put before a background, tilted, cut out as a detector would, and spoiled as a camera
would (`spoil`). Truth rows are (x_min, y_min, x_max, y_max, class, role) in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from shelfscan.perception.price_map import CENTS, FILL, FIRST_SIGN, HEIGHT_PX, MARK, OTHER, SIGNS, VAGUE, WHOLE, WIDTH_PX

IGNORE = -1

Picture = NDArray[np.uint8]
_GLYPH_PX = 96


@dataclass
class Glyph:
    """A letter's ink (h, w) in 0..255, its place in the em square and its advance, in pixels at `_GLYPH_PX`."""

    ink: Picture
    left: float
    top: float
    advance: float


class Fonts:
    """The fonts of a folder made by `training.reader.fonts`."""

    def __init__(self, folder: Path, held_out: bool = False) -> None:
        files = sorted(folder.glob("*.otf"))
        self.cjk = [f for f in files if f.name.startswith("cjk_")]
        self.price = [f for f in files if f.name.startswith("heldout_") == held_out and not f.name.startswith("cjk_")]
        if not self.price or not self.cjk:
            raise SystemExit(f"{folder}: no fonts; python -m training.reader.fonts makes them")
        if not held_out:
            self.price += self.cjk[:1] * 2
        self.latin = [f for f in files if not f.name.startswith(("heldout_", "cjk_")) and "DSEG" not in f.name]

    def pick(self, rng: np.random.Generator) -> str:
        """A font for prices; seven segments are rarer."""
        while True:
            f = self.price[int(rng.integers(len(self.price)))]
            if "DSEG" not in f.name or rng.random() < 0.5:
                return str(f)


@lru_cache(maxsize=512)
def _face(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


@lru_cache(maxsize=4096)
def glyph(path: str, text: str) -> Glyph | None:
    """A letter (or a word taken as one) of a font; None where the font has none of it."""
    face = _face(path, _GLYPH_PX)
    x0, y0, x1, y1 = face.getbbox(text, anchor="ls")
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    canvas = Image.new("L", (int(x1 - x0) + 4, int(y1 - y0) + 4))
    ImageDraw.Draw(canvas).text((2 - x0, 2 - y0), text, fill=255, font=face, anchor="ls")
    ink = np.asarray(canvas)
    ys, xs = np.nonzero(ink > 40)
    if len(xs) == 0:
        return None
    cut = ink[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].copy()
    return Glyph(cut, x0 - 2 + float(xs.min()), y0 - 2 + float(ys.min()), max(face.getlength(text), 0.25 * _GLYPH_PX))


@dataclass
class Letter:
    """A letter to set: size relative to the whole part's digits, raise in parts of the whole part's digit height."""

    text: str
    role: int
    size: float = 1.0
    lift: float = 0.0
    cls: int = -1
    gap: float = 0.0


def price_letters(rng: np.random.Generator) -> list[Letter]:
    """A price in one of many styles, left to right."""
    kind = rng.random()
    digits = int(rng.choice([1, 2, 3, 4, 5], p=[0.2, 0.3, 0.34, 0.12, 0.04]))
    first = str(rng.integers(1, 10)) if digits > 1 else str(rng.integers(0, 10))
    whole = first + "".join(str(rng.integers(0, 10)) for _ in range(digits - 1))
    if rng.random() < 0.25 and digits > 1:
        whole = whole[:-1] + str(rng.choice([9, 8, 0, 5, 9]))
    out = [Letter(c, WHOLE) for c in whole]
    if digits > 3 and rng.random() < 0.7:
        mark = str(rng.choice([",", ".", " ", "'"], p=[0.45, 0.35, 0.15, 0.05]))
        if mark == " ":
            out[-3].gap = 0.2
        else:
            out.insert(-3, Letter(mark, WHOLE))
    cents = "".join(str(c) for c in rng.integers(0, 10, 2))
    if rng.random() < 0.5:
        cents = str(rng.choice(["99", "95", "49", "90", "50", "00", "79", "29", "89", "59"]))
    if kind < 0.28 and digits >= 2:  # yen, whole kroner
        pass
    elif kind < 0.55:  # decimals alike
        size = 1.0 if rng.random() < 0.75 else rng.uniform(0.7, 0.95)
        out += [Letter(str(rng.choice([".", ",", ":"], p=[0.5, 0.45, 0.05])), CENTS), *(Letter(c, CENTS, size) for c in cents)]
    elif kind < 0.92:  # small decimals, raised or not
        size = rng.uniform(0.38, 0.72)
        lift = (1.0 - size) * (1.0 if rng.random() < 0.85 else rng.uniform(0, 1))
        mark = str(rng.choice([".", ",", "", "'"], p=[0.25, 0.3, 0.4, 0.05]))
        if mark:
            out.append(Letter(mark, CENTS, 1.0 if rng.random() < 0.6 else size, 0.0 if rng.random() < 0.6 else lift))
        gap = rng.uniform(0.0, 0.12)
        out += [Letter(c, CENTS, size, lift, gap=gap if i == 0 else 0.0) for i, c in enumerate(cents)]
    else:  # 29,- and 29.-
        out += [Letter(str(rng.choice([",", ".", ":"])), CENTS), Letter("-", OTHER, cls=IGNORE)]
    sign_kind = rng.random()
    if sign_kind < 0.75:
        sign = str(rng.choice(["¥", "€", "$", "£", "円", "kr"], p=[0.2, 0.3, 0.15, 0.12, 0.13, 0.1]))
        before = {"¥": 1.0, "€": 0.3, "$": 0.95, "£": 1.0, "円": 0.0, "kr": 0.15}[sign]
        size = float(rng.choice([1.0, rng.uniform(0.3, 0.75)], p=[0.4, 0.6]))
        lift = 0.0 if size == 1.0 or rng.random() < 0.4 else 1 - size
        letter = Letter(sign, OTHER, size, lift, gap=rng.uniform(0, 0.2))
        if rng.random() < before:
            out[0].gap = letter.gap
            letter.gap = 0.0
            out.insert(0, letter)
        else:
            out.append(letter)
    elif sign_kind < 0.82:  # other words by the price: each, pro Stück
        out.append(
            Letter(
                str(rng.choice(["ea", "zt", "DM", "*", "Kc", "Ft", "c"])), OTHER, rng.uniform(0.25, 0.5), cls=IGNORE, gap=0.1
            )
        )
    return out


def set_letters(
    letters: list[Letter], fonts: Fonts, path: str, height: float, stretch: float, shear: float, spacing: float, bold: int
) -> tuple[Picture, NDArray[np.float64]]:
    """Letters side by side as ink (h, w) and their truth (N, 6). ``height``: of the whole part's digits in pixels."""
    ref = glyph(path, "8") or glyph(fonts.price[0].as_posix(), "8")
    assert ref is not None
    digit_px = ref.ink.shape[0]
    unit = height / digit_px
    pen = 0.0
    placed: list[tuple[Picture, float, float]] = []
    rows = []
    for letter in letters:
        g = glyph(path, letter.text) if "DSEG" not in path or letter.text.isdigit() else None
        own = path
        if g is None or (letter.text == "円"):
            own = str(fonts.cjk[0] if letter.text == "円" else fonts.latin[0])
            g = glyph(own, letter.text)
        if g is None:
            continue
        s = unit * letter.size * (1.0 if own == path else digit_px / 70)
        w, h = max(2, round(g.ink.shape[1] * s * stretch)), max(2, round(g.ink.shape[0] * s))
        ink = cv2.resize(g.ink, (w, h), interpolation=cv2.INTER_AREA if s < 1 else cv2.INTER_LINEAR)
        if shear:
            extra = abs(shear) * h
            M = np.array([[1, -shear, max(shear, 0) * h], [0, 1, 0]], np.float64)
            ink = cv2.warpAffine(ink, M, (int(w + extra) + 1, h))
        pen += letter.gap * height
        x = pen + g.left * s * stretch
        y = g.top * s - letter.lift * height
        if shear:  # slanting moves what is raised
            x += -shear * (y + h) if shear > 0 else 0.0
        placed.append((ink, x, y))
        pen += (g.advance * s + spacing * height) * stretch
        cls = letter.cls
        if cls == -1 and letter.cls != IGNORE:
            cls = IGNORE
        if letter.text.isdigit():
            cls = int(letter.text)
        elif letter.text in ".,:'":
            cls = MARK
        elif letter.text in SIGNS:
            cls = FIRST_SIGN + SIGNS.index(letter.text)
        xs = np.nonzero(ink.max(axis=0) > 60)[0]
        ys = np.nonzero(ink.max(axis=1) > 60)[0]
        if len(xs) and len(ys):
            rows.append([x + xs[0], y + ys[0], x + xs[-1] + 1, y + ys[-1] + 1, cls, letter.role])
    if not rows:
        return np.zeros((4, 4), np.uint8), np.zeros((0, 6))
    x_min, y_min = min(x for _, x, _ in placed), min(y for _, _, y in placed)
    w = int(max(x + k.shape[1] for k, x, _ in placed) - x_min) + 3
    h = int(max(y + k.shape[0] for k, _, y in placed) - y_min) + 3
    canvas = np.zeros((h, w), np.uint8)
    for ink, x, y in placed:
        a, b = round(x - x_min), round(y - y_min)
        part = canvas[b : b + ink.shape[0], a : a + ink.shape[1]]
        np.maximum(part, ink[: part.shape[0], : part.shape[1]], out=part)
    if bold:
        canvas = cv2.dilate(canvas, np.ones((bold, bold), np.uint8))
    truth = np.array(rows)
    truth[:, [0, 2]] -= x_min
    truth[:, [1, 3]] -= y_min
    return canvas, truth


def _colour(rng: np.random.Generator, light: bool) -> tuple[int, int, int]:
    if light:
        kinds = [
            (252, 252, 250),
            (250, 240, 150),
            (255, 225, 60),
            (225, 228, 226),
            (175, 180, 178),
            (240, 245, 255),
            (255, 235, 235),
        ]
        base = np.array(kinds[int(rng.choice(len(kinds), p=[0.42, 0.09, 0.09, 0.12, 0.14, 0.07, 0.07]))])
    else:
        kinds = [(12, 12, 12), (200, 20, 30), (20, 40, 120), (10, 90, 50), (60, 60, 62), (150, 20, 30)]
        base = np.array(kinds[int(rng.choice(len(kinds), p=[0.55, 0.2, 0.06, 0.04, 0.05, 0.1]))])
    return tuple(int(v) for v in np.clip(base + rng.normal(0, 8, 3), 0, 255))  # type: ignore[return-value]


def _paste(img: Picture, ink: Picture, x: int, y: int, colour: tuple[int, int, int]) -> None:
    h, w = img.shape[:2]
    x0, y0, x1, y1 = max(0, x), max(0, y), min(w, x + ink.shape[1]), min(h, y + ink.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    a = ink[y0 - y : y1 - y, x0 - x : x1 - x, None].astype(np.float32) / 255
    part = img[y0:y1, x0:x1].astype(np.float32)
    img[y0:y1, x0:x1] = (part * (1 - a) + np.array(colour, np.float32) * a).astype(np.uint8)


def _words(rng: np.random.Generator, fonts: Fonts, size: int) -> Picture:
    """A line of text as ink."""
    if rng.random() < 0.5:
        path = str(fonts.cjk[int(rng.integers(len(fonts.cjk)))])
        from training.reader.fonts import JAPANESE

        text = "".join(rng.choice(list(JAPANESE), int(rng.integers(3, 16))))
    else:
        path = str(fonts.latin[int(rng.integers(len(fonts.latin)))])
        letters = list("abcdefghijklmnopqrstuvwxyz" if rng.random() < 0.6 else "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        text = " ".join(
            "".join(rng.choice(letters, int(rng.integers(2, 9)))).capitalize() for _ in range(int(rng.integers(1, 4)))
        )
    if rng.random() < 0.3 and size < 26:
        text += " " + str(rng.choice(["500g", "1 L", "250 ml", "12 x 33cl", "100g", "1,5 kg", "75 cl", "6p", "30%"]))
    face = _face(path, size)
    x0, y0, x1, y1 = face.getbbox(text, anchor="ls")
    canvas = Image.new("L", (int(x1 - x0) + 2, int(y1 - y0) + 2))
    ImageDraw.Draw(canvas).text((-x0, -y0), text, fill=255, font=face, anchor="ls")
    return np.asarray(canvas)


def _bars(rng: np.random.Generator, w: int, h: int) -> Picture:
    modules = rng.integers(0, 2, 95).astype(np.uint8) * 255
    return cv2.resize(np.repeat(modules[None], h, axis=0), (w, h), interpolation=cv2.INTER_NEAREST)


def flat_tag(rng: np.random.Generator, fonts: Fonts) -> tuple[Picture, NDArray[np.float64]]:
    """A tag without a camera: (h, w, 3) RGB, and truth (N, 6) of its letters that are big enough to matter."""
    w = 360
    h = int(w / rng.uniform(1.15, 2.5)) if rng.random() < 0.92 else int(w / rng.uniform(0.8, 1.15))
    inverse = rng.random() < 0.12
    paper, ink = _colour(rng, not inverse), _colour(rng, inverse)
    if inverse and sum(paper) < 260 and rng.random() < 0.5:
        ink = (250, 250, 245)
    img = np.full((h, w, 3), paper, np.uint8)
    frame = 0
    if rng.random() < 0.3:  # the case of an electronic tag
        frame = int(h * rng.uniform(0.04, 0.14))
        right = int(w * rng.uniform(0.02, 0.14))
        case = int(rng.integers(190, 256))
        cased = np.full((h, w, 3), case, np.uint8)
        cased[frame : h - frame, frame : w - right] = paper
        img = cased
    x_in0, x_in1, y_in0, y_in1 = frame, w - max(frame, 4), frame, h - frame
    truth: list[NDArray[np.float64]] = []
    taken = np.zeros((h, w), bool)
    # the price
    letters = price_letters(rng)
    path = fonts.pick(rng)
    stretch = float(np.clip(rng.normal(0.9, 0.18), 0.55, 1.25))
    shear = 0.0 if rng.random() < 0.75 else rng.uniform(0.08, 0.28)
    bold = int(rng.choice([0, 0, 0, 2, 3]))
    spacing = float(np.clip(rng.normal(0.01, 0.03), -0.04, 0.12))
    height = (y_in1 - y_in0) * float(np.clip(rng.normal(0.36, 0.13), 0.16, 0.75))
    price, rows = set_letters(letters, fonts, path, height, stretch, shear, spacing, bold)
    room = (x_in1 - x_in0) * rng.uniform(0.55, 0.97)
    if price.shape[1] > room:
        height *= room / price.shape[1]
        price, rows = set_letters(letters, fonts, path, height, stretch, shear, spacing, bold)
    ph, pw = price.shape
    where = rng.random()
    span = max(1, x_in1 - x_in0 - pw)
    px = x_in0 + int(span * (rng.uniform(0.75, 1.0) if where < 0.5 else rng.uniform(0, 1)))
    py = y_in0 + int(max(1, y_in1 - y_in0 - ph) * float(np.clip(rng.normal(0.55, 0.25), 0.02, 0.98)))
    taken[max(0, py - 4) : py + ph + 4, max(0, px - 6) : px + pw + 6] = True

    def free(x: int, y: int, ww: int, hh: int) -> bool:
        inside = x >= x_in0 and y >= y_in0 and x + ww <= x_in1 and y + hh <= y_in1
        return inside and not taken[y : y + hh, x : x + ww].any()

    def place(
        mark: Picture, colour: tuple[int, int, int], tries: int = 5, y_share: tuple[float, float] = (0, 1)
    ) -> tuple[int, int] | None:
        hh, ww = mark.shape[:2]
        for _ in range(tries):
            x = int(rng.integers(x_in0, max(x_in0 + 1, x_in1 - ww + 1)))
            y = int(y_in0 + (y_in1 - y_in0 - hh) * rng.uniform(*y_share))
            if free(x, y, ww, hh):
                _paste(img, mark, x, y, colour)
                taken[y : y + hh, x : x + ww] = True
                return x, y
        return None

    dark = (25, 25, 25) if sum(paper) > 380 else (240, 240, 240)
    # a banner or badge, often red, with figures bigger than the price's
    if rng.random() < 0.22:
        bw, bh = int(w * rng.uniform(0.2, 0.42)), int((y_in1 - y_in0) * rng.uniform(0.35, 0.9))
        badge = np.full((bh, bw), 255, np.uint8)
        spot = place(badge, _colour(rng, False) if rng.random() < 0.8 else _colour(rng, True), 8)
        if spot is not None:
            kind = rng.random()
            n = str(rng.choice(["5", "10", "20", "30", "50", "15", "25", "100", "3", "2"]))
            text = ("+" + n) if kind < 0.45 else ("-" + n + "%") if kind < 0.8 else (n + "%") if kind < 0.9 else n
            marks = [Letter(c, OTHER, cls=IGNORE) for c in text]
            k, t = set_letters(marks, fonts, fonts.pick(rng), bh * rng.uniform(0.3, 0.6), stretch, 0.0, 0.0, 0)
            s = min(1.0, 0.95 * bw / k.shape[1])
            if s < 1:
                k = cv2.resize(k, None, fx=s, fy=s, interpolation=cv2.INTER_AREA)
                t[:, :4] *= s
            bx, by = spot[0] + (bw - k.shape[1]) // 2, spot[1] + int(max(0, bh - k.shape[0]) * rng.uniform(0.4, 1))
            _paste(img, k, bx, by, (255, 255, 255) if rng.random() < 0.7 else (255, 240, 60))
            t[:, [0, 2]] += bx
            t[:, [1, 3]] += by
            truth.append(t)
    elif rng.random() < 0.2:  # a coloured head
        hh = int(h * rng.uniform(0.12, 0.3))
        if not taken[:hh].any():
            img[y_in0 : y_in0 + hh, x_in0:x_in1] = _colour(rng, rng.random() < 0.4)
            _paste(img, _words(rng, fonts, max(8, int(hh * 0.7))), x_in0 + int(rng.integers(2, 60)), y_in0 + 3, (250, 250, 250))
            taken[y_in0 : y_in0 + hh] = True
    # an old price, struck through, or the price with (or without) tax, smaller
    if rng.random() < 0.25:
        other = price_letters(rng)
        if rng.random() < 0.4:
            other = [Letter("(", OTHER, cls=IGNORE), *other, Letter(")", OTHER, cls=IGNORE)]
        for q in other:
            q.role = OTHER
        k, t = set_letters(
            other,
            fonts,
            path if rng.random() < 0.6 else fonts.pick(rng),
            height * rng.uniform(0.25, 0.6),
            stretch,
            0.0,
            spacing,
            0,
        )
        spot = place(k, dark if rng.random() < 0.7 else ink, 8)
        if spot is not None:
            t[:, [0, 2]] += spot[0]
            t[:, [1, 3]] += spot[1]
            if rng.random() < 0.45:
                a, b = (
                    (spot[0] - 2, spot[1] + int(k.shape[0] * rng.uniform(0.4, 1))),
                    (spot[0] + k.shape[1], spot[1] + int(k.shape[0] * rng.uniform(0, 0.6))),
                )
                cv2.line(img, a, b, (190, 20, 20) if rng.random() < 0.6 else dark, int(rng.integers(1, 4)), cv2.LINE_AA)
                t[:, 4] = IGNORE
            truth.append(t)
    # names and notes; a name may run under the price, as on electronic tags
    for i in range(int(rng.integers(1, 4))):
        size = int(rng.uniform(0.07, 0.2 if i == 0 else 0.12) * h) + 6
        words = _words(rng, fonts, size)
        words = words[:, : max(10, x_in1 - x_in0 - 8)]
        if i == 0 and rng.random() < 0.3 and shear:
            _paste(img, words, x_in0 + int(rng.integers(2, 30)), y_in0 + int(rng.integers(2, 20)), dark)
        else:
            place(words, dark if rng.random() < 0.85 else _colour(rng, False), 4, (0.0, 0.35) if i == 0 else (0, 1))
    if rng.random() < 0.6:
        bars = _bars(rng, int(w * rng.uniform(0.2, 0.42)), int(h * rng.uniform(0.06, 0.2)))
        spot = place(bars, (15, 15, 15), 6, (0.5, 1.0) if rng.random() < 0.8 else (0, 1))
        if spot is not None and rng.random() < 0.7:
            ean = "".join(str(v) for v in rng.integers(0, 10, 13))
            k, _ = set_letters(
                [Letter(c, OTHER) for c in ean], fonts, str(fonts.latin[0]), max(6.0, h * 0.035), 1.0, 0.0, 0.05, 0
            )
            _paste(img, k, spot[0], spot[1] + bars.shape[0] + 2, dark)
    for _ in range(int(rng.integers(0, 3))):
        n = str(
            rng.choice(
                ["1kg = 4,98", "100g 0,45", "12 345 678", "23-05-02", "EUR/kg 12,90", "Art. 482113", "100 ml / 1.25", "A 04 12"]
            )
        )
        k, t = set_letters(
            [Letter(c, OTHER, cls=IGNORE) for c in n if c != " "],
            fonts,
            str(fonts.latin[int(rng.integers(len(fonts.latin)))]),
            h * rng.uniform(0.035, 0.1),
            0.9,
            0.0,
            0.03,
            0,
        )
        spot = place(k, dark, 4)
        if spot is not None:
            t[:, [0, 2]] += spot[0]
            t[:, [1, 3]] += spot[1]
            truth.append(t)
    if rng.random() < 0.35:
        y = int(np.clip(py + ph + rng.integers(2, 10), y_in0, y_in1 - 1))
        cv2.line(img, (x_in0 + 4, y), (x_in1 - 4, y), dark, int(rng.integers(1, 3)))
    if rng.random() < 0.12:  # a marker pen over the name
        y = int(rng.uniform(0.02, 0.3) * h)
        colour = ((255, 120, 180), (240, 240, 60), (150, 160, 230))[int(rng.integers(3))]
        cv2.line(img, (int(w * 0.1), y), (int(w * rng.uniform(0.4, 0.8)), y), colour, int(rng.integers(6, 14)))
    _paste(img, price, px, py, ink)
    rows = rows.copy()
    rows[:, [0, 2]] += px
    rows[:, [1, 3]] += py
    truth.append(rows)
    if rng.random() < 0.15:
        cv2.rectangle(img, (0, 0), (w - 1, h - 1), dark, int(rng.integers(1, 4)))
    return img, np.concatenate(truth)


def _fit(w: float, h: float) -> tuple[float, float, float]:
    """Scale and offset (x, y) in pixels that fit a crop into the network's input."""
    s = min(WIDTH_PX / w, HEIGHT_PX / h)
    return s, (WIDTH_PX - w * s) / 2, (HEIGHT_PX - h * s) / 2


def spoil(
    rng: np.random.Generator,
    img: Picture,
    truth: NDArray[np.float64],
    backgrounds: list[Picture],
    gentle: bool = False,
    tag: NDArray[np.float64] | None = None,
) -> tuple[Picture, NDArray[np.float32]]:
    """What the network gets: (HEIGHT_PX, WIDTH_PX, 3) uint8 RGB, and the truth there. ``gentle``: for real photographs.

    ``tag``: x_min, y_min, x_max, y_max of the tag in ``img``; the whole of it without.
    """
    h, w = img.shape[:2]
    tx0, ty0, tx1, ty1 = (0.0, 0.0, float(w), float(h)) if tag is None else tag
    k = 0.35 if gentle else 1.0
    # width of the tag on the sensor, then perspective
    sensor = float(np.exp(rng.uniform(np.log(70), np.log(320)))) if not gentle else (tx1 - tx0) * rng.uniform(0.6, 1.15)
    s = sensor / (tx1 - tx0)
    angle = np.deg2rad(np.clip(rng.normal(0, 3.5 * k), -12, 12))
    R = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    A = (
        R
        @ np.array([[1, rng.normal(0, 0.06 * k)], [0, 1]])
        @ np.diag([s * (1 if rng.random() < 0.5 else rng.uniform(0.85, 1.0)), s])
    )
    bend = rng.normal(0, 0.0004 * k, 2) / s
    M = np.eye(3)
    M[:2, :2] = A
    M[2, :2] = bend * s
    corners = cv2.perspectiveTransform(np.array([[[tx0, ty0], [tx1, ty0], [tx1, ty1], [tx0, ty1]]], np.float64), M)[0]
    (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
    bw, bh = x1 - x0, y1 - y0
    pad = 0.06
    e = rng.normal(0, 0.035, 4)
    if rng.random() < 0.1:
        e[int(rng.integers(4))] += rng.uniform(0.1, 0.5)  # cut by the picture's border
    cx0, cy0 = x0 - pad * bw + max(-0.1, e[0]) * bw, y0 - pad * bw + max(-0.1, e[1]) * bh
    cx1, cy1 = x1 + pad * bw - max(-0.1, e[2]) * bw, y1 + pad * bw - max(-0.1, e[3]) * bh
    cw, ch = max(24, int(cx1 - cx0)), max(16, int(cy1 - cy0))
    T = np.array([[1, 0, -cx0], [0, 1, -cy0], [0, 0, 1.0]]) @ M
    if backgrounds and rng.random() < 0.8:
        b = backgrounds[int(rng.integers(len(backgrounds)))]
        back = cv2.resize(b, (cw, ch), interpolation=cv2.INTER_AREA)
    else:
        back = np.full((ch, cw, 3), rng.integers(0, 256, 3), np.uint8)
    small = s < 0.75
    if small:  # no aliasing
        img = cv2.GaussianBlur(img, (0, 0), 0.35 / s)
    front = cv2.warpPerspective(img, T, (cw, ch), flags=cv2.INTER_LINEAR)
    mask = cv2.warpPerspective(np.full(img.shape[:2], 255, np.uint8), T, (cw, ch), flags=cv2.INTER_LINEAR)
    out = np.where(mask[..., None] > 127, front, back).astype(np.float32)
    vague = np.zeros((ch, cw), bool)
    # light, glare, something before it
    if not gentle or rng.random() < 0.5:
        gain = rng.uniform(0.45, 1.25) if not gentle else rng.uniform(0.75, 1.15)
        out = out * gain * rng.uniform(0.92, 1.08, 3).astype(np.float32)
        if rng.random() < 0.35:
            ramp = np.linspace(rng.uniform(0.6, 1.2), rng.uniform(0.7, 1.2), cw, dtype=np.float32)[None, :, None]
            out = out * ramp
        if rng.random() < 0.3:  # haze of a plastic cover, overexposure
            a = rng.uniform(0.1, 0.6)
            out = out * (1 - a) + a * rng.uniform(180, 275)
    if rng.random() < 0.08:
        blob = np.zeros((ch, cw), np.float32)
        centre = (int(rng.integers(cw)), int(rng.integers(ch)))
        axes = (int(cw * rng.uniform(0.03, 0.15)), int(ch * rng.uniform(0.05, 0.4)))
        cv2.ellipse(blob, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
        blob = cv2.GaussianBlur(blob, (0, 0), max(0.8, cw / 120))
        vague |= blob > 0.6
        out = out * (1 - blob[..., None]) + blob[..., None] * (255 if rng.random() < 0.75 else rng.uniform(0, 200))
    r = rng.random()
    if r < 0.45:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.3, 1.3 if not gentle else 0.8))
    elif r < 0.6:
        n = int(rng.integers(2, max(3, cw // 26)))
        kernel = np.zeros((n, n), np.float32)
        if rng.random() < 0.7:
            kernel[n // 2] = 1.0 / n
        else:
            np.fill_diagonal(kernel, 1.0 / n)
        out = cv2.filter2D(out, -1, kernel)
    if rng.random() < 0.35:
        out = out + (out - cv2.GaussianBlur(out, (0, 0), 1.2)) * rng.uniform(0.3, 1.8)
    if rng.random() < 0.7:
        out = out + rng.normal(0, rng.uniform(1, 9), out.shape).astype(np.float32)
    out = np.clip(out, 0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        _, data = cv2.imencode(".jpg", out[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 96))])
        out = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
    s2, _, _ = _fit(cw, ch)
    final = np.full((HEIGHT_PX, WIDTH_PX, 3), FILL, np.uint8)
    nw, nh = max(1, round(cw * s2)), max(1, round(ch * s2))
    fx, fy = (WIDTH_PX - nw) // 2, (HEIGHT_PX - nh) // 2
    final[fy : fy + nh, fx : fx + nw] = cv2.resize(out, (nw, nh), interpolation=cv2.INTER_CUBIC if s2 > 1 else cv2.INTER_AREA)
    rows = []
    for row in truth:
        quad = cv2.perspectiveTransform(
            np.array([[[row[0], row[1]], [row[2], row[1]], [row[2], row[3]], [row[0], row[3]]]], np.float64), T
        )[0]
        (a0, b0), (a1, b1) = quad.min(axis=0), quad.max(axis=0)
        area = max(1e-6, (a1 - a0) * (b1 - b0))
        q0, r0, q1, r1 = max(a0, 0.0), max(b0, 0.0), min(a1, float(cw)), min(b1, float(ch))
        seen = max(0.0, q1 - q0) * max(0.0, r1 - r0) / area
        if seen < 0.15:
            continue
        cls = row[4]
        if cls >= 0 and seen < 0.9:
            cls = VAGUE if row[4] < MARK else IGNORE
        part = vague[int(r0) : int(np.ceil(r1)), int(q0) : int(np.ceil(q1))]
        if cls >= 0 and part.size and part.mean() > 0.12:
            cls = VAGUE if row[4] < MARK else IGNORE
        rows.append([q0 * s2 + fx, r0 * s2 + fy, q1 * s2 + fx, r1 * s2 + fy, cls, row[5]])
    return final, np.array(rows, np.float32).reshape(-1, 6)
