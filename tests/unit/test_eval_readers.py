"""Dates, prices and barcodes as they are printed; and what must not be taken for one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from shelfscan.perception.dates import expiry_date
from shelfscan.perception.tags import TextLine, parse_tag

zxingcpp = pytest.importorskip("zxingcpp")


def lines(*texts: str, confidence: float = 0.99) -> list[TextLine]:
    return [TextLine(t, confidence, 20.0) for t in texts]


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2031.07.09", "2031-07-09"),
        ("2031-7-9 18:47", "2031-07-09"),
        ("2031 11 30", "2031-11-30"),
        ("BEST BEFORE:2031/02/28", "2031-02-28"),
        ("13/08/2031", "2031-08-13"),
        ("08/13/2031", "2031-08-13"),
        ("11/11/2031", "2031-11-11"),
        ("MHD 05.04.2031", "2031-04-05"),
        ("28.02.30", "2030-02-28"),  # there is no 30 February
        ("EXP 04 JUN 2031", "2031-06-04"),
        ("USE BY 15FEB32B 09:07", "2032-02-15"),
        ("Best By FEB/26/31", "2031-02-26"),
        ("EXP:DEC-28-2031", "2031-12-28"),
        ("BEST BY JUN 2032", "2032-06"),
        ("06/2032", "2032-06"),
    ],
)
def test_dates_that_can_be_read_in_one_way(text: str, iso: str) -> None:
    assert expiry_date(lines(text)) == iso


@pytest.mark.parametrize(
    "text",
    [
        "03/04/2031",  # March or April
        "03-04-31",
        "31.12.27",  # 2027 or 2031
        "01.24",
        "31/02/2031",  # no such day
        "2031.13.05",
        "1987.03.04",  # no year of goods on a shelf
        "080-019-9119",
        "8809415434934",
        "C09-20226-6-170",
        "(10) 12,5 g 51 kcal",
        "",
    ],
)
def test_what_is_no_date_for_sure_is_none(text: str) -> None:
    assert expiry_date(lines(text)) == ""


def test_a_date_that_is_said_to_be_the_expiry_comes_first() -> None:
    assert expiry_date(lines("Best before 2031-05-01", "2032.01.01")) == "2031-05-01"


def test_of_plain_dates_the_latest_is_the_expiry_and_those_of_packing_are_none() -> None:
    assert expiry_date(lines("2031.03.04", "2031.09.03")) == "2031-09-03"
    assert expiry_date(lines("PROD 19/09/2030")) == ""
    assert expiry_date(lines("Production Date: 13/08/2030", "Best Before Date: 14/11/2030")) == "2030-11-14"


def test_two_different_labelled_dates_or_an_unsure_one_beside_it_make_it_abstain() -> None:
    assert expiry_date(lines("BEST BY 2031-05-01", "EXP 2031-06-01")) == ""
    assert expiry_date([*lines("2031.03.04"), *lines("2031.09.03", confidence=0.5)]) == ""
    assert expiry_date(lines("2031.03.04", "03/04/2032")) == ""


def tag(text: str, height_px: float, confidence: float = 0.99) -> TextLine:
    return TextLine(text, confidence, height_px)


@pytest.mark.parametrize(
    ("decimals", "texts", "price"),
    [
        (2, [("2.49", 40.0)], "2.49"),
        (2, [("249", 40.0)], ""),  # a lost point must not make it a hundred times dearer
        (0, [("¥198", 40.0)], "198"),
        (0, [("198円", 40.0), ("500g", 30.0)], "198"),
        (None, [("99", 60.0), ("abc", 20.0)], "99"),
        (None, [("2.49", 30.0), ("250", 40.0)], "2.49"),
        (None, [("500g", 60.0)], ""),
        (None, [("abc", 60.0), ("99", 20.0)], ""),  # a small number somewhere is not the price
    ],
)
def test_prices_with_and_without_decimals(decimals: int | None, texts: list[tuple[str, float]], price: str) -> None:
    assert parse_tag([tag(t, h) for t, h in texts], decimals=decimals).price_text == price


def test_an_unsure_whole_number_is_no_price_where_the_currency_is_not_known() -> None:
    assert parse_tag([tag("99", 60.0, 0.7)], decimals=None).price_text == ""


def code(text: str, module_px: int = 3) -> np.ndarray:
    made = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.EAN13)
    gray = np.asarray(made.to_image(scale=module_px))
    padded = cv2.copyMakeBorder(gray, 40, 40, 60, 60, cv2.BORDER_CONSTANT, value=255)
    return np.repeat(padded[..., None], 3, axis=-1)


def test_a_barcode_is_read_also_small_and_out_of_focus() -> None:
    from shelfscan.adapters.codes_zxing import ZxingCodeReader

    reader = ZxingCodeReader()
    sharp = code("4006381333931")
    assert reader.read(sharp) == ("04006381333931",)
    # Plain zxing-cpp gives up on this one.
    blurred = cv2.GaussianBlur(code("4006381333931", 3), (0, 0), 1.8)
    assert reader.read(blurred) == ("04006381333931",)


def test_two_codes_side_by_side_are_both_there_and_a_plain_wall_has_none() -> None:
    from shelfscan.adapters.codes_zxing import ZxingCodeReader

    reader = ZxingCodeReader()
    both = np.concatenate([code("4006381333931"), code("9780201310054")], axis=0)
    assert set(reader.read(both)) == {"04006381333931", "09780201310054"}
    assert reader.read(np.full((200, 300, 3), 128, np.uint8)) == ()


def test_codes_of_squares_are_read_on_request_and_are_no_products() -> None:
    from shelfscan.adapters.codes_zxing import ZxingCodeReader

    reader = ZxingCodeReader()
    for kind in (zxingcpp.BarcodeFormat.QRCode, zxingcpp.BarcodeFormat.DataMatrix):
        gray = np.asarray(zxingcpp.create_barcode("https://id.gs1.org/01/04006381333931", kind).to_image(scale=3))
        padded = np.repeat(cv2.copyMakeBorder(gray, 20, 20, 20, 20, cv2.BORDER_CONSTANT, value=255)[..., None], 3, axis=-1)
        assert reader.read_matrix(padded) == ("https://id.gs1.org/01/04006381333931",)
        assert reader.read(padded) == ()
    assert reader.read_matrix(code("4006381333931")) == ()


def test_a_code_too_blurred_for_edges_is_read_by_its_greys_or_not_at_all() -> None:
    from shelfscan.adapters.codes_zxing import ZxingCodeReader

    linear = (code("4006381333931", 2) / 255.0) * 0.7 + 0.2
    blurred = cv2.GaussianBlur(linear, (0, 0), 2.4)
    picture = (255 * blurred ** (1 / 2.2)).astype(np.uint8)
    assert ZxingCodeReader(thorough=False).read(picture) == ()
    assert ZxingCodeReader().read(picture) == ("04006381333931",)
    lost = np.full_like(picture, 180)
    lost[::2] = 175
    assert ZxingCodeReader().read(lost) == ()


def test_a_code_that_most_renditions_read_otherwise_is_not_told() -> None:
    """A reader whose renditions disagree: two of one code against one or two of another in the same bars."""
    from types import SimpleNamespace as Thing

    from shelfscan.adapters.codes_zxing import ZxingCodeReader

    def at(text: str) -> Thing:
        corner = Thing(x=10, y=10)
        return Thing(text=text, position=Thing(top_left=corner, top_right=corner, bottom_right=corner, bottom_left=corner))

    class Scripted:
        BarcodeFormat = zxingcpp.BarcodeFormat

        def __init__(self, *reads: list[str]) -> None:
            self._reads = iter(reads)

        def read_barcodes(self, picture: np.ndarray, formats: object) -> list[Thing]:
            return [at(t) for t in next(self._reads, [])]

    reader = ZxingCodeReader()
    right, wrong = "4006381333931", "9780201310054"
    picture = np.zeros((20, 20, 3), np.uint8)
    reader._library = Scripted([right, wrong], [right], [right, wrong], [right], [], [])
    assert reader.read(picture) == ("04006381333931",)
    reader._library = Scripted([right, wrong], [right, wrong], [], [], [], [])
    assert reader.read(picture) == ()
    reader._library = Scripted([wrong], [], [], [], [], [])
    assert reader.read(picture) == (), "one rendition alone is not believed"
