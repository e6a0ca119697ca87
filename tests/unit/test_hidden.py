"""The note of what is hidden travels in the picture: read as it was written, pixels untouched, and never half believed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfscan.errors import SensorError
from shelfscan.perception.hidden import Hidden, cells_of, hidden_of, pixels_of, with_hidden

JPEG = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8))[1].tobytes()


def masks(seed: int, share: float) -> Hidden:
    rng = np.random.default_rng(seed)
    return Hidden(*(rng.random(shape) < share for shape in ((45, 80), (45, 80), (122, 162))))


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.01, 0.5, 1.0]))
@settings(max_examples=25, deadline=None)
def test_what_was_noted_is_read_and_no_pixel_changes(seed: int, share: float) -> None:
    hidden = masks(seed, share)
    marked = with_hidden(JPEG, hidden)
    found = hidden_of(marked)
    assert found is not None
    for name in ("left", "right", "rgb"):
        assert np.array_equal(getattr(found, name), getattr(hidden, name))
    assert found.any == hidden.any
    before, after = (cv2.imdecode(np.frombuffer(b, np.uint8), cv2.IMREAD_COLOR) for b in (JPEG, marked))
    assert np.array_equal(before, after)


def test_the_newest_note_counts() -> None:
    twice = with_hidden(with_hidden(JPEG, masks(1, 0.0)), masks(2, 1.0))
    found = hidden_of(twice)
    assert found is not None and found.rgb.all()


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\xd8", JPEG, JPEG[:30], b"no picture at all"])
def test_pictures_without_a_note_have_none(data: bytes) -> None:
    assert hidden_of(data) is None


@given(st.binary(max_size=400))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_survived(data: bytes) -> None:
    hidden_of(b"\xff\xd8" + data)
    body = b"shelfscan.hidden " + data
    with pytest.raises(SensorError, match="cannot be read"):
        hidden_of(b"\xff\xd8\xff\xfe" + (len(body) + 2).to_bytes(2, "big") + body + JPEG[2:])


def test_a_note_that_would_unpack_to_much_is_refused() -> None:
    note = b'shelfscan.hidden {"left":[90000,90000,""],"right":[1,1,""],"rgb":[1,1,""]}'
    with pytest.raises(SensorError, match="90000 x 90000"):
        hidden_of(b"\xff\xd8\xff\xfe" + (len(note) + 2).to_bytes(2, "big") + note)


def test_what_is_no_jpeg_cannot_be_marked() -> None:
    with pytest.raises(SensorError, match="no JPEG"):
        with_hidden(b"\x89PNG", masks(0, 0.1))


def test_cells_cover_the_picture_and_not_more() -> None:
    assert cells_of(1944, 2592) == (122, 162)
    mask = np.zeros((122, 162), bool)
    mask[-1, -1] = True
    pixels = pixels_of(mask, 1944, 2592)
    assert pixels.shape == (1944, 2592) and pixels.sum() == 8 * 16
