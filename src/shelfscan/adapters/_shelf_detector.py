"""What the detector backends share: settings from the manifest, resizing, decoding, and checks of the file's shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shelfscan.adapters.models import Backend, Computed, Precision, computed_as, entry_path, model_entry
from shelfscan.errors import BadInput, MissingModel
from shelfscan.model.detections import DetectionClass, Detections
from shelfscan.model.imaging import Rgb
from shelfscan.perception import decode

#: Runs the network: (1, 3, H, W) float32 → distances (1, 4, A), scores (1, C, A).
Runner = Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]
Shape = Sequence[int | str | None]


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """``scale`` resizes every picture by that factor; None means a long side of ``max_side_px`` at most.

    ``thresholds``: the least score a class, in the order of `DetectionClass`; ``iou``: overlap above which the lesser of two
    boxes of a class goes.
    """

    thresholds: tuple[float, ...]
    scale: float | None = None
    max_side_px: int = 1296
    iou: float = 0.55
    limit: int = 1000


def settings_of(
    name: str,
    models: Path | None,
    scale: float | None,
    max_side_px: int,
    threshold: float | None,
    precision: Precision,
    backend: Backend,
) -> tuple[Path, Computed, DetectorSettings]:
    """The verified file of a model, how it is computed, its settings; ``threshold`` replaces the manifest's for every class."""
    entry = model_entry(name, models)
    kind, computed = computed_as(entry, precision, backend, models)
    path = entry_path(entry, models, kind)
    given = entry.thresholds
    wanted = [c.name for c in DetectionClass]
    if list(entry.classes) != wanted or sorted(given) != sorted(wanted):
        raise MissingModel(f"{path}: expected classes {wanted} with a threshold each, found {list(entry.classes)} and {given}")
    if scale is not None and not 0 < scale <= 4:
        raise BadInput(f"detector scale: expected 0 < scale <= 4, found {scale}")
    values = tuple(given[c] if threshold is None else threshold for c in wanted)
    return path, computed, DetectorSettings(values, scale, max_side_px, entry.iou)


def check_shapes(path: Path, inputs: dict[str, Shape], outputs: dict[str, Shape]) -> None:
    """Raise `MissingModel` unless the file takes and gives what `shelfscan.perception.decode` expects."""
    classes = len(DetectionClass)
    expected: dict[str, Shape] = {"image": (1, 3, None, None), "distances": (1, 4, None), "scores": (1, classes, None)}
    found = {**inputs, **outputs}
    wrong = []
    for name, shape in expected.items():
        have = found.get(name)
        if (
            have is None
            or len(have) != len(shape)
            or any(isinstance(h, int) and w is not None and h != w for h, w in zip(have, shape, strict=True))
        ):
            wrong.append(f"{path}: {name}: expected shape {_text(shape)}, found {_text(have) if have is not None else 'none'}")
    if wrong:
        raise MissingModel(wrong)


def _text(shape: Shape) -> str:
    return "[" + ", ".join("any" if not isinstance(s, int) else str(s) for s in shape) + "]"


@dataclass(frozen=True)
class Look:
    """What the network says of one picture, before suppression: ``distances`` (4, A), ``scores`` (C, A), input (H, W)."""

    distances: NDArray[np.float32]
    scores: NDArray[np.float32]
    shape: tuple[int, int]
    back: decode.Letterbox


class ShelfDetector:
    """A `Detector` over any runner. Not safe to call from several threads at once unless the runner is."""

    def __init__(self, run: Runner, settings: DetectorSettings, description: str) -> None:
        self._run = run
        self.settings = settings
        self._description = description

    @property
    def description(self) -> str:
        """Model, backend and precision in one line."""
        return self._description

    def detect(self, picture: Rgb) -> Detections:
        """Boxes in pixels of ``picture`` ((H, W, 3) uint8 RGB), best first. Raises `BadInput` for other arrays."""
        return self.boxes(self.look(picture))[0]

    def boxes(self, look: Look, margin: float = 0.0) -> tuple[Detections, NDArray[np.int64]]:
        """Boxes of a look, best first, and the cell that each is of. ``margin`` is added to every threshold."""
        s = self.settings
        least = tuple(t + margin for t in s.thresholds)
        return decode.decode_cells(look.distances, look.scores, look.shape, look.back, least, s.iou, s.limit)

    def look(self, picture: Rgb) -> Look:
        """The network's output for a picture ((H, W, 3) uint8 RGB). Raises `BadInput` for other arrays."""
        shape: Any = getattr(picture, "shape", None)
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
            raise BadInput(f"picture: expected (height, width, 3) uint8 RGB, found {shape} {picture.dtype}")
        s = self.settings
        scale = decode.input_scale(picture.shape[0], picture.shape[1], s.scale, s.max_side_px)
        blob, back = decode.letterbox(picture, scale)
        distances, scores = self._run(blob)
        return Look(distances[0], scores[0], (blob.shape[2], blob.shape[3]), back)
