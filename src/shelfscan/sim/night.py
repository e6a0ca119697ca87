"""What stands before the shelves and how the light falls, on a bad night."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from shelfscan.model.geometry import Array, apply, inverse, planar
from shelfscan.model.imaging import Camera, Rgb
from shelfscan.model.store import Store
from shelfscan.sim.layout import face_box
from shelfscan.sim.scene import Scene

#: What is left of a dark aisle's light.
DARK = 0.25
#: A trolley: half length, half width, half height, and how far its near side is from the shelf.
TROLLEY_M = (0.42, 0.28, 0.5)
TROLLEY_AWAY_M = 0.15
#: The mirrored lamp moves over a bulged front at this share of the camera's own way across it.
SLIDE = 0.35
#: Sizes of the highlight as shares of half the front, and how much light it adds: enough to blind the sensor.
SPOT, STREAK, ADDED = 0.32, 0.75, 420.0


def with_darkness(scene: Scene, store: Store, share: float, seed: int) -> Scene:
    """A share of the aisles (at least one where there is a share at all) has little light."""
    if not share:
        return scene
    rng = np.random.default_rng([seed, 101])
    count = max(1, round(share * len(store.aisles)))
    dark = {int(n) for n in rng.permutation(len(store.aisles))[:count]}
    middle = [np.mean([g.face.y_m for g in a.gondolas]) for a in store.aisles]
    nearest = [int(np.argmin([abs(y - light.y_m) for y in middle])) for light in scene.lights]
    lights = tuple(
        replace(light, intensity=light.intensity * DARK) if n in dark else light
        for light, n in zip(scene.lights, nearest, strict=True)
    )
    return replace(scene, lights=lights)


def with_obstacles(scene: Scene, store: Store, trolleys: int, seed: int) -> Scene:
    """Trolleys before bays, each before another one."""
    if not trolleys:
        return scene
    rng = np.random.default_rng([seed, 102])
    bays = [(g, b) for _, g in store.gondolas() for b in g.bays]
    boxes = list(scene.boxes)
    for n in rng.permutation(len(bays))[:trolleys]:
        gondola, bay = bays[int(n)]
        hx, hy, hz = TROLLEY_M
        x = bay.x_m + float(rng.uniform(hx, max(hx, bay.width_m - hx)))
        rgb = tuple(float(v) for v in rng.uniform(0.3, 0.7, 3))
        y = -TROLLEY_AWAY_M
        boxes.append(face_box(gondola, "trolley", (x - hx, y - 2 * hy, 0.08), (x + hx, y, 0.08 + 2 * hz), rgb))
    return replace(scene, boxes=tuple(boxes))


def with_glare(scene: Scene, seed: int) -> Scene:
    """A share of the glossy items of the front rows mirrors a lamp."""
    share = scene.sensing.glare_fraction
    if not share:
        return scene
    rng = np.random.default_rng([seed, 103])
    glare = {}
    for item in scene.items:
        draw, u, v = rng.random(), float(rng.uniform(-0.8, 0.8)), float(rng.uniform(-0.7, 0.9))
        if item.facing and scene.packs[item.sku].glossy and draw < share:
            glare[item.item_id] = (round(u, 3), round(v, 3))
    return replace(scene, glare=glare)


@dataclass(frozen=True)
class Highlight:
    """An item that mirrors a lamp: the pose of its middle, and its size (width, depth, height); metres."""

    T_map_item: Array
    size_m: tuple[float, float, float]
    at: tuple[float, float]
    round_: bool


def highlights(scene: Scene) -> list[Highlight]:
    """All of a scene's, of standing items."""
    out = []
    for item in scene.items:
        if item.item_id in scene.glare and not item.pitch_rad and not item.roll_rad:
            pack = scene.packs[item.sku]
            T = planar(item.x_m, item.y_m, item.yaw_rad)
            T[2, 3] = item.z_m
            size = (pack.width_m, pack.depth_m, pack.height_m)
            out.append(Highlight(T, size, scene.glare[item.item_id], pack.shape in ("can", "bottle")))
    return out


def _side(item: Highlight, eye: Array) -> tuple[Array, float]:
    """The side that is turned to the eye: ``T_map_side`` (x right, y into the item, z up, from its middle), half its width."""
    w, d, _ = item.size_m
    local = apply(inverse(item.T_map_item), eye)
    ways = [(-local[1] - d / 2, 0.0, d, w), (local[0] - w / 2, math.pi / 2, w, d)]
    ways += [(local[1] - d / 2, math.pi, d, w), (-local[0] - w / 2, -math.pi / 2, w, d)]
    _, turn, deep, wide = max(ways)
    T = item.T_map_item @ planar(0.0, 0.0, turn)
    return T @ planar(0.0, -deep / 2, 0.0), wide / 2


def add_highlights(picture: Rgb, camera: Camera, T_map_base: Array, fronts: Sequence[Highlight]) -> Rgb:
    """A picture (sensor orientation) with the lamps that its fronts mirror; what is behind the camera or far is left out."""
    T_camera_map = inverse(T_map_base @ camera.T_base_optical)
    eye = (T_map_base @ camera.T_base_optical)[:3, 3]
    h, w = picture.shape[:2]
    out = picture
    for front in fronts:
        if math.dist(front.T_map_item[:2, 3], eye[:2]) > 2.0:
            continue
        T_map_side, half_x = _side(front, eye)
        half_z = front.size_m[2] / 2
        local = apply(inverse(T_map_side), eye)
        if local[1] > -0.2:
            continue
        # On a round front it hardly leaves the middle line; it slides with the eye.
        u = front.at[0] * half_x * (0.4 if front.round_ else 1.0) + SLIDE * float(local[0]) * half_x
        v = front.at[1] * half_z + SLIDE * float(local[2]) * half_z
        if abs(u) > half_x or abs(v) > half_z:
            continue
        long = STREAK if front.round_ else SPOT
        corners = np.array([[x, 0.0, z] for x in (-1, 1) for z in (-1, 1)]) * [half_x, 1.0, half_z]
        axes = np.array([[u, 0, v], [u + SPOT * half_x, 0, v], [u, 0, v + long * half_z]])
        points = apply(T_camera_map @ T_map_side, np.concatenate([corners, axes]))
        if (points[:, 2] < 0.1).any():
            continue
        px = camera.intrinsics.project(points)
        x0, y0 = np.maximum(np.floor(px[:4].min(axis=0)).astype(int), 0)
        x1, y1 = np.minimum(np.ceil(px[:4].max(axis=0)).astype(int), [w, h])
        if x1 <= x0 or y1 <= y0:
            continue
        if out is picture:
            out = picture.copy()
        gy, gx = np.mgrid[y0:y1, x0:x1].astype(np.float32)
        a, b = px[5] - px[4], px[6] - px[4]
        M = np.linalg.inv(np.stack([a, b], axis=-1))
        dx, dy = gx - px[4, 0], gy - px[4, 1]
        r2 = (M[0, 0] * dx + M[0, 1] * dy) ** 2 + (M[1, 0] * dx + M[1, 1] * dy) ** 2
        light = (ADDED * np.exp(-0.5 * r2 / 0.3)).astype(np.float32)
        patch = out[y0:y1, x0:x1].astype(np.float32) + light[..., None]
        out[y0:y1, x0:x1] = patch.clip(0, 255).astype(np.uint8)
    return out
