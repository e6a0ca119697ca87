"""People in a capture are found and made unreadable before anybody else sees it.

Two kinds of things say where somebody is, and any is enough. *Depth*: a robot knows where the shelf is, so whatever stands
before its front plane and is not small is hidden, whether it looks like a person or not; this needs no learning and misses
nobody for their looks. *Networks* find people also where there is no depth, or beyond the shelf. A false find costs the look
at the bins behind it (they are UNSEEN, never empty); a missed person cannot be taken back, so all err on that side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.errors import SensorError
from shelfscan.model.geometry import Array, apply, inverse
from shelfscan.model.imaging import Camera, FrameBundle, Gray, Head, HeadFrame, Rgb
from shelfscan.model.store import Gondola, Store
from shelfscan.perception.before import SCALE, foreground
from shelfscan.perception.hidden import CELL_PX, Hidden, Mask, cells_of, hidden_of, pixels_of, with_hidden
from shelfscan.perception.localise import BEHIND_M, facing_gondola
from shelfscan.perception.stereo import textured
from shelfscan.perception.upright import to_sensor, upright_size
from shelfscan.ports import PeopleFinder

JPEG_QUALITY = 90
#: Nearer than this before the front plane stands no product. Above the floor so far: the floor is before every shelf.
BEFORE_M = 0.10
FLOOR_M = 0.07
#: Beyond a face's ends there are walls and other shelves, of which depth alone says nothing.
ENDS_M = 0.3
#: How far nearer than the pose says a shelf's front may be (a pose is some 3 cm wrong, seldom 10), and what is taken for that
#: front: a plane so thick, along so many of the columns that show anything so near. Nobody is as flat and as wide.
NEARER_M, PLANE_M, PLANE_SHARE = 0.15, 0.03, 0.6
PLANE_PX = 3
#: What is smaller is a stray match or a sign, not a part of a person. Openings in pixels of the reduced pair.
LEAST_M2 = 0.004
OPEN_PX = 7
#: Around what was found, pixels of the reduced pair: an outline by depth is this coarse.
AROUND_PX = 11
#: Who is cut by the border of the left picture is taken to go on so far beyond it, pixels of the reduced pair.
BORDER_PX = 112
#: So near to the columns that have no partner something ends because of them.
UNMATCHED_PX = 14
#: Around the shelf's own depth so far is still shelf. A part that a network saw is none of anybody when so much of it is shelf,
#: unless so much of it is before the shelf.
SHELF_M = 0.06
SHELF_SHARE, NEAR_SHARE = 0.25, 0.1
#: A part of a person that fills so much of a picture tells in which columns of all pictures somebody stands.
LARGE_SHARE = 0.02
#: What stands before a shelf and shows so much of its height is taken for a person whatever it looks like.
TALL_M = 0.7
#: Beside what the pair sees, so many cells are somebody.
STRIP_CELLS = 4
#: So much of an RGB picture's width at either side is looked at once more, mirrored at the border.
SIDE_SHARE = 0.2
#: How far somebody's bearing may differ from camera to camera (3 cm between them, at 0.4 m), and a little more.
PARALLAX_RAD = math.radians(4.0)
BEARINGS_RAD = np.radians(np.arange(-180.0, 180.0, 0.25))
#: Cells added around everything that is hidden.
MARGIN_CELLS = 1
#: A hidden area keeps so many colours along the longer side of the whole picture: of a face at arm's length, three or four.
COLOURS = 12


@dataclass(frozen=True, eq=False)
class _Found:
    """Cells of one camera's picture: where somebody is, which of them are before the shelf by depth, what the networks saw.

    ``bodies``: what depth, or a network that looks for more than faces, found. ``cut``: slivers at a side of an RGB picture.
    """

    mask: Mask
    near: Mask
    seen: Mask
    bodies: Mask
    camera: Camera
    cut: Mask


#: With so much of a picture hidden the look is worth another: whoever it was may have gone on, a false alarm seldom comes back
#: with the next picture.
MUCH_HIDDEN = 0.25


def most_hidden(bundle: FrameBundle) -> float:
    """The share of the RGB picture that is hidden of the head that has most of it hidden, 0..1."""
    marks = [hidden_of(f.rgb_jpeg) for f in bundle.frames]
    return max((float(m.rgb.mean()) for m in marks if m is not None), default=0.0)


def less_hidden(seen: FrameBundle, again: Callable[[], FrameBundle]) -> FrameBundle:
    """The look, or another one when too much of this is hidden and less of the other."""
    return min(seen, again(), key=most_hidden) if most_hidden(seen) > MUCH_HIDDEN else seen


class PrivacyFilter:
    """Makes the people of captures unreadable. Not safe to use from several threads at once."""

    def __init__(self, store: Store, finders: Sequence[PeopleFinder]) -> None:
        """Without ``finders``: by depth alone."""
        self._store, self._finders = store, tuple(finders)

    @property
    def description(self) -> str:
        """Who looks for people, for reports."""
        return "; ".join(["depth", *(f.description for f in self._finders)])

    def apply(self, bundle: FrameBundle, *, believe_marks: bool = False) -> FrameBundle:
        """The capture with the people in it made unreadable and every picture marked as looked at (`hidden_of`).

        Pictures without people keep every pixel. ``believe_marks``: what is marked already is left as it is; for recordings,
        never for a camera's pictures. Raises `SensorError` where a picture cannot be looked at: it must not be passed on then.
        """
        if not np.isfinite(bundle.T_map_base).all():
            raise SensorError("the pose is not finite: nobody can be looked for by depth")
        if believe_marks and all(hidden_of(f.rgb_jpeg) is not None for f in bundle.frames):
            return bundle
        try:
            found = [self._found(bundle, f) for f in bundle.frames]
            standing = np.zeros(len(BEARINGS_RAD), bool)
            for (left, right, rgb), tall in found:
                standing |= bearings(left) | bearings(right) | bearings(rgb) | beside_stereo(rgb, left) | tall
            masks = [Hidden(*(_widened(p.mask | columns_of(standing, p)) for p in parts)) for parts, _ in found]
            return replace(bundle, frames=tuple(hide(f, m) for f, m in zip(bundle.frames, masks, strict=True)))
        except cv2.error as e:
            raise SensorError(f"nobody can be looked for in the pictures: {str(e).strip()}") from e

    def _found(self, bundle: FrameBundle, frame: HeadFrame) -> tuple[list[_Found], NDArray[np.bool_]]:
        """What was found in left, right and RGB; and in which of `BEARINGS_RAD` something tall stands before the shelf."""
        head = frame.head
        for side, picture, camera in (("left", frame.left, head.left), ("right", frame.right, head.right)):
            if picture.shape != _shape(camera):
                raise SensorError(f"{head.name}: the {side} picture is {picture.shape}, expected {_shape(camera)}")
        seen, bodies, cut = self._seen(frame)
        gondola = facing_gondola(self._store, bundle.T_map_base @ head.rgb.T_base_optical)
        if gondola is None:
            none = [np.zeros_like(m) for m in seen]
            alone = [
                _Found(m, n, m, b, c, s)
                for (m, c), b, n, s in zip(_cameras(frame, seen), bodies, none, [*none[:2], cut], strict=True)
            ]
            return alone, np.zeros(len(BEARINGS_RAD), bool)
        T_face_left = inverse(gondola.face.matrix()) @ bundle.T_map_base @ head.left.T_base_optical
        near, behind, tall = by_depth(frame, gondola, T_face_left)
        found = []
        slivers = [*(np.zeros_like(m) for m in seen[:2]), cut]
        looked = zip(_cameras(frame, seen), bodies, near, behind, slivers, strict=True)
        for (saw, camera), body, before, shelf, sliver in looked:
            people = confirmed(saw, before, shelf)
            found.append(_Found(people | before, before, people, (people & body) | before, camera, sliver))
        return found, tall

    def _seen(self, frame: HeadFrame) -> tuple[list[Mask], list[Mask], Mask]:
        """Cells where the networks see people, and those of networks that look for more than faces: left, right, RGB.
        And those of whom a side of the RGB picture cuts."""
        head = frame.head
        # A quarter of the size is decoded straight from the JPEG, in a part of the time.
        jpeg = np.frombuffer(frame.rgb_jpeg, np.uint8)
        small = cv2.imdecode(jpeg, cv2.IMREAD_REDUCED_COLOR_4) if len(jpeg) else None
        if small is None:
            raise SensorError(f"{head.name}: the RGB picture cannot be decoded, so nobody can be looked for in it")
        i = head.rgb.intrinsics
        pictures: list[tuple[Rgb, Camera, tuple[int, ...]]] = []
        for camera, gray in ((head.left, frame.left), (head.right, frame.right)):
            half = cv2.resize(gray, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            pictures.append((np.repeat(np.asarray(half, np.uint8)[..., None], 3, axis=-1), camera, gray.shape))
        pictures.append((np.ascontiguousarray(small[..., ::-1], np.uint8), head.rgb, (i.height_px, i.width_px)))
        both = [self._cells(picture, camera, shape) for picture, camera, shape in pictures]
        return [seen for seen, _ in both], [bodies for _, bodies in both], self._cut(*pictures[-1])

    def _cut(self, picture: Rgb, camera: Camera, shape: tuple[int, ...]) -> Mask:
        """Cells of whoever a side of the RGB picture cuts so that only a sliver is left.

        An elbow alone looks like nobody. Mirrored at the border it is whole again, as wide as twice of it.
        """
        upright = np.rot90(picture, camera.upright_turns)
        out = np.zeros(upright.shape[:2], bool)
        wide = int(SIDE_SHARE * upright.shape[1])
        if wide > 1:
            left, right = upright[:, :wide], upright[:, -wide:]
            both = np.ascontiguousarray(np.concatenate([left[:, ::-1], left, right, right[:, ::-1]], axis=1))
            for finder in self._finders:
                if getattr(finder, "faces_only", False):
                    continue
                seen = finder.find(both).astype(np.uint8)
                seen = np.asarray(cv2.resize(seen, both.shape[1::-1], interpolation=cv2.INTER_NEAREST), np.uint8)
                out[:, :wide] |= _at_border(seen[:, : 2 * wide])[:, wide:]
                out[:, -wide:] |= _at_border(seen[:, 2 * wide :])[:, :wide]
        return _to_cells(np.rot90(out, -camera.upright_turns), shape[0], shape[1])

    def _cells(self, picture: Rgb, camera: Camera, shape: tuple[int, ...]) -> tuple[Mask, Mask]:
        out, bodies = (np.zeros(cells_of(shape[0], shape[1]), bool) for _ in range(2))
        upright = np.ascontiguousarray(np.rot90(picture, camera.upright_turns))
        for finder in self._finders:
            cells = _to_cells(np.rot90(finder.find(upright), -camera.upright_turns), shape[0], shape[1])
            out |= cells
            if not getattr(finder, "faces_only", False):
                bodies |= cells
        return out, bodies


def _cameras(frame: HeadFrame, masks: Sequence[Mask]) -> list[tuple[Mask, Camera]]:
    return list(zip(masks, (frame.head.left, frame.head.right, frame.head.rgb), strict=True))


def _at_border(seen: NDArray[np.uint8]) -> Mask:
    """Of a side and its mirror image the parts that reach the border between them, on both sides of it as on either."""
    _, labels = cv2.connectedComponents(seen, connectivity=8)
    middle = seen.shape[1] // 2
    reach = np.unique(labels[:, middle - 1 : middle + 1])
    out = np.asarray(np.isin(labels, reach[reach > 0]))
    return np.asarray(out | out[:, ::-1])


def confirmed(seen: Mask, near: Mask, behind: Mask) -> Mask:
    """Of what the networks saw, all parts but those that depth shows to be the shelf itself.

    A part goes as a whole: a person's may hold stray matches, and a hand may be in the shelf.
    """
    count, parts = cv2.connectedComponents(seen.astype(np.uint8), connectivity=8)
    labels = np.asarray(parts, np.int64).ravel()
    size, shelf, before = (np.bincount(labels, weights=w.ravel(), minlength=count) for w in (seen, behind, near))
    keep = (shelf < SHELF_SHARE * size) | (before > NEAR_SHARE * size)
    keep[0] = False
    return np.asarray(keep[labels].reshape(seen.shape))


def bearings(found: _Found) -> NDArray[np.bool_]:
    """In which of `BEARINGS_RAD` somebody stands before the shelf by one picture: those of every part that is not small.

    Only parts that both depth and the networks found tell of other pictures: what neither is sure of hides itself alone.
    """
    turns = found.camera.upright_turns
    upright = np.ascontiguousarray(np.rot90(found.mask, turns)).astype(np.uint8)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(upright, connectivity=8)
    labels = np.asarray(parts, np.int64).ravel()
    before, seen = (np.bincount(labels, weights=np.rot90(m, turns).ravel(), minlength=count) for m in (found.near, found.seen))
    out = np.zeros(len(BEARINGS_RAD), bool)
    at = _column_bearings(found)
    for k in range(1, count):
        x, _, w, _, area = (int(n) for n in stats[k])
        if area >= LARGE_SHARE * upright.size and min(before[k], seen[k]) > NEAR_SHARE * area:
            out |= _between(float(at[x]), float(at[x + w]))
    return out


def _between(a_rad: float, b_rad: float, more_rad: float = PARALLAX_RAD) -> NDArray[np.bool_]:
    low, high = sorted((a_rad, b_rad))
    return np.asarray((low - more_rad <= BEARINGS_RAD) & (high + more_rad >= BEARINGS_RAD))


def _ends(borders_rad: Array, columns: Mask) -> tuple[float, float]:
    """The first and the last bearing of columns, whose borders these are."""
    ends = borders_rad[:-1][columns], borders_rad[1:][columns]
    return float(np.min(ends)), float(np.max(ends))


def beside_stereo(rgb: _Found, left: _Found) -> NDArray[np.bool_]:
    """Bearings of the strips at the sides of an RGB picture that the pair does not see, where somebody was found in them.

    No depth speaks for or against anybody there, and nothing is counted there: a whole strip is given for a few cells
    of a body, and the columns beside it that the body reaches into. A face alone hides itself: prints on packs look like
    faces, and one would cost the bins of a whole strip.
    """
    at, pair = _column_bearings(rgb), _column_bearings(left)
    turns = rgb.camera.upright_turns
    bodies, slivers = (np.ascontiguousarray(np.rot90(m, turns)).astype(np.uint8) for m in (rgb.bodies, rgb.cut))
    middle = (at[:-1] + at[1:]) / 2
    out = np.zeros(len(BEARINGS_RAD), bool)
    for strip in (middle < pair.min(), middle > pair.max()):
        # A mirror image shows how far a sliver reaches at most: nothing is added to that.
        for seen, more_rad in ((bodies, PARALLAX_RAD), (slivers, 0.0)):
            if seen[:, strip].sum() >= STRIP_CELLS:
                _, parts = cv2.connectedComponents(seen, connectivity=8)
                inside = np.unique(parts[:, strip])
                reach = np.asarray(np.isin(parts, inside[inside > 0]).any(axis=0))
                out |= _between(*_ends(at, reach), more_rad) | _between(*_ends(at, strip), 0.0)
    return out


def columns_of(standing: NDArray[np.bool_], found: _Found) -> Mask:
    """The cells of a picture in whose upright columns somebody stands.

    People are upright and so are the heads, one above the other: what one picture missed of somebody another one found, and
    a head is above its body. It costs what stands above and below them.
    """
    turns = found.camera.upright_turns
    upright = np.zeros_like(np.rot90(found.mask, turns))
    at = _column_bearings(found)
    for x in range(upright.shape[1]):
        low, high = sorted((float(at[x]), float(at[x + 1])))
        first, last = np.searchsorted(BEARINGS_RAD, (low, high))
        upright[:, x] = standing[max(0, first - 1) : last + 1].any()
    return np.ascontiguousarray(np.rot90(upright, -turns))


def _column_bearings(found: _Found) -> Array:
    """Bearing about the base's z axis, from the camera, of the borders of the upright picture's columns of cells, radians."""
    camera = found.camera
    w, h = upright_size(camera)
    columns = np.rot90(found.mask, camera.upright_turns).shape[1]
    # Cells begin at the sensor's corner, which need not be the upright picture's: at most a cell off, within the margin.
    edges = np.minimum(np.arange(columns + 1) * CELL_PX, w - 1).astype(np.float64)
    pixels = to_sensor(np.stack([edges, np.full(columns + 1, (h - 1) / 2)], axis=-1), camera)
    rays = camera.intrinsics.deproject(pixels, np.ones(columns + 1)) @ camera.T_base_optical[:3, :3].T
    return np.asarray(np.arctan2(rays[:, 1], rays[:, 0]))


def by_depth(frame: HeadFrame, gondola: Gondola, T_face_left: Array) -> tuple[list[Mask], list[Mask], NDArray[np.bool_]]:
    """Cells of left, right and RGB that show what stands before the shelf's front plane, those that show shelf or floor, and in
    which of `BEARINGS_RAD` something stands that is as tall as a person."""
    head = frame.head
    far_m = max(0.5, -float(T_face_left[1, 3])) + gondola.depth_m + BEHIND_M
    depth = foreground(head, frame.left, frame.right, far_m)
    i = head.left.intrinsics
    middle = (SCALE - 1) / 2  # of the pixels that were made one
    u, v = (SCALE * np.arange(-BORDER_PX, n + BORDER_PX, dtype=np.float32) + middle for n in (depth.shape[1], depth.shape[0]))
    # Where a pixel's ray leads in the face frame: linear in its column and row, so one outer sum a coordinate.
    turn, inside = T_face_left[:3, :3].astype(np.float32), slice(BORDER_PX, -BORDER_PX)
    columns, rows = (u[inside] - i.cx_px) / i.fx_px, (v[inside] - i.cy_px) / i.fy_px
    x, y, z = (
        depth * ((turn[k, 0] * columns)[None] + (turn[k, 1] * rows + turn[k, 2])[:, None]) + np.float32(T_face_left[k, 3])
        for k in range(3)
    )
    with np.errstate(invalid="ignore"):
        along = (x > -ENDS_M) & (x < gondola.length_m + ENDS_M)
        y = y + np.float32(nearer_by(np.where(along & (z > FLOOR_M) & (z < gondola.height_m), y, np.nan)))
        near = (y < -BEFORE_M) & (z > FLOOR_M) & along
        behind = (y > -SHELF_M) & (y < gondola.depth_m + SHELF_M) & along & (z < gondola.height_m + SHELF_M)
        # A plain surface has the depth of its borders, which may be the shelf's: only what could be matched is sure.
        behind &= textured(frame.left)[::SCALE, ::SCALE][: depth.shape[0], : depth.shape[1]]
        behind |= (np.abs(z) < FLOOR_M) & along
    f_b = i.fx_px / SCALE * head.baseline_m
    distance, parts = _outlines(near, depth, i.fx_px / SCALE, f_b)
    tall = np.zeros(len(BEARINGS_RAD), bool)
    for r, c in parts:
        low, high = np.percentile(z[r, c], (2, 98))
        if high - low >= TALL_M:
            rays = np.stack([columns[c], rows[r], np.ones(len(r))], axis=-1) @ head.left.T_base_optical[:3, :3].T
            at = np.arctan2(rays[:, 1], rays[:, 0])
            tall |= _between(float(at.min()), float(at.max()))
    # Whoever is cut by the left picture's border goes on beyond it, where the two others may see them.
    distance = np.pad(distance, BORDER_PX, mode="edge")
    shelf = np.zeros_like(depth)  # every other pixel fills the cells as well
    shelf[::2, ::2] = np.where(behind, depth, 0.0)[::2, ::2]
    shelf = np.pad(shelf, BORDER_PX)
    return _on_all(head, distance, f_b, u, v, AROUND_PX), _on_all(head, shelf, f_b, u, v, 1), tall


def nearer_by(y: NDArray[np.float32]) -> float:
    """How much nearer than the pose says the shelf's front stands, metres: 0 where no plane along the whole picture says so.

    ``y``: (h, w) into the shelf from its front plane, by the pose, NaN where unknown. Rails and faced-up goods make a plane
    that nearly every column shows. A pose that is wrong by more than `BEFORE_M` would otherwise hide whole shelves.
    """
    shown = np.isfinite(y) & (y > -NEARER_M) & (y < NEARER_M)
    columns = shown.any(axis=0)
    if columns.mean() < PLANE_SHARE:
        return 0.0
    for front in np.arange(-NEARER_M, -PLANE_M, PLANE_M / 3):
        plane = (shown & (y >= front) & (y < front + PLANE_M)).sum(axis=0) >= PLANE_PX
        if plane.sum() >= PLANE_SHARE * columns.sum():
            return float(-(front + PLANE_M / 2))
    return 0.0


def _on_all(head: Head, distance: NDArray[np.float32], f_b: float, u: Array, v: Array, around_px: int) -> list[Mask]:
    """Cells of left, right and RGB on which the pixels with a distance fall, of the reduced left picture with its border."""
    i = head.left.intrinsics
    h, w = _shape(head.left)
    rows, columns = (n - 2 * BORDER_PX for n in distance.shape)
    r, c = np.nonzero(distance > 0)
    if not len(r):
        return [np.zeros(cells_of(*shape), bool) for shape in ((h, w), (h, w), _shape(head.rgb))]
    metres = distance[r, c].astype(np.float64)
    shifted = np.round(c - BORDER_PX - f_b / metres).astype(np.int64)
    around = np.ones((around_px, around_px), np.uint8)
    masks = []
    for to in (c - BORDER_PX, shifted):
        out = np.zeros((rows, columns), np.uint8)
        ok = (to >= 0) & (to < columns) & (r >= BORDER_PX) & (r < BORDER_PX + rows)
        out[r[ok] - BORDER_PX, to[ok]] = 1
        masks.append(_to_cells(cv2.dilate(out, around).astype(bool), h, w))
    points = i.deproject(np.stack([u[c], v[r]], axis=-1).astype(np.float64), metres)
    return [*masks, _on_rgb(head, points, wide=around_px > 1)]


def _outlines(
    near: Mask, depth: NDArray[np.float32], focal_px: float, f_b: float
) -> tuple[NDArray[np.float32], list[tuple[NDArray[np.int64], NDArray[np.int64]]]]:
    """Metres to what is as large as a part of a person, 0 elsewhere: filled to its convex outline, for plain cloth has holes.
    And the rows and columns of each such part's own pixels.

    The left picture's first columns have no partner in the right one: who reaches up to them goes on through them.
    """
    opened = cv2.morphologyEx(near.astype(np.uint8), cv2.MORPH_OPEN, np.ones((OPEN_PX, OPEN_PX), np.uint8))
    count, found, stats, _ = cv2.connectedComponentsWithStats(opened)
    out = np.zeros(depth.shape, np.float32)
    parts = []
    for k in range(1, count):
        x, y, w, h = (int(n) for n in stats[k, :4])
        part = np.asarray(found[y : y + h, x : x + w] == k)
        metres = depth[y : y + h, x : x + w][part]
        if float(np.nansum((metres / focal_px) ** 2)) < LEAST_M2:
            continue
        middle = float(np.nanmedian(metres))
        points = np.argwhere(part)[:, ::-1].astype(np.int32) + np.array([x, y], np.int32)
        shape = np.zeros(depth.shape, np.uint8)
        cv2.fillConvexPoly(shape, cv2.convexHull(points), (1,))
        if x < f_b / middle + UNMATCHED_PX:
            shape[shape[:, x : x + UNMATCHED_PX].any(axis=1), :x] = 1
        out[(shape > 0) & (out == 0)] = middle
        out[y : y + h, x : x + w][part] = metres
        parts.append((points[:, 1].astype(np.int64), points[:, 0].astype(np.int64)))
    return out, parts


def _on_rgb(head: Head, points: Array, wide: bool) -> Mask:
    """Cells of the RGB picture (sensor orientation) that points (N, 3) of the left camera fall on."""
    local = apply(inverse(head.rgb.T_base_optical) @ head.left.T_base_optical, points)
    px = head.rgb.intrinsics.project(local)
    height, width = _shape(head.rgb)
    rows, columns = cells_of(height, width)
    ok = np.isfinite(px).all(axis=1) & (px >= 0).all(axis=1) & (px[:, 0] < width) & (px[:, 1] < height)
    out = np.zeros((rows, columns), np.uint8)
    out[(px[ok, 1] / CELL_PX).astype(np.int64), (px[ok, 0] / CELL_PX).astype(np.int64)] = 1
    if not wide:
        return out.astype(bool)
    # A sample of the reduced pair covers about as much as a cell: close the pin-holes, then as much around as in the pair.
    closed = cv2.morphologyEx(out, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    return cv2.dilate(closed, np.ones((3, 3), np.uint8)).astype(bool)


def hide(frame: HeadFrame, hidden: Hidden) -> HeadFrame:
    """The frame with the hidden cells made unreadable, and the mark that says so. Raises `SensorError`."""
    left, right, jpeg = _unreadable(frame.left, hidden.left), _unreadable(frame.right, hidden.right), frame.rgb_jpeg
    if hidden.rgb.any():
        bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        if bgr is None or cells_of(*bgr.shape[:2]) != hidden.rgb.shape:
            raise SensorError(f"{frame.head.name}: the RGB picture cannot be decoded at its size")
        done, coded = cv2.imencode(
            ".jpg", _unreadable(np.asarray(bgr, np.uint8), hidden.rgb), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        )
        if not done:
            raise SensorError(f"{frame.head.name}: the RGB picture could not be encoded")
        # New from the pixels: no thumbnail or other header of the first one is left in it.
        jpeg = coded.tobytes()
    return replace(frame, left=left, right=right, rgb_jpeg=with_hidden(jpeg, hidden))


def _unreadable(picture: Gray | Rgb, mask: Mask) -> NDArray[np.uint8]:
    """A picture whose hidden cells hold nothing but a few smooth colours; the picture itself where there are none."""
    if not mask.any():
        return picture
    h, w = picture.shape[:2]
    long = max(h, w)
    few = cv2.resize(picture, (max(1, COLOURS * w // long), max(1, COLOURS * h // long)), interpolation=cv2.INTER_AREA)
    smooth = cv2.resize(few, (w, h), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.copyTo(smooth, pixels_of(mask.view(np.uint8), h, w), picture.copy()), np.uint8)


def _shape(camera: Camera) -> tuple[int, int]:
    return camera.intrinsics.height_px, camera.intrinsics.width_px


def _to_cells(seen: Mask, height_px: int, width_px: int) -> Mask:
    """Cells of a picture in which a mask of it, of any resolution, says something."""
    rows, columns = cells_of(height_px, width_px)
    r, c = np.nonzero(seen)
    out = np.zeros((rows, columns), np.uint8)
    scale_y, scale_x = height_px / seen.shape[0] / CELL_PX, width_px / seen.shape[1] / CELL_PX
    # Both ends of what a pixel of the mask covers: it may be larger than a cell.
    for dy in (0.0, 0.5, 0.999):
        for dx in (0.0, 0.5, 0.999):
            y, x = ((r + dy) * scale_y).astype(np.int64), ((c + dx) * scale_x).astype(np.int64)
            out[np.minimum(y, rows - 1), np.minimum(x, columns - 1)] = 1
    return out.astype(bool)


def _widened(mask: Mask) -> Mask:
    side = 2 * MARGIN_CELLS + 1
    return cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)).astype(bool)


__all__ = ["PrivacyFilter", "by_depth", "hide"]
