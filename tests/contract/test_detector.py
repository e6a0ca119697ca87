"""What every `Detector` promises, run on each backend that is installed, with the shipped weights; TensorRT on a simulated GPU
where there is none."""

from __future__ import annotations

import importlib.util
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest

from shelfscan.adapters._shelf_detector import ShelfDetector
from shelfscan.adapters.backends import found_backends
from shelfscan.adapters.models import Chosen, model_entry, model_path, models_dir
from shelfscan.errors import BadInput, MissingModel
from shelfscan.evaluation.backends import best_overlap, compare_detectors, golden_pictures
from shelfscan.model.detections import DetectionClass, Detections
from shelfscan.perception import decode
from shelfscan.ports import Detector


def _onnx(**options: object) -> Detector:
    from shelfscan.adapters.detect_onnx import OnnxDetector

    return OnnxDetector(**options)  # type: ignore[arg-type]


def _openvino(**options: object) -> Detector:
    from shelfscan.adapters.detect_openvino import OpenvinoDetector

    return OpenvinoDetector(**options)  # type: ignore[arg-type]


def _tensorrt(**options: object) -> Detector:
    from shelfscan.adapters.detect_tensorrt import TensorrtDetector

    options.pop("threads", None)
    return TensorrtDetector(**options)  # type: ignore[arg-type]


BACKENDS: dict[str, Callable[..., Detector]] = {"onnxruntime": _onnx, "openvino": _openvino, "tensorrt": _tensorrt}


