"""How far back the front-most surface stands, all over a gondola face: what counting rests on besides boxes."""

from __future__ import annotations

import numpy as np

from shelfscan.model.scan import FRONT_X_M, FRONT_Z_M, UNKNOWN_MM, FrontGrid
from shelfscan.perception.localise import FaceView

#: Of the points in a cell, the one with this share before it stands for the front-most surface: a few stray
#: matches before it don't count, a narrow item before a far back does.
FRONT_SHARE = 0.2
#: Fewer points in a cell say nothing.
MIN_POINTS = 4
#: What stands further before the front plane than this is not on the shelf.
BEFORE_M = 0.08


def front_grid(view: FaceView) -> FrontGrid:
    """Depth behind the front plane per cell, each stereo point binned where it *is*, not where it is seen through.

    At an oblique ray a point deep in the shelf lies beside the place of the front plane it is seen through; binning
    by true position keeps neighbouring columns apart.
    """
    p = view.points_face
    inside = (p[:, 1] > -BEFORE_M) & (p[:, 1] < view.gondola.depth_m + 0.05) & (p[:, 2] > 0) & (p[:, 2] < view.gondola.height_m)
    inside &= (p[:, 0] > -FRONT_X_M) & (p[:, 0] < view.gondola.length_m + FRONT_X_M)
    p = p[inside]
    eye_x, _, eye_z = (round(float(v), 4) for v in view.eye_face_m)
    head, gondola_id = view.head.name, view.gondola.gondola_id
    if not len(p):
        return FrontGrid(head, gondola_id, 0, 0, eye_x, eye_z, np.zeros((0, 0), np.int16))
    columns = np.floor(p[:, 0] / FRONT_X_M).astype(np.int64)
    rows = np.floor(p[:, 2] / FRONT_Z_M).astype(np.int64)
    c0, r0 = int(columns.min()), int(rows.min())
    shape = (int(rows.max()) - r0 + 1, int(columns.max()) - c0 + 1)
    cell = (rows - r0) * shape[1] + (columns - c0)
    order = np.lexsort((p[:, 1], cell))
    cells, first, count = np.unique(cell[order], return_index=True, return_counts=True)
    front = p[order, 1][first + (FRONT_SHARE * count).astype(np.int64)]
    known = count >= MIN_POINTS
    depth = np.full(shape[0] * shape[1], UNKNOWN_MM, np.int16)
    depth[cells[known]] = np.round(front[known] * 1000).astype(np.int16)
    return FrontGrid(head, gondola_id, c0, r0, eye_x, eye_z, depth.reshape(shape))
