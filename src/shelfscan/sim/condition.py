"""Goods in bad condition, on request: damaged, fallen over, the wrong side to the front. Without it a store stays as it is."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.errors import BadInput
from shelfscan.model.geometry import apply, inverse
from shelfscan.model.store import BinPlace, Store
from shelfscan.sim.artwork import FACES, Picture
from shelfscan.sim.packaging import PackSpec
from shelfscan.sim.scene import SceneItem
from shelfscan.sim.stock import BinTruth

KINDS = ("dented", "torn", "leaking")
#: Items keep this much air.
CLEAR_M = 0.002


@dataclass(frozen=True)
class Condition:
    """Shares of the front row's items (0..1) that are damaged, fallen (of those that have room to) and turned."""

    damaged: float = 0.0
    fallen: float = 0.0
    turned: float = 0.0

    def __post_init__(self) -> None:
        for name in ("damaged", "fallen", "turned"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"{name}: {getattr(self, name)} is no share of 0 to 1")


def in_bad_condition(
    store: Store,
    packs: Mapping[str, PackSpec],
    items: Sequence[SceneItem],
    truths: Sequence[BinTruth],
    condition: Condition,
    seed: int,
) -> tuple[list[SceneItem], list[BinTruth], dict[str, str]]:
    """Items and truths with their conditions, and what kind of damage which item has. An item has one trouble at most."""
    out, damage = list(items), dict[str, str]()
    effects: dict[str, set[str]] = {}
    of_bin: dict[str, list[int]] = {}
    for n, i in enumerate(items):
        of_bin.setdefault(i.bin_id, []).append(n)
    planned = {t.bin_id: t.sku for t in truths}
    for b, (bin_id, members) in enumerate(of_bin.items()):
        rng = np.random.default_rng([seed, 77, b])
        place = store.places[bin_id]
        for n in members:
            item, pack = out[n], packs[out[n].sku]
            draws = rng.random(3)
            kind, how = str(rng.choice(KINDS)), rng.random(4)
            if not item.facing or item.sku != planned[bin_id]:
                continue
            if draws[0] < condition.fallen:
                others = [extent(out[k], packs[out[k].sku], place) for k in members if k != n]
                lying = _fallen(item, pack, place, others, how)
                if lying is not None:
                    out[n] = lying
                    effects.setdefault(bin_id, set()).add("fallen")
                    continue
            if draws[1] < condition.turned:
                out[n] = _turned(item, pack, float(how[0]))
                effects.setdefault(bin_id, set()).add("turned")
            elif draws[2] < condition.damaged:
                damage[item.item_id] = kind
                effects.setdefault(bin_id, set()).add("damaged")
    told = [replace(t, effects=tuple(sorted({*t.effects, *effects.get(t.bin_id, ())}))) for t in truths]
    return out, told, damage


def _turned(item: SceneItem, pack: PackSpec, draw: float) -> SceneItem:
    """Back to the front, or on its head where it stands on it."""
    if pack.shape != "bottle" and draw < 0.5:
        return replace(item, pitch_rad=round(math.pi, 5))
    return replace(item, yaw_rad=round(item.yaw_rad + math.pi, 5))


def extent(item: SceneItem, pack: PackSpec, place: BinPlace) -> NDArray[np.float64]:
    """(3, 2): from and to along x, y, z of the face frame; exact for quarter turns."""
    centre = apply(inverse(place.T_map_face), np.array([item.x_m, item.y_m, item.z_m]))
    size = np.array([pack.width_m, pack.depth_m, pack.height_m])
    if abs(math.sin(item.roll_rad)) > 0.5:
        size = size[[0, 2, 1]]
    if abs(math.sin(item.pitch_rad)) > 0.5:
        size = size[[2, 1, 0]]
    return np.stack([centre - size / 2, centre + size / 2], axis=1)


def _fallen(
    item: SceneItem, pack: PackSpec, place: BinPlace, others: Sequence[NDArray[np.float64]], how: NDArray[np.float64]
) -> SceneItem | None:
    """The item lying on its face, back or side, where nothing is in its way; None where it can only stand."""
    (x0, x1), (y0, y1), (z0, z1) = extent(item, pack, place)
    if z0 > place.z0_m + 0.01 or pack.height_m < 1.15 * max(pack.width_m, pack.depth_m):
        return None
    h, w, d = pack.height_m, pack.width_m, pack.depth_m
    ways = [
        (0.0, math.pi / 2, (x0, x1), (y1 - h, y1), d),
        (0.0, -math.pi / 2, (x0, x1), (y0, y0 + h), d),
        (math.pi / 2, 0.0, (x0, x0 + h), (y0, y1), w),
        (-math.pi / 2, 0.0, (x1 - h, x1), (y0, y1), w),
    ]
    for n in np.argsort(how):
        pitch, roll, xs, ys, tall = ways[int(n)]
        box = np.array([xs, ys, (place.z0_m, place.z0_m + tall)])
        inside = xs[0] >= place.x0_m and xs[1] <= place.x1_m and ys[0] >= 0.0 and ys[1] <= place.depth_m - CLEAR_M
        # Whatever lay on it would have fallen too.
        tower = np.array([(x0, x1), (y0, y1), (z0, z1 + 1.0)])
        if inside and not any(_meet(box, o) or _meet(tower, o) for o in others):
            middle = np.array([sum(xs) / 2, sum(ys) / 2, place.z0_m + tall / 2 + 0.0005])
            p = apply(place.T_map_face, middle)
            x, y, z = (round(float(v), 5) for v in p)
            return replace(item, x_m=x, y_m=y, z_m=z, pitch_rad=round(pitch, 5), roll_rad=round(roll, 5))
    return None