@pytest.fixture(scope="module", autouse=True)
def gpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The GPU where there is all of one, else a simulated one."""
    if any(f.name == "tensorrt" and f.usable for f in found_backends()) or importlib.util.find_spec("onnx") is None:
        yield
        return
    from fakes.gpu import install

    with pytest.MonkeyPatch.context() as patch:
        install(patch, tmp_path_factory.mktemp("engines"))
        yield


def need(backend: str) -> Callable[..., Detector]:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    return BACKENDS[backend]


@pytest.fixture(scope="module")
def shelf() -> np.ndarray:
    """A drawn shelf: three rows of plain packages on dark boards, light tags below."""
    rng = np.random.default_rng(5)
    img = np.full((900, 700, 3), 60, np.uint8)
    for top in (60, 340, 620):
        for col in range(8):
            x = 40 + col * 78
            colour = rng.integers(60, 250, 3)
            img[top : top + 170, x : x + 68] = colour
            img[top + 40 : top + 80, x + 8 : x + 60] = 255 - colour
            img[top + 120 : top + 135, x + 10 : x + 55] = (colour // 3).astype(np.uint8)
        img[top + 170 : top + 210] = 190
        for x in range(60, 600, 160):
            img[top + 176 : top + 204, x : x + 52] = 252
            img[top + 182 : top + 198, x + 22 : x + 46] = 20
    return img


@pytest.fixture(scope="module", params=list(BACKENDS))
def detector(request: pytest.FixtureRequest) -> Detector:
    return need(request.param)(threads=1)


def test_finds_the_packages_of_a_drawn_shelf(detector: Detector, shelf: np.ndarray) -> None:
    found = detector.detect(shelf).of(DetectionClass.PRODUCT)
    centres = (found.boxes_px[:, :2] + found.boxes_px[:, 2:]) / 2
    hit = sum(
        bool((np.abs(centres - [40 + col * 78 + 34, top + 85]) < [20, 40]).all(1).any())
        for top in (60, 340, 620)
        for col in range(8)
    )
    assert hit >= 20, f"{hit} of 24 packages found"


def test_boxes_are_inside_sorted_and_solid(detector: Detector, shelf: np.ndarray) -> None:
    found = detector.detect(shelf)
    assert isinstance(found, Detections) and len(found)
    assert found.boxes_px.dtype == np.float32 and found.scores.dtype == np.float32 and found.classes.dtype == np.int64
    h, w = shelf.shape[:2]
    assert (found.boxes_px >= 0).all() and (found.boxes_px <= [w, h, w, h]).all()
    assert (found.boxes_px[:, 2:] > found.boxes_px[:, :2]).all()
    assert (np.diff(found.scores) <= 0).all() and ((found.scores > 0) & (found.scores <= 1)).all()
    assert set(found.classes) <= {int(c) for c in DetectionClass}


def test_the_same_picture_gives_the_same_boxes(detector: Detector, shelf: np.ndarray) -> None:
    first, again = detector.detect(shelf), detector.detect(shelf.copy())
    np.testing.assert_array_equal(first.boxes_px, again.boxes_px)
    np.testing.assert_array_equal(first.scores, again.scores)


@pytest.mark.parametrize("size", [(64, 48), (33, 900), (1, 1)])
def test_any_size_is_taken_and_a_grey_wall_is_empty(detector: Detector, size: tuple[int, int]) -> None:
    assert not len(detector.detect(np.full((*size, 3), 128, np.uint8)).of(DetectionClass.PRODUCT))


def test_scale_only_changes_the_network_s_view(shelf: np.ndarray) -> None:
    big = np.repeat(np.repeat(shelf, 2, 0), 2, 1)
    plain = need("onnxruntime")(threads=1).detect(shelf)
    halved = need("onnxruntime")(threads=1, scale=0.5).detect(big)
    assert len(plain) == len(halved)
    np.testing.assert_allclose(halved.boxes_px / 2, plain.boxes_px, atol=1.5)


@pytest.mark.parametrize(
    "picture", [np.zeros((10, 10), np.uint8), np.zeros((10, 10, 3), np.float32), np.zeros((0, 10, 3), np.uint8)]
)
def test_other_arrays_are_bad_input(detector: Detector, picture: np.ndarray) -> None:
    with pytest.raises(BadInput, match="uint8 RGB"):
        detector.detect(picture)


def test_describes_itself_in_one_line(detector: Detector) -> None:
    assert "detector" in detector.description and "\n" not in detector.description


@pytest.mark.parametrize("backend", ["openvino", "tensorrt"])
def test_backends_agree(backend: str, shelf: np.ndarray) -> None:
    """The same file on both. Boxes matched at IoU 0.9: at least 99 %, their scores within 0.02."""
    one, other = (cast(ShelfDetector, need(name)(threads=1, precision="fp32")) for name in ("onnxruntime", backend))
    found = compare_detectors(one, other, [shelf, *golden_pictures()])
    assert found.compared >= 100 and found.within, found


def clear(found: Detections, by: float) -> Detections:
    """Without what may fall on the other side of the threshold."""
    return found.where(found.scores > found.scores.min() + by)


@pytest.mark.parametrize("backend", list(BACKENDS))
def test_int8_finds_what_fp32_finds(shelf: np.ndarray, backend: str) -> None:
    """Boxes matched at IoU 0.8: at least 95 % of those clear of the threshold, on a drawing.

    A backend may compute an int8 file otherwise than it was meant to, so each is held to it. `training.quantise` keeps variants
    to the tolerance of `shelfscan bench --backends`.
    """
    make = need(backend)
    kind: Chosen = "int8_symmetric" if backend == "tensorrt" else "int8"
    if model_entry("detector").variant(kind) is None:
        pytest.skip(f"the shipped detector has no {kind} variant")
    a, b = (make(threads=1, precision=p).detect(shelf) for p in ("fp32", "int8"))
    for x, y in ((clear(a, 0.05), b), (clear(b, 0.05), a)):
        assert (best_overlap(x, y) >= 0.8).mean() >= 0.95


@pytest.mark.parametrize("backend", list(BACKENDS))
def test_missing_broken_and_other_models_are_named(backend: str, tmp_path: Path) -> None:
    make = need(backend)
    with pytest.raises(MissingModel, match="no model 'nothing'"):
        make(name="nothing")
    entry = model_entry("detector").model_dump(mode="json")
    source = model_path("detector")
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"models": [entry]}))
    with pytest.raises(MissingModel, match=source.name):
        make(models=tmp_path, precision="fp32")
    (tmp_path / source.name).write_bytes(source.read_bytes()[:-1])
    with pytest.raises(MissingModel, match="sha256"):
        make(models=tmp_path, precision="fp32")
    other = models_dir() / model_entry("embedder").file
    shutil.copy(other, tmp_path / other.name)
    wrong = {**entry, "file": other.name, "sha256": model_entry("embedder").sha256}
    manifest.write_text(json.dumps({"models": [wrong]}))
    with pytest.raises(MissingModel, match=r"image: expected shape \[1, 3, any, any\], found none"):
        make(models=tmp_path, precision="fp32")


def test_post_processing_of_three_hundred_boxes_is_quick() -> None:
    """Two thousand cells above the threshold, 300 boxes: within 5 ms of the processor (best of some runs)."""
    rng = np.random.default_rng(0)
    h, w = 1312, 992
    d = np.ones((4, decode.cell_count(h, w)), np.float32)
    s = np.zeros((3, d.shape[1]), np.float32)
    columns = w // 8
    for k in range(300):
        row, col = 4 + 8 * (k // 15), 4 + 8 * (k % 15)
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                at = (row + dy) * columns + col + dx
                s[0, at] = 0.9 - 0.1 * abs(dx) - 0.1 * abs(dy) + rng.uniform(0, 0.05)
                d[:, at] = [3.5 + dx, 3.5 + dy, 3.5 - dx, 3.5 - dy]
    back = decode.Letterbox(0.5, 2 * w, 2 * h)
    best = np.inf
    for _ in range(100):  # the best of many: what shares the core must not be measured
        start = time.process_time()
        found = decode.decode(d, s, (h, w), back, (0.3, 0.3, 0.3))
        best = min(best, time.process_time() - start)
    assert len(found) == 300
    assert best < 5e-3


@pytest.mark.parametrize("seed", range(20))
def test_suppression_in_bands_is_suppression(seed: int) -> None:
    """The same boxes, in the same order, as all at once: crowds, rows, equal scores, several classes."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 400))
    corner = rng.uniform(0, [900, 600 if seed % 2 else 4000], (n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(2, 120, (n, 2))], 1).astype(np.float32)
    scores = rng.choice(np.linspace(0.05, 1, 40), n).astype(np.float32)
    classes = rng.integers(0, 3, n)
    sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    at_once = cv2.dnn.NMSBoxesBatched(sizes.tolist(), scores.tolist(), classes.tolist(), 0.0, 0.3)
    whole = np.sort(np.asarray(at_once, np.int64).reshape(-1))
    whole = whole[np.argsort(-scores[whole], kind="stable")]
    np.testing.assert_array_equal(decode.suppress(boxes, scores, classes, 0.3), whole)
