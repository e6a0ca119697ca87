"""What the embedder backends share: resizing crops, batching, and checks of the file's shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.errors import BadInput, MissingModel
from shelfscan.model.imaging import Rgb

#: Runs the network: (n, 3, side, side) float32 → (n, D) float32.
Runner = Callable[[NDArray[np.float32]], NDArray[np.float32]]
BATCH = 32


def expect_shapes(
    path: Path, crops: Sequence[int | str | None] | None, embedding: Sequence[int | str | None] | None
) -> tuple[int, int]:
    """Side of the input and length of the vectors. Raises `MissingModel` naming what was expected and found."""
    if crops is None or len(crops) != 4 or crops[1] != 3 or crops[2] != crops[3] or not isinstance(crops[2], int):
        raise MissingModel(f"{path}: crops: expected shape [any, 3, side, side], found {_text(crops)}")
    if embedding is None or len(embedding) != 2 or not isinstance(embedding[1], int):
        raise MissingModel(f"{path}: embedding: expected shape [any, length], found {_text(embedding)}")
    return crops[2], embedding[1]


def _text(shape: Sequence[int | str | None] | None) -> str:
    return "none" if shape is None else "[" + ", ".join(str(n) if isinstance(n, int) else "any" for n in shape) + "]"


def prepare(crops: Sequence[Rgb], side: int) -> NDArray[np.float32]:
    """Crops (h, w, 3) uint8 RGB of any size, stretched to the input (n, 3, side, side) in 0..1."""
    out = np.empty((len(crops), side, side, 3), np.uint8)
    for i, crop in enumerate(crops):
        if crop.ndim != 3 or crop.shape[2] != 3 or crop.dtype != np.uint8 or 0 in crop.shape:
            raise BadInput(f"crop {i}: expected (height, width, 3) uint8 RGB, found {crop.shape} {crop.dtype}")
        small = min(crop.shape[:2]) >= side
        out[i] = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA if small else cv2.INTER_LINEAR)
    return np.asarray(out.transpose(0, 3, 1, 2) / np.float32(255), np.float32, order="C")


class PackEmbedder:
    """An `Embedder` over any runner. Not safe to call from several threads at once unless the runner is."""

    def __init__(self, run: Runner, side: int, length: int, description: str) -> None:
        self._run = run
        self._side = side
        self.length = length
        self._description = description

    @property
    def description(self) -> str:
        """Model, backend and precision in one line."""
        return self._description

    def embed(self, crops: Sequence[Rgb]) -> NDArray[np.float32]:
        """(N, D) float32, each row of length 1. Raises `BadInput` for an array that is no RGB picture."""
        rows = [np.zeros((0, self.length), np.float32)]
        for start in range(0, len(crops), BATCH):
            rows.append(self._run(prepare(crops[start : start + BATCH], self._side)))
        out = np.concatenate(rows)
        lengths = np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)
        return np.asarray(out / lengths, np.float32)
