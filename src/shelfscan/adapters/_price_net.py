"""The price reader's network on a backend: a tag's crop in, its map out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.adapters.models import model_path
from shelfscan.errors import MissingModel
from shelfscan.model.imaging import Rgb
from shelfscan.perception.price_map import CHANNELS, FILL, HEIGHT_PX, STRIDE, WIDTH_PX, Price, letters_of, price_of

#: Runs the network: (1, 3, HEIGHT_PX, WIDTH_PX) float32 RGB in 0..1 → (1, CHANNELS, h, w) float32.
Runner = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def fitted(crop: Rgb) -> NDArray[np.float32]:
    """A crop (h, w, 3) uint8 RGB fitted into the network's picture, (1, 3, HEIGHT_PX, WIDTH_PX) float32 in 0..1."""
    h, w = crop.shape[:2]
    s = min(WIDTH_PX / w, HEIGHT_PX / h)
    nw, nh = max(1, round(w * s)), max(1, round(h * s))
    x, y = (WIDTH_PX - nw) // 2, (HEIGHT_PX - nh) // 2
    out = np.full((HEIGHT_PX, WIDTH_PX, 3), FILL, np.uint8)
    out[y : y + nh, x : x + nw] = cv2.resize(crop, (nw, nh), interpolation=cv2.INTER_CUBIC if s > 1 else cv2.INTER_AREA)
    return np.asarray(out.transpose(2, 0, 1)[None] / np.float32(255), np.float32, order="C")


def runner(name: str, backend: str, threads: int, models: Path | None = None) -> Runner:
    """The network ``name`` on ``onnx`` or ``openvino``. Raises `MissingModel` naming the file and what is wrong."""
    path = model_path(name, models)
    expected = [CHANNELS, HEIGHT_PX // STRIDE, WIDTH_PX // STRIDE]
    if backend == "openvino":
        from shelfscan.adapters._openvino import open_model, shape_of

        model = open_model(path, threads, "fp32")
        given, found = shape_of(model.input(0)), shape_of(model.output(0))

        def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.asarray(model({"tags": x})["map"], np.float32)
    else:
        from shelfscan.adapters._onnx import open_session

        session = open_session(path, threads)
        given, found = list(session.get_inputs()[0].shape), list(session.get_outputs()[0].shape)

        def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.asarray(session.run(["map"], {"tags": x})[0], np.float32)

    if list(given[1:]) != [3, HEIGHT_PX, WIDTH_PX] or list(found[1:]) != expected:
        wanted = f"tags [any, 3, {HEIGHT_PX}, {WIDTH_PX}] and map [any, {', '.join(map(str, expected))}]"
        raise MissingModel(f"{path}: expected {wanted}, found {given} and {found}")
    return run


def read_price(run: Runner, crop: Rgb) -> Price:
    """The price on a crop (h, w, 3) uint8 RGB of a tag, with how sure that is."""
    return price_of(letters_of(run(fitted(crop))[0]))
