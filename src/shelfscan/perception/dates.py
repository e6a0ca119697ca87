"""Expiry dates out of lines of text, to ISO 8601, by rules; abstains when a date can be read in two ways.

What is taken: year first (2021.07.09); a month's name (15FEB22, FEB/26/21, JUN 2022); a year of four digits last, where
dots mean day.month.year (no locale of CLDR writes month.day.year with dots) and other separators need a day above 12;
month and year of four digits (06/2022). What could be read in two ways (03/04/2021, 22.01.12) is settled by the order that is
usual where the goods are sold (`Order`), by another date of the pack that can be read in one way only, or because goods
are made before they expire; otherwise it is told as doubtful. Month and day alone (01.24) are a date where the year comes
first, which Chinese, Japanese or Korean letters on the pack say too; elsewhere they may be month and year. Dates behind
"packed", "produced" are none; a date behind "best before", "exp", "use by" comes first; of several others the latest is
the expiry.
"""

from __future__ import annotations

import calendar
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from shelfscan.perception.tags import TextLine

#: The order of day, month and year that is usual where goods are sold.
Order = Literal["ymd", "dmy", "mdy"]
#: So many Chinese, Japanese or Korean letters on a pack tell that the year comes first.
EASTERN_LETTERS = 3
#: Years that can stand on goods on a shelf; others are misread or no dates.
YEARS = range(2015, 2046)
_MONTHS = {m.upper(): n for n, m in enumerate(calendar.month_abbr) if m}
_NAME = r"(JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)[A-Z]*"
_SEP = r"\s*[./\- ]\s*"
_GAP = r"[\s./,\-]*"
_EXPIRY = re.compile(r"\bEXP|BEST|USE\s*BY|SELL\s*BY|\bBBE?\b|EXPIR")
_MADE = re.compile(r"PROD|PACK|\bMFG|\bMFD|MANUF|\bPKD|\bMADE\b|\bLOT\s*DATE")
#: Year, month, day.
_YMD = re.compile(rf"(?<!\d)(20\d\d){_SEP}(\d\d?){_SEP}(\d\d?)(?!\d)")
#: Two numbers and a year of two or four digits.
_NNY = re.compile(r"(?<![\d./\-])(\d\d?)\s*([./\- ])\s*(\d\d?)\s*[./\- ]\s*(20\d\d|\d\d)(?![\d./\-])")
_DAY_NAME_YEAR = re.compile(rf"(?<!\d)(\d\d?){_GAP}{_NAME}{_GAP}(20\d\d|\d\d)(?!\d)")
_NAME_DAY_YEAR = re.compile(rf"{_NAME}{_GAP}(\d\d?)[\s./,\-]+(20\d\d|\d\d)(?!\d)")
_NAME_YEAR = re.compile(rf"{_NAME}{_GAP}(20\d\d)(?!\d)")
_MONTH_YEAR = re.compile(r"(?<![\d./\-])(0[1-9]|1[0-2])\s*[./\-]\s*(20\d\d)(?!\d)")


#: A month and a day, or a month and a year; where both could be months nothing is known.
_PAIR = re.compile(
    r"(?<![\d./\-:,])(0[1-9]|1[0-2])\.(1[3-9]|[23]\d)(?![\d./\-:,]|\s*(?:%|(?:K?G|MG|M?L|CL|[CM]?M|OZ|KCAL|KJ)\b))"
)
#: A digit that was read as a letter it looks like, in a pair or a year of digits.
_LOOKS_LIKE = str.maketrans("QOIL|", "00111")
_MIXED = re.compile(r"(?<![A-Z0-9])(?=[0-9QOIL|]*\d)[0-9QOIL|]{2}(?:[0-9QOIL|]{2})?(?![A-Z0-9])")


@dataclass(frozen=True, slots=True)
class ExpiryReading:
    """``iso``: ``YYYY-MM-DD``, ``YYYY-MM`` where no day is printed, ``--MM-DD`` where no year is; empty when there is none for
    sure. ``could_be``: the dates it may be, where it can be read in more than one way."""

    iso: str = ""
    could_be: tuple[str, ...] = ()


def expiry_date(lines: Sequence[TextLine], least_confidence: float = 0.8, order: Order | None = None) -> str:
    """The ``iso`` of `read_expiry`."""
    return read_expiry(lines, least_confidence, order).iso


def read_expiry(lines: Sequence[TextLine], least_confidence: float = 0.8, order: Order | None = None) -> ExpiryReading:
    """The expiry date that lines of text on a pack say. ``order``: see `Order`; None: the pack itself must tell."""
    texts = [_MIXED.sub(lambda m: m.group().translate(_LOOKS_LIKE), line.text.upper()) for line in lines]
    sure = [line.confidence >= least_confidence for line in lines]
    order = order or _order(texts, sure)
    labelled: set[str] = set()
    plain: set[str] = set()
    could_be: set[str] = set()
    unsure = False
    for text, good in zip(texts, sure, strict=True):
        made = _MADE.search(text) is not None
        expires = _EXPIRY.search(text) is not None
        if made and not expires:
            continue
        found, doubtful = _dates(text, order)
        if not good or doubtful:
            unsure |= bool(found or doubtful)
            could_be |= doubtful
        elif found:
            (labelled if expires else plain).update(found)
    if len(labelled) == 1:
        return ExpiryReading(labelled.pop())
    if labelled or unsure:
        return ExpiryReading("", tuple(sorted(labelled or could_be)))
    if plain:
        return ExpiryReading(max(plain))
    return _without_year(texts, sure, order)


