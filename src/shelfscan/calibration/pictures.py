"""Pictures to calibrate with: a folder, or a bag of captures."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

import cv2
import numpy as np

from shelfscan.adapters.frames_mcap import BagFrameSource
from shelfscan.adapters.pictures import pictures_in
from shelfscan.calibration.corners import CAMERAS, Picture
from shelfscan.errors import BadInput

#: ``low-left-0007``: head, camera, and the key of the instant. ``low/left/0007`` in folders says the same.
NAME = re.compile(rf"^(?P<head>[a-z][a-z0-9_]*)-(?P<camera>{'|'.join(CAMERAS)})-(?P<key>.+)$")
EXPECTED = "expected HEAD-CAMERA-KEY such as low-left-0007.png (or low/left/0007.png), camera one of left, right, rgb"


def read_pictures(path: Path, heads: Collection[str]) -> Iterator[Picture]:
    """Every picture of the robot's heads below a folder, or in a bag; one at a time.

    Raises `BadInput` when there is none, when a name says neither head nor camera, or a head is not in robot.yaml.
    """
    if path.is_file() or (path.is_dir() and any(path.glob("*.mcap"))):
        return _from_bag(path, heads)
    if not path.is_dir():
        raise BadInput(f"{path}: no such folder of pictures, and no bag")
    return _from_folder(path, heads)


def _from_folder(path: Path, heads: Collection[str]) -> Iterator[Picture]:
    folders = [path, *sorted(p for p in path.rglob("*") if p.is_dir())]
    files = [f for folder in folders for f in pictures_in(folder)]
    if not files:
        raise BadInput(f"{path}: no picture in it; {EXPECTED}")
    named: list[tuple[Path, re.Match[str]]] = []
    problems: list[str] = []
    for f in files:
        match = NAME.match("-".join(f.relative_to(path).with_suffix("").parts))
        if match is None:
            problems.append(f"{f}: says neither head nor camera; {EXPECTED}")
        elif match["head"] not in heads:
            problems.append(f"{f}: robot.yaml has no head {match['head']!r}; it has {', '.join(heads)}")
        else:
            named.append((f, match))
    if problems:
        raise BadInput(problems)
    return (Picture(m["head"], m["camera"], m["key"], _gray(f), str(f)) for f, m in named)


def _gray(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    # As the sensor has it: a camera's pictures are not turned by what a file says of "up".
    flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
    picture = cv2.imread(str(path), flags)
    if picture is None:
        raise BadInput(f"{path}: not a readable picture")
    return np.asarray(picture, dtype=np.uint8).reshape(picture.shape[0], picture.shape[1])


def _from_bag(path: Path, heads: Collection[str]) -> Iterator[Picture]:
    source = BagFrameSource(path)
    for bundle in source.frames():
        for frame in bundle.frames:
            name = frame.head.name
            if name not in heads:
                raise BadInput(f"{path}: robot.yaml has no head {name!r}; it has {', '.join(heads)}")
            rgb = cv2.imdecode(np.frombuffer(frame.rgb_jpeg, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
            if rgb is None:
                raise BadInput(f"{path}: {bundle.capture_id}: the RGB picture of {name} cannot be decoded")
            gray = {"left": frame.left, "right": frame.right, "rgb": np.asarray(rgb, dtype=np.uint8)}
            for camera, picture in gray.items():
                yield Picture(name, camera, bundle.capture_id, picture, f"{path}: {bundle.capture_id} {name}/{camera}")
