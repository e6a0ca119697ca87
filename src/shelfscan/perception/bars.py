"""EAN-13 and UPC-A out of a blurred scan line: the code whose blurred bars look most like it.

A decoder of widths needs edges. Where a bar is one or two pixels wide and out of focus there are none, but the grey values
still tell the digits: the bars are drawn as the camera would see them, blur and perspective included, and compared (after
Gallo and Manduchi, "Reading 1D barcodes with mobile phones using deformable templates", 2011). The check digit is part of the
search, and what is reported is how much worse the next best code with a right check digit fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_L = ("0001101", "0011001", "0010011", "0111101", "0100011", "0110001", "0101111", "0111011", "0110111", "0001011")
_PARITY = ("LLLLLL", "LLGLGG", "LLGGLG", "LLGGGL", "LGLLGG", "LGGLLG", "LGGGLL", "LGLGLG", "LGLGGL", "LGGLGL")
MODULES = 95
#: White modules looked at beside the bars, and samples a module.
QUIET = 5
SAMPLES = 3
#: Standard deviations of the blur that are tried, in modules; negative: of a lens out of focus, whose blur is a disc.
BLURS = (0.35, 0.6, 0.85, 1.1, 1.4, -0.6, -0.85, -1.1, -1.4, -1.7)
#: Blurs that are tried when bars are looked for, and the modules where the guards begin.
_SCANNED, _GUARDS = (0.6, -1.3), (0, 46, 92)
#: Classes of size when bars are looked for, in parts of a line.
_SIZES = (0.0, 0.45, 0.65, np.inf)
_BITS = np.array([[int(c) for c in p] for p in _L], np.float64)
#: Patterns of the digits: L, then G, then R; 1 is a bar.
PATTERNS = np.concatenate([_BITS, 1 - _BITS[:, ::-1], 1 - _BITS])
_STARTS = np.array([3 + 7 * i for i in range(6)] + [50 + 7 * i for i in range(6)])
_WEIGHTS = (3, 1) * 6  # of digits 2 to 13, the check digit's own included
#: Where the ten patterns of a place begin in `PATTERNS`, by first digit and place.
_KINDS = np.array([[10 if c == "G" else 0 for c in parity] + [20] * 6 for parity in _PARITY])
#: By weight, digit and sum after it, all modulo 10: the sum before.
_BEFORE = {w: (np.arange(10)[None] - w * np.arange(10)[:, None]) % 10 for w in (1, 3)}


@dataclass(frozen=True, slots=True)
class BarReading:
    """A code of 13 digits; ``fit``: share of the profile's variance it explains; ``lead``: how much more the next best code
    leaves unexplained (1: as much again); ``x0``, ``x1``: where the bars begin and end in the profile; ``backwards``: read
    right to left."""

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


def _kernel(distance: Floats, blur: float) -> Floats:
    """The blur's weight at a distance in modules; of a disc it is what remains of it across the bars."""
    if blur > 0:
        return np.asarray(np.exp(-(distance**2) / (2 * blur**2)))
    # A disc's standard deviation across is half its radius; the pixel's own width softens its rim.
    return np.asarray(np.sqrt(np.maximum(4 * blur**2 - distance**2, 0)) + 1e-9)


@lru_cache(maxsize=32)
def _spread(blur: float) -> Floats:
    """(samples, modules + 2·QUIET): what each module adds to each sample; outside it is white."""
    fine = 8
    n = MODULES + 2 * QUIET
    at = (np.arange(n * SAMPLES) + 0.5) / SAMPLES
    centres = (np.arange(-8 * fine, (n + 8) * fine) + 0.5) / fine
    kernel = _kernel(at[:, None] - centres[None], blur)
    kernel /= kernel.sum(1, keepdims=True)
    return np.asarray(kernel[:, 8 * fine : -8 * fine].reshape(n * SAMPLES, n, fine).sum(2))


