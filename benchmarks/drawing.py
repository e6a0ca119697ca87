"""Pictures for documents: boxes on photographs, sheets of captioned crops, JPEG files of limited size.

Captions are of Latin letters only: the font is the one that Pillow brings along.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from shelfscan.errors import BadInput
from shelfscan.model.imaging import Rgb

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]

GREEN, RED, ORANGE, GREY = (0, 158, 60), (214, 24, 24), (240, 138, 0), (130, 130, 130)
INK, PAPER = (25, 25, 25), (255, 255, 255)
WIDTH_PX = 1100
MAX_BYTES = 200_000
#: JPEG qualities that are tried in turn until a picture is small enough.
QUALITIES = (84, 80, 75, 70, 65, 60)
_TEXT_PX, _LINE_PX = 13, 16


@dataclass(frozen=True, slots=True)
class Mark:
    """A box in px of the photograph, how it is drawn, and what is written at its upper edge."""

    box_px: Box
    colour: Colour
    dashed: bool = False
    text: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """Pictures side by side over lines of text, each line with its colour."""

    pictures: tuple[Rgb, ...]
    lines: tuple[tuple[str, Colour], ...]


def font(size_px: int = _TEXT_PX) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font."""
    return ImageFont.load_default(size_px)


def marked(photograph: Rgb, marks: Sequence[Mark], legend: Sequence[tuple[str, Colour]]) -> Image.Image:
    """A photograph `WIDTH_PX` wide at most with boxes drawn, over a line that says what the colours mean."""
    picture = Image.fromarray(photograph)
    scale = min(1.0, WIDTH_PX / picture.width)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (picture.width, picture.height + _LINE_PX + 10), PAPER)
    canvas.paste(picture, (0, 0))
    draw = ImageDraw.Draw(canvas)
    right, bottom = picture.width - 1, picture.height - 1
    for m in marks:
        x0, y0, x1, y1 = (v * scale for v in m.box_px)
        x0, y0, x1, y1 = max(0.0, x0), max(0.0, y0), min(x1, right), min(y1, bottom)
        corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0))
        for a, b in pairwise(corners):
            # A pale line below keeps the box visible on a package of its own colour.
            draw.line((a, b), fill=PAPER, width=4)
        for a, b in pairwise(corners):
            _line(draw, a, b, m.colour, 7.0 if m.dashed else None)
        if m.text:
            label(draw, (x0 + 2, y0 + 2), m.text, m.colour)
    x = 4.0
    for text, colour in legend:
        draw.rectangle((x, picture.height + 9, x + 12, picture.height + 19), fill=colour)
        draw.text((x + 17, picture.height + 5), text, fill=INK, font=font())
        x += 17 + draw.textlength(text, font=font()) + 26
    return canvas


def label(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, colour: Colour) -> None:
    """Small text on a plate."""
    small = font(11)
    draw.rectangle((at[0], at[1], at[0] + draw.textlength(text, font=small) + 4, at[1] + 13), fill=PAPER)
    draw.text((at[0] + 2, at[1]), text, fill=colour, font=small)


def _line(
    draw: ImageDraw.ImageDraw, a: tuple[float, float], b: tuple[float, float], colour: Colour, dash_px: float | None
) -> None:
    if dash_px is None:
        draw.line((a, b), fill=colour, width=2)
        return
    p, q = np.array(a), np.array(b)
    length = float(np.hypot(*(q - p)))
    for start in np.arange(0.0, length, 2 * dash_px):
        ends = [p + (q - p) * (min(t, length) / max(length, 1e-6)) for t in (start, start + dash_px)]
        draw.line([(float(e[0]), float(e[1])) for e in ends], fill=colour, width=2)


def sheet(cells: Sequence[Cell], columns: int, picture_px: tuple[int, int]) -> Image.Image:
    """Cells in rows, left to right and top to bottom, on a page `WIDTH_PX` wide.

    Each picture is fitted into ``picture_px`` (width, height), and enlarged to it where it is small.
    """
    lines = max((len(c.lines) for c in cells), default=0)
    gap = 8
    width = WIDTH_PX // columns
    height = picture_px[1] + lines * _LINE_PX + 2 * gap
    page = Image.new("RGB", (WIDTH_PX, max(1, height * -(-len(cells) // columns))), PAPER)
    draw = ImageDraw.Draw(page)
    for n, cell in enumerate(cells):
        left, top = (n % columns) * width + gap, (n // columns) * height + gap
        for k, picture in enumerate(cell.pictures):
            fitted = _fitted(picture, picture_px)
            x = left + k * (picture_px[0] + 6) + (picture_px[0] - fitted.width) // 2
            page.paste(fitted, (x, top + (picture_px[1] - fitted.height) // 2))
        for k, (text, colour) in enumerate(cell.lines):
            at = (left, top + picture_px[1] + 2 + k * _LINE_PX)
            draw.text(at, shortened(draw, text, width - 2 * gap), fill=colour, font=font())
    return page


def shortened(draw: ImageDraw.ImageDraw, text: str, width_px: float) -> str:
    """The text, cut in its middle where it is wider than that: names differ at their ends."""
    out, keep = text, len(text)
    while draw.textlength(out, font=font()) > width_px and keep > 4:
        keep -= 1
        out = f"{text[: keep // 2]}…{text[-(keep - keep // 2) :]}"
    return out


def _fitted(picture: Rgb, size_px: tuple[int, int]) -> Image.Image:
    img = Image.fromarray(np.ascontiguousarray(picture))
    scale = min(size_px[0] / img.width, size_px[1] / img.height)
    method = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    return img.resize((max(1, round(img.width * scale)), max(1, round(img.height * scale))), method)


def save_jpeg(picture: Image.Image, path: Path) -> int:
    """Write a picture of `MAX_BYTES` at most, at the best of `QUALITIES` that allows it; its size. Raises `BadInput`."""
    for quality in QUALITIES:
        memory = io.BytesIO()
        picture.save(memory, "JPEG", quality=quality, optimize=True)
        if memory.tell() <= MAX_BYTES:
            path.write_bytes(memory.getvalue())
            return memory.tell()
    raise BadInput(f"{path}: {memory.tell()} bytes at quality {QUALITIES[-1]}; expected {MAX_BYTES} at most")
