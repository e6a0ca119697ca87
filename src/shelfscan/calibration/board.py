"""The ChArUco board: a chessboard whose white squares hold markers, so that every corner has a number."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from shelfscan.errors import BadInput
from shelfscan.model.geometry import Array, transform
from shelfscan.model.imaging import Gray

#: What fits A3 (a copy shop prints it on a stiff plate), with corners enough for a picture of 1280x720 at a metre.
DEFAULT = "9,6,0.040,0.030,DICT_5X5_100"
EXPECTED = "expected squares_x,squares_y,square_m,marker_m,dictionary such as " + DEFAULT
PAPERS_MM = {"a4": (297.0, 210.0), "a3": (420.0, 297.0), "a2": (594.0, 420.0)}
MM_PER_INCH = 25.4
#: Length of the line that is printed to be measured with a ruler.
RULER_M = 0.1


@dataclass(frozen=True)
class Board:
    """``squares_x`` by ``squares_y`` squares of ``square_m`` with markers of ``marker_m``, from OpenCV's ``dictionary``.

    Its own frame is OpenCV's: origin at the outer corner at the top left, x to the right, y down, z into the board, metres.
    """

    squares_x: int
    squares_y: int
    square_m: float
    marker_m: float
    dictionary: str

    @staticmethod
    def parse(text: str) -> Board:
        """A board from ``squares_x,squares_y,square_m,marker_m,dictionary``. Raises `BadInput` saying what is wrong."""
        parts = [p.strip() for p in text.split(",")]
        if len(parts) != 5:
            raise BadInput(f"--board is {text!r}: {len(parts)} values; {EXPECTED}")
        try:
            x, y, square, marker = int(parts[0]), int(parts[1]), float(parts[2]), float(parts[3])
        except ValueError:
            raise BadInput(f"--board is {text!r}: not numbers; {EXPECTED}") from None
        name = parts[4].upper()
        if not re.fullmatch(r"DICT_\w+", name) or not hasattr(cv2.aruco, name):
            raise BadInput(f"--board is {text!r}: OpenCV has no dictionary {parts[4]!r}; expected such as DICT_5X5_100")
        if not (3 <= x <= 40 and 3 <= y <= 40):
            raise BadInput(f"--board is {text!r}: {x} by {y} squares; expected 3 to 40 each way")
        if not 0.005 <= square <= 0.5 or not 0.3 * square <= marker < square:
            raise BadInput(f"--board is {text!r}: expected squares of 0.005 to 0.5 m and markers of 30 to 99 % of a square")
        board = Board(x, y, square, marker, name)
        held = len(board._dictionary.bytesList)
        if x * y // 2 > held:
            raise BadInput(f"--board is {text!r}: {x * y // 2} markers are needed and {name} has {held}")
        return board

    def __str__(self) -> str:
        return f"{self.squares_x},{self.squares_y},{self.square_m:g},{self.marker_m:g},{self.dictionary}"

    @cached_property
    def _dictionary(self) -> cv2.aruco.Dictionary:
        return cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, self.dictionary))

    @cached_property
    def _board(self) -> cv2.aruco.CharucoBoard:
        return cv2.aruco.CharucoBoard((self.squares_x, self.squares_y), self.square_m, self.marker_m, self._dictionary)

    @cached_property
    def detector(self) -> cv2.aruco.CharucoDetector:
        """Finds the board's corners in a picture."""
        return cv2.aruco.CharucoDetector(self._board)

    @cached_property
    def markers(self) -> frozenset[int]:
        """Numbers of the markers on it."""
        return frozenset(int(i) for i in np.ravel(self._board.getIds()))

    @cached_property
    def corners_m(self) -> Array:
        """(N, 3) inner corners in the board's frame, by their numbers."""
        return np.asarray(self._board.getChessboardCorners(), dtype=np.float64)

    @property
    def size_m(self) -> tuple[float, float]:
        """Width and height of the squares, metres."""
        return self.squares_x * self.square_m, self.squares_y * self.square_m

    @cached_property
    def T_centre_board(self) -> Array:
        """The board's frame in one an engineer sets up by hand, (4, 4).

        That frame has its origin in the middle of the board, x out of the printed side, z up along it, y to the left of
        someone who looks along x. So an upright board before a robot that looks to its left has yaw -90 degrees in ``base``.
        """
        axes = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
        w, h = self.size_m
        return transform(axes, axes @ np.array([-w / 2, -h / 2, 0.0]))

    def picture(self, px_per_m: float, margin_m: float = 0.0) -> Gray:
        """The board from above, (H, W) uint8, white margin around it."""
        w, h = (round(v * px_per_m) for v in self.size_m)
        inner = np.asarray(self._board.generateImage((w, h), marginSize=0, borderBits=1), dtype=np.uint8)
        m = round(margin_m * px_per_m)
        return np.asarray(np.pad(inner, m, constant_values=255), dtype=np.uint8)

    def page(self, dpi: int = 300, paper: str = "") -> Image.Image:
        """A page to print at 100 %: the board, what it is, and a line to measure. Raises `BadInput` when it does not fit.

        ``paper``: one of `PAPERS_MM`, in landscape; empty makes the page as large as the board needs.
        """
        px_per_m = dpi / MM_PER_INCH * 1000
        board = self.picture(px_per_m)
        foot = round(0.016 * px_per_m)
        edge = round(0.008 * px_per_m)
        h, w = board.shape[0] + foot + 2 * edge, board.shape[1] + 2 * edge
        if paper:
            if paper.lower() not in PAPERS_MM:
                raise BadInput(f"--paper is {paper!r}; expected one of {', '.join(PAPERS_MM)}")
            pw, ph = (round(v / MM_PER_INCH * dpi) for v in PAPERS_MM[paper.lower()])
            if w > pw or h > ph:
                need = " x ".join(f"{v / dpi * MM_PER_INCH:.0f}" for v in (w, h))
                raise BadInput(
                    f"--paper {paper}: the board with its margins needs {need} mm; take larger paper or smaller squares"
                )
            w, h = pw, ph
        page = np.full((h, w), 255, np.uint8)
        top, left = (h - board.shape[0] - foot) // 2, (w - board.shape[1]) // 2
        page[top : top + board.shape[0], left : left + board.shape[1]] = board
        out = Image.fromarray(page)
        draw = ImageDraw.Draw(out)
        y = top + board.shape[0] + foot // 2
        line = round(RULER_M * px_per_m)
        draw.line([(left, y), (left + line, y)], fill=0, width=max(1, dpi // 150))
        for x in (left, left + line):
            draw.line([(x, y - foot // 6), (x, y + foot // 6)], fill=0, width=max(1, dpi // 150))
        text = f"this line is {RULER_M * 1000:.0f} mm when printed at 100 %    --board {self}"
        draw.text((left + line + foot // 3, y), text, fill=0, font_size=max(8, foot // 4), anchor="lm")
        return out


def encoded(page: Image.Image, dpi: int, kind: str) -> bytes:
    """A page as the bytes of a ``PNG`` or ``PDF`` that says its own scale."""
    data = io.BytesIO()
    if kind == "PDF":
        page.save(data, "PDF", resolution=float(dpi))
    else:
        page.save(data, kind, dpi=(dpi, dpi))
    return data.getvalue()


Ids = NDArray[np.int32]
