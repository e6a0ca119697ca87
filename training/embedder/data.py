"""Views of the training packages: as on a shelf and as in a gallery, made from their flat art or cut from renders.

Crops of rendered stores come from `training.embedder.pool`.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.sim.packaging import PackSpec, make_packs
from training.detector.art import Image
from training.detector.packs import NAMESPACE, pack_art

SIDE = 128


class FlatArt:
    """Packs of the training name space, families side by side, their textures drawn on first use."""

    def __init__(self, seed: int, count: int) -> None:
        self.specs: list[PackSpec] = make_packs(seed, count, NAMESPACE)
        self._textures: dict[int, Image] = {}
        self.families: list[list[int]] = []
        by: dict[int, list[int]] = {}
        for i, s in enumerate(self.specs):
            by.setdefault(s.family, []).append(i)
        self.families = list(by.values())

    def texture(self, i: int) -> Image:
        """(h, w, 4) uint8 RGBA."""
        if i not in self._textures:
            self._textures[i] = pack_art(self.specs[i], 160).texture
        return self._textures[i]

    def view(self, i: int, rng: np.random.Generator, gallery: bool) -> Image:
        """One picture of pack ``i``, (SIDE, SIDE, 3) uint8 RGB."""
        others = [self._near(i, rng) for _ in range(2)]
        return spoil(place(self.texture(i), [self.texture(o) for o in others], rng, gallery), rng, gallery)

    def _near(self, i: int, rng: np.random.Generator) -> int:
        if rng.random() < 0.6:
            return i
        return int(np.clip(i + rng.integers(-3, 4), 0, len(self.specs) - 1))


def place(front: Image, beside: list[Image], rng: np.random.Generator, gallery: bool) -> Image:
    """The pack before its surroundings, cut out as a detector would: slightly off, neighbours and shelf looking in."""
    h, w = front.shape[:2]
    pad_x, pad_y = int(0.3 * w) + 2, int(0.2 * h) + 2
    canvas = np.empty((h + 2 * pad_y, w + 2 * pad_x, 3), np.uint8)
    if gallery:
        canvas[:] = rng.integers(60, 256) if rng.random() < 0.7 else rng.integers(0, 256, 3)
    else:
        canvas[:] = (rng.uniform(5, 160) * rng.uniform(0.8, 1.1, 3)).clip(0, 255)
        for k, other in enumerate(beside):
            if rng.random() < 0.75:
                gap = int(rng.uniform(0, 0.05) * w)
                hh = int(other.shape[0] * rng.uniform(0.7, 1.2)) if rng.random() < 0.4 else h
                ww = max(4, int(other.shape[1] * hh / other.shape[0]))
                o = cv2.resize(other, (ww, hh), interpolation=cv2.INTER_AREA)
                x = pad_x - gap - ww if k == 0 else pad_x + w + gap
                _over(canvas, o, x, pad_y + h - hh, rng.uniform(0.6, 1.0))
        if rng.random() < 0.6:  # shelf edge below, perhaps with a tag
            canvas[pad_y + h + int(rng.integers(0, 4)) :] = rng.integers(60, 255)
        if rng.random() < 0.4:  # another row of the same product behind, above it
            _over(
                canvas,
                cv2.resize(front, (max(4, int(w * 0.9)), max(4, int(h * 0.9)))),
                pad_x + int(0.05 * w),
                pad_y - int(0.04 * h),
                0.6,
            )
    _over(canvas, front, pad_x, pad_y, 1.0)
    if not gallery and rng.random() < 0.2:  # the shelf above, a neighbour or a tag covers a part
        part = rng.uniform(0.05, 0.3)
        tone = rng.integers(0, 230, 3)
        side = rng.integers(4)
        if side == 0:
            canvas[: pad_y + int(part * h)] = tone
        elif side == 1:
            canvas[pad_y + int((1 - part) * h) :] = tone
        elif side == 2:
            canvas[:, : pad_x + int(part * 0.7 * w)] = tone
        else:
            canvas[:, pad_x + int((1 - part * 0.7) * w) :] = tone
    slack = 0.03 if gallery else 0.07
    tilt = 0.03 if gallery else 0.06
    x0, y0, x1, y1 = (float(v) for v in (pad_x, pad_y, pad_x + w, pad_y + h))
    j = rng.normal(0, slack / 2, 4).clip(-slack, slack)
    x0, x1, y0, y1 = x0 + j[0] * w, x1 + j[1] * w, y0 + j[2] * h, y1 + j[3] * h
    quad = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)
    quad += (rng.uniform(-tilt, tilt, (4, 2)) * (w, h)).astype(np.float32) * rng.random()
    # the resolution the pack was seen at
    seen = int(rng.uniform(60, 150)) if gallery else int(np.exp(rng.uniform(np.log(38), np.log(160))))
    seen = max(16, min(seen, SIDE))
    to = np.array([[0, 0], [seen, 0], [seen, seen], [0, seen]], np.float32)
    if seen < 0.6 * min(h, w):
        canvas = cv2.GaussianBlur(canvas, (0, 0), 0.35 * min(h, w) / seen)
    return cv2.warpPerspective(canvas, cv2.getPerspectiveTransform(quad, to), (seen, seen), flags=cv2.INTER_LINEAR)


def _over(canvas: Image, top: Image, x: int, y: int, shade: float) -> None:
    h, w = top.shape[:2]
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, canvas.shape[1]), min(y + h, canvas.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    part = top[y0 - y : y1 - y, x0 - x : x1 - x]
    mask = part[..., 3:] > 127
    roi = canvas[y0:y1, x0:x1]
    np.copyto(roi, (part[..., :3] * shade).astype(np.uint8), where=mask)


def spoil(img: Image, rng: np.random.Generator, gallery: bool) -> Image:
    """Light, colour, glare, blur, noise and JPEG on a crop, then the input size."""
    k = 0.5 if gallery else 1.0
    f = img.astype(np.float32)
    h, w = f.shape[:2]
    f *= np.float32(np.exp(rng.normal(0.0 if gallery else -0.15, 0.25 * k)))
    f *= (1 + rng.normal(0, 0.06 * k, 3)).astype(np.float32)
    if rng.random() < 0.7:
        a, b = rng.uniform(1 - 0.45 * k, 1.1, 2)
        ramp = np.linspace(a, b, h if rng.random() < 0.7 else w, dtype=np.float32)
        f *= ramp[:, None, None] if (len(ramp) == h and h != w) or rng.random() < 0.5 else ramp[None, :, None]
    if rng.random() < 0.2 * k:
        c, s = rng.uniform(0.1, 0.9), rng.uniform(0.03, 0.12)
        f += (
            np.float32(rng.uniform(40, 140))
            * np.exp(-(((np.linspace(0, 1, w) - c) / s) ** 2)).astype(np.float32)[None, :, None]
        )
    if rng.random() < 0.5 * k:
        f = cv2.GaussianBlur(f, (0, 0), float(rng.uniform(0.3, 0.9)))
    f = 255 * np.power(f.clip(0, 255) / 255, np.float32(rng.uniform(1 - 0.2 * k, 1 + 0.25 * k)))
    f += rng.normal(0, rng.uniform(0, 6) * k, f.shape).astype(np.float32)
    out = f.clip(0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        ok, data = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(55, 97))])
        out = cv2.imdecode(data, cv2.IMREAD_COLOR) if ok else out
    return cv2.resize(out, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR if h <= SIDE else cv2.INTER_AREA)


def classes_of(art: FlatArt, rng: np.random.Generator, count: int, among: NDArray[np.int64] | None = None) -> list[int]:
    """``count`` packs: whole families at a time, so that look-alikes meet in one batch."""
    families = art.families if among is None else [art.families[i] for i in among]
    out: list[int] = []
    while len(out) < count:
        out += families[int(rng.integers(len(families)))]
    return out[:count]
