"""EAN-13 and UPC-A out of a blurred scan line: the code whose blurred bars look most like it.

A decoder of widths needs edges. Where a bar is one or two pixels wide and out of focus there are none, but the grey values
still tell the digits: the bars are drawn as the camera would see them, blur and perspective included, and compared (after
Gallo and Manduchi, "Reading 1D barcodes with mobile phones using deformable templates", 2011). The check digit is part of the
search, and what is reported is how much worse the next best code with a right check digit fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_L = ("0001101", "0011001", "0010011", "0111101", "0100011", "0110001", "0101111", "0111011", "0110111", "0001011")
_PARITY = ("LLLLLL", "LLGLGG", "LLGGLG", "LLGGGL", "LGLLGG", "LGGLLG", "LGGGLL", "LGLGLG", "LGLGGL", "LGGLGL")
MODULES = 95
#: White modules looked at beside the bars, and samples a module.
QUIET = 5
SAMPLES = 3
#: Standard deviations of the blur that are tried, in modules.
BLURS = (0.35, 0.6, 0.85, 1.1, 1.4, 1.7)
_BITS = np.array([[int(c) for c in p] for p in _L], np.float64)
#: Patterns of the digits: L, then G, then R; 1 is a bar.
PATTERNS = np.concatenate([_BITS, 1 - _BITS[:, ::-1], 1 - _BITS])
_STARTS = np.array([3 + 7 * i for i in range(6)] + [50 + 7 * i for i in range(6)])
_WEIGHTS = np.array([3, 1] * 6)  # of digits 2 to 13, the check digit's own included


@dataclass(frozen=True, slots=True)
class BarReading:
    """A code of 13 digits; ``fit``: share of the profile's variance it explains; ``lead``: how much more the next best code
    leaves unexplained (1: as much again); ``x0``, ``x1``: where the bars begin and end in the profile; ``backwards``: read right to left."""

    code: str
    fit: float
    lead: float
    x0: float
    x1: float
    blur: float
    backwards: bool


def _frame() -> Floats:
    """The 95 modules without digits."""
    bits = np.zeros(MODULES)
    bits[[0, 2, 46, 48, 92, 94]] = 1
    return bits


@lru_cache(maxsize=32)
def _spread(blur: float) -> Floats:
    """(samples, modules + 2·QUIET + 16): what each module adds to each sample; outside it is white."""
    fine = 8
    n = MODULES + 2 * QUIET
    edges = (np.arange(n * SAMPLES) + 0.5) / SAMPLES
    centres = (np.arange(n * fine) + 0.5) / fine
    kernel = np.exp(-((edges[:, None] - centres[None]) ** 2) / (2 * blur**2))
    kernel /= np.maximum(np.exp(-(((edges[:, None] - (np.arange(-8 * fine, (n + 8) * fine) + 0.5) / fine)) ** 2) / (2 * blur**2)).sum(1), 1e-9)[:, None]
    return np.asarray(kernel.reshape(n * SAMPLES, n, fine).sum(2))


@lru_cache(maxsize=32)
def _templates(blur: float) -> Floats:
    """(30, 7·SAMPLES) the digits' blurred bars, between neighbours that begin as they must."""
    fine = 8
    x = (np.arange(7 * SAMPLES) + 0.5) / SAMPLES
    u = (np.arange(-4 * fine, 11 * fine) + 0.5) / fine
    kernel = np.exp(-((x[:, None] - u[None]) ** 2) / (2 * blur**2))
    kernel /= kernel.sum(1, keepdims=True)
    rows = []
    for i, bits in enumerate(PATTERNS):
        left = i < 20
        before, after = (1.0, 0.0) if left else (0.0, 1.0)
        outer = [0.5, 0.5, 0.5, before]
        line = np.concatenate([outer, bits, [after, 0.5, 0.5, 0.5]])
        rows.append(kernel @ np.repeat(line, fine))
    return np.array(rows)


def _positions(x0: Floats, x1: Floats, bend: Floats) -> Floats:
    """(N, samples) places in the profile of every sample."""
    u = (np.arange((MODULES + 2 * QUIET) * SAMPLES) + 0.5) / SAMPLES - QUIET
    t = u / MODULES
    span = (x1 - x0)[:, None]
    return np.asarray(x0[:, None] + span * (t[None] + bend[:, None] * (t * (1 - t))[None]))


