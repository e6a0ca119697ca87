"""Printed prices and dates: what is printed in any country's style is read back, and what can be read in two ways is not."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfscan.perception.dates import expiry_date, read_expiry
from shelfscan.perception.prices import parse_price, parse_unit_price
from shelfscan.perception.tags import TextLine, parse_tag

RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
#: (thousands mark, decimal mark) as they go together somewhere.
MARKS = ((",", "."), (".", ","), (" ", ","), ("'", "."), ("\u202f", ","), ("", "."), ("", ","))
SIGNS = {"€": "EUR", "£": "GBP", "$": "$", "¥": "¥", "円": "JPY", "kr": "kr", "CHF": "CHF", "zł": "PLN", "": ""}


def grouped(whole: int, mark: str) -> str:
    return f"{whole:,}".replace(",", mark) if mark else str(whole)


@given(
    whole=st.integers(0, 99_999),
    cents=st.integers(0, 99),
    marks=st.sampled_from(MARKS),
    raised=st.booleans(),
    sign=st.sampled_from(sorted(SIGNS)),
    before=st.booleans(),
    space=st.sampled_from(["", " "]),
)
def test_a_price_with_decimals_is_read_as_printed(
    whole: int, cents: int, marks: tuple[str, str], raised: bool, sign: str, before: bool, space: str
) -> None:
    small = f"{cents:02d}".translate(RAISED) if raised else marks[1] + f"{cents:02d}"
    number = grouped(whole, marks[0]) + small
    text = f"{sign}{space}{number}" if before else f"{number}{space}{sign}"
    read = parse_price(text)
    assert read is not None, text
    assert (read.amount, read.currency) == (f"{whole}.{cents:02d}", SIGNS[sign])


@given(
    whole=st.integers(1, 999_999),
    mark=st.sampled_from([",", ".", " ", "'", ""]),
    form=st.sampled_from(["{}", "¥{}", "{}円", "{} kr"]),
)
def test_a_whole_price_is_read_as_printed(whole: int, mark: str, form: str) -> None:
    read = parse_price(form.format(grouped(whole, mark)))
    assert read is not None and read.amount == str(whole)


@given(whole=st.integers(1, 9999), form=st.sampled_from(["{},-", "{}:-", "{}.–", "{},—", "{}.--", "kr {},-"]))
def test_a_dash_stands_for_no_decimals(whole: int, form: str) -> None:
    read = parse_price(form.format(whole))
    assert read is not None and read.amount == f"{whole}.00"


@pytest.mark.parametrize(("text", "amount"), [("2€49", "2.49"), ("99p", "0.99"), ("￥１９８", "198"), ("0,99 €*", "0.99")])
def test_other_styles(text: str, amount: str) -> None:
    read = parse_price(text)
    assert read is not None and read.amount == amount


@pytest.mark.parametrize(
    "text", ["1.234.50", "1,234,50", "012", "2.5", "12.345,6", "$2.99 €", "500g", "3 for 5", "-20%", "4006381333931", "", "kr"]
)
def test_what_is_no_price_or_could_be_two_is_none(text: str) -> None:
    assert parse_price(text) is None


@given(
    cents=st.integers(1, 99_999),
    unit=st.sampled_from([("kg", "kg"), ("l", "l"), ("L", "l"), ("100 g", "100 g"), ("100ml", "100 ml"), ("St", "st")]),
    form=st.sampled_from(
        ["{p} €/{u}", "{p}/{u}", "{p} € per {u}", "€ {p} / {u}", "1 {u} = {p}", "{u}: {p} €", "{u}あたり{p}円"]
    ),
    mark=st.sampled_from(".,"),
)
def test_a_unit_price_is_told_from_the_price(cents: int, unit: tuple[str, str], form: str, mark: str) -> None:
    printed, name = unit
    if form.startswith("1 ") and printed.startswith("100"):
        form = form[2:]
    number = f"{cents // 100}{mark}{cents % 100:02d}"
    text = form.format(p=number, u=printed)
    read = parse_unit_price(text)
    assert read is not None, text
    assert (read.amount, read.per) == (number.replace(",", "."), name)
    assert parse_price(text) is None


def line(text: str, height_px: float = 20.0, confidence: float = 0.99) -> TextLine:
    return TextLine(text, confidence, height_px)


def test_a_whole_tag() -> None:
    tag = parse_tag(
        [
            line("AKTION -20%", 30),
            line("Crunchy Oat Bar", 22),
            line("2,49 €", 60),
            line("1 kg = 9,96 €", 12),
            line("Art. 48213", 12),
            line("4006381333931", 12),
        ]
    )
    assert (tag.price_text, tag.currency, tag.unit_price_text, tag.unit_text) == ("2,49", "EUR", "9.96", "kg")
    assert (tag.name_text, tag.item_text, tag.ean_text, tag.promotion) == ("Crunchy Oat Bar", "48213", "4006381333931", True)


@pytest.mark.parametrize("badge", ["+10", "-20 %", "50%"])
def test_points_and_discounts_printed_bigger_than_the_price_are_none(badge: str) -> None:
    assert parse_tag([line(badge, 80), line("99", 40)], decimals=0).price_text == "99"
    assert parse_tag([line(badge, 80)], decimals=None).price_text == ""


def test_a_unit_price_as_big_as_the_price_is_no_rival() -> None:
    assert parse_tag([line("4,98 €/kg", 40), line("2,49", 40)]).price_text == "2,49"


days = st.dates(datetime.date(2016, 1, 1), datetime.date(2045, 12, 31))
MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()


@given(
    day=days,
    form=st.sampled_from(
        ["{y}.{m:02d}.{d:02d}", "{y}-{m}-{d}", "{d:02d}{M}{y}", "{d} {M} {y}", "{M} {d} {y}", "{d:02d}.{m:02d}.{y}"]
    ),
    label=st.sampled_from(["", "EXP ", "Best before: ", "MHD "]),
)
def test_a_date_that_can_be_read_in_one_way_is(day: datetime.date, form: str, label: str) -> None:
    text = label + form.format(y=day.year, m=day.month, d=day.day, M=MONTHS[day.month - 1])
    assert expiry_date([line(text)]) == day.isoformat()


@given(day=days, order=st.sampled_from(["dmy", "mdy", "ymd"]), separator=st.sampled_from("/-. "))
def test_the_usual_order_settles_a_date_of_three_pairs_and_without_it_there_is_none(
    day: datetime.date, order: str, separator: str
) -> None:
    pairs = {"d": f"{day.day:02d}", "m": f"{day.month:02d}", "y": f"{day.year % 100:02d}"}
    text = separator.join(pairs[k] for k in order)
    assert expiry_date([line(text)], order=order) == day.isoformat()
    alone = read_expiry([line(text)])
    # Without the order it is told only when there is no other way to read it, and never silently wrong.
    assert alone.iso in ("", day.isoformat())
    assert alone.iso or day.isoformat() in alone.could_be


def test_another_date_of_the_pack_tells_the_order() -> None:
    assert expiry_date([line("EXP 03/04/2031")]) == ""
    assert read_expiry([line("EXP 03/04/2031")]).could_be == ("2031-03-04", "2031-04-03")
    assert expiry_date([line("EXP 03/04/2031"), line("PACKED 28/12/2030")]) == "2031-04-03"
    assert expiry_date([line("EXP 03/04/2031"), line("PACKED 12/28/2030")]) == "2031-03-04"


def test_goods_are_made_before_they_expire() -> None:
    # Day first: made on 3 April, expires on 2 October. Month first it would expire on 10 February, before 4 March.
    assert expiry_date([line("MFG 03/04/2031"), line("EXP 02/10/2031")]) == "2031-10-02"
    assert expiry_date([line("MFG 03/04/2031"), line("EXP 05/06/2031")]) == ""


def test_month_and_day_alone_need_a_pack_that_puts_the_year_first() -> None:
    assert expiry_date([line("01.24 A")]) == ""
    assert read_expiry([line("01.24")]).could_be == ("--01-24", "2024-01")
    assert expiry_date([line("01.24 A"), line("요구르트")]) == "--01-24"
    assert expiry_date([line("01.24 A")], order="ymd") == "--01-24"
    assert expiry_date([line("01.24 kg"), line("요구르트")]) == ""
    assert expiry_date([line("02.31"), line("요구르트")]) == "", "no such day"
    assert expiry_date([line("12.13")]) == "", "a time, a price"
    assert expiry_date([line("2031.07.09"), line("12.13")]) == "2031-07-09", "no rival of a whole date"


def test_letters_that_look_like_digits_are_digits_in_a_date() -> None:
    assert expiry_date([line("EXPIRY 19 Q9 2O31")]) == "2031-09-19"
