"""Printed prices and unit prices, as text, to an amount and a currency; abstains when a text can be read in two ways.

The last mark before two digits is the decimal one, a mark before three digits parts thousands ("1.234,50", "1,234.50",
"1 234,50", "1'234.50"); small raised digits are decimals ("2⁹⁹"), as is what a dash stands for ("29,-"). Three digits behind a
lone mark are thousands: prices have no three decimals. What is divided by a quantity ("4,98 €/kg", "100g = 0,45") is a unit
price and never the price.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

#: Currencies by what is printed; where a sign is that of several, it is told as it stands.
_CURRENCIES = {
    "€": "EUR", "EUR": "EUR", "EURO": "EUR", "£": "GBP", "GBP": "GBP", "CHF": "CHF", "円": "JPY", "JPY": "JPY", "¥": "¥",
    "元": "CNY", "RMB": "CNY", "$": "$", "USD": "USD", "US$": "USD", "R$": "BRL", "NT$": "TWD", "HK$": "HKD", "A$": "AUD",
    "C$": "CAD", "ZŁ": "PLN", "ZL": "PLN", "PLN": "PLN", "KČ": "CZK", "KC": "CZK", "CZK": "CZK", "FT": "HUF", "HUF": "HUF",
    "KR": "kr", "KR.": "kr", "SEK": "SEK", "NOK": "NOK", "DKK": "DKK", "LEI": "RON", "RON": "RON", "₺": "TRY", "TL": "TRY",
    "₹": "INR", "RS.": "INR", "₩": "KRW", "원": "KRW", "₽": "RUB", "฿": "THB", "₫": "VND", "P": "GBP", "¢": "$",
}  # fmt: skip
#: Longest first, so that "US$" is not read as "$".
_SIGN = "|".join(re.escape(k) for k in sorted(_CURRENCIES, key=len, reverse=True) if k not in ("P", "¢"))
_PENCE = re.compile(r"^(\d{1,2})\s*(P|¢)$")
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_HIGH = re.compile(r"(?<=\d)[.,:']?([⁰¹²³⁴⁵⁶⁷⁸⁹]{2})(?![⁰¹²³⁴⁵⁶⁷⁸⁹])")
_NUMBER = re.compile(
    r"""(?P<whole>\d{1,3}(?:(?P<part>[.,'\u2019 ])\d{3})(?:(?P=part)\d{3})*|\d{1,6})
        (?:(?P<mark>[.,:·])(?P<cents>\d{2})|[.,:]\s?(?P<dash>[-–—]{1,2}))?""",
    re.VERBOSE,
)
_PRICE = re.compile(
    rf"^(?:(?P<before>{_SIGN})\s*)?(?P<number>{_NUMBER.pattern})\s*(?:(?P<after>{_SIGN})\*?)?$", re.VERBOSE | re.IGNORECASE
)
#: French and Belgian tags put the sign where the mark would be: 2€49.
_BETWEEN = re.compile(r"^(\d{1,4})\s?([€£$])\s?(\d{2})$")
_UNIT = r"(?:kg|g|gr|ml|cl|dl|l|lt|ltr|litre|liter|m|st|stk|stück|pc|pcs|ea|each|lb|oz|枚|個|本|袋|杯)"
_AMOUNT = r"(\d{1,4}(?:[.,]\d{1,3})?)"
_PER = re.compile(
    rf"(?:{_SIGN})?\s*{_AMOUNT}\s*(?:{_SIGN})?\s*(?:/|per|pro|par|je|pr\.?)\s*(\d{{1,4}})?\s*({_UNIT})(?![a-z])", re.IGNORECASE
)
_QUANTITY_FIRST = re.compile(
    rf"(?:per|pro|je)?\s*(\d{{1,4}})?\s*({_UNIT})\s*(?:=|:|あたり|当り|当たり|/)\s*(?:{_SIGN})?\s*{_AMOUNT}", re.IGNORECASE
)
_SIGN_BEFORE_UNIT = re.compile(rf"(?:{_SIGN})\s*/\s*(\d{{1,4}})?\s*({_UNIT})(?![a-z])\s*:?\s*{_AMOUNT}", re.IGNORECASE)
_UNIT_NAMES = {"gr": "g", "lt": "l", "ltr": "l", "litre": "l", "liter": "l", "stk": "st", "stück": "st", "pc": "st",
               "pcs": "st", "ea": "st", "each": "st", "枚": "st", "個": "st", "本": "st", "袋": "st", "杯": "st"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PrintedPrice:
    """``amount``: a decimal number as text ("1234.50"; "198" where no decimals are printed); ``currency``: ISO 4217 where the
    sign says it, otherwise the sign ("$", "¥", "kr") or empty."""

    amount: str
    currency: str = ""


@dataclass(frozen=True, slots=True)
class UnitPrice:
    """A price a quantity: ``amount`` as in `PrintedPrice`, ``per`` as "kg", "100 g", "l", "st" (piece)."""

    amount: str
    per: str


def plain(text: str) -> str:
    """Full-width letters and digits made plain, raised digits made decimals ("2⁹⁹" → "2·99"), white space at the ends gone."""
    raised = _HIGH.sub(lambda m: "·" + m.group(1).translate(_RAISED), text.strip())
    return unicodedata.normalize("NFKC", raised).replace("\u00a0", " ").replace("\u202f", " ").strip()


def parse_price(text: str) -> PrintedPrice | None:
    """The price that a whole text is; None when it is none, a unit price, or can be read in two ways."""
    clean = plain(text)
    if parse_unit_price(clean) is not None:
        return None
    if m := _BETWEEN.match(clean):
        return PrintedPrice(f"{int(m.group(1))}.{m.group(3)}", _CURRENCIES[m.group(2)])
    if m := _PENCE.match(clean.upper()):
        return PrintedPrice(f"0.{int(m.group(1)):02d}", _CURRENCIES[m.group(2)])
    m = _PRICE.match(clean)
    if m is None or (m["before"] and m["after"]):
        return None
    part, mark = m["part"], m["mark"]
    if part and mark and (part == mark or (mark == ":" and part == "'")):
        return None  # 1.234.50: one of the marks is misread
    whole = re.sub(r"\D", "", m["whole"])
    if len(whole) > 1 and whole[0] == "0":
        return None
    sign = (m["before"] or m["after"] or "").upper()
    cents = m["cents"] or ("00" if m["dash"] else "")
    return PrintedPrice(f"{int(whole)}.{cents}" if cents else str(int(whole)), _CURRENCIES.get(sign, ""))


def parse_unit_price(text: str) -> UnitPrice | None:
    """The first unit price in a text."""
    clean = plain(text)
    if m := _PER.search(clean):
        number, count, unit = m.group(1), m.group(2), m.group(3)
    elif (m := _SIGN_BEFORE_UNIT.search(clean)) or (m := _QUANTITY_FIRST.search(clean)):
        count, unit, number = m.group(1), m.group(2), m.group(3)
    else:
        return None
    unit = _UNIT_NAMES.get(unit.lower(), unit.lower())
    amount = number.replace(",", ".")
    return UnitPrice(amount, unit if count in (None, "1") else f"{count} {unit}")