def _meet(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return bool(((a[:, 0] < b[:, 1] - CLEAR_M) & (b[:, 0] < a[:, 1] - CLEAR_M)).all())


def damaged_texture(texture: Picture, kind: str, item_id: str) -> Picture:
    """A pack's texture with damage on its front: of one `KINDS`, different for each item."""
    rng = np.random.default_rng(zlib.crc32(f"{kind}/{item_id}".encode()))
    out = texture.copy()
    x0, y0, x1, y1 = (round(f * texture.shape[0]) for f in FACES["front"])
    out[y0:y1, x0:x1] = {"dented": _dented, "torn": _torn, "leaking": _leaking}[kind](out[y0:y1, x0:x1], rng)
    return out


def _dented(front: Picture, rng: np.random.Generator) -> Picture:
    """A hollow: print drawn together, one flank in the light, the other in the dark."""
    h, w = front.shape[:2]
    radius = rng.uniform(0.22, 0.4) * w
    cx, cy = rng.uniform(0.2, 0.8) * w, rng.uniform(0.2, 0.8) * h
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    # The texture is wider than most packs are: a round hollow on the pack is taller here.
    dx, dy = (x - cx) / radius, (y - cy) / radius
    r = np.sqrt(dx * dx + dy * dy)
    inside = np.clip(1 - r, 0, 1)
    pull = 0.45 * inside * radius
    warped = cv2.remap(
        front,
        (x + np.sign(dx) * pull * np.abs(dx) / np.maximum(r, 0.05)).astype(np.float32),
        (y + np.sign(dy) * pull * np.abs(dy) / np.maximum(r, 0.05)).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    angle = rng.uniform(0, 2 * math.pi)
    shade = 1 + rng.uniform(0.4, 0.65) * np.sin(math.pi * np.clip(r, 0, 1)) * (dx * math.cos(angle) + dy * math.sin(angle))
    shade = np.where(r < 1, shade - 0.15 * inside, 1.0)
    return np.asarray(np.clip(warped * shade[..., None], 0, 255), np.uint8)


def _torn(front: Picture, rng: np.random.Generator) -> Picture:
    """A ragged piece gone at an edge; board and what is behind show."""
    h, w = front.shape[:2]
    out = front.copy()
    size = rng.uniform(0.22, 0.4) * w
    cx = float(rng.choice([0.0, 1.0])) * w
    cy = rng.uniform(0.15, 0.85) * h
    angles = np.linspace(0, 2 * math.pi, 18, endpoint=False)
    radii = size * rng.uniform(0.7, 1.2, 18)
    ring = np.stack([cx + radii * np.cos(angles), cy + radii * np.sin(angles)], axis=1)
    board = tuple(int(v) for v in np.array([176, 148, 110]) * rng.uniform(0.85, 1.15))
    cv2.fillPoly(out, [ring.astype(np.int32)], board, cv2.LINE_AA)
    inner = np.array([cx, cy]) + (ring - [cx, cy]) * 0.72
    cv2.fillPoly(out, [inner.astype(np.int32)], (45, 38, 32), cv2.LINE_AA)
    return out


def _leaking(front: Picture, rng: np.random.Generator) -> Picture:
    """A stain that runs down from where it comes out."""
    h, w = front.shape[:2]
    mask = np.zeros((h, w), np.float32)
    cx, cy = rng.uniform(0.25, 0.75) * w, rng.uniform(0.25, 0.6) * h
    cv2.circle(mask, (int(cx), int(cy)), int(rng.uniform(0.12, 0.2) * w), 1.0, -1)
    for _ in range(int(rng.integers(3, 6))):
        x = cx + rng.normal(0, 0.1) * w
        cv2.line(mask, (int(x), int(cy)), (int(x), h), 1.0, int(rng.uniform(0.04, 0.12) * w))
    mask = 0.8 * cv2.GaussianBlur(mask, (0, 0), 0.012 * w)
    stain = np.array([70, 48, 25], np.float32) * rng.uniform(0.7, 1.3)
    return np.asarray(np.clip(front * (1 - mask[..., None]) + stain * mask[..., None], 0, 255), np.uint8)
