"""Barcodes out of blurred greys: what the camera blurs is read back, and what is not there is never read."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from shelfscan.perception.bar_strips import confirm, read_strip, strips
from shelfscan.perception.bars import find_bars, read_bars

L = ("0001101", "0011001", "0010011", "0111101", "0100011", "0110001", "0101111", "0111011", "0110111", "0001011")
PARITY = ("LLLLLL", "LLGLGG", "LLGGLG", "LLGGGL", "LGLLGG", "LGGLLG", "LGGGLL", "LGLGLG", "LGLGGL", "LGGLGL")
CODES = ("4006381333931", "9780201310054", "0012345678905")
FINE = 20


def modules(ean: str) -> np.ndarray:
    """1 dark, from the standard's tables, not from the code that is tested."""
    left = "".join(
        L[int(d)] if p == "L" else "".join("10"[int(c)] for c in L[int(d)])[::-1]
        for d, p in zip(ean[1:7], PARITY[int(ean[0])], strict=True)
    )
    right = "".join("".join("10"[int(c)] for c in L[int(d)]) for d in ean[7:])
    return np.array([int(c) for c in f"101{left}01010{right}101"], float)


def profile(ean: str, module_px: float, blur: float, noise: float = 2.0, bend: float = 0.0, seed: int = 0) -> np.ndarray:
    """A line across the bars, 15 white modules on both sides, ``blur`` in modules."""
    fine = np.repeat(np.concatenate([np.zeros(15), modules(ean), np.zeros(15)]), FINE)
    k = np.exp(-((np.arange(-6 * FINE, 6 * FINE + 1) / FINE / blur) ** 2) / 2)
    fine = np.convolve(fine, k / k.sum(), "same")
    n = int(125 * module_px)
    u = (np.arange(n) + 0.5) / n
    dark = np.interp((u + bend * u * (1 - u)) * len(fine), np.arange(len(fine)), fine)
    rng = np.random.default_rng(seed)
    return 200 - 130 * dark + np.linspace(0, 25, n) + rng.normal(0, noise, n)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(("module_px", "blur"), [(1.2, 0.6), (1.5, 1.0), (2.2, 1.0)])
def test_blurred_bars_are_read_where_they_roughly_are(code: str, module_px: float, blur: float) -> None:
    for flip in (False, True):
        line = profile(code, module_px, blur)[:: -1 if flip else 1]
        read = read_bars(line, 16 * module_px, 109 * module_px)
        assert read is not None and (read.code, read.backwards) == (code, flip)
        assert read.fit > 0.95 and read.lead > 0.4


def test_bars_seen_at_an_angle_are_found_anywhere_in_a_line() -> None:
    line = np.concatenate([np.full(80, 205.0), profile(CODES[0], 1.8, 1.0, bend=0.08), np.full(40, 220.0)])
    read = find_bars(line, 0.3 * len(line), 0.95 * len(line))
    assert read is not None and read.code == CODES[0] and read.lead > 0.4


def test_what_is_blurred_too_much_or_no_code_has_no_lead() -> None:
    rng = np.random.default_rng(3)
    for seed in range(4):
        much = profile(CODES[seed % 3], 1.1, 2.2, noise=4.0, seed=seed)
        stripes = np.repeat(rng.choice([60.0, 200.0], 130), 2) + rng.normal(0, 3, 260)
        for line in (much, cv2.GaussianBlur(stripes[None], (0, 0), 1.5)[0]):
            read = find_bars(line, 0.3 * len(line), 0.95 * len(line))
            assert read is None or read.lead < 0.4, read


def picture(code: str, *, turn: float = 0.0, height: int = 90) -> np.ndarray:
    line = profile(code, 1.6, 1.1, noise=0.0)
    part = np.repeat(line[None], height, axis=0)
    canvas = np.full((240, 320), 215.0)
    y, x = (240 - height) // 2, (320 - len(line)) // 2
    canvas[y : y + height, x : x + len(line)] = part
    M = cv2.getRotationMatrix2D((160, 120), turn, 1.0)
    # As a camera has it: light adds up, then comes the tone curve.
    canvas = 255 * (canvas / 255) ** (1 / 2.2)
    out = cv2.warpAffine(canvas, M, (320, 240), borderMode=cv2.BORDER_REPLICATE)
    return np.clip(out + np.random.default_rng(1).normal(0, 2, out.shape), 0, 255).astype(np.uint8)


def first_read(gray: np.ndarray) -> str:
    for strip in strips(gray):
        read = read_strip(strip)
        if read is not None:
            return read.code
    return ""


@pytest.mark.parametrize("turn", [0.0, 9.0, -20.0])
def test_lines_of_a_strip_agree_on_a_code_in_a_picture(turn: float) -> None:
    assert first_read(picture(CODES[0], turn=turn)) == "0" + CODES[0]


def test_another_readers_code_is_confirmed_or_not() -> None:
    gray = picture(CODES[0])
    place = (80.0, 90.0, 240.0, 150.0)
    assert confirm(gray, "0" + CODES[0], place)
    assert not confirm(gray, "0" + CODES[1], place)
    assert not confirm(np.full_like(gray, 200), "0" + CODES[0], place)
