"""What can be used of a head's pictures, before anything is looked for in them."""

from __future__ import annotations

import cv2
import numpy as np

from shelfscan.errors import SensorError
from shelfscan.model.imaging import HeadFrame, Rgb
from shelfscan.perception.hidden import Hidden, cells_of, hidden_of

#: By how many quarters a picture is turned against the clock, as OpenCV names it.
_TURNS = (None, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)
#: Nothing in a picture is brighter: it is black.
BLACK = 12


def hidden_in(frame: HeadFrame) -> tuple[Hidden | None, str]:
    """What was made unreadable of a frame, and why that cannot be told, or an empty text."""
    try:
        hidden = hidden_of(frame.rgb_jpeg)
    except SensorError as e:
        return None, str(e)
    left, rgb = (cells_of(i.height_px, i.width_px) for i in (frame.head.left.intrinsics, frame.head.rgb.intrinsics))
    if hidden is not None and (hidden.left.shape, hidden.right.shape, hidden.rgb.shape) != (left, left, rgb):
        return None, "what is hidden in the pictures is noted for other sizes"
    return hidden, ""


def unusable(frame: HeadFrame) -> str:
    """Why a head's pictures cannot be used, or an empty text."""
    i = frame.head.left.intrinsics
    for side, picture in (("left", frame.left), ("right", frame.right)):
        if picture.shape != (i.height_px, i.width_px):
            return f"{side} picture is {picture.shape}, expected {(i.height_px, i.width_px)}"
        if int(picture.max(initial=0)) < BLACK:
            return f"{side} picture is black"
    return ""


def picture_of(frame: HeadFrame) -> Rgb | None:
    """The upright RGB picture, or None when its bytes are no picture of the camera's size."""
    if not frame.rgb_jpeg:
        return None
    bgr = cv2.imdecode(np.frombuffer(frame.rgb_jpeg, np.uint8), cv2.IMREAD_COLOR)
    i = frame.head.rgb.intrinsics
    if bgr is None or bgr.shape[:2] != (i.height_px, i.width_px):
        return None
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    turn = _TURNS[frame.head.rgb.upright_turns % 4]
    return np.asarray(rgb if turn is None else cv2.rotate(rgb, turn), np.uint8)
