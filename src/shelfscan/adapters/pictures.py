"""Pictures from files, whatever a phone, a scanner or a web shop made of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from shelfscan.errors import BadInput
from shelfscan.model.imaging import Rgb

#: Larger pictures are refused: 120 megapixels are 360 MB of RGB.
MAX_PIXELS = 120_000_000
#: EXIF's tag of how a camera was held, and its values that swap height and width.
ORIENTATION, QUARTER_TURNED = 0x0112, frozenset({5, 6, 7, 8})
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})


def read_picture(path: Path) -> Rgb:
    """An upright (H, W, 3) uint8 RGB picture.

    EXIF rotation is applied, CMYK, palette, alpha and 16-bit pictures are converted, of animations the first frame
    is taken. Raises `BadInput` naming the file when it is no picture, empty, truncated or larger than `MAX_PIXELS`.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                width, height = picture.size
                if width * height > MAX_PIXELS:
                    raise BadInput(f"{path}: {width}x{height} is more than {MAX_PIXELS // 1_000_000} megapixels")
                picture.load()
                return _rgb(picture)
    except BadInput:
        raise
    except Image.DecompressionBombError as e:
        raise BadInput(f"{path}: more than {MAX_PIXELS // 1_000_000} megapixels") from e
    except Exception as e:  # Pillow raises whatever it meets in a broken file or in broken EXIF
        raise BadInput(f"{path}: not a readable picture: {e}") from e


def picture_shape(path: Path) -> float | None:
    """How high an upright picture is for its width, from its header alone; None where that can't be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                width, height = picture.size
                turned = picture.getexif().get(ORIENTATION, 1) in QUARTER_TURNED
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # who needs its pixels says what is wrong
        return None
    if not width or not height:
        return None
    return width / height if turned else height / width


def gallery_shapes(gallery: Mapping[str, Sequence[Path]]) -> dict[str, float]:
    """How high each SKU's front is for its width in its reference pictures: the first that can be read, as galleries begin with
    the front."""
    shapes = {sku: next((s for s in map(picture_shape, paths) if s is not None), None) for sku, paths in gallery.items()}
    return {sku: shape for sku, shape in shapes.items() if shape is not None}


def _rgb(picture: Image.Image) -> Rgb:
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I") or upright.mode == "F":
        values = np.asarray(upright, dtype=np.float64)
        top = 65535.0 if values.max(initial=0.0) > 255 else 255.0
        gray = np.clip(values / top * 255.0, 0, 255).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=-1)
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        # Packshots are often cut out: what is transparent is shown on white, as a web shop would.
        rgba = upright.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        upright = Image.alpha_composite(white, rgba)
    return np.asarray(upright.convert("RGB"), dtype=np.uint8).copy()


def pictures_in(folder: Path) -> list[Path]:
    """Picture files directly in a folder, by name."""
    return sorted(p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES)


def gallery_files(folder: Path) -> dict[str, list[Path]]:
    """Reference files by SKU: ``folder/<sku>/*`` (or ``folder/<sku>.jpg`` for one picture a SKU).

    Raises `BadInput` with every problem: no folder, no pictures, an empty SKU folder, a SKU given twice.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such gallery folder")
    problems: list[str] = []
    files: dict[str, list[Path]] = {}
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            found = pictures_in(entry)
            if not found:
                problems.append(f"{entry}: no picture of this SKU")
            elif entry.name in files:
                problems.append(f"{entry}: SKU {entry.name} is there twice, as a folder and as a file")
            else:
                files[entry.name] = found
        elif entry.suffix.lower() in SUFFIXES:
            if entry.stem in files:
                problems.append(f"{entry}: SKU {entry.stem} is there twice")
            else:
                files[entry.stem] = [entry]
    if not files and not problems:
        problems.append(f"{folder}: no pictures; expected {folder.name}/<sku>/*.jpg")
    if problems:
        raise BadInput(problems)
    return files


def read_gallery(folder: Path) -> dict[str, list[Rgb]]:
    """Reference pictures by SKU. Raises `BadInput` as `gallery_files` does, and with every unreadable picture."""
    gallery: dict[str, list[Rgb]] = {}
    problems: list[str] = []
    for sku, paths in gallery_files(folder).items():
        for path in paths:
            try:
                gallery.setdefault(sku, []).append(read_picture(path))
            except BadInput as e:
                problems += e.problems
    if problems:
        raise BadInput(problems)
    return gallery
