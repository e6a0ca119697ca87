"""From the price reader's map to a price: letters are its peaks, a price is a row of them that nothing speaks against.

The network (`training.reader`) looks at a tag fitted into `WIDTH_PX` by `HEIGHT_PX` and says, for each cell of `STRIDE` pixels,
which letter has its middle there, how big it is, and whether it belongs to the whole part of the price, to its decimals, or
to something else. What it says must agree: a row of digits of one size, decimals behind it, marks where they may be, nothing
doubtful beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Size of what the network looks at; a crop is fitted into it, kept in shape, in the middle, around it is `FILL`.
WIDTH_PX, HEIGHT_PX, FILL, STRIDE = 256, 160, 114, 4
#: Classes: the ten digits, a decimal or thousands mark, signs of currencies, a digit that cannot be told.
SIGNS = ("¥", "€", "$", "£", "円", "kr")
MARK, FIRST_SIGN = 10, 11
VAGUE = FIRST_SIGN + len(SIGNS)
CLASSES = VAGUE + 1
#: Roles: whole part of the price, its decimals, anything else.
WHOLE, CENTS, OTHER = 0, 1, 2
ROLES = 3
CHANNELS = CLASSES + ROLES + 4

#: A peak is a letter from this score on; fainter ones down to `TRACE` are doubts.
LETTER, TRACE = 0.3, 0.1
_TRACE_LOGIT = float(np.log(TRACE / (1 - TRACE)))
#: Prices beside each other are rivals when the smaller is at least so high.
RIVAL = 0.72


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter in the network's picture: box in pixels, class, score, and the role's probabilities."""

    x0: float
    y0: float
    x1: float
    y1: float
    cls: int
    score: float
    roles: tuple[float, float, float]

    @property
    def height(self) -> float:
        """Pixels."""
        return self.y1 - self.y0

    @property
    def x(self) -> float:
        """Middle, pixels."""
        return (self.x0 + self.x1) / 2

    @property
    def y(self) -> float:
        """Middle, pixels."""
        return (self.y0 + self.y1) / 2

    @property
    def role(self) -> int:
        """The likeliest role."""
        return int(np.argmax(self.roles))

    @property
    def digit(self) -> bool:
        """Whether it is a digit, also one that cannot be told."""
        return self.cls < MARK or self.cls == VAGUE


@dataclass(frozen=True, slots=True)
class Price:
    """``text``: digits with a decimal point where there are decimals ("2.99", "198"); ``sign``: the currency's as printed,
    or empty; ``confidence`` in 0..1; ``why``: what is in doubt, for the log; ``box_px`` in the network's picture."""

    text: str
    sign: str = ""
    confidence: float = 0.0
    why: str = ""
    box_px: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


def letters_of(out: NDArray[np.float32]) -> list[Letter]:
    """The letters of a map (CHANNELS, h, w), the surest first; of peaks on one another the surest."""
    logits = out[:CLASSES]
    top = logits.max(axis=0)
    padded = np.pad(top, 1, constant_values=-np.inf)
    rows = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    around = np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    ys, xs = np.nonzero((top >= around) & (top >= _TRACE_LOGIT))
    found: list[Letter] = []
    for n in np.argsort(-top[ys, xs], kind="stable").tolist():
        letter = _letter(out[:, ys[n], xs[n]].astype(np.float64), int(xs[n]), int(ys[n]))
        width = letter.x1 - letter.x0
        if not any(
            abs(o.x - letter.x) < 0.45 * max(width, o.x1 - o.x0) and abs(o.y - letter.y) < 0.4 * max(letter.height, o.height)
            for o in found
        ):
            found.append(letter)
    return found


def _letter(cell: NDArray[np.float64], i: int, j: int) -> Letter:
    """The letter of a peak: its channels, its column and row."""
    scores = 1.0 / (1.0 + np.exp(-cell[:CLASSES]))
    cls = int(scores.argmax())
    rest = 0.0 if cls == VAGUE else float(np.delete(scores, cls).max())
    e = np.exp(cell[CLASSES : CLASSES + ROLES] - cell[CLASSES : CLASSES + ROLES].max())
    r = e / e.sum()
    dx, dy = float(cell[-4]), float(cell[-3])
    w, h = (STRIDE * float(np.exp(v)) for v in np.clip(cell[-2:], -3, 4))
    x, y = (i + 0.5 + dx) * STRIDE, (j + 0.5 + dy) * STRIDE
    roles = (float(r[0]), float(r[1]), float(r[2]))
    return Letter(x - w / 2, y - h / 2, x + w / 2, y + h / 2, cls, float(scores[cls]) * (1 - rest), roles)


