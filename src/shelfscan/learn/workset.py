"""A data set made ready for training in a folder: working copies, and a split that stays as it is.

``split.json`` says of every picture, by the sha256 of its file, whether it is trained on or held out. What it says once
stays: new pictures are added to either side, so that weights of different days are compared on pictures that none of them
was trained on. Working copies are JPEGs at the scale the detector looks at.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.adapters.pictures import read_picture
from shelfscan.errors import BadInput
from shelfscan.learn.datasets import Dataset, Labelled
from shelfscan.model.detections import DetectionClass
from shelfscan.model.imaging import Rgb
from shelfscan.runfolder import write_atomic

#: Long side of a working copy: the runtime looks at 1296 px at most, and training zooms in a little.
SIDE_PX = 1536
#: Share of the pictures that is held out.
HELD_OUT = 0.2
SPLIT_FILE = "split.json"
Report = Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class Sample:
    """A working copy and its labels in its own pixels; ``sha256`` is that of the picture it was made from."""

    file: Path
    sha256: str
    source: Path
    boxes_px: NDArray[np.float32]
    classes: NDArray[np.int64]

    def read(self) -> Rgb:
        """The working copy, (H, W, 3) uint8 RGB. Raises `BadInput` when it is gone."""
        picture = cv2.imread(str(self.file))
        if picture is None:
            raise BadInput(f"{self.file}: the working copy is gone; start again with another --out")
        return np.asarray(picture[..., ::-1], np.uint8)


@dataclass(frozen=True)
class Workset:
    """Training pictures and those held out; ``left_out`` says why others are in neither."""

    train: tuple[Sample, ...]
    held_out: tuple[Sample, ...]
    left_out: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Changes whenever a picture, a label or the split does."""
        digest = hashlib.sha256()
        for side, samples in ((b"train", self.train), (b"held out", self.held_out)):
            for s in samples:
                digest.update(side + s.sha256.encode() + s.boxes_px.tobytes() + s.classes.tobytes())
        return digest.hexdigest()

    def boxes(self, cls: DetectionClass) -> int:
        """Boxes of a class in both parts."""
        return int(sum((s.classes == int(cls)).sum() for s in (*self.train, *self.held_out)))


def prepare(data: Dataset, folder: Path, report: Report) -> Workset:
    """Read every picture once, write its working copy below ``folder`` and decide which are held out.

    Unreadable pictures and second copies of a picture are left out and named. Raises `BadInput` when fewer than two
    pictures with a product are left, or the split's file is not what was written there.
    """
    copies = folder / "pictures"
    left_out = list(data.left_out)
    samples: dict[str, Sample] = {}
    for n, picture in enumerate(data.pictures):
        report(f"reading {picture.path.name}", n / len(data.pictures))
        try:
            sha = hashlib.sha256(picture.path.read_bytes()).hexdigest()
            if sha in samples:
                left_out.append(f"{picture.path}: the same picture as {samples[sha].source}")
                continue
            samples[sha] = _copy(picture, sha, copies)
        except (BadInput, OSError) as e:
            left_out += e.problems if isinstance(e, BadInput) else [f"{picture.path}: cannot be read: {e}"]
    with_products = [s for s in samples.values() if (s.classes == int(DetectionClass.PRODUCT)).any()]
    if len(with_products) < 2:
        raise BadInput([*left_out, f"{data.source}: expected at least two readable pictures with a product labelled"])
    held = frozen_split(folder / SPLIT_FILE, sorted(samples), [s.sha256 for s in with_products])
    ordered = [samples[s] for s in sorted(samples)]
    train, test = [s for s in ordered if s.sha256 not in held], [s for s in ordered if s.sha256 in held]
    for part, name in ((train, "to train on"), (test, "held out")):
        if not any((s.classes == int(DetectionClass.PRODUCT)).any() for s in part):
            raise BadInput(f"{folder / SPLIT_FILE}: no picture with a product is {name}; label more, or use another --out")
    return Workset(tuple(train), tuple(test), tuple(left_out))


def read_split(path: Path) -> dict[str, str]:
    """Which side each picture (by checksum) was decided to be on: ``train`` or ``held_out``; empty without a file.

    Raises `BadInput` for another kind of file.
    """
    if not path.exists():
        return {}
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["pictures"]
        if not isinstance(known, dict) or set(known.values()) - {"train", "held_out"}:
            raise ValueError("expected each picture to be train or held_out")
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise BadInput(f"{path}: not a split written by training: {e}") from e
    return known


def frozen_split(path: Path, pictures: Sequence[str], wanted: Sequence[str]) -> set[str]:
    """Which of the ``pictures`` (sha256) are held out: what the file says, and of new ones those with the lowest hashes.

    ``wanted``: pictures that are worth measuring on; the share is of them. Raises `BadInput` for another kind of file.
    """
    known = read_split(path)
    goal = max(1, round(HELD_OUT * len(wanted)))
    held = {p for p in wanted if known.get(p) == "held_out"}
    for picture in sorted(p for p in wanted if p not in known):
        if len(held) < goal:
            held.add(picture)
    decided = {p: known.get(p, "held_out" if p in held else "train") for p in pictures}
    if decided.keys() - known.keys():
        write_atomic(path, (json.dumps({"pictures": {**known, **decided}}, indent=1, sort_keys=True) + "\n").encode())
    return {p for p, side in decided.items() if side == "held_out"}


def _copy(picture: Labelled, sha: str, folder: Path) -> Sample:
    file = folder / f"{sha[:20]}.jpg"
    scale = min(1.0, SIDE_PX / max(picture.width_px, picture.height_px))
    pixels = read_picture(picture.path)  # also when the copy is there: a copy may be of a file that was cut since
    if pixels.shape[:2] != (picture.height_px, picture.width_px):
        found, said = f"{pixels.shape[1]}x{pixels.shape[0]}", f"{picture.width_px}x{picture.height_px}"
        raise BadInput(f"{picture.path}: {found} once read, its head says {said}")
    if not file.exists():
        if scale < 1:
            pixels = np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        ok, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        if not ok:
            raise BadInput(f"{picture.path}: cannot be written as a working copy")
        write_atomic(file, data.tobytes())
    return Sample(file, sha, picture.path, picture.boxes_px * np.float32(scale), picture.classes)
