"""What close looks know of a gallery's pictures, on disk: it takes 20 ms a picture to work out.

A file is of one store's gallery; in it each picture has a checksum, of its file and of all else that the result depends on, so
that a picture that changed or came is worked out, and no other. Whatever is not as it should be is worked out anew: the folder
may be deleted, its files cut short.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.model.imaging import Rgb
from shelfscan.perception import appearance, local_features
from shelfscan.perception.local_features import LocalFeatures
from shelfscan.perception.recognise import Detail, details_of

#: Grows when pictures are looked at in another way than the constants in `_checksum` tell.
RECIPE = 1
#: Stores whose galleries are kept, the newest used; one of 4,000 pictures takes 260 MB.
KEPT = 4
PREFIX = "gallery-"
#: A file that was begun so long ago is nobody's any more.
LEFT_S = 3600.0

Known = tuple[LocalFeatures, NDArray[np.uint8]]


def default_folder() -> Path:
    """``$XDG_CACHE_HOME/shelfscan/gallery``, by default below ``~/.cache``; nowhere for a user without a home."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        home = Path(os.devnull)
    return home / "shelfscan" / "gallery"


class GalleryCache:
    """Close looks' knowledge of the gallery of a store (``root``: its folder; ``gallery``: pictures by SKU) in a folder.

    To be made before the pictures are read, so that none that changes meanwhile is taken for what it became. Nothing here
    raises for what the folder holds or cannot hold. Raises `OSError` when a picture cannot be read.
    """

    def __init__(self, folder: Path, root: Path, gallery: Mapping[str, Sequence[Path]]) -> None:
        self.file = folder / f"{PREFIX}{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]}.npz"
        #: Of the gallery's pictures, in its order.
        self._checksums = [_checksum(p) for sku in sorted(gallery) for p in gallery[sku]]

    def writable(self) -> bool:
        """Whether anything can be kept."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.file.parent):
                return True
        except OSError:
            return False

    def complete(self) -> bool:
        """Whether the file is of exactly the gallery's pictures."""
        try:
            with self.file.open("rb") as raw, np.load(raw, allow_pickle=False) as f:
                there = {bytes(c) for c in f["checksums"]}
        except Exception:  # noqa: BLE001 - a file cut short can fail in any way, and is worked out anew
            return False
        return there == set(self._checksums)

    def load(self, details: Sequence[Detail]) -> None:
        """Tell the gallery's pictures, in its order, what the file knows of them."""
        try:
            with self.file.open("rb") as raw, np.load(raw, allow_pickle=False) as f:
                known = _taken_apart({name: f[name] for name in f.files})
        except Exception:  # noqa: BLE001 - as above
            return
        with suppress(OSError):
            os.utime(self.file)
        for detail, checksum in zip(details, self._checksums, strict=True):
            if checksum in known:
                detail.know(*known[checksum])

    def fill(self, pictures: Mapping[str, Sequence[Rgb]], report: Callable[[str, float], None]) -> None:
        """Work out what is not known yet of the gallery's pictures, by SKU, with all cores, and keep it."""
        details = [d for sku in sorted(pictures) for d in details_of(pictures[sku])]
        self.load(details)
        unknown = [d for d in details if not d.known]
        pool = ThreadPoolExecutor(os.cpu_count() or 1)
        try:
            for n, done in enumerate([pool.submit(d.of) for d in unknown], 1):
                done.result()
                report(f"looking closely at the gallery: {n} of {len(unknown)} new pictures", n / len(unknown))
        finally:
            # Of what is interrupted the part that is done is kept.
            pool.shutdown(cancel_futures=True)
            self.save(details)

    def save(self, details: Sequence[Detail]) -> None:
        """Keep what is known by now of the gallery's pictures; without room for it, it is worked out again next time."""
        known = [n for n, d in enumerate(details) if d.known]
        if not known:
            return
        seen = [details[n].of() for n in known]
        name = ""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.file.parent, prefix=f".{PREFIX}")
            # Straight to the disk: in memory it would be there three times. A file that a crash cuts short is seen to be.
            with os.fdopen(handle, "wb") as f:
                np.savez(
                    f,
                    checksums=np.array([list(self._checksums[n]) for n in known], np.uint8),
                    counts=np.array([len(f) for f, _ in seen], np.int64),
                    shapes=np.array([c.shape[:2] for _, c in seen], np.int64),
                    places=np.concatenate([f.places_px for f, _ in seen]),
                    sizes=np.concatenate([f.sizes_px for f, _ in seen]),
                    angles=np.concatenate([f.angles_rad for f, _ in seen]),
                    sift=np.concatenate([f.sift for f, _ in seen]),
                    copies=np.concatenate([c.ravel() for _, c in seen]),
                )
            os.replace(name, self.file)
            self._tidy()
        except OSError:
            if name:
                Path(name).unlink(missing_ok=True)

    def save_beside(self, details: Sequence[Detail]) -> None:
        """`save` in a thread of its own: it may be hundreds of megabytes, and captures don't wait for the disk."""
        threading.Thread(target=self.save, args=(details,), name="gallery cache", daemon=True).start()

    def _tidy(self) -> None:
        """Remove galleries that were not used for long, and what was left of writers that were killed."""
        kept = sorted(self.file.parent.glob(f"{PREFIX}*.npz"), key=lambda p: p.stat().st_mtime_ns, reverse=True)
        left = [p for p in self.file.parent.glob(f".{PREFIX}*") if p.stat().st_mtime < time.time() - LEFT_S]
        for path in (*kept[KEPT:], *left):
            path.unlink(missing_ok=True)


def _checksum(path: Path) -> bytes:
    look = (local_features.SIDE_PX, local_features.MOST, local_features.CONTRAST, appearance.LAID_PX)
    return hashlib.sha256(repr((RECIPE, cv2.__version__, look)).encode() + path.read_bytes()).digest()


def _taken_apart(parts: Mapping[str, Any]) -> dict[bytes, Known]:
    """What a file says, by checksum. Raises when its parts do not fit together."""
    counts, shapes = parts["counts"], parts["shapes"]
    ends, pixels = np.cumsum(counts), np.cumsum(3 * shapes.prod(axis=1))
    total, count = int(ends[-1]), len(parts["checksums"])
    fits = len(counts) == len(shapes) == count and parts["sift"].shape == (total, 128) and parts["places"].shape == (total, 2)
    if not fits or len(parts["sizes"]) != total or len(parts["angles"]) != total or len(parts["copies"]) != int(pixels[-1]):
        raise ValueError("parts of different galleries")
    out = {}
    for n, checksum in enumerate(parts["checksums"]):
        a, b = int(ends[n] - counts[n]), int(ends[n])
        h, w = (int(v) for v in shapes[n])
        copy = parts["copies"][int(pixels[n]) - 3 * h * w : int(pixels[n])].reshape(h, w, 3)
        features = LocalFeatures(parts["places"][a:b], parts["sizes"][a:b], parts["angles"][a:b], parts["sift"][a:b])
        out[bytes(checksum)] = (features, copy)
    return out
