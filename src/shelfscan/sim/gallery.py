"""Reference photographs of single products, under other light and background than the shelves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import mujoco
import numpy as np

from shelfscan.model.geometry import apply, planar
from shelfscan.model.imaging import Rgb
from shelfscan.sim.packaging import PackSpec
from shelfscan.sim.render import Renderer
from shelfscan.sim.world import GROUP_ITEMS, add_packs, new_spec, quaternion

HEIGHT_PX = 420
WIDTH_PX = 420
FOVY_DEG = 24.0
#: Packs a model: one atlas page.
BATCH = 256
#: Studio floors and walls: paper, grey card, wood, cloth.
_BACKGROUNDS = ((0.93, 0.93, 0.92), (0.6, 0.61, 0.63), (0.66, 0.5, 0.34), (0.35, 0.42, 0.5), (0.85, 0.8, 0.7))


def render_gallery(
    packs: Sequence[PackSpec], out_dir: Path, pictures: int, seed: int, report: Callable[[float], None] = lambda done: None
) -> None:
    """Write ``out_dir/<sku>/<n>.jpg``: n = 0 frontal, then turned a little, from 2 on three-quarter views."""
    for start in range(0, len(packs), BATCH):
        batch = packs[start : start + BATCH]
        renderer = Renderer(_studio(batch, seed))
        try:
            for k, pack in enumerate(batch):
                folder = out_dir / pack.sku
                folder.mkdir(parents=True, exist_ok=True)
                rng = np.random.default_rng([seed, 88, start + k])
                for n in range(pictures):
                    picture = _photograph(renderer, pack, k, n, rng)
                    encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
                    (folder / f"{n}.jpg").write_bytes(encoded.tobytes())
                report((start + k + 1) / len(packs))
        finally:
            renderer.close()


def _studio(packs: Sequence[PackSpec], seed: int) -> mujoco.MjModel:
    """All packs of a batch side by side, each before a wall of its own; one camera on a mocap body."""
    spec = new_spec(WIDTH_PX, HEIGHT_PX)
    spec.visual.headlight.ambient = [0.3] * 3
    spec.visual.headlight.diffuse = [0.3] * 3
    materials = add_packs(spec, packs)
    world = spec.worldbody
    rng = np.random.default_rng([seed, 87])
    # A warm lamp from the left and a cold one from the right: the shelves have neither.
    for direction, shade in (([0.6, 0.7, -0.5], [0.42, 0.38, 0.32]), ([-0.5, 0.8, -0.3], [0.22, 0.25, 0.3])):
        world.add_light(
            type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, dir=direction, diffuse=shade, specular=[0.1] * 3, castshadow=False
        )
    for k, pack in enumerate(packs):
        world.add_geom(
            name=f"item{k}",
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname=pack.sku,
            material=materials[pack.sku],
            pos=[2.0 * k, 0.0, pack.height_m / 2],
            contype=0,
            conaffinity=0,
            group=GROUP_ITEMS,
        )
        rgb = [*_BACKGROUNDS[int(rng.integers(len(_BACKGROUNDS)))], 1.0]
        for pos, size in (([2.0 * k, 0.5, 0.5], [1.0, 0.01, 1.0]), ([2.0 * k, 0.0, -0.01], [1.0, 1.0, 0.01])):
            world.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=pos, size=size, rgba=rgb, contype=0, conaffinity=0)
    camera = world.add_body(name="camera", mocap=True)
    # The body's frame is base-like: it looks along its y axis.
    camera.add_camera(name="photo", quat=quaternion(np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])), fovy=FOVY_DEG)
    return spec.compile()


def _photograph(renderer: Renderer, pack: PackSpec, index: int, number: int, rng: np.random.Generator) -> Rgb:
    yaw = float(
        rng.uniform(-0.06, 0.06) if number == 0 else rng.uniform(-0.35, 0.35) if number == 1 else rng.choice([-0.7, 0.7])
    )
    pitch = float(rng.uniform(0.0, 0.12))
    reach = math.hypot(pack.width_m, pack.depth_m) if number > 1 else pack.width_m + abs(math.sin(yaw)) * pack.depth_m
    tall = pack.height_m + math.sin(pitch) * pack.depth_m
    focal = HEIGHT_PX / 2 / math.tan(math.radians(FOVY_DEG) / 2)
    distance = 1.12 * max(reach * focal / WIDTH_PX, tall * focal / HEIGHT_PX) + pack.depth_m / 2
    centre = np.array([2.0 * index, 0.0, pack.height_m / 2])
    # The camera goes round the pack: yaw about it, then up by the pitch.
    at = centre + distance * np.array([math.sin(yaw) * math.cos(pitch), -math.cos(yaw) * math.cos(pitch), math.sin(pitch)])
    T = planar(float(at[0]), float(at[1]), yaw, float(at[2]))
    c, s = math.cos(-pitch), math.sin(-pitch)
    T[:3, :3] = T[:3, :3] @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    renderer.place(T)
    picture = renderer.picture("photo", WIDTH_PX, HEIGHT_PX)
    half = np.array([pack.width_m, pack.depth_m, pack.height_m]) / 2
    corners = centre + half * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    local = apply(np.asarray(np.linalg.inv(T), np.float64), corners)
    u = WIDTH_PX / 2 + focal * local[:, 0] / local[:, 1]
    v = HEIGHT_PX / 2 - focal * local[:, 2] / local[:, 1]
    margin = rng.uniform(2, 9, 4)
    x0, x1 = int(max(0, u.min() - margin[0])), int(min(WIDTH_PX, u.max() + margin[1]))
    y0, y1 = int(max(0, v.min() - margin[2])), int(min(HEIGHT_PX, v.max() + margin[3]))
    gain = rng.uniform(0.85, 1.12)
    return np.asarray(cv2.convertScaleAbs(picture[y0:y1, x0:x1], alpha=float(gain)), dtype=np.uint8)