@lru_cache(maxsize=32)
def _templates(blur: float) -> Floats:
    """(30, 7·SAMPLES) the digits' blurred bars, between neighbours that begin as they must."""
    fine = 8
    x = (np.arange(7 * SAMPLES) + 0.5) / SAMPLES
    u = (np.arange(-4 * fine, 11 * fine) + 0.5) / fine
    kernel = _kernel(x[:, None] - u[None], blur)
    kernel /= kernel.sum(1, keepdims=True)
    rows = []
    for i, bits in enumerate(PATTERNS):
        left = i < 20
        before, after = (1.0, 0.0) if left else (0.0, 1.0)
        outer = [0.5, 0.5, 0.5, before]
        line = np.concatenate([outer, bits, [after, 0.5, 0.5, 0.5]])
        rows.append(kernel @ np.repeat(line, fine))
    return np.array(rows)


def _positions(x0: Floats, x1: Floats, bend: Floats, skew: Floats | float = 0.0) -> Floats:
    """(N, samples) places in the profile of every sample."""
    u = (np.arange((MODULES + 2 * QUIET) * SAMPLES) + 0.5) / SAMPLES - QUIET
    t = u / MODULES
    span = (x1 - x0)[:, None]
    s = np.broadcast_to(np.asarray(skew, np.float64), x0.shape)[:, None]
    return np.asarray(x0[:, None] + span * (t[None] + (t * (1 - t))[None] * (bend[:, None] + s * (2 * t - 1)[None])))


