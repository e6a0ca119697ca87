"""Do all backends that can be used here say the same? Measured on the golden pictures against ONNX Runtime in fp32.

Nothing is compared with numbers of before: the reference is computed anew each time, so weights may change. The detector is
compared box by box, the embedder by likenesses between the crops that the reference finds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Generic, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from shelfscan.adapters._onnx import open_session
from shelfscan.adapters._onnx_typed import fp16_typed
from shelfscan.adapters._pack_embedder import PackEmbedder, expect_shapes
from shelfscan.adapters._shelf_detector import ShelfDetector, settings_of
from shelfscan.adapters.backends import FULL, found_backends, processor_has_bf16
from shelfscan.adapters.model_store import in_use
from shelfscan.adapters.models import COMPUTES, Chosen, entry_path, model_entry
from shelfscan.adapters.pictures import read_picture
from shelfscan.bootstrap import make_detector, make_embedder
from shelfscan.config import Config
from shelfscan.errors import BadInput, ShelfscanError
from shelfscan.evaluation.data import Report
from shelfscan.evaluation.speed import machine
from shelfscan.model.detections import DetectionClass, Detections
from shelfscan.model.imaging import Rgb
from shelfscan.paths import shared_file

Network = TypeVar("Network", ShelfDetector, PackEmbedder)
#: A box is found again where one of its class overlaps it (intersection over union) by this much.
SAME_BOX = 0.9
#: Boxes nearer to the threshold than this may fall on either side of it; scores may differ by this much.
SCORE_TOLERANCE = 0.02
#: The least share of boxes (or crops) that must be found again.
LEAST_MATCHED = 0.99
#: A crop is seen alike by two backends from this cosine of its vectors on.
SAME_CROP = 0.99
#: Crops that embedders are compared on.
CROPS = 48


@dataclass(frozen=True, slots=True)
class Agreement:
    """``matched``: share of boxes or crops found again; ``score_worst``: largest difference of scores or likenesses."""

    matched: float
    score_worst: float
    compared: int

    @property
    def within(self) -> bool:
        """Inside the one tolerance that all backends are held to."""
        return self.matched >= LEAST_MATCHED and self.score_worst <= SCORE_TOLERANCE


def golden_pictures() -> list[Rgb]:
    """The pictures beside the shipped models. Raises `BadInput` when there are none."""
    folder = shared_file("models", "golden")
    files = sorted(folder.glob("*.jpg"))
    if not files:
        raise BadInput(f"{folder}: no pictures to compare backends on; python -m benchmarks.golden_pictures makes them")
    return [read_picture(f) for f in files]


def compare_detectors(reference: ShelfDetector, other: ShelfDetector, pictures: Sequence[Rgb]) -> Agreement:
    """Both ways: boxes of either that are clear of the threshold must be found again by the other.

    Scores are compared at the cell a box is of, and not between the boxes that are left over after suppression: whether one
    of two boxes that overlap by just the limit goes is a matter of the last digit, and is counted as not found again.
    """
    again: list[bool] = []
    apart: list[float] = []
    for picture in pictures:
        a, b = reference.look(picture), other.look(picture)
        for one, two, mine, theirs in ((reference, other, a, b), (other, reference, b, a)):
            sure, cells = one.boxes(mine, SCORE_TOLERANCE)
            faint, _ = two.boxes(theirs, -SCORE_TOLERANCE)
            again += (best_overlap(sure, faint) >= SAME_BOX).tolist()
            apart += np.abs(mine.scores[sure.classes, cells] - theirs.scores[sure.classes, cells]).tolist()
    return Agreement(float(np.mean(again)) if again else 1.0, max(apart, default=0.0), len(again))


def best_overlap(x: Detections, y: Detections) -> NDArray[np.float32]:
    """For each box of ``x`` (N) the intersection over union with the box of ``y`` of its class that it overlaps most."""
    if not len(x) or not len(y):
        return np.zeros(len(x), np.float32)
    low = np.maximum(x.boxes_px[:, None, :2], y.boxes_px[None, :, :2])
    high = np.minimum(x.boxes_px[:, None, 2:], y.boxes_px[None, :, 2:])
    shared = (high - low).clip(0).prod(-1)
    area = [(d.boxes_px[:, 2:] - d.boxes_px[:, :2]).prod(1) for d in (x, y)]
    iou = shared / (area[0][:, None] + area[1][None] - shared)
    iou[x.classes[:, None] != y.classes[None]] = 0
    return np.asarray(iou.max(1), np.float32)


def compare_embedders(reference: PackEmbedder, other: PackEmbedder, crops: Sequence[Rgb]) -> Agreement:
    """Vectors of the same crop, and likenesses between different crops, each within one backend."""
    a, b = reference.embed(crops), other.embed(crops)
    alike = (a * b).sum(1) >= SAME_CROP
    return Agreement(float(alike.mean()), float(np.abs(a @ a.T - b @ b.T).max()), len(crops))


def golden_crops(reference: ShelfDetector, pictures: Sequence[Rgb]) -> list[Rgb]:
    """The products that the reference finds, evenly over the pictures."""
    out = []
    for picture in pictures:
        found = reference.detect(picture).of(DetectionClass.PRODUCT)
        for x0, y0, x1, y1 in found.boxes_px[: CROPS // len(pictures)].round().astype(int).tolist():
            out.append(picture[y0:y1, x0:x1])
    return out


@dataclass(frozen=True, slots=True)
class Row:
    """One backend and precision. ``ms``: median of one picture, or of one crop in a batch, everything included."""

    model: str
    backend: str
    precision: str
    matched: float
    score_worst: float
    compared: int
    within: bool
    ms: float
    note: str


@dataclass(frozen=True, slots=True)
class NotRun:
    """What is not compared, and why."""

    model: str
    backend: str
    precision: str
    why: str


@dataclass(frozen=True, slots=True)
class _Way(Generic[Network]):
    backend: str
    precision: str
    make: Callable[[], Network]
    note: str = ""


def compare_backends(config: Config, repeats: int, report: Report) -> dict[str, Any]:
    """The table of ``bench --backends``: every way of running both networks here, and what could not be run.

    Times are medians of turns, so that other work on the machine makes none worse than the others.
    """
    pictures = golden_pictures()
    report("detector", 0.0)
    reference = _detector(config, "onnx", "fp32")
    crops = golden_crops(reference, pictures)
    if not crops:
        raise BadInput("the detector finds no product in the golden pictures: there is nothing to compare backends on")
    rows, not_run = _compared(
        "detector", _ways(config, "detector", _detector, _shelf_session),
        lambda other: compare_detectors(reference, other, pictures), lambda other: other.detect(pictures[0]), repeats, 1,
    )  # fmt: skip
    report("embedder", 0.6)
    base = _embedder(config, "onnx", "fp32")
    more, also = _compared(
        "embedder", _ways(config, "embedder", _embedder, _pack_session),
        lambda other: compare_embedders(base, other, crops), lambda other: other.embed(crops), repeats, len(crops),
    )  # fmt: skip
    return {
        "machine": machine(),
        "reference": [reference.description, base.description],
        "pictures": len(pictures),
        "tolerance": {"iou": SAME_BOX, "matched": LEAST_MATCHED, "score": SCORE_TOLERANCE},
        "rows": [asdict(r) for r in rows + more],
        "not_run": [asdict(n) for n in not_run + also],
        "ok": all(r.within for r in rows + more),
    }


def _compared(
    model: str,
    ways: Iterator[_Way[Network] | NotRun],
    compare: Callable[[Network], Agreement],
    work: Callable[[Network], object],
    repeats: int,
    share: int,
) -> tuple[list[Row], list[NotRun]]:
    """Rows of one model; ``share``: what one unit of work holds, pictures or crops."""
    not_run: list[NotRun] = []
    running: list[tuple[_Way[Network], Network, Agreement, list[float]]] = []
    for way in ways:
        if isinstance(way, NotRun):
            not_run.append(way)
            continue
        try:
            network = way.make()
            running.append((way, network, compare(network), []))
        except ShelfscanError as e:
            not_run.append(NotRun(model, way.backend, way.precision, str(e)))
    for _ in range(repeats):
        for _, network, _, times in running:
            t0 = time.perf_counter()
            work(network)
            times.append(1e3 * (time.perf_counter() - t0) / share)
    rows = []
    for way, network, found, times in running:
        values = (round(found.matched, 4), round(found.score_worst, 4), found.compared, found.within)
        rows.append(Row(model, way.backend, way.precision, *values, round(median(times), 2), way.note))
        close = getattr(network, "close", None)
        if close is not None:
            close()
    return rows, not_run


def _ways(
    config: Config,
    model: Literal["detector", "embedder"],
    make: Callable[[Config, str, str], Network],
    from_session: Callable[[Config, Path, Any], Network],
) -> Iterator[_Way[Network] | NotRun]:
    name = getattr(config, model).model
    folder = in_use(name, config.models.folder)
    entry = model_entry(name, folder)
    for found in sorted(found_backends(), key=lambda f: f.name):
        backend = FULL[found.name]
        for precision in COMPUTES[backend]:
            kind: Chosen = "fp32" if precision != "int8" else "int8_symmetric" if backend == "tensorrt" else "int8"
            note = ""
            if precision == "bf16":
                note = "" if processor_has_bf16() else "this processor has no bf16: it only loses digits"
            if not found.usable:
                yield NotRun(model, backend, precision, found.why)
            elif kind != "fp32" and entry.variant(kind) is None:
                yield NotRun(model, backend, precision, f"these weights have no {kind} variant (training.quantise makes one)")
            else:
                yield _Way(backend, precision, partial(make, config, found.name, precision), note)
    # What TensorRT is handed can be computed here too: its loss of precision is then known, if not what the GPU makes of it.
    note = "TensorRT's file, computed by ONNX Runtime"
    path = entry_path(entry, folder)

    def fp16() -> Network:
        return from_session(config, path, open_session(path, config.detector.threads, fp16_typed(path)))

    def int8() -> Network:
        other = entry_path(entry, folder, "int8_symmetric")
        return from_session(config, other, open_session(other, config.detector.threads))

    yield _Way("onnxruntime", "fp16-typed", fp16, note)
    if entry.variant("int8_symmetric") is not None:
        yield _Way("onnxruntime", "int8-symmetric", int8, note)


def _detector(config: Config, backend: str, precision: str) -> ShelfDetector:
    asked = config.detector.model_copy(update={"backend": backend, "precision": precision})
    return cast(ShelfDetector, make_detector(config.model_copy(update={"detector": asked})))


def _embedder(config: Config, backend: str, precision: str) -> PackEmbedder:
    asked = config.embedder.model_copy(update={"backend": backend, "precision": precision})
    return cast(PackEmbedder, make_embedder(config.model_copy(update={"embedder": asked})))


def _shelf_session(config: Config, path: Path, session: Any) -> ShelfDetector:
    name = config.detector.model
    *_, settings = settings_of(name, in_use(name, config.models.folder), None, 1296, None, "fp32", "onnxruntime")
    return ShelfDetector(lambda blob: tuple(session.run(["distances", "scores"], {"image": blob})), settings, path.name)


def _pack_session(config: Config, path: Path, session: Any) -> PackEmbedder:
    side, length = expect_shapes(path, session.get_inputs()[0].shape, session.get_outputs()[0].shape)
    return PackEmbedder(lambda batch: session.run(["embedding"], {"crops": batch})[0], side, length, path.name)
