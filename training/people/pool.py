"""Renders people before shelves, with what is head and what is body: ``python -m training.people.pool --out FILE.npz``.

Stores have seeds from 100000, as all training stores; the figures' looks come from the same seeds. Pictures are small and
upright, as `shelfscan.perception.privacy` gives them to the network. ``ids``: 0 nothing, 1 body, 2 head, 3 a thing carried.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shelfscan.model.robot import RobotModel
from shelfscan.model.store import Gondola
from shelfscan.paths import default_robot_file
from shelfscan.robotfile import read_robot
from shelfscan.sim.people import POSES
from shelfscan.sim.render import Renderer
from shelfscan.sim.scene import ScenePerson
from shelfscan.sim.world import build_world, quaternion
from training.sim_pool import base_pose, make_scene

WIDE_PX, HIGH_PX = 324, 243
FIGURES = 28
#: Stores with more items are rendered in parts of so many metres each way, as the simulator does.
WHOLE_STORE_ITEMS = 4000
NEAR_X_M, NEAR_Y_M = 6.0, 8.0
PARTS = 4
#: So often a view is at a face's end, where walls, floor and other faces show: there is more of these than of any product.
AT_ENDS, END_M = 0.35, 0.8
ROLES = {"body": 1, "head": 2, "thing": 3}


def cast(rng: np.random.Generator) -> tuple[ScenePerson, ...]:
    """The figures of one store; where they stand is set for each picture."""
    grown = np.clip(rng.normal(1.7, 0.11, FIGURES), 1.45, 2.0)
    heights = np.where(rng.random(FIGURES) < 0.15, rng.uniform(0.9, 1.4, FIGURES), grown)
    looks = rng.integers(0, 2**31, FIGURES)
    return tuple(
        ScenePerson(f"person-{n}", 0.0, -50.0, 0.0, float(heights[n]), POSES[n % len(POSES)], int(looks[n]))
        for n in range(FIGURES)
    )


def put(renderer: Renderer, n: int, x: float, y: float, yaw: float) -> None:
    """Move a figure (mocap body 0 is the robot's)."""
    renderer.data.mocap_pos[1 + n] = (x, y, 0.0)
    renderer.data.mocap_quat[1 + n] = (math.cos(yaw / 2), 0, 0, math.sin(yaw / 2))


def picture(
    renderer: Renderer,
    gondola: Gondola,
    within: tuple[float, float],
    robot: RobotModel,
    roles: NDArray[np.uint8],
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One random view along ``within`` (face's x, metres): (324, 243, 3) uint8 and (324, 243) uint8."""
    ends = [e for e in (0.0, gondola.length_m) if within[0] <= e <= within[1]]
    for n in range(FIGURES):
        put(renderer, n, 0.0, -50.0 - n, 0.0)
    x = rng.uniform(*within)
    if rng.random() < AT_ENDS and ends:
        x = float(rng.choice(ends)) + rng.uniform(-END_M, END_M)
    T = base_pose(gondola, x, rng.uniform(0.7, 1.1), robot, rng)
    if rng.random() < 0.2:  # looking along the aisle and anywhere
        turn = rng.uniform(-1.2, 1.2)
        c, s = math.cos(turn), math.sin(turn)
        T = T @ np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    face = gondola.face.matrix()
    for n in rng.permutation(FIGURES)[: int(rng.choice([0, 0, 0, 1, 1, 1, 2, 2, 3]))]:
        if rng.random() < 0.75:
            at = face @ np.array([x + rng.uniform(-0.7, 0.7), -rng.uniform(0.15, 0.6), 0, 1])
        else:
            at = T @ np.array([rng.uniform(-1.5, 1.5), rng.uniform(0.6, 4.0), 0, 1])
        put(renderer, int(n), float(at[0]), float(at[1]), gondola.face.yaw_rad + float(rng.uniform(0, 2 * math.pi)))
    renderer.data.mocap_pos[0], renderer.data.mocap_quat[0] = T[:3, 3], quaternion(T[:3, :3])
    renderer.place(T)
    head = robot.rig.heads[int(rng.integers(2))]
    camera = f"{head.name}/{'rgb' if rng.random() < 0.6 else 'left'}"
    rgb = renderer.picture(camera, WIDE_PX, HIGH_PX)
    ids = renderer.segmentation(camera, WIDE_PX, HIGH_PX)
    turns = head.rgb.upright_turns
    return np.ascontiguousarray(np.rot90(rgb, turns)), np.ascontiguousarray(np.rot90(roles[ids], turns))


def store_pictures(seed: int, size: str, count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """``count`` views of one training store."""
    rng = np.random.default_rng([seed, 123])
    scene, store = make_scene(seed, size, seed % 3)
    scene = replace(scene, people=cast(rng))
    robot = read_robot(default_robot_file())
    faces = [g for _, g in store.gondolas()]
    made = []
    whole = len(scene.items) <= WHOLE_STORE_ITEMS
    for _ in range(1 if whole else PARTS):
        face = faces[int(rng.integers(len(faces)))]
        middle = float(rng.uniform(0, face.length_m))
        x, y, *_ = face.face.matrix() @ np.array([middle, 0, 0, 1])
        here = float(x - NEAR_X_M), float(y - NEAR_Y_M), float(x + NEAR_X_M), float(y + NEAR_Y_M)
        near = None if whole else [here, (-1.0, -51.0, 1.0, -49.0)]  # the figures wait there
        renderer = Renderer(build_world(scene, robot, near))
        roles = np.zeros(renderer.model.ngeom + 1, np.uint8)  # the last one for -1
        for g in range(renderer.model.ngeom):
            part = renderer.model.geom(g).name.split("/")
            if len(part) == 3:
                roles[g] = ROLES[part[1]]
        for _ in range(count if whole else count // PARTS):
            face = faces[int(rng.integers(len(faces)))] if whole else face
            within = (-0.4, face.length_m + 0.4)
            if not whole:
                within = max(within[0], middle - NEAR_X_M / 2), min(within[1], middle + NEAR_X_M / 2)
            made.append(picture(renderer, face, within, robot, roles, rng))
        renderer.close()
    return np.stack([m[0] for m in made]), np.stack([m[1] for m in made])


def main() -> None:
    p = argparse.ArgumentParser(description="Render people before the shelves of training stores.")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--seed", type=int, default=100_700)
    p.add_argument("--stores", type=int, default=12)
    p.add_argument("--pictures", type=int, default=300)
    p.add_argument("--sizes", nargs="+", default=["tiny", "small", "medium"], help="of stores, one after the other")
    args = p.parse_args()
    pictures, ids = [], []
    for seed in range(args.seed, args.seed + args.stores):
        a, b = store_pictures(seed, args.sizes[seed % len(args.sizes)], args.pictures)
        pictures.append(a)
        ids.append(b)
        print(seed, len(a), f"with people {np.mean(b.reshape(len(b), -1).any(1)):.2f}", flush=True)
    np.savez(args.out, pictures=np.concatenate(pictures), ids=np.concatenate(ids))


if __name__ == "__main__":
    main()
