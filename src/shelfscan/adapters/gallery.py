"""A gallery folder as it grows: what may be put into it, and how."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np

from shelfscan.adapters.pictures import SUFFIXES, pictures_in
from shelfscan.errors import BadInput
from shelfscan.model.imaging import Rgb
from shelfscan.runfolder import write_atomic

#: SKUs name folders.
SKU = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
#: A reference needs no more: networks look at 128 pixels, people at little more.
LONGEST_PX = 1024


def is_started(folder: Path) -> bool:
    """Whether a gallery has anything that could be a SKU; a folder that holds none yet is no gallery that is broken."""
    return folder.is_dir() and any(e.is_dir() or e.suffix.lower() in SUFFIXES for e in folder.iterdir())


def expect_sku(folder: Path, sku: str) -> None:
    """Raise `BadInput` when references of ``sku`` could not be put into the gallery ``folder``."""
    if not SKU.fullmatch(sku):
        raise BadInput(f"{sku!r}: not usable as a SKU: expected letters, digits, '.', '_' or '-', at most 100")
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.is_file() and (entry.name == sku or (entry.stem == sku and entry.suffix.lower() in SUFFIXES)):
            raise BadInput(f"{entry}: SKU {sku} stands there as one file; move it to {folder / sku}/ to add more")


def add_reference(folder: Path, sku: str, picture: Rgb) -> Path:
    """Put one picture of a SKU into a gallery, as the next free number. Returns its file."""
    expect_sku(folder, sku)
    h, w = picture.shape[:2]
    scale = LONGEST_PX / max(h, w)
    if scale < 1:
        size = (max(1, round(w * scale)), max(1, round(h * scale)))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    home = folder / sku
    taken = {p.stem for p in pictures_in(home)} if home.is_dir() else set()
    number = next(n for n in range(len(taken) + 1) if str(n) not in taken)
    path = home / f"{number}.jpg"
    bgr = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2BGR)
    write_atomic(path, cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 94])[1].tobytes())
    return path
