"""Expiry dates out of lines of text, to ISO 8601, by rules; abstains when a date can be read in two ways.

What is taken: year first (2021.07.09); a month's name (15FEB22, FEB/26/21, JUN 2022); a year of four digits last, where
dots mean day.month.year (no locale of CLDR writes month.day.year with dots) and other separators need a day above 12;
month and year of four digits (06/2022). What could be read in two ways (03/04/2021, 22.01.12, 01.24) is no date. Dates
behind "packed", "produced" are none; a date behind "best before", "exp", "use by" comes first; of several others the
latest is the expiry, as goods are packed before they expire.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator, Sequence

from shelfscan.perception.tags import TextLine

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


def expiry_date(lines: Sequence[TextLine], least_confidence: float = 0.8) -> str:
    """``YYYY-MM-DD``, or ``YYYY-MM`` where no day is printed; empty when there is none, or none for sure."""
    labelled: set[str] = set()
    plain: set[str] = set()
    unsure = False
    for line in lines:
        text = line.text.upper()
        made = _MADE.search(text) is not None
        expires = _EXPIRY.search(text) is not None
        if made and not expires:
            continue
        found, doubtful = _dates(text)
        if line.confidence < least_confidence or doubtful:
            unsure |= bool(found) or doubtful
        elif found:
            (labelled if expires else plain).update(found)
    if len(labelled) == 1:
        return labelled.pop()
    if labelled or unsure:
        return ""
    return max(plain, default="")


def _dates(text: str) -> tuple[set[str], bool]:
    """The dates of one line, and whether it holds another that could be read in two ways."""
    found: set[str] = set()
    doubtful = False
    for readings in _readings(text):
        valid = {r for r in readings if r}
        if len(valid) == 1:
            found |= valid
        doubtful |= len(valid) > 1
    return found, doubtful


def _readings(text: str) -> Iterator[set[str]]:
    """All ways to read each thing in a line that looks like a date; what was read once is not looked at again."""
    text, hits = _take(_YMD, text)
    for y, m, d in hits:
        yield {_iso(y, m, d)}
    text, hits = _take(_DAY_NAME_YEAR, text)
    for d, name, y in hits:
        yield {_iso(y, str(_MONTHS[name]), d)}
    text, hits = _take(_NAME_DAY_YEAR, text)
    for name, d, y in hits:
        yield {_iso(y, str(_MONTHS[name]), d)}
    text, hits = _take(_NAME_YEAR, text)
    for name, y in hits:
        yield {_iso(y, str(_MONTHS[name]), "")}
    text, hits = _take(_NNY, text)
    for a, separator, b, c in hits:
        if len(c) == 4:
            yield {_iso(c, b, a)} if separator == "." else {_iso(c, b, a), _iso(c, a, b)}
        else:
            yield {_iso(c, b, a), _iso(c, a, b), _iso(a, b, c) if len(a) == 2 else ""}
    _, hits = _take(_MONTH_YEAR, text)
    for m, y in hits:
        yield {_iso(y, m, "")}


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