def days_until(iso: str, today: date) -> int | None:
    """Days from ``today`` to the last day that an expiry's ``iso`` allows, negative when it is over; None without a year."""
    if not iso or iso.startswith("-"):
        return None
    year, month, *day = (int(v) for v in iso.split("-"))
    return (date(year, month, day[0] if day else calendar.monthrange(year, month)[1]) - today).days


def _without_year(texts: Sequence[str], sure: Sequence[bool], order: Order | None) -> ExpiryReading:
    """The month and day that alone stand on a pack."""
    pairs = {p for text, good in zip(texts, sure, strict=True) if good for p in _take(_PAIR, text)[1]}
    days = {iso for m, other in pairs if (iso := _month_day(m, other))}
    if order == "ymd" and len(days) == 1:
        return ExpiryReading(days.pop())
    months = {iso for m, other in pairs if (iso := _iso(other, m, ""))}
    return ExpiryReading("", tuple(sorted(days | months)))


def _order(texts: Sequence[str], sure: Sequence[bool]) -> Order | None:
    """The order that a pack itself tells: by a date that fits one alone, by what was made before it expires, by letters."""
    good = [t for t, ok in zip(texts, sure, strict=True) if ok]
    told: set[Order] = set()
    for text in good:
        for reading in _readings(text):
            fits = {o for o, iso in reading.items() if iso}
            if len(reading) > 1 and len(fits) == 1:
                told |= fits
    if len(told) == 1:
        return told.pop()
    if told:
        return None
    possible: list[Order] = []
    for order in ("dmy", "mdy"):
        made = [d for t in good if _MADE.search(t) and not _EXPIRY.search(t) for d in _dates(t, order)[0]]
        ends = [d for t in good if _EXPIRY.search(t) for d in _dates(t, order)[0]]
        if made and ends and max(made) < min(ends):
            possible.append(order)
    if len(possible) == 1:
        return possible[0]
    eastern = sum(_eastern(c) for t in texts for c in t)
    return "ymd" if eastern >= EASTERN_LETTERS else None


def _eastern(letter: str) -> bool:
    return letter > "\u2e7f" and unicodedata.name(letter, "").startswith(("CJK UNIFIED", "HANGUL", "HIRAGANA", "KATAKANA"))


def _dates(text: str, order: Order | None) -> tuple[set[str], set[str]]:
    """The dates of one line, and those that others of it could be, where they can be read in two ways."""
    found: set[str] = set()
    doubtful: set[str] = set()
    for reading in _readings(text):
        valid = {iso for iso in reading.values() if iso}
        if len(valid) == 1:
            found |= valid
        elif order is not None and reading.get(order):
            found.add(reading[order])
        else:
            doubtful |= valid
    return found, doubtful


def _readings(text: str) -> Iterator[Mapping[Order, str]]:
    """All ways to read each thing in a line that looks like a date, by order; what was read once is not looked at again."""
    text, hits = _take(_YMD, text)
    for y, m, d in hits:
        yield {"ymd": _iso(y, m, d)}
    text, hits = _take(_DAY_NAME_YEAR, text)
    for d, name, y in hits:
        yield {"dmy": _iso(y, str(_MONTHS[name]), d)}
    text, hits = _take(_NAME_DAY_YEAR, text)
    for name, d, y in hits:
        yield {"mdy": _iso(y, str(_MONTHS[name]), d)}
    text, hits = _take(_NAME_YEAR, text)
    for name, y in hits:
        yield {"mdy": _iso(y, str(_MONTHS[name]), "")}
    text, hits = _take(_NNY, text)
    for a, separator, b, c in hits:
        if len(c) == 4:
            yield {"dmy": _iso(c, b, a)} if separator == "." else {"dmy": _iso(c, b, a), "mdy": _iso(c, a, b)}
        else:
            yield {"dmy": _iso(c, b, a), "mdy": _iso(c, a, b), "ymd": _iso(a, b, c) if len(a) == 2 else ""}
    text, hits = _take(_MONTH_YEAR, text)
    for m, y in hits:
        yield {"dmy": _iso(y, m, "")}


def _month_day(month: str, day: str) -> str:
    """A date of any year, empty when there is none such."""
    return f"--{month}-{day}" if 1 <= int(day) <= calendar.monthrange(2024, int(month))[1] else ""


def _take(pattern: re.Pattern[str], text: str) -> tuple[str, list[tuple[str, ...]]]:
    """What a pattern finds, and the text without it."""
    return pattern.sub(" | ", text), [m.groups() for m in pattern.finditer(text)]


def _iso(year: str, month: str, day: str) -> str:
    """The date, empty when there is no such day or year."""
    y, m = int(year) + (2000 if len(year) == 2 else 0), int(month)
    if y not in YEARS or not 1 <= m <= 12:
        return ""
    if not day:
        return f"{y:04d}-{m:02d}"
    d = int(day)
    return f"{y:04d}-{m:02d}-{d:02d}" if 1 <= d <= calendar.monthrange(y, m)[1] else ""
