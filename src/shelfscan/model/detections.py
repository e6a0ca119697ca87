"""Boxes in a picture and names for them, validated when made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class DetectionClass(IntEnum):
    """Classes of the shelf detector; the numbers are those of the network's outputs."""

    PRODUCT = 0
    PRICE_TAG = 1
    EMPTY = 2


@dataclass(frozen=True)
class Detections:
    """``boxes_px``: (N, 4) float32 x_min, y_min, x_max, y_max; ``scores``: (N,) float32 in 0..1; ``classes``: (N,) int64."""

    boxes_px: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.scores)
        if self.boxes_px.shape != (n, 4) or self.classes.shape != (n,):
            raise ValueError(
                f"boxes {self.boxes_px.shape}, scores {self.scores.shape}, classes {self.classes.shape}: "
                "expected (N, 4), (N,), (N,)"
            )

    def __len__(self) -> int:
        return len(self.scores)

    def of(self, cls: DetectionClass) -> Detections:
        """Only the boxes of one class."""
        return self.where(self.classes == int(cls))

    def where(self, mask: NDArray[np.bool_]) -> Detections:
        """Only the boxes where ``mask`` (N,) is true."""
        return Detections(self.boxes_px[mask], self.scores[mask], self.classes[mask])

    @staticmethod
    def empty() -> Detections:
        """No boxes."""
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible name of a product: ``score`` is a similarity in 0..1, comparable within one recogniser."""

    sku: str
    score: float
