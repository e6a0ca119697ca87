"""Local features of a crop, and which of them another crop shares in one consistent geometry.

An embedding says what a pack is like as a whole; the print on it says which pack it is. Features are RootSIFT
(Arandjelović and Zisserman, CVPR 2012) on crops brought to one size, because small crops have too few of them
otherwise. Every pair of alike features gives, by its places, scales and orientations, a whole similarity transform (fast
spatial matching, Philbin et al., CVPR 2007); the one that most pairs agree with is refined to an affine one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.model.imaging import Rgb

#: Crops are brought to this longer side.
SIDE_PX = 448
#: The strongest features are kept.
MOST = 400
CONTRAST = 0.02
#: A feature's best counterpart must be this much nearer than its second best (Lowe's ratio).
RATIO = 0.9
#: Packs on a shelf stand upright, as on their reference pictures.
MOST_TURN_RAD = math.radians(40.0)
#: What agrees with a transform: place (plus a share of the distance), orientation, scale (octaves).
NEAR_PX, NEAR_SHARE, NEAR_TURN_RAD, NEAR_OCTAVES = 25.0, 0.12, math.radians(30.0), 0.5
#: ... and with the refined one.
FIT_PX, LOOSER = 14.0, 1.3
#: Features nearer than this are one place: a strong corner gives several.
SAME_PX = 3.0
#: So many references are compared at once; more would only take memory.
TOGETHER = 16
#: Fewer pairs that agree leave no affine transform over.
AFFINE_PAIRS = 4
#: References whose RootSIFT is kept: the packs of a few bays, 0.2 MB each and 80 MB of all at most.
ROOTED_KEPT = 400


@dataclass(frozen=True, eq=False)
class LocalFeatures:
    """N features: ``places_px`` (N, 2), ``sizes_px`` (N,), ``angles_rad`` (N,), ``sift`` (N, 128).

    SIFT's own whole numbers are what is kept: a quarter of the memory, which a gallery of ten thousand pictures needs.
    """

    places_px: NDArray[np.float32]
    sizes_px: NDArray[np.float32]
    angles_rad: NDArray[np.float32]
    sift: NDArray[np.uint8]

    @property
    def descriptors(self) -> NDArray[np.float32]:
        """RootSIFT, unit rows (N, 128)."""
        raw = self.sift.astype(np.float32)
        rooted: NDArray[np.float32] = np.sqrt(raw / np.maximum(raw.sum(axis=1, keepdims=True), 1e-6))
        return rooted

    def __len__(self) -> int:
        return len(self.places_px)


def local_features(crop: Rgb) -> LocalFeatures:
    """The features of a crop (H, W, 3); none of a plain one."""
    gray = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    scale = SIDE_PX / max(gray.shape)
    size = (max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale)))
    gray = cv2.resize(gray, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    sift = cv2.SIFT.create(nfeatures=MOST, contrastThreshold=CONTRAST, enable_precise_upscale=True)
    keypoints, raw = sift.detectAndCompute(gray, None)
    if raw is None or not len(keypoints):
        none = np.zeros(0, np.float32)
        return LocalFeatures(np.zeros((0, 2), np.float32), none, none, np.zeros((0, 128), np.uint8))
    return LocalFeatures(
        np.array([k.pt for k in keypoints], np.float32),
        np.array([k.size for k in keypoints], np.float32),
        np.deg2rad(np.array([k.angle for k in keypoints], np.float32)),
        raw.astype(np.uint8),
    )


@dataclass(frozen=True)
class Shared:
    """What two crops share.

    ``places``: how many distinct places. ``features``: indices of the query's features there. ``affine`` (2, 3): from
    places of the query to those of the reference, px of `SIDE_PX` crops; None when they are too few to say.
    """

    places: int
    features: NDArray[np.intp]
    affine: NDArray[np.float32] | None


NOTHING = Shared(0, np.zeros(0, np.intp), None)


@lru_cache(maxsize=ROOTED_KEPT)
def _rooted(reference: LocalFeatures) -> NDArray[np.float32]:
    """The descriptors of a reference, which many looks ask for in a row; read-only."""
    rooted = reference.descriptors
    rooted.setflags(write=False)
    return rooted


def shared(query: LocalFeatures, references: Sequence[LocalFeatures]) -> list[Shared]:
    """The features of a query that each reference has too, in the geometry that most of them agree on."""
    out = [NOTHING] * len(references)
    usable = [n for n, r in enumerate(references) if min(len(query), len(r)) >= 3]
    mine = query.descriptors
    for start in range(0, len(usable), TOGETHER):
        part = usable[start : start + TOGETHER]
        # One product of matrices for many references: what a small one costs is mostly its call.
        cosines = mine @ np.concatenate([_rooted(references[n]) for n in part]).T
        ends = np.cumsum([len(references[n]) for n in part]).tolist()
        for n, first, last in zip(part, [0, *ends], ends, strict=False):
            out[n] = _in_one_geometry(query, references[n], *_alike(cosines[:, first:last]))
    return out


def _in_one_geometry(
    query: LocalFeatures, reference: LocalFeatures, mine: NDArray[np.intp], theirs: NDArray[np.intp]
) -> Shared:
    """What is left of alike features (indices of both) when they have to lie alike."""
    if len(mine) < 3:
        return NOTHING
    p, q = query.places_px[mine], reference.places_px[theirs]
    octaves = np.log2(reference.sizes_px[theirs] / query.sizes_px[mine])
    turn = _turned(reference.angles_rad[theirs] - query.angles_rad[mine])
    tried = np.flatnonzero((np.abs(octaves) < 1.6) & (np.abs(turn) < MOST_TURN_RAD))
    if not len(tried):
        return NOTHING
    # Pair h as a transform: where it takes every pair's place on the query, against where that pair's counterpart is.
    zoom = 2.0 ** octaves[tried]
    cos, sin = (zoom * np.cos(turn[tried]))[:, None], (zoom * np.sin(turn[tried]))[:, None]
    dx, dy = p[None, :, 0] - p[tried, 0][:, None], p[None, :, 1] - p[tried, 1][:, None]
    off_x = cos * dx - sin * dy + q[tried, 0][:, None] - q[None, :, 0]
    off_y = sin * dx + cos * dy + q[tried, 1][:, None] - q[None, :, 1]
    turn_off = np.abs(turn[None] - turn[tried][:, None])
    turn_off = np.minimum(turn_off, 2 * math.pi - turn_off)
    octaves_off = np.abs(octaves[None] - octaves[tried][:, None])
    near = NEAR_PX + NEAR_SHARE * np.sqrt(dx * dx + dy * dy) * zoom[:, None]
    agree = (off_x * off_x + off_y * off_y < near * near) & (turn_off < NEAR_TURN_RAD) & (octaves_off < NEAR_OCTAVES)
    best = int(agree.sum(axis=1).argmax())
    kept = agree[best]
    if np.count_nonzero(kept) < AFFINE_PAIRS:
        return Shared(min(_distinct(p[kept]), _distinct(q[kept])), mine[kept], None)
    loosely = (turn_off[best] < LOOSER * NEAR_TURN_RAD) & (octaves_off[best] < LOOSER * NEAR_OCTAVES)
    homogeneous = np.ones((len(p), 3), np.float32)
    homogeneous[:, :2] = p
    affine: NDArray[np.float32] | None = None
    for _ in range(2):
        solved, *_ = np.linalg.lstsq(homogeneous[kept], q[kept], rcond=None)
        affine = solved.T.astype(np.float32)
        off = homogeneous @ solved - q
        fits = (np.sqrt((off * off).sum(axis=1)) < FIT_PX) & loosely
        if np.count_nonzero(fits) < AFFINE_PAIRS:
            break
        kept = fits
    return Shared(min(_distinct(p[kept]), _distinct(q[kept])), mine[kept], affine)


def _alike(cosines: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of query features and their counterparts that are clearly nearer than the second nearest.

    ``cosines``: of all query features (rows) and reference features; written to.
    """
    rows = np.arange(len(cosines))
    best = cosines.argmax(axis=1)
    first = np.sqrt(np.maximum(2 - 2 * cosines[rows, best], 0.0))
    cosines[rows, best] = -1.0
    second = np.sqrt(np.maximum(2 - 2 * cosines.max(axis=1), 1e-9))
    clear = np.flatnonzero(first < RATIO * second)
    return clear, best[clear]


def _turned(angle: NDArray[np.float32]) -> NDArray[np.float32]:
    """Angles in -π..π."""
    out: NDArray[np.float32] = (angle + np.pi) % (2 * np.pi) - np.pi
    return out


def _distinct(places_px: NDArray[np.float32]) -> int:
    return len({(int(x / SAME_PX), int(y / SAME_PX)) for x, y in places_px.tolist()})
