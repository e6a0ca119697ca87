"""From boxes in the RGB picture to places at the shelf, through stereo depth and the pose fixed at capture."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.model.geometry import Array, apply, inverse
from shelfscan.model.imaging import Camera, FrameBundle, Head, HeadFrame
from shelfscan.model.store import Gondola, Store
from shelfscan.perception.before import SCALE, foreground
from shelfscan.perception.hidden import Hidden, Mask, pixels_of
from shelfscan.perception.stereo import depth_map
from shelfscan.perception.upright import to_sensor, to_upright, upright_size

#: Stereo points are gathered on the RGB picture at this fraction of its resolution.
GRID = 4
#: What may stand before the front plane and still be matched by stereo.
BEFORE_M = 0.35
BEHIND_M = 0.12


@dataclass(frozen=True)
class FaceView:
    """One head's view of one gondola face.

    ``depth``: (h/GRID, w/GRID) float32 metres along the RGB optical axis on the upright picture, NaN where unknown;
    ``points_face``: (N, 3) float32 what stereo measured, in the face frame; ``valid_fraction``: of what was not made
    unreadable. ``before``: as ``depth``, but coarse, from right before the camera on and with bare surfaces filled (see
    `foreground`): what hides the shelf. ``hidden``: as ``depth``, True where the RGB picture was made unreadable (a person).
    """

    head: Head
    gondola: Gondola
    T_face_rgb: Array
    T_map_face: Array
    depth: NDArray[np.float32]
    points_face: NDArray[np.float32]
    valid_fraction: float
    before: NDArray[np.float32]
    hidden: Mask

    def hidden_share(self, box_px: tuple[float, float, float, float]) -> float:
        """How much of a box of upright RGB pixels was made unreadable, 0..1; 1 for a box outside the picture."""
        x0, y0, x1, y1 = box_px
        part = self.hidden[int(max(0, y0)) // GRID : math.ceil(y1 / GRID), int(max(0, x0)) // GRID : math.ceil(x1 / GRID)]
        return float(part.mean()) if part.size else 1.0

    def moved(self, T: Array) -> FaceView:
        """The same view when face points ``p`` as measured truly lie at ``T p``."""
        points = apply(T, self.points_face.astype(np.float64)).astype(np.float32)
        return replace(self, T_face_rgb=T @ self.T_face_rgb, points_face=points)

    @property
    def eye_face_m(self) -> Array:
        """The RGB optical centre in the face frame."""
        return self.T_face_rgb[:3, 3]

    def to_pixels(self, points_face: Array) -> Array:
        """Face points (..., 3) to upright RGB pixels (..., 2)."""
        camera = self.head.rgb
        return to_upright(camera.intrinsics.project(apply(inverse(self.T_face_rgb), points_face)), camera)

    def to_face(self, pixel: tuple[float, float], depth_m: float) -> Array:
        """An upright RGB pixel at a depth to a point in the face frame."""
        camera = self.head.rgb
        uv = to_sensor(np.array(pixel, dtype=np.float64), camera)
        return apply(self.T_face_rgb, camera.intrinsics.deproject(uv, np.asarray(depth_m)))


def facing_gondola(store: Store, T_map_camera: Array) -> Gondola | None:
    """The face the camera looks at: before it, within its length, the nearest one; None when there is none."""
    best: tuple[float, Gondola] | None = None
    for _, gondola in store.gondolas():
        T = inverse(gondola.face.matrix()) @ T_map_camera
        x, y = float(T[0, 3]), float(T[1, 3])
        if -0.5 <= x <= gondola.length_m + 0.5 and -2.0 < y < -0.3 and T[1, 2] > 0.7 and (best is None or -y < best[0]):
            best = (-y, gondola)
    return best[1] if best else None


def view_of(bundle: FrameBundle, frame: HeadFrame, store: Store, hidden: Hidden | None = None) -> FaceView | None:
    """The face a head sees with its depth on the RGB picture; None when it looks at no face.

    ``hidden``: what was made unreadable of the frame's pictures; there is no depth there.
    """
    head = frame.head
    T_map_rgb = bundle.T_map_base @ head.rgb.T_base_optical
    gondola = facing_gondola(store, T_map_rgb)
    if gondola is None:
        return None
    T_map_face = gondola.face.matrix()
    T_face_left = inverse(T_map_face) @ bundle.T_map_base @ head.left.T_base_optical
    standoff = -float(T_face_left[1, 3])
    depth = depth_map(head, frame.left, frame.right, max(0.3, standoff - BEFORE_M), standoff + gondola.depth_m + BEHIND_M)
    judged = np.ones(depth.shape, bool)
    if hidden is not None and hidden.any:
        gone = _unreadable(head, hidden, depth, 1)
        depth[gone], judged = np.nan, ~gone
    sub = depth[::2, ::2]
    rows, cols = np.nonzero(np.isfinite(sub))
    z = sub[rows, cols].astype(np.float64)
    points = head.left.intrinsics.deproject(np.stack([cols * 2.0, rows * 2.0], axis=-1), z)
    return FaceView(
        head,
        gondola,
        inverse(T_map_face) @ T_map_rgb,
        T_map_face,
        _on_rgb(head, points),
        apply(T_face_left, points).astype(np.float32),
        # A person who fills the picture is no fault of the pair.
        float(np.isfinite(depth[judged]).mean()) if judged.any() else 1.0,
        _foreground(head, frame, standoff + gondola.depth_m + BEHIND_M, hidden),
        _hidden_grid(head.rgb, hidden),
    )


def _unreadable(head: Head, hidden: Hidden, depth: NDArray[np.float32], scale: int) -> Mask:
    """Pixels of the left picture, reduced by ``scale``, that are hidden or were matched with hidden ones of the right."""
    h, w = head.left.intrinsics.height_px, head.left.intrinsics.width_px
    rows, columns = depth.shape
    left, right = (pixels_of(m, h, w)[::scale, ::scale][:rows, :columns] for m in (hidden.left, hidden.right))
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = np.nan_to_num(head.left.intrinsics.fx_px * head.baseline_m / scale / depth)
    matched = np.clip(np.arange(columns) - shift, 0, columns - 1).astype(np.int64)
    return np.asarray(left | np.take_along_axis(right, matched, axis=1))


def _hidden_grid(camera: Camera, hidden: Hidden | None) -> Mask:
    w, h = upright_size(camera)
    rows, columns = math.ceil(h / GRID), math.ceil(w / GRID)
    if hidden is None:
        return np.zeros((rows, columns), bool)
    i = camera.intrinsics
    turned = np.rot90(pixels_of(hidden.rgb, i.height_px, i.width_px), camera.upright_turns)
    # Hidden when any of its pixels is; the corners tell, for a cell of the mask is larger.
    bottom, right = (np.minimum(np.arange(n) * GRID + GRID - 1, end - 1) for n, end in ((rows, h), (columns, w)))
    return np.asarray(turned[::GRID, ::GRID] | turned[np.ix_(bottom, right)])


def _foreground(head: Head, frame: HeadFrame, far_m: float, hidden: Hidden | None) -> NDArray[np.float32]:
    depth = foreground(head, frame.left, frame.right, far_m)
    if hidden is not None and hidden.any:
        depth[_unreadable(head, hidden, depth, SCALE)] = np.nan
    rows, cols = np.nonzero(np.isfinite(depth))
    middle = (SCALE - 1) / 2  # of the pixels that were made one
    pixels = np.stack([SCALE * cols + middle, SCALE * rows + middle], axis=-1)
    return _on_rgb(head, head.left.intrinsics.deproject(pixels, depth[rows, cols].astype(np.float64)))


def _on_rgb(head: Head, points: Array) -> NDArray[np.float32]:
    """Depth of stereo points (N, 3) of the left camera as the RGB camera sees them, the nearest, on a coarse upright grid."""
    local = apply(inverse(head.rgb.T_base_optical) @ head.left.T_base_optical, points)
    px = to_upright(head.rgb.intrinsics.project(local), head.rgb)
    w, h = upright_size(head.rgb)
    out = np.full((math.ceil(h / GRID), math.ceil(w / GRID)), np.inf, np.float32)
    u, v = (px[:, 0] / GRID).astype(np.int64), (px[:, 1] / GRID).astype(np.int64)
    ok = (px[:, 0] >= 0) & (px[:, 1] >= 0) & (u < out.shape[1]) & (v < out.shape[0])
    np.minimum.at(out.reshape(-1), v[ok] * out.shape[1] + u[ok], local[ok, 2].astype(np.float32))
    # One stereo sample covers a little more than a cell: close the pin-holes, not the holes.
    closed = cv2.erode(out, np.ones((2, 2), np.uint8))
    out = np.where(np.isinf(out), closed, out)
    out[np.isinf(out)] = np.nan
    return out


def box_depth(depth: NDArray[np.float32], box_px: tuple[float, float, float, float]) -> tuple[float, float]:
    """Depth of the front of what a box shows, metres, and a confidence in 0..1 (0 and NaN when unknown).

    The middle of the box is looked at; of two surfaces in it the nearer is taken when it fills enough of it.
    """
    x0, y0, x1, y1 = (v / GRID for v in box_px)
    cx, cy, hw, hh = (x0 + x1) / 2, (y0 + y1) / 2, 0.32 * (x1 - x0), 0.36 * (y1 - y0)
    a, b = int(max(0, cy - hh)), int(cy + hh) + 1
    c, d = int(max(0, cx - hw)), int(cx + hw) + 1
    patch = depth[a:b, c:d]
    values = patch[np.isfinite(patch)]
    if len(values) < 4 or patch.size == 0:
        return float("nan"), 0.0
    share = len(values) / patch.size
    front = float(np.percentile(values, 20))
    near = values[np.abs(values - front) < 0.025]
    return float(np.median(near)), float(min(1.0, share) * min(1.0, 0.4 + len(near) / len(values)))


def rounded(p: Array) -> tuple[float, float, float]:
    """A place to a tenth of a millimetre, as scans keep it."""
    return (round(float(p[0]), 4), round(float(p[1]), 4), round(float(p[2]), 4))