def _level(profile: Floats, module_px: float) -> Floats:
    """The profile as darkness in 0..1 against its surroundings."""
    n = max(3, int(14 * module_px)) | 1
    pad = np.pad(profile, n // 2, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(pad, n)
    high, low = windows.max(1), windows.min(1)
    box = np.ones(n) / n
    high, low = (np.convolve(np.pad(v, n // 2, mode="edge"), box, "valid") for v in (high, low))
    return np.asarray((high - profile) / np.maximum(high - low, 1.0))


def _search(level: Floats, x0: float, x1: float, slack: float) -> list[tuple[float, Floats]]:
    """Costs and (x0, x1, bend, blur) of good places near (x0, x1) by the digits' templates alone, one a blur."""
    span = x1 - x0
    wide = slack * span
    steps = np.linspace(-wide, wide, max(5, int(2 * wide / (0.4 * span / MODULES)) | 1))
    grid = [v.ravel() for v in np.meshgrid(x0 + steps, x1 + steps, (-0.06, -0.02, 0.02, 0.06), indexing="ij")]
    out = []
    coarse = np.interp(_positions(*grid), np.arange(len(level)), level)
    for blur in (0.5, 0.9, -0.9, -1.2, -1.5):
        cost = _cost(coarse, blur)
        i = int(cost.argmin())
        best, place = float(cost[i]), [float(v[i]) for v in grid]
        for round_ in range(3):
            fine = 0.35 * span / MODULES / 2**round_
            da, db, dc = np.meshgrid(fine * np.arange(-2, 3), fine * np.arange(-2, 3), 0.02 / 2**round_ * np.arange(-2, 3))
            a, b, c = place[0] + da.ravel(), place[1] + db.ravel(), place[2] + dc.ravel()
            cost = _cost(np.interp(_positions(a, b, c), np.arange(len(level)), level), blur)
            i = int(cost.argmin())
            if cost[i] < best:
                best, place = float(cost[i]), [float(a[i]), float(b[i]), float(c[i])]
        out.append((best, np.array([*place, blur])))
    return sorted(out, key=lambda o: o[0])


def _refine(profile: Floats, place: Floats, code: str) -> Floats:
    """(x0, x1, bend, skew, blur) that fit the bars of ``code`` best, from a start of five numbers."""
    x = np.arange(len(profile))
    best, out = np.inf, place
    module = (place[1] - place[0]) / MODULES
    for round_ in range(4):
        k = 0.3 / 2**round_
        blurs = sorted({place[4], *sorted(BLURS, key=lambda b: abs(b - out[4]))[:3]}) if round_ < 3 else [out[4]]
        da, db, dc, dd = (v.ravel() for v in np.meshgrid(*[np.arange(-1, 2)] * 4))
        a, b, c, d = out[0] + k * module * da, out[1] + k * module * db, out[2] + 0.03 * k * dc, out[3] + 0.03 * k * dd
        y = np.interp(_positions(a, b, c, d), x, profile)
        total = ((y - y.mean(1, keepdims=True)) ** 2).sum(1)
        for blur in blurs:
            A = _design(blur, code)
            q, _ = np.linalg.qr(A)
            left = ((y**2).sum(1) - ((y @ q) ** 2).sum(1)) / np.maximum(total, 1e-9)
            i = int(left.argmin())
            if left[i] < best - 1e-9:
                best, out = float(left[i]), np.array([a[i], b[i], c[i], d[i], blur])
    return out


def _design(blur: float, code: str) -> Floats:
    """(samples, 7) what a profile of ``code`` is made of: paper and light that change slowly, and bars in it."""
    n = (MODULES + 2 * QUIET) * SAMPLES
    u = np.linspace(-1, 1, n)
    base = np.stack([np.ones(n), u, u**2, u**3])
    t = _spread(blur) @ np.concatenate([np.zeros(QUIET), _bits(code), np.zeros(QUIET)])
    return np.concatenate([base, base[:3] * t]).T


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
        bits[_STARTS[i] : _STARTS[i] + 7] = PATTERNS[_KINDS[int(code[0]), i] + int(c)]
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
        kinds = range(20) if i < 6 else range(20, 30)
        delta = PATTERNS[list(kinds)] - bits[start : start + 7]
        change = (B[:, start + QUIET : start + QUIET + 7] @ delta.T) * gain[0][:, None]
        out[i, list(kinds)] = ((r[:, None] - change) ** 2).sum(0)
    return out - float(squares[0])


def _best_codes(extra: Floats) -> list[str]:
    """The code with a right check digit and the least sum of extras, for each first digit, best first."""
    kinds = _KINDS  # (10 first digits, 12 places): where the place's ten patterns begin
    rows = extra[np.arange(12)[None, :, None], kinds[:, :, None] + np.arange(10)[None, None]]  # (10, 12, 10)
    cost = np.where(np.arange(10)[None] == np.arange(10)[:, None], 0.0, np.inf)  # (first, sum modulo 10)
    back = np.zeros((12, 10, 10), np.int64)
    for i in range(12):
        states = cost[:, _BEFORE[_WEIGHTS[i]]] + rows[:, i, :, None]  # (first, digit, sum after)
        back[i] = states.argmin(1)
        cost = states.min(1)
    found = []
    for first in range(10):
        digits, state = [], 0
        for i in range(11, -1, -1):
            d = int(back[i, first, state])
            digits.append(d)
            state = int((state - _WEIGHTS[i] * d) % 10)
        found.append((float(cost[first, 0]), str(first) + "".join(str(d) for d in digits[::-1])))
    return [code for _, code in sorted(found)]


def _rivals(extra: Floats, code: str, count: int = 24) -> list[str]:
    """Codes with a right check digit that differ from ``code`` in two digits (or by the first digit), the likeliest first."""
    rows = np.stack([extra[i, k : k + 10] for i, k in enumerate(_KINDS[int(code[0])])])
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


@lru_cache(maxsize=1)
def _scanned() -> Floats:
    """(blurs·33, 7·SAMPLES) what a profile is scanned for: the 30 digits of each blur, then the three guards of each, which
    are shorter and end in zeros."""
    frame = np.concatenate([np.zeros(QUIET), _frame(), np.zeros(QUIET)])
    edges = [_spread(blur) @ frame for blur in _SCANNED]
    guards = np.array([e[(lo + QUIET) * SAMPLES :][: 3 * SAMPLES] for e in edges for lo in _GUARDS])
    return np.concatenate([*(_templates(blur) for blur in _SCANNED), np.pad(guards, ((0, 0), (0, 4 * SAMPLES)))])


def scan_bars(profile: Floats, least: float, most: float, count: int = 16) -> list[tuple[float, float, float, float]]:
    """Places of bars ``least`` to ``most`` pixels wide anywhere in a profile: (cost, x0, x1, bend), best first."""
    n = len(profile)
    widths = least * 1.012 ** np.arange(int(np.log(most / least) / np.log(1.012)) + 1)
    found: list[tuple[float, float, float, float]] = []
    level = profile
    x = np.arange(n)
    wanted = _scanned()
    norms = (wanted**2).sum(1)[:, None]
    digits = len(_SCANNED) * len(PATTERNS)
    for k, width in enumerate(widths):
        module = width / MODULES
        if k % 7 == 0:
            level = _level(profile, module)
        for bend in (-0.05, 0.0, 0.05):
            # A bent code is an even one in a profile that is bent the other way; about its middle, that is.
            at = np.arange(-2 * QUIET * module, n + 2 * QUIET * module, module / SAMPLES)
            places = at - bend * (at - n / 2) ** 2 / width
            y = np.interp(places, x, level)
            offsets = len(y) - (MODULES + 2 * QUIET) * SAMPLES
            if offsets < 1:
                continue
            # Squared differences by products, of all places at once: |a - b|² = |a|² - 2ab + |b|².
            m = len(y) - 7 * SAMPLES + 1
            windows = np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(y, m))  # (samples, places)
            products = norms - 2 * (wanted @ windows)
            sums = np.concatenate([[0.0], (y * y).cumsum()])
            square, rim, gap = (sums[k * SAMPLES :] - sums[: -k * SAMPLES] for k in (7, 3, 4))
            for b in range(len(_SCANNED)):
                first = b * len(PATTERNS)
                left = products[first : first + 20].min(0) + square
                right = products[first + 20 : first + 30].min(0) + square
                # Beside the bars there is nothing for some modules; inside a code such gaps do not exist.
                total = gap[:offsets] + gap[(MODULES + QUIET + 1) * SAMPLES :][:offsets]
                for i, start in enumerate(_STARTS):
                    o = (start + QUIET) * SAMPLES
                    total += (left if i < 6 else right)[o : o + offsets]
                for g, lo in enumerate(_GUARDS):
                    o = (lo + QUIET) * SAMPLES
                    total += products[digits + 3 * b + g, o : o + offsets] + rim[o : o + offsets]
                o = int(total.argmin())
                # Between samples: a module's edge lies half a sample before the middle of its first one.
                ends = [o + QUIET * SAMPLES, o + (QUIET + MODULES) * SAMPLES]
                x0, x1 = (float(places[e - 1] + 0.5 * (places[e] - places[e - 1])) for e in ends)
                found.append((float(total[o]), x0, x1, bend))
    out: list[tuple[float, float, float, float]] = []
    for row in sorted(found):
        if all(abs(row[1] - a) + abs(row[2] - b) > 2.0 * (b - a) / MODULES for _, a, b, _ in out):
            out.append(row)
        if len(out) == count:
            break
    return out


def find_bars(profile: Floats, least: float, most: float) -> BarReading | None:
    """Decode bars ``least`` to ``most`` pixels wide wherever they stand in a profile."""
    n = len(profile)
    rough = []
    for backwards in (False, True):
        line = profile[::-1] if backwards else profile
        for _, x0, x1, bend in scan_bars(line, least, most):
            level = _level(line, (x1 - x0) / MODULES)
            for blur in (0.7, -1.3):
                place = np.array([x0, x1, bend, 0.0, blur])
                code = _first_code(level, place)
                values = np.interp(_positions(*(place[i : i + 1] for i in range(4))), np.arange(n), line)[0]
                total = ((values - values.mean()) ** 2).sum()
                rough.append((float(_fit(values, blur, [code])[0][0] / max(total, 1e-9)), place, line, level, backwards))
    rough.sort(key=lambda r: r[0])
    # Narrow places are smooth and fit something easily: each size has its own contest.
    sizes = [[r for r in rough if a <= (r[1][1] - r[1][0]) / n < b] for a, b in pairwise(_SIZES)]
    best: BarReading | None = None
    for _, place, line, level, backwards in sorted((r for size in sizes for r in size[:2]), key=lambda r: r[0]):
        read = _decode(line, level, place[[0, 1, 2, 4]], backwards)
        if best is None or read.fit > best.fit:
            best = read
        if best.fit > 0.97 and best.lead > 0.5:
            break
    return best


def _first_code(level: Floats, place: Floats) -> str:
    """The code that digits' templates make at a place (x0, x1, bend, skew, blur)."""
    dark = np.interp(_positions(*(place[i : i + 1] for i in range(4))), np.arange(len(level)), level)[0]
    T = _templates(float(place[4]))
    extra = np.full((12, 30), np.inf)
    for i, at in enumerate(_STARTS):
        kinds = slice(0, 20) if i < 6 else slice(20, 30)
        d = dark[(at + QUIET) * SAMPLES : (at + QUIET + 7) * SAMPLES]
        extra[i, kinds] = ((T[kinds] - d) ** 2).sum(1)
    return _best_codes(extra)[0]


def read_bars(profile: Floats, x0: float, x1: float, slack: float = 0.06, backwards: bool | None = None) -> BarReading | None:
    """Decode grey values (W,) of a line across the bars, which begin near ``x0`` and end near ``x1`` (pixels).

    ``slack``: how far off the ends may be, in parts of the width; ``backwards``: the way to read, None: try both.
    """
    if x1 - x0 < 60 or len(profile) < 60:
        return None
    n = len(profile)
    ways = []
    for back in (False, True) if backwards is None else (backwards,):
        line = profile[::-1] if back else profile
        level = _level(line, (x1 - x0) / MODULES)
        ends = (n - 1 - x1, n - 1 - x0) if back else (x0, x1)
        ways += [(cost, place, line, level, back) for cost, place in _search(level, *ends, slack)]
    ways.sort(key=lambda w: w[0])
    found = [_decode(line, level, place, back) for _, place, line, level, back in ways[: 4 if backwards is None else 2]]
    return max(found, key=lambda f: f.fit)


def _decode(line: Floats, level: Floats, start: Floats, backwards: bool) -> BarReading:
    """The best code from a start (x0, x1, bend, blur) on, with place and code settled in turn."""
    n = len(line)
    x = np.arange(n)
    place = np.array([start[0], start[1], start[2], 0.0, start[3]])
    code = _first_code(level, place)
    for turn in range(5):
        place = _refine(line, place, code)
        values = np.interp(_positions(*(place[i : i + 1] for i in range(4))), x, line)[0]
        blur = float(place[4])
        extra = _substitutes(values, blur, code)
        tried = list(dict.fromkeys([code, *_best_codes(extra)[:4]]))
        better = tried[int(_fit(values, blur, tried)[0].argmin())]
        if better == code:
            break
        code = better
        if turn == 1 and _fit(values, blur, [code])[0][0] > 0.3 * ((values - values.mean()) ** 2).sum():
            break  # nothing like bars
    others = [c for c in dict.fromkeys([*_best_codes(extra), *_rivals(extra, code)]) if c != code]
    squares = _fit(values, blur, [code, *others])[0]
    if squares[1:].min() < squares[0]:
        order = squares.argsort()
        code, squares = [code, *others][int(order[0])], squares[order]
    total = float(((values - values.mean()) ** 2).sum())
    lead = float(squares[1:].min() / max(squares[0], 1e-9) - 1)
    fit = 1 - float(squares[0]) / max(total, 1e-9)
    ends = (n - 1 - place[1], n - 1 - place[0]) if backwards else (place[0], place[1])
    return BarReading(code, fit, lead, float(ends[0]), float(ends[1]), blur, backwards)