def _level(profile: Floats, module_px: float) -> Floats:
    """The profile as darkness in 0..1 against its surroundings."""
    n = max(3, int(14 * module_px)) | 1
    pad = np.pad(profile, n // 2, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(pad, n)
    high, low = windows.max(1), windows.min(1)
    box = np.ones(n) / n
    high, low = (np.convolve(np.pad(v, n // 2, mode="edge"), box, "valid") for v in (high, low))
    return np.asarray((high - profile) / np.maximum(high - low, 1.0))


def _search(level: Floats, x0: float, x1: float, slack: float) -> tuple[float, Floats]:
    """Cost and (x0, x1, bend, blur) of the best place near (x0, x1) by the digits' templates alone."""
    best: tuple[float, Floats] = (np.inf, np.array([x0, x1, 0.0, 0.85]))
    span = x1 - x0
    wide = slack * span
    steps = np.linspace(-wide, wide, max(5, int(2 * wide / (0.4 * span / MODULES)) | 1))
    a, b, c = (v.ravel() for v in np.meshgrid(x0 + steps, x1 + steps, (-0.06, -0.02, 0.02, 0.06), indexing="ij"))
    for round_ in range(4):
        y = np.interp(_positions(a, b, c), np.arange(len(level)), level)
        for blur in BLURS[1:5] if round_ == 0 else BLURS:
            cost = _cost(y, blur)
            i = int(cost.argmin())
            if cost[i] < best[0]:
                best = (float(cost[i]), np.array([a[i], b[i], c[i], blur]))
        fine = 0.35 * span / MODULES / 2**round_
        da, db, dc = np.meshgrid(fine * np.arange(-2, 3), fine * np.arange(-2, 3), 0.02 / 2**round_ * np.arange(-2, 3), indexing="ij")
        a, b, c = best[1][0] + da.ravel(), best[1][1] + db.ravel(), best[1][2] + dc.ravel()
    return best


def _cost(y: Floats, blur: float) -> Floats:
    """(N,) how badly the best digits and the guards fit samples (N, samples), parity free."""
    T = _templates(blur)
    norm = (T**2).sum(1)
    total = np.zeros(len(y))
    for side, rows in ((0, slice(0, 20)), (6, slice(20, 30))):
        index = ((_STARTS[side : side + 6] + QUIET)[:, None] * SAMPLES + np.arange(7 * SAMPLES)[None]).ravel()
        d = y[:, index].reshape(len(y), 6, 7 * SAMPLES)
        c = (d**2).sum(2)[:, :, None] - 2 * d @ T[rows].T + norm[rows]
        total += c.min(2).sum(1)
    frame = _spread(blur) @ np.concatenate([np.zeros(QUIET), _frame(), np.zeros(QUIET)])
    for lo, hi in ((-3, 2), (46, 49), (93, 98)):
        s = slice((lo + QUIET) * SAMPLES, (hi + QUIET) * SAMPLES)
        total += ((y[:, s] - frame[s]) ** 2).sum(1)
    return np.asarray(total)


def _bits(code: str) -> Floats:
    bits = _frame()
    for i, c in enumerate(code[1:]):
        kind = 20 if i >= 6 else 10 if _PARITY[int(code[0])][i] == "G" else 0
        bits[_STARTS[i] : _STARTS[i] + 7] = PATTERNS[kind + int(c)]
    return bits


def _fit(values: Floats, blur: float, codes: list[str]) -> tuple[Floats, Floats, Floats]:
    """Unexplained squares of each code (N,), its blurred bars (N, samples) and the darkness they have there (N, samples)."""
    B = _spread(blur)
    n = len(values)
    u = np.linspace(-1, 1, n)
    base = np.stack([np.ones(n), u, u**2, u**3])
    squares, ts, gains = [], [], []
    for code in codes:
        t = B @ np.concatenate([np.zeros(QUIET), _bits(code), np.zeros(QUIET)])
        A = np.concatenate([base, base[:3] * t]).T
        x, *_ = np.linalg.lstsq(A, values, rcond=None)
        r = values - A @ x
        squares.append(float(r @ r))
        ts.append(t)
        gains.append(base[:3].T @ x[4:])
    return np.array(squares), np.array(ts), np.array(gains)


def _substitutes(values: Floats, blur: float, code: str) -> Floats:
    """(12, 30) unexplained squares when one digit's bars are those of another pattern, all else as in ``code``."""
    B = _spread(blur)
    squares, t, gain = _fit(values, blur, [code])
    n = len(values)
    u = np.linspace(-1, 1, n)
    base = np.stack([np.ones(n), u, u**2, u**3])
    A = np.concatenate([base, base[:3] * t[0]]).T
    x, *_ = np.linalg.lstsq(A, values, rcond=None)
    r = values - A @ x
    bits = _bits(code)
    out = np.full((12, 30), np.inf)
    for i, start in enumerate(_STARTS):
        kinds = range(0, 20) if i < 6 else range(20, 30)
        delta = PATTERNS[list(kinds)] - bits[start : start + 7]
        change = (B[:, start + QUIET : start + QUIET + 7] @ delta.T) * gain[0][:, None]
        out[i, list(kinds)] = ((r[:, None] - change) ** 2).sum(0)
    return out - float(squares[0])


def _best_codes(extra: Floats) -> list[str]:
    """The code with a right check digit and the least sum of extras, for each first digit, best first."""
    found = []
    for first in range(10):
        rows = [extra[i, 20:30] if i >= 6 else extra[i, 10:20] if _PARITY[first][i] == "G" else extra[i, 0:10] for i in range(12)]
        cost = np.full(10, np.inf)
        cost[first % 10] = 0.0
        back: list[NDArray[np.int64]] = []
        for i in range(12):
            states = np.full((10, 10), np.inf)  # digit, state after
            for d in range(10):
                states[d, (np.arange(10) + _WEIGHTS[i] * d) % 10] = cost + rows[i][d]
            back.append(states.argmin(0))
            cost = states.min(0)
        digits, state = [], 0
        for i in range(11, -1, -1):
            d = int(back[i][state])
            digits.append(d)
            state = int((state - _WEIGHTS[i] * d) % 10)
        found.append((float(cost[0]), str(first) + "".join(str(d) for d in digits[::-1])))
    return [code for _, code in sorted(found)]


def _rivals(extra: Floats, code: str, count: int = 24) -> list[str]:
    """Codes with a right check digit that differ from ``code`` in two digits (or by the first digit), the likeliest first."""
    kind = [20 if i >= 6 else 10 if _PARITY[int(code[0])][i] == "G" else 0 for i in range(12)]
    rows = np.stack([extra[i, k : k + 10] for i, k in enumerate(kind)])
    found = []
    for i in range(12):
        for j in range(i + 1, 12):
            for d in range(10):
                step = _WEIGHTS[i] * (d - int(code[i + 1]))
                if d == int(code[i + 1]):
                    continue
                for e in range(10):
                    if e != int(code[j + 1]) and (step + _WEIGHTS[j] * (e - int(code[j + 1]))) % 10 == 0:
                        found.append((rows[i, d] + rows[j, e], i, d, j, e))
    found.sort()
    out = []
    for _, i, d, j, e in found[:count]:
        digits = list(code)
        digits[i + 1], digits[j + 1] = str(d), str(e)
        out.append("".join(digits))
    return out


def read_bars(profile: Floats, x0: float, x1: float, slack: float = 0.06) -> BarReading | None:
    """Decode grey values (W,) of a line across the bars, which begin near ``x0`` and end near ``x1`` (pixels)."""
    if not 60 <= x1 - x0 or len(profile) < 60:
        return None
    level = _level(profile, (x1 - x0) / MODULES)
    n = len(profile)
    ways = [(*_search(level, x0, x1, slack), False), (*_search(level[::-1], n - 1 - x1, n - 1 - x0, slack), True)]
    best: BarReading | None = None
    for cost, place, backwards in sorted(ways, key=lambda w: w[0])[:1]:
        values = np.interp(_positions(*(place[i : i + 1] for i in range(3))), np.arange(n), profile[::-1] if backwards else profile)[0]
        dark = np.interp(_positions(*(place[i : i + 1] for i in range(3))), np.arange(n), level[::-1] if backwards else level)[0]
        blur = float(place[3])
        T = _templates(blur)
        extra = np.full((12, 30), np.inf)
        for i, start in enumerate(_STARTS):
            d = dark[(start + QUIET) * SAMPLES : (start + QUIET + 7) * SAMPLES]
            extra[i] = ((T - d) ** 2).sum(1)
            extra[i, 20 if i < 6 else 0 : 30 if i < 6 else 20] = np.inf
        code = _best_codes(extra)[0]
        for _ in range(4):
            extra = _substitutes(values, blur, code)
            tried = list(dict.fromkeys([code, *_best_codes(extra)[:3]]))
            squares = _fit(values, blur, tried)[0]
            nxt = tried[int(squares.argmin())]
            if nxt == code:
                break
            code = nxt
        extra = _substitutes(values, blur, code)
        others = [c for c in dict.fromkeys([*_best_codes(extra), *_rivals(extra, code)]) if c != code]
        squares = _fit(values, blur, [code, *others])[0]
        if squares[1:].min() < squares[0]:
            order = squares.argsort()
            code = [code, *others][int(order[0])]
            squares = squares[order]
        total = float(((values - values.mean()) ** 2).sum())
        lead = float(squares[1:].min() / max(squares[0], 1e-9) - 1)
        fit = 1 - float(squares[0]) / max(total, 1e-9)
        ends = (place[0], place[1]) if not backwards else (n - 1 - place[1], n - 1 - place[0])
        best = BarReading(code, fit, lead, float(ends[0]), float(ends[1]), blur, backwards)
    return best
