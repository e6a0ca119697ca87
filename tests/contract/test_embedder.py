"""What every `Embedder` promises, run on each backend that is installed, with the shipped weights; TensorRT on a simulated GPU
where there is none."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from shelfscan.adapters.backends import found_backends
from shelfscan.errors import BadInput, MissingModel
from shelfscan.ports import Embedder


def _onnx(**options: object) -> Embedder:
    from shelfscan.adapters.embed_onnx import OnnxEmbedder

    return OnnxEmbedder(**options)  # type: ignore[arg-type]


def _openvino(**options: object) -> Embedder:
    from shelfscan.adapters.embed_openvino import OpenvinoEmbedder

    return OpenvinoEmbedder(**options)  # type: ignore[arg-type]


def _tensorrt(**options: object) -> Embedder:
    from shelfscan.adapters.embed_tensorrt import TensorrtEmbedder

    options.pop("threads", None)
    return TensorrtEmbedder(**options)  # type: ignore[arg-type]


BACKENDS: dict[str, Callable[..., Embedder]] = {"onnxruntime": _onnx, "openvino": _openvino, "tensorrt": _tensorrt}


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


def need(backend: str) -> Callable[..., Embedder]:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    return BACKENDS[backend]


def crops(count: int, seed: int = 0) -> list[np.ndarray]:
    """Patterned crops of many sizes."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        h, w = rng.integers(40, 260, 2)
        img = np.full((h, w, 3), rng.integers(0, 256, 3), np.uint8)
        img[h // 3 : h // 2] = rng.integers(0, 256, 3)
        img[:, w // 2 : w // 2 + w // 4] = rng.integers(0, 256, 3)
        out.append(img)
    return out


@pytest.fixture(scope="module", params=list(BACKENDS))
def embedder(request: pytest.FixtureRequest) -> Embedder:
    return need(request.param)(threads=1)


def test_unit_vectors_one_a_crop(embedder: Embedder) -> None:
    vectors = embedder.embed(crops(37))
    assert vectors.dtype == np.float32 and vectors.shape[0] == 37 and vectors.shape[1] >= 64
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


def test_no_crops_give_no_rows(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, embedder.embed(crops(1)).shape[1])


def test_a_row_does_not_depend_on_its_batch(embedder: Embedder) -> None:
    some = crops(40)
    np.testing.assert_allclose(embedder.embed(some)[33], embedder.embed([some[33]])[0], atol=1e-4)


def test_the_same_thing_in_other_light_is_nearer_than_other_things(embedder: Embedder) -> None:
    some = crops(30, seed=3)
    darker = [(c * 0.8).astype(np.uint8)[2:-2, 2:-2] for c in some]
    likeness = embedder.embed(darker) @ embedder.embed(some).T
    assert (likeness.argmax(1) == np.arange(30)).mean() >= 0.9


def test_other_arrays_are_bad_input(embedder: Embedder) -> None:
    with pytest.raises(BadInput, match="crop 1"):
        embedder.embed([*crops(1), np.zeros((4, 4), np.uint8)])


@pytest.mark.parametrize("backend", ["openvino", "tensorrt"])
def test_backends_agree(backend: str) -> None:
    some = crops(20)
    a, b = (need(name)(threads=1, precision="fp32").embed(some) for name in ("onnxruntime", backend))
    assert (a * b).sum(1).min() > 0.999


@pytest.mark.parametrize("backend", list(BACKENDS))
def test_a_detector_is_no_embedder(backend: str) -> None:
    with pytest.raises(MissingModel, match="crops: expected shape"):
        need(backend)(name="detector")
    with pytest.raises(MissingModel, match="manifest"):
        need(backend)(models=Path("nowhere"))
