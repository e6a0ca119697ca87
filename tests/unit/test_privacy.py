"""People are made unreadable before a capture is passed on, whoever found them; nobody found leaves every pixel."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from fakes.captures import HEADS, capture
from fakes.people import FakePeople, RedPeople

from shelfscan.bundle import load_bundle
from shelfscan.errors import SensorError
from shelfscan.model.bundle import Bundle
from shelfscan.model.imaging import Camera, FrameBundle, HeadFrame
from shelfscan.paths import shared_file
from shelfscan.perception.hidden import Hidden, cells_of, hidden_of, pixels_of, with_hidden
from shelfscan.perception.localise import view_of
from shelfscan.perception.privacy import (
    PLANE_M,
    PrivacyFilter,
    _Found,
    beside_stereo,
    columns_of,
    hide,
    less_hidden,
    most_hidden,
    nearer_by,
)

SPOT = (0.2, 0.3, 0.7, 0.8)


@pytest.fixture(scope="module")
def demo() -> Bundle:
    return load_bundle(shared_file("maps", "demo"))


def decoded(frame: HeadFrame) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(frame.rgb_jpeg, np.uint8), cv2.IMREAD_COLOR))


def noisy(n: int) -> FrameBundle:
    """A capture whose pictures are noise all over: any of it that stays is seen to stay."""
    bundle = capture(n)
    rng = np.random.default_rng(n)
    frames = []
    for f in bundle.frames:
        i = f.head.rgb.intrinsics
        picture = rng.integers(0, 255, (i.height_px // 8 + 1, i.width_px // 8 + 1, 3)).astype(np.uint8)
        picture = picture.repeat(8, 0).repeat(8, 1)[: i.height_px, : i.width_px]
        frames.append(replace(f, rgb_jpeg=cv2.imencode(".jpg", picture)[1].tobytes()))
    return replace(bundle, frames=tuple(frames))


def test_nobody_found_leaves_every_pixel_and_says_that_it_looked(demo: Bundle) -> None:
    fake = FakePeople(None)
    before = noisy(1)
    after = PrivacyFilter(demo.store, [fake]).apply(before)
    for a, b in zip(before.frames, after.frames, strict=True):
        assert np.array_equal(a.left, b.left) and np.array_equal(a.right, b.right)
        assert np.array_equal(decoded(a), decoded(b))
        hidden = hidden_of(b.rgb_jpeg)
        assert hidden is not None and not hidden.any
    assert len(fake.seen) == 8, "left, right and RGB of both heads, and the RGB's sides once more"


def test_what_is_found_is_unreadable_in_all_pictures_and_the_rest_stays(demo: Bundle) -> None:
    before = noisy(2)
    after = PrivacyFilter(demo.store, [FakePeople(None), FakePeople(SPOT)]).apply(before)
    for a, b in zip(before.frames, after.frames, strict=True):
        hidden = hidden_of(b.rgb_jpeg)
        assert hidden is not None
        pictures = ((a.left, b.left, hidden.left), (a.right, b.right, hidden.right), (decoded(a), decoded(b), hidden.rgb))
        for was, now, mask in pictures:
            assert 0.24 < mask.mean() < 0.34
            px = pixels_of(mask, *was.shape[:2])
            # Nothing of the noise is left: what is there is smooth, and says nothing of what was.
            inside = cv2.erode(px.astype(np.uint8), np.ones((33, 33))).astype(bool)
            assert (
                np.abs(cv2.Laplacian(now, cv2.CV_32F))[inside].mean()
                < 3.0
                < np.abs(cv2.Laplacian(was, cv2.CV_32F))[inside].mean()
            )
            assert abs(np.corrcoef(was[inside].ravel(), now[inside].ravel())[0, 1]) < 0.1
        outside = ~pixels_of(hidden.left, *a.left.shape)
        assert np.array_equal(a.left[outside], b.left[outside]) and np.array_equal(a.right[outside], b.right[outside])


def test_where_it_was_found_is_where_it_is_hidden(demo: Bundle) -> None:
    """The spot is off the middle, so a wrong turn of the portrait pictures would be seen."""
    where = (0.25, 0.1, 0.5, 0.25)
    after = PrivacyFilter(demo.store, [FakePeople(where)]).apply(noisy(3))
    for f in after.frames:
        hidden = hidden_of(f.rgb_jpeg)
        assert hidden is not None
        for mask, camera in ((hidden.left, f.head.left), (hidden.right, f.head.right), (hidden.rgb, f.head.rgb)):
            i = camera.intrinsics
            upright = np.rot90(pixels_of(mask, i.height_px, i.width_px), camera.upright_turns)
            rows, columns = np.nonzero(upright)
            found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            h, w = upright.shape
            for got, want, size in zip(found, where, (w, h, w, h), strict=True):
                assert abs(got / size - want) < 60 / size


#: Wider is known as somebody by the finder of these tests, at a quarter of the RGB picture's size.
KNOWN_PX = 60


def with_red(bundle: FrameBundle, x0: float, x1: float) -> FrameBundle:
    """A capture in which the upright RGB pictures are red from x0 to x1 (shares of the width), at a fifth of their height."""
    frames = []
    for f in bundle.frames:
        turns = f.head.rgb.upright_turns
        upright = np.ascontiguousarray(np.rot90(decoded(f), turns))
        h, w = upright.shape[:2]
        upright[int(0.4 * h) : int(0.6 * h), int(x0 * w) : int(x1 * w)] = (20, 20, 220)
        jpeg = cv2.imencode(".jpg", np.ascontiguousarray(np.rot90(upright, -turns)))[1].tobytes()
        frames.append(replace(f, rgb_jpeg=jpeg))
    return replace(bundle, frames=tuple(frames))


def upright_rgb(frame: HeadFrame) -> np.ndarray:
    hidden = hidden_of(frame.rgb_jpeg)
    assert hidden is not None
    i, turns = frame.head.rgb.intrinsics, frame.head.rgb.upright_turns
    return np.rot90(pixels_of(hidden.rgb, i.height_px, i.width_px), turns)


@pytest.mark.parametrize(("x0", "x1"), [(0.92, 1.0), (0.0, 0.08)])
def test_a_sliver_at_a_side_is_found_by_its_mirror_image(demo: Bundle, x0: float, x1: float) -> None:
    """The finder would not know it: it is narrower than that, in every picture."""
    before = with_red(capture(5), x0, x1)
    for f in before.frames:
        assert not RedPeople(KNOWN_PX).find(np.rot90(decoded(f), f.head.rgb.upright_turns)[::4, ::4, ::-1]).any()
    for f in PrivacyFilter(demo.store, [RedPeople(KNOWN_PX)]).apply(before).frames:
        mask = upright_rgb(f)
        h, w = mask.shape
        assert mask[int(0.4 * h) : int(0.6 * h), int(x0 * w) : int(x1 * w)].all()
        assert not mask[:, int(0.35 * w) : int(0.65 * w)].any(), "the middle of the picture stays"


def test_what_is_as_narrow_and_no_side_cuts_is_nobody(demo: Bundle) -> None:
    after = PrivacyFilter(demo.store, [RedPeople(KNOWN_PX)]).apply(with_red(capture(5), 0.9, 0.98))
    assert not any(upright_rgb(f).any() for f in after.frames)


def found(camera: Camera, x0: float, x1: float) -> _Found:
    """Somebody in a picture from x0 to x1, shares of its upright width, at half of its height; nobody where both are 0."""
    rows, columns = cells_of(camera.intrinsics.height_px, camera.intrinsics.width_px)
    upright = np.rot90(np.zeros((rows, columns), bool), camera.upright_turns).copy()
    h, w = upright.shape
    upright[h // 2 : h // 2 + 4, int(x0 * w) : int(x1 * w)] = True
    mask = np.ascontiguousarray(np.rot90(upright, -camera.upright_turns))
    return _Found(mask, np.zeros_like(mask), mask, mask, camera, np.zeros_like(mask))


@pytest.mark.parametrize(("x0", "in_pair"), [(0.95, 0.0), (0.86, 0.02), (0.75, 0.2)])
def test_who_is_beside_the_pairs_view_is_hidden_as_far_as_they_reach_into_it(x0: float, in_pair: float) -> None:
    """Cameras stand apart: whoever nearly is in the pair's view in one's picture may be in another's."""
    head = HEADS[0]
    rgb, pair = found(head.rgb, 0.0, 0.0), found(head.left, 0.0, 0.0)
    standing = beside_stereo(found(head.rgb, x0, 1.0), pair)
    columns = np.rot90(columns_of(standing, rgb), head.rgb.upright_turns).any(axis=0)
    assert columns[int(min(x0, 0.87) * len(columns)) :].all() and not columns[: len(columns) // 2].any()
    assert in_pair <= np.rot90(columns_of(standing, pair), head.left.upright_turns).any(axis=0).mean() < in_pair + 0.15
    assert not beside_stereo(found(head.rgb, 0.5, 0.7), pair).any(), "who is in the pair's view has depth to speak for them"


def test_a_cameras_own_mark_is_not_believed(demo: Bundle) -> None:
    before = noisy(4)
    none = [np.zeros(cells_of(i.height_px, i.width_px), bool) for i in (before.frames[0].head.left.intrinsics,) * 2]
    i = before.frames[0].head.rgb.intrinsics
    mark = Hidden(none[0], none[1], np.zeros(cells_of(i.height_px, i.width_px), bool))
    forged = replace(before, frames=tuple(replace(f, rgb_jpeg=with_hidden(f.rgb_jpeg, mark)) for f in before.frames))
    privacy = PrivacyFilter(demo.store, [FakePeople(SPOT)])
    for f in privacy.apply(forged).frames:
        found = hidden_of(f.rgb_jpeg)
        assert found is not None and found.any
    # A recording's mark is: replayed, it must give the pictures that the live run had.
    again = privacy.apply(forged, believe_marks=True)
    assert all(a is b for a, b in zip(again.frames, forged.frames, strict=True))


def test_nothing_of_the_first_file_is_left_in_the_new_one(demo: Bundle) -> None:
    """A camera may put a thumbnail of the whole picture into the header."""
    before = noisy(5)
    thumbnail = b"Exif\0\0" + b"a small picture of the same person"
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    frames = tuple(replace(f, rgb_jpeg=f.rgb_jpeg[:2] + segment + f.rgb_jpeg[2:]) for f in before.frames)
    after = PrivacyFilter(demo.store, [FakePeople(SPOT)]).apply(replace(before, frames=frames))
    assert all(b"small picture" not in f.rgb_jpeg for f in after.frames)


@pytest.mark.parametrize("jpeg", [b"", b"no picture", b"\xff\xd8\xff\xe0"])
def test_a_picture_that_cannot_be_looked_at_is_not_passed_on(demo: Bundle, jpeg: bytes) -> None:
    before = noisy(6)
    broken = replace(before, frames=(replace(before.frames[0], rgb_jpeg=jpeg), before.frames[1]))
    with pytest.raises(SensorError, match="cannot be decoded"):
        PrivacyFilter(demo.store, [FakePeople(None)]).apply(broken)


def test_a_pose_that_is_none_is_not_passed_on(demo: Bundle) -> None:
    lost = replace(noisy(7), T_map_base=np.full((4, 4), np.nan))
    with pytest.raises(SensorError, match="pose"):
        PrivacyFilter(demo.store, []).apply(lost)


def test_there_is_no_depth_and_no_look_where_something_is_hidden(demo: Bundle) -> None:
    from shelfscan.model.geometry import planar

    bundle = replace(noisy(8), T_map_base=planar(0.278, 0.05, 0.0))
    frame = bundle.frames[0]
    open_view = view_of(bundle, frame, demo.store)
    assert open_view is not None and not open_view.hidden.any() and open_view.hidden_share((0, 0, 100, 100)) == 0.0
    i, c = frame.head.left.intrinsics, frame.head.rgb.intrinsics
    gray, rgb = cells_of(i.height_px, i.width_px), cells_of(c.height_px, c.width_px)
    all_of_it = Hidden(np.ones(gray, bool), np.ones(gray, bool), np.ones(rgb, bool))
    covered = hide(frame, all_of_it)
    view = view_of(bundle, covered, demo.store, all_of_it)
    assert view is not None and view.hidden.all() and view.hidden_share((0, 0, 100, 100)) == 1.0
    # (A border without any depth around it holds the largest number there is.)
    assert not (view.depth < 1e6).any() and not (view.before < 1e6).any() and not len(view.points_face)
    assert view.valid_fraction == 1.0, "a person who fills the picture is no fault of the pair"


def test_a_look_that_is_mostly_hidden_is_taken_again_and_the_better_one_kept() -> None:
    def look(share: float) -> FrameBundle:
        made = noisy(1)
        frames = []
        for f in made.frames:
            left, rgb = cells_of(*f.left.shape), cells_of(*decoded(f).shape[:2])
            mask = np.zeros(rgb, bool)
            mask[: round(share * rgb[0])] = True
            hidden = Hidden(np.zeros(left, bool), np.zeros(left, bool), mask)
            frames.append(replace(f, rgb_jpeg=with_hidden(f.rgb_jpeg, hidden)))
        return replace(made, frames=tuple(frames))

    much, little, more = look(0.5), look(0.1), look(0.9)
    assert most_hidden(much) == pytest.approx(0.5, abs=0.05) and most_hidden(noisy(1)) == 0.0
    assert less_hidden(much, lambda: little) is little
    assert less_hidden(much, lambda: more) is much
    assert less_hidden(little, lambda: pytest.fail("a small hidden part is no reason")) is little


def plane(columns: int, y_m: float, thick_m: float = 0.0) -> np.ndarray:
    """Rows of pixels that lie so far behind the shelf's front, by the pose; wavy by ``thick_m`` from column to column."""
    wave = thick_m / 2 * np.sin(np.linspace(0, 12, columns))
    return np.repeat((y_m + wave).astype(np.float32)[None], 12, axis=0)


@pytest.mark.parametrize("nearer_m", [0.0, 0.02, 0.06, 0.09, 0.12])
def test_a_shelf_that_stands_nearer_than_the_pose_says_is_still_the_shelf(nearer_m: float) -> None:
    y = np.concatenate([plane(100, -nearer_m, 0.01), plane(100, 0.12 - nearer_m, 0.05), np.full((20, 100), np.nan, np.float32)])
    assert nearer_by(y) == pytest.approx(nearer_m, abs=PLANE_M / 2 + 0.005)


@pytest.mark.parametrize(
    ("what", "y"),
    [
        ("a body before half of the picture", np.concatenate([plane(50, -0.11, 0.02), plane(50, 0.0)], axis=1)),
        ("a round body before all of it", plane(100, -0.1, 0.08)),
        ("a body farther from the shelf", plane(100, -0.3, 0.02)),
        ("a flat thing before all that can be seen, which is little", np.where(np.arange(100) < 40, plane(100, -0.1), np.nan)),
        ("nothing", np.full((12, 100), np.nan, np.float32)),
    ],
)
def test_somebody_before_the_shelf_is_not_taken_for_it(what: str, y: np.ndarray) -> None:
    assert nearer_by(y.astype(np.float32)) == 0.0, what
