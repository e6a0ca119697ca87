"""How a product is turned: its crop turned by quarters, held against the SKU's own reference pictures.

Only crops in doubt are asked, so this costs little. What the gallery has no picture of can't be told from a stranger: that
answer is `OTHER_SIDE`, and who asks must know by other means (its place, its size) that it is no stranger.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import numpy as np

from shelfscan.model.detections import Candidate
from shelfscan.model.imaging import Rgb
from shelfscan.perception.recognise import Recogniser

#: A crop is in doubt when its SKU and every other score less than this.
DOUBT_BELOW = 0.5
#: A turned crop is its SKU from this cosine on, when it is so much nearer than the crop as it is.
TURNED_LEAST, TURNED_MARGIN = 0.6, 0.15


class Turn(str, Enum):
    """How a product stands before the camera; the quarter turns are clockwise as seen in the picture."""

    __str__ = str.__str__

    UPRIGHT = "upright"
    RIGHT = "right"
    UPSIDE_DOWN = "upside_down"
    LEFT = "left"
    OTHER_SIDE = "other_side"


#: Turned back by so many quarters (anticlockwise, as `numpy.rot90` counts) a crop shows its product upright.
_BACK = {Turn.UPRIGHT: 0, Turn.RIGHT: 1, Turn.UPSIDE_DOWN: 2, Turn.LEFT: 3}


def in_doubt(candidates: Sequence[Candidate]) -> bool:
    """Whether a crop looks like nothing in the gallery."""
    return all(c.score < DOUBT_BELOW for c in candidates)


def turns(recogniser: Recogniser, crops: Sequence[Rgb], skus: Sequence[str]) -> list[Turn]:
    """How each crop's product, known to be of the SKU named for it, is turned."""
    if not len(crops):
        return []
    cosines = np.array(
        [recogniser.likeness([np.ascontiguousarray(np.rot90(c, k)) for c in crops], skus) for k in _BACK.values()]
    )
    out = []
    for row in cosines.T:
        first, second = np.argsort(-row)[:2]
        known = row[first] >= TURNED_LEAST and row[first] - row[second] >= TURNED_MARGIN
        out.append(list(_BACK)[int(first)] if known else Turn.OTHER_SIDE)
    return out
