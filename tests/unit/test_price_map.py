"""From the reader's map to a price: painted letters come back as the price they make, and contradictions as none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shelfscan.adapters.tags_price import PriceTagReader
from shelfscan.perception.price_map import (
    CENTS,
    CHANNELS,
    CLASSES,
    FIRST_SIGN,
    HEIGHT_PX,
    MARK,
    OTHER,
    ROLES,
    SIGNS,
    STRIDE,
    VAGUE,
    WHOLE,
    WIDTH_PX,
    letters_of,
    price_of,
)
from shelfscan.ports import TagText

Map = NDArray[np.float32]


def empty() -> Map:
    out = np.full((CHANNELS, HEIGHT_PX // STRIDE, WIDTH_PX // STRIDE), -6.0, np.float32)
    out[CLASSES:] = 0.0
    return out


def paint(out: Map, cls: int, x: float, y: float, w: float, h: float, role: int, score: float = 0.9) -> None:
    """A letter as the network says it: box by its middle and size in pixels."""
    i, j = int(x / STRIDE), int(y / STRIDE)
    out[cls, j, i] = np.log(score / (1 - score))
    out[CLASSES : CLASSES + ROLES, j, i] = [6.0 if r == role else -6.0 for r in range(ROLES)]
    out[-4:, j, i] = [x / STRIDE - i - 0.5, y / STRIDE - j - 0.5, np.log(w / STRIDE), np.log(h / STRIDE)]


def row(
    out: Map, digits: str, x: float, y: float, height: float, role: int, *, gap_after: int = 0, score: float = 0.9
) -> float:
    """Digits side by side from ``x`` on; a little more room before the last ``gap_after``. Where they end."""
    w = 0.55 * height
    for n, c in enumerate(digits):
        if gap_after and len(digits) - n == gap_after:
            x += 0.3 * height
        paint(out, int(c), x + w / 2, y, w, height, role, score)
        x += 1.15 * w
    return x


@settings(max_examples=60)
@given(
    whole=st.integers(0, 9999),
    cents=st.one_of(st.none(), st.integers(0, 99)),
    height=st.integers(24, 40),
    small=st.sampled_from([0.5, 0.7, 1.0]),
    mark=st.booleans(),
    sign=st.one_of(st.none(), st.sampled_from(SIGNS)),
)
def test_a_price_comes_back_in_any_layout(
    whole: int, cents: int | None, height: int, small: float, mark: bool, sign: str | None
) -> None:
    out = empty()
    x = row(out, str(whole), 20, 80, height, WHOLE)
    if cents is not None:
        if mark:
            paint(out, MARK, x + 2, 80 + height / 2 - 2, 4, 4, CENTS)
            x += 7
        h = small * height
        x = row(out, f"{cents:02d}", x + 3, 80 - height / 2 + h / 2, h, CENTS)
    if sign is not None:
        paint(out, FIRST_SIGN + SIGNS.index(sign), x + 8, 80, 10, 0.7 * height, OTHER)
    price = price_of(letters_of(out))
    assert price.text == (f"{whole}" if cents is None else f"{whole}.{cents:02d}")
    assert price.sign == (sign or "")
    assert price.confidence == pytest.approx(0.9, abs=0.03)


def test_a_thousands_mark_may_stand_and_one_elsewhere_may_not() -> None:
    for behind, text in ((3, "1980"), (2, "")):
        out = empty()
        x = row(out, "1980", 20, 80, 30, WHOLE, gap_after=behind)
        at = x - behind * 1.15 * 0.55 * 30 - 4
        paint(out, MARK, at, 95, 4, 5, WHOLE)
        assert price_of(letters_of(out)).text == text


def test_two_prices_of_a_size_are_rivals_and_a_small_one_is_not() -> None:
    for height, text in ((34, ""), (18, "198")):
        out = empty()
        row(out, "198", 20, 50, 36, WHOLE)
        row(out, "213", 20, 120, height, WHOLE)
        assert price_of(letters_of(out)).text == text


def test_other_figures_do_not_matter_however_big() -> None:
    out = empty()
    row(out, "10", 20, 60, 60, OTHER)
    row(out, "99", 150, 90, 30, WHOLE)
    assert price_of(letters_of(out)).text == "99"


def test_a_digit_that_cannot_be_told_or_decimals_cut_make_no_price() -> None:
    out = empty()
    x = row(out, "19", 20, 80, 30, WHOLE)
    paint(out, VAGUE, x + 8, 80, 16, 30, WHOLE)
    assert price_of(letters_of(out)).text == ""
    out = empty()
    x = row(out, "19", 20, 80, 30, WHOLE)
    row(out, "9", x + 3, 72, 15, CENTS)
    assert price_of(letters_of(out)).text == ""
    assert price_of(letters_of(empty())).text == ""


def test_a_faint_digit_beside_the_price_makes_it_doubtful() -> None:
    sure, doubtful = empty(), empty()
    for out in (sure, doubtful):
        row(out, "79", 60, 80, 30, WHOLE)
    paint(doubtful, 2, 50, 80, 16, 30, WHOLE, score=0.25)
    a, b = price_of(letters_of(sure)), price_of(letters_of(doubtful))
    assert a.text == b.text == "79" and b.confidence < 0.8 * a.confidence


class Network:
    """A runner that checks what it is given and answers with maps in turn, the last one again and again."""

    def __init__(self, *maps: Map) -> None:
        self.maps, self.calls = list(maps), 0

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        assert x.shape == (1, 3, HEIGHT_PX, WIDTH_PX) and x.dtype == np.float32 and x.min() >= 0 and x.max() <= 1
        self.calls += 1
        return (self.maps.pop(0) if len(self.maps) > 1 else self.maps[0])[None]


class Other:
    """A second reader that counts how often it is asked."""

    def __init__(self, price: str) -> None:
        self.price, self.calls = price, 0

    def read(self, crop: NDArray[np.uint8]) -> TagText:
        self.calls += 1
        return TagText(self.price, name_text="Oat Bar", confidence=0.95 if self.price else 0.0)


CROP = np.full((60, 100, 3), 200, np.uint8)


def said(text: str, score: float) -> Map:
    out = empty()
    whole, _, cents = text.partition(".")
    x = row(out, whole, 40, 80, 30, WHOLE, score=score)
    if cents:
        row(out, cents, x + 3, 80, 30, CENTS, score=score)
    return out


def test_a_sure_network_is_believed_alone() -> None:
    other = Other("1.99")
    tag = PriceTagReader(Network(said("2.49", 0.8)), second=other).read(CROP)
    assert tag.price_text == "2.49" and tag.confidence > 0.97 and other.calls == 0


def test_two_looks_that_say_the_same_are_enough() -> None:
    other = Other("")
    network = Network(said("2.49", 0.45), said("2.49", 0.46))
    assert PriceTagReader(network, second=other).read(CROP).price_text == "2.49"
    assert (network.calls, other.calls) == (2, 0)


@pytest.mark.parametrize(
    ("first", "second", "price"),
    [
        (said("2.49", 0.34), "2,49", "2.49"),  # both say the same
        (said("2.49", 0.34), "2,99", ""),  # they contradict each other
        (said("2.49", 0.34), "", ""),  # nobody is sure
        (empty(), "2,99", "2.99"),  # no objection
    ],
)
def test_the_second_reader_decides_where_nothing_speaks_against_it(first: Map, second: str, price: str) -> None:
    assert PriceTagReader(Network(first), second=Other(second)).read(CROP).price_text == price


def test_without_a_second_reader_it_abstains() -> None:
    assert PriceTagReader(Network(said("2.49", 0.34))).read(CROP) == TagText()


@pytest.mark.parametrize(
    ("decimals", "text", "price"), [(2, "249", ""), (2, "2.49", "2.49"), (0, "2.49", ""), (0, "249", "249")]
)
def test_a_price_that_does_not_fit_the_currency_is_none(decimals: int, text: str, price: str) -> None:
    assert PriceTagReader(Network(said(text, 0.9)), decimals=decimals).read(CROP).price_text == price


def test_details_come_from_the_other_reader_and_the_price_from_both() -> None:
    tag = PriceTagReader(Network(said("2.49", 0.9)), details=Other("2,48")).read(CROP)
    assert (tag.price_text, tag.name_text) == ("2.49", "Oat Bar")
    tag = PriceTagReader(Network(empty()), details=Other("2,48")).read(CROP)
    assert (tag.price_text, tag.name_text, tag.ean_text) == ("2.48", "Oat Bar", "")


@pytest.mark.parametrize(("found", "ean"), [(("04006381333931",), "4006381333931"), ((), ""), (("1", "2"), "")])
def test_the_barcode_of_a_tag_is_its_ean_when_there_is_one(found: tuple[str, ...], ean: str) -> None:
    reader = PriceTagReader(Network(said("2.49", 0.9)), details=Other("2.49"), codes=lambda crop: found)
    assert reader.read(CROP).ean_text == ean


def test_the_shipped_reader_reads_a_drawn_tag_on_every_backend() -> None:
    cv2 = pytest.importorskip("cv2")
    from shelfscan.adapters._price_net import runner
    from shelfscan.sim.tags import draw_tag, gtin13, tag_style

    crops = []
    for n in range(4):
        price = ("2.49", "12,95", "0.89", "7,05")[n]
        tag = draw_tag("Oat Bar 250 g", price, "4821", gtin13(77 + n), "1 kg = 9.96", tag_style(n))
        crops.append(np.asarray(cv2.resize(tag, (160, 91), interpolation=cv2.INTER_AREA), np.uint8))
    answers = []
    for backend, package in (("onnx", "onnxruntime"), ("openvino", "openvino")):
        pytest.importorskip(package)
        reader = PriceTagReader(runner("reader", backend, 1), decimals=2)
        answers.append([reader.read(c).price_text for c in crops])
    assert answers == [["2.49", "12.95", "0.89", "7.05"]] * 2


def test_a_model_of_another_shape_is_named(tmp_path: object) -> None:
    from shelfscan.adapters import _price_net
    from shelfscan.errors import MissingModel

    pytest.importorskip("onnxruntime")
    with pytest.raises(MissingModel, match=r"embedder\.onnx: expected tags"):
        _price_net.runner("embedder", "onnx", 1)
