"""What both backends of the people network share: resizing, padding, the threshold, and checks of the file's shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.errors import BadInput, MissingModel
from shelfscan.model.imaging import Rgb

#: Runs the network: (1, 3, H, W) float32 → (1, 2, H / 4, W / 4) float32 scores of person and head.
Runner = Callable[[NDArray[np.float32]], NDArray[np.float32]]
Shape = Sequence[int | str | None]
STRIDE = 4
ALIGN = 32
#: The long side the network was trained at.
LONG_PX = 324
#: Low on purpose: a false find costs a look, a missed person cannot be taken back. A spot must be sure somewhere, its rim less.
SURE, RIM, HEAD = 0.35, 0.12, 0.3
#: Fewer cells than this together are no person that anybody could know again.
LEAST_CELLS = 5


def check_shapes(path: Path, image: Shape | None, scores: Shape | None) -> None:
    """Raise `MissingModel` unless the file takes any picture and gives two scores a cell."""
    for name, shape, want in (("image", image, (1, 3)), ("scores", scores, (1, 2))):
        if shape is None or len(shape) != 4 or tuple(shape[:2]) != want:
            raise MissingModel(f"{path}: {name}: expected shape [{want[0]}, {want[1]}, any, any], found {shape}")


class PeopleNet:
    """A `PeopleFinder` over any runner. Not safe to call from several threads at once unless the runner is."""

    def __init__(self, run: Runner, description: str) -> None:
        self._run, self._description = run, description

    @property
    def description(self) -> str:
        """Model and backend in one line."""
        return self._description

    def find(self, picture: Rgb) -> NDArray[np.bool_]:
        """Where people may be, a cell for about 4 x 4 pixels of a picture of `LONG_PX`. Raises `BadInput` for other arrays."""
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
            raise BadInput(f"picture: expected (height, width, 3) uint8 RGB, found {picture.shape} {picture.dtype}")
        scale = LONG_PX / max(picture.shape[:2])
        h, w = (max(STRIDE, round(s * scale)) for s in picture.shape[:2])
        if (h, w) != picture.shape[:2]:
            picture = np.asarray(
                cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), np.uint8
            )
        blob = np.zeros((1, 3, -(-h // ALIGN) * ALIGN, -(-w // ALIGN) * ALIGN), np.float32)
        blob[0, :, :h, :w] = picture.transpose(2, 0, 1) / np.float32(255)
        person, head = self._run(blob)[0][:, : -(-h // STRIDE), : -(-w // STRIDE)]
        return _spots(person, head)


def _spots(person: NDArray[np.float32], head: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Connected cells above the rim's score that hold enough sure ones, or that a side of the picture cuts."""
    sure = (person >= SURE) | (head >= HEAD)
    count, labels = cv2.connectedComponents(((person >= RIM) | sure).astype(np.uint8), connectivity=8)
    keep = np.bincount(labels[sure], minlength=count) >= LEAST_CELLS
    keep[labels[:, [0, -1]]] = True
    keep[0] = False
    return np.asarray(keep[labels])
