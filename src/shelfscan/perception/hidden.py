"""Which parts of a capture's pictures were made unreadable, kept in the RGB picture itself: a comment in its JPEG header.

So whoever gets the picture (bag, replay, another program) knows, and the message types stay as they are. A picture with the
mark and no hidden cell was looked at, and nobody was found.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from shelfscan.errors import SensorError

#: Side of a cell of the masks, in pixels of their picture.
CELL_PX = 16
#: A mask of a picture of 65,535 pixels a side, the most that JPEG has, has fewer cells a side than this.
MAX_CELLS = 4100
_MARK = b"shelfscan.hidden "

Mask = NDArray[np.bool_]
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Hidden:
    """Cells of `CELL_PX` that were made unreadable, in sensor orientation: (ceil(H / 16), ceil(W / 16)) bool each."""

    left: Mask
    right: Mask
    rgb: Mask

    @property
    def any(self) -> bool:
        """Whether anything is hidden in any of the three."""
        return bool(self.left.any() or self.right.any() or self.rgb.any())


def cells_of(height_px: int, width_px: int) -> tuple[int, int]:
    """(rows, columns) of the mask of a picture."""
    return -(-height_px // CELL_PX), -(-width_px // CELL_PX)


def pixels_of(mask: NDArray[T], height_px: int, width_px: int) -> NDArray[T]:
    """A mask's cells as the pixels of its picture, (height_px, width_px)."""
    return np.ascontiguousarray(mask.repeat(CELL_PX, axis=1).repeat(CELL_PX, axis=0)[:height_px, :width_px])


def with_hidden(jpeg: bytes, hidden: Hidden) -> bytes:
    """The same JPEG, its pixels untouched, with the mark. Raises `SensorError` when it is no JPEG."""
    if jpeg[:2] != b"\xff\xd8":
        raise SensorError("the RGB picture is no JPEG: what is hidden in it cannot be noted")
    note = {name: _pack(getattr(hidden, name)) for name in ("left", "right", "rgb")}
    body = _MARK + json.dumps(note, separators=(",", ":")).encode("ascii")
    if len(body) + 2 > 0xFFFF:
        raise SensorError("what is hidden in the RGB picture does not fit into its header")
    return jpeg[:2] + b"\xff\xfe" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]


def hidden_of(jpeg: bytes) -> Hidden | None:
    """What `with_hidden` noted; None where nothing was. Raises `SensorError` for a note that cannot be read."""
    at = 2
    while jpeg[:2] == b"\xff\xd8" and at + 4 <= len(jpeg) and jpeg[at] == 0xFF and jpeg[at + 1] != 0xDA:
        size = int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] == 0xFE and jpeg[at + 4 : at + 4 + len(_MARK)] == _MARK:
            try:
                note = json.loads(jpeg[at + 4 + len(_MARK) : at + 2 + size])
                return Hidden(*(_unpack(note[name]) for name in ("left", "right", "rgb")))
            except (ValueError, KeyError, TypeError, zlib.error) as e:
                raise SensorError(f"the RGB picture's note of what is hidden cannot be read: {e}") from None
        at += 2 + size
    return None


def _pack(mask: Mask) -> list[object]:
    bits = zlib.compress(np.packbits(mask).tobytes(), 9)
    return [*mask.shape, base64.b64encode(bits).decode("ascii")]


def _unpack(data: list[object]) -> Mask:
    rows, columns, text = data
    if not (isinstance(rows, int) and isinstance(columns, int) and isinstance(text, str)):
        raise ValueError("expected rows, columns and a mask")
    if not (0 < rows <= MAX_CELLS and 0 < columns <= MAX_CELLS):
        raise ValueError(f"a mask of {rows} x {columns} cells")
    size = -(-rows * columns // 8)
    raw = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), size + 1)
    if len(raw) != size:
        raise ValueError(f"{len(raw)} bytes for {rows} x {columns} cells")
    return np.unpackbits(np.frombuffer(raw, np.uint8), count=rows * columns).reshape(rows, columns).astype(bool)