def price_of(letters: Sequence[Letter]) -> Price:
    """The price that letters make; an empty text when there is none or they contradict each other."""
    digits = [k for k in letters if k.digit and k.score >= LETTER]
    rows = _rows([k for k in digits if k.role == WHOLE])
    if not rows:
        return Price("", why="no digits of a price")
    rows.sort(key=lambda r: -_height(r))
    row = rows[0]
    height = _height(row)
    rivals = [r for r in rows[1:] if _height(r) > RIVAL * height and _text(r) != _text(row)]
    if rivals:
        return Price("", why="two prices")
    cents = _cents(row, [k for k in digits if k.role == CENTS], height)
    parts = [*row, *cents]
    if any(k.cls == VAGUE for k in parts):
        return Price("", why="a digit cannot be told")
    if len(cents) not in (0, 2):
        return Price("", why="decimals cut or doubled")
    whole, small = _text(row), _text(cents)
    if len(whole) > 1 and whole[0] == "0":
        return Price("", why="begins with 0")
    if len(whole) > 6:
        return Price("", why="too many digits")
    problem = _marks(row, cents, [k for k in letters if k.cls == MARK and k.score >= LETTER], height)
    if problem:
        return Price("", why=problem)
    confidence = min(k.score * k.roles[CENTS if k in cents else WHOLE] for k in parts)
    x0, y0 = min(k.x0 for k in parts), min(k.y0 for k in parts)
    x1, y1 = max(k.x1 for k in parts), max(k.y1 for k in parts)
    for k in letters:
        near = k not in parts and k.digit and x0 - 0.6 * height < k.x < x1 + 0.6 * height and y0 < k.y < y1
        if near and k.height > (0.3 if k.x > row[-1].x else 0.6) * height:
            # Something like a digit stands in the row: the price may be longer.
            confidence *= 1 - k.score * (1.0 if k.score < LETTER or k.cls == VAGUE else 0.6)
    signs = [k for k in letters if FIRST_SIGN <= k.cls < VAGUE and k.score >= 0.5 and y0 - height < k.y < y1 + 0.5 * height]
    signs = [k for k in signs if x0 - 1.5 * height < k.x < x1 + 1.8 * height]
    sign = SIGNS[max(signs, key=lambda k: k.score).cls - FIRST_SIGN] if signs else ""
    return Price(f"{whole}.{small}" if small else whole, sign, float(confidence), "", (x0, y0, x1, y1))


def _text(row: Sequence[Letter]) -> str:
    return "".join(str(k.cls) if k.cls < MARK else "?" for k in row)


def _height(row: Sequence[Letter]) -> float:
    return float(np.median([k.height for k in row]))


def _rows(digits: Sequence[Letter]) -> list[list[Letter]]:
    """Digits of one size side by side, left to right."""
    rows: list[list[Letter]] = []
    for k in sorted(digits, key=lambda d: d.x):
        for row in rows:
            last = row[-1]
            h = (last.height + k.height) / 2
            if abs(last.height - k.height) < 0.3 * h and abs(last.y - k.y) < 0.35 * h and k.x0 - last.x1 < 0.75 * h:
                row.append(k)
                break
        else:
            rows.append([k])
    return rows


def _cents(row: Sequence[Letter], digits: Sequence[Letter], height: float) -> list[Letter]:
    """The decimals right of a row of digits, left to right."""
    last = row[-1]
    out: list[Letter] = []
    edge = last.x1
    for k in sorted(digits, key=lambda d: d.x):
        level = last.y0 - 0.35 * height < k.y < last.y1 + 0.25 * height
        if k.x > last.x and level and k.x0 - edge < (0.9 if not out else 0.75) * height:
            out.append(k)
            edge = k.x1
    return out


def _marks(row: Sequence[Letter], cents: Sequence[Letter], marks: Sequence[Letter], height: float) -> str:
    """What is wrong with the marks between the digits, or an empty text."""
    y0, y1 = min(k.y0 for k in row), max(k.y1 for k in row)
    for mark in marks:
        if not y0 - 0.1 * height < mark.y < y1 + 0.35 * height or not row[0].x < mark.x < row[-1].x:
            continue
        behind = sum(k.x > mark.x for k in row)
        if behind != 3 and behind != 6:
            return "a mark where none may be"
        if mark.score > 0.6 and behind == 3 and not cents and len(row) == 4 and mark.roles[CENTS] > 0.6:
            return "three decimals"
    return ""
