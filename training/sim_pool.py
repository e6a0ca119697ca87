"""Renders training stores of the simulator: labelled pictures for the detector, crops by product for the embedder.

``python -m training.sim_pool --out DIR --seed 100000 --stores 4``. Only seeds from 100000 are taken, and the packages
come from the name space ``train``: neither a store nor a package family of a demo, a test or a score is ever seen.
"""

from __future__ import annotations

import argparse
import csv
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from shelfscan.model.geometry import Array
from shelfscan.model.imaging import Head
from shelfscan.model.robot import RobotModel
from shelfscan.model.store import Gondola, Store
from shelfscan.sim.build import _tags as store_tags
from shelfscan.sim.layout import SIZES, make_layout
from shelfscan.sim.merchandise import catalogue_of, merchandise
from shelfscan.sim.packaging import make_packs
from shelfscan.sim.render import JPEG_QUALITY, Renderer, SensorModel
from shelfscan.sim.scene import Scene, Sensing
from shelfscan.sim.stock import MESSINESS, stock_store
from shelfscan.sim.world import build_world
from training.detector.compose import Sample
from training.detector.data import save
from training.sim_labels import labels

FIRST_SEED = 100_000
NAMESPACE = "train"
#: Detector pictures are kept at the scale it works at.
SCALE = 0.5


def make_scene(seed: int, size: str, messy: int) -> tuple[Scene, Store]:
    """A training store's truth, with other furniture colours, lamps and disorder from store to store."""
    if seed < FIRST_SEED:
        raise SystemExit(f"seed {seed}: training stores have seeds from {FIRST_SEED}")
    rng = np.random.default_rng([seed, 99])
    layout = make_layout(size, seed)
    packs = make_packs(seed, SIZES[size].sku_limit, NAMESPACE)
    store, plan = merchandise(layout.store, packs, seed)
    used = {line.sku for line in plan.values()}
    by_sku = {p.sku: p for p in packs if p.sku in used}
    items, _ = stock_store(store, plan, by_sku, MESSINESS[messy], seed)
    tags, _ = store_tags(store, plan, catalogue_of(list(by_sku.values()), seed), MESSINESS[messy], seed)
    bright = rng.uniform(0.7, 1.25)
    lights = tuple(replace(i, intensity=i.intensity * bright) for i in layout.lights)
    return Scene(seed, size, messy, by_sku, tuple(items), tuple(tags), layout.boxes, lights, Sensing()), store


def base_pose(gondola: Gondola, x_m: float, standoff_m: float, robot: RobotModel, rng: np.random.Generator) -> Array:
    """A pose whose heads look at a face near ``x_m``, as exact as a robot drives."""
    camera = robot.rig.heads[0].rgb.T_base_optical
    face = gondola.face.matrix()
    yaw = rng.normal(0, math.radians(1.5))
    # base x along the face's x; the base's left (y) looks into the shelf
    offset = camera[:3, 3]
    c, s = math.cos(yaw), math.sin(yaw)
    T = np.eye(4)
    T[:2, :2] = [[c, -s], [s, c]]
    T[0, 3] = x_m - (c * offset[0] - s * offset[1])
    T[1, 3] = -standoff_m - (s * offset[0] + c * offset[1])
    return np.asarray(face @ T)


def upright(head: Head) -> tuple[Array, int]:
    """The 3×3 that takes the RGB sensor's pixels to those of its upright picture, and the quarter turns."""
    k = head.rgb.upright_turns
    w, h = head.rgb.intrinsics.width_px, head.rgb.intrinsics.height_px
    turns = {
        0: [[1, 0, 0], [0, 1, 0]],
        1: [[0, 1, 0], [-1, 0, w - 1]],
        2: [[-1, 0, w - 1], [0, -1, h - 1]],
        3: [[0, -1, h - 1], [1, 0, 0]],
    }
    return np.array([*turns[k], [0, 0, 1]], np.float64), k


class Pool:
    """Writes detector samples and embedder crops of one pool."""

    def __init__(self, out: Path, crops: bool) -> None:
        self.out = out
        (out / "crops").mkdir(parents=True, exist_ok=True)
        self.number = len(list(out.glob("[0-9]*.npz")))
        self.crops = crops
        self.counts: dict[str, int] = {}
        new = not (out / "crops" / "index.csv").exists()
        self.file = (out / "crops" / "index.csv").open("a", newline="")
        self.index = csv.writer(self.file)
        if new:
            self.index.writerow(["file", "sku", "family", "kind", "x0", "y0", "x1", "y1"])

    def view(
        self, scene: Scene, store: Store, renderer: Renderer, sensor: SensorModel, head: Head, T_map_base: Array, capture: int
    ) -> None:
        """Render, label and write what one head sees."""
        i = head.rgb.intrinsics
        to_upright, k = upright(head)
        rgb = sensor.apply(renderer.picture(f"{head.name}/rgb", i.width_px, i.height_px), capture, 2)
        _, jpeg = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        picture = np.ascontiguousarray(np.rot90(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1], k))
        raw = renderer.segmentation(f"{head.name}/rgb", i.width_px // 2, i.height_px // 2)
        names = [renderer.model.geom(g).name for g in range(renderer.model.ngeom)]
        item_by = {it.item_id: it for it in scene.items}
        tag_by = {f"tag-{t.bin_id}": t for t in scene.tags}
        seen = [int(g) for g in np.unique(raw) if g >= 0]
        items = {g + 1: item_by[names[g]] for g in seen if names[g] in item_by}
        tags = {g + 1: tag_by[names[g]] for g in seen if names[g] in tag_by}
        ids = np.ascontiguousarray(np.rot90(raw, k)) + 1
        keep = np.zeros(ids.max() + 1, np.int32)
        for key in (*items, *tags):
            keep[key] = key
        ids = keep[ids]
        T = np.linalg.inv(T_map_base @ head.rgb.T_base_optical)
        half = np.diag([SCALE, SCALE, 1.0])
        project = half @ to_upright @ i.matrix() @ T[:3]
        boxes, classes, fronts = labels(scene, store, ids, items, tags, project)
        h, w = ids.shape
        small = cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA)
        save(Sample(small, boxes, classes), self.out, self.number)
        self.number += 1
        if self.crops:
            for item, box, part in fronts:
                self.crop(scene, item.sku, picture, box / SCALE, part)

    def crop(self, scene: Scene, sku: str, picture: np.ndarray, box: np.ndarray, part: float) -> None:
        """Keep a crop with its surroundings, at most six of a product and store."""
        key = f"{scene.seed}/{sku}"
        n = self.counts.get(key, 0)
        if n >= 6 or part < 0.55 or min(box[2] - box[0], box[3] - box[1]) < 40:
            return
        self.counts[key] = n + 1
        pad = 0.15 * (box[2:] - box[:2])
        x0, y0 = np.maximum(box[:2] - pad, 0).astype(int)
        x1, y1 = (box[2:] + pad).astype(int)
        self.write(scene, sku, f"{scene.seed}-{sku}-s{n}.jpg", "shelf", picture[y0:y1, x0:x1], box - [x0, y0, x0, y0])

    def write(self, scene: Scene, sku: str, name: str, kind: str, img: np.ndarray, box: np.ndarray) -> None:
        """One crop and its line in the index."""
        scale = min(1.0, 224 / max(img.shape[:2]))
        if scale < 1:
            img = cv2.resize(img, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(self.out / "crops" / name), img[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 93])
        self.index.writerow(
            [
                name,
                f"{scene.seed}/{sku}",
                f"{scene.seed}/{scene.packs[sku].family}",
                kind,
                *(round(float(v) * scale, 1) for v in box),
            ]
        )
        self.file.flush()


def gallery(scene: Scene, pool: Pool, pictures: int) -> None:
    """Gallery pictures of a store's products, as an enrolled catalogue has them."""
    from shelfscan.sim.gallery import render_gallery

    folder = pool.out / "gallery" / str(scene.seed)
    folder.mkdir(parents=True, exist_ok=True)
    packs = [scene.packs[s] for s in sorted(scene.packs)]
    render_gallery(packs, folder, pictures, scene.seed, lambda done: None)
    for path in sorted(folder.rglob("*.*")):
        img = cv2.imread(str(path))[..., ::-1]
        sku = path.parent.name
        h, w = img.shape[:2]
        pool.write(scene, sku, f"{scene.seed}-{sku}-g{path.stem}.jpg", "gallery", img, np.array([0, 0, w, h], float))


def main() -> None:
    p = argparse.ArgumentParser(description="Render training stores.")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--seed", type=int, default=FIRST_SEED)
    p.add_argument("--stores", type=int, default=1)
    p.add_argument("--size", default="small")
    p.add_argument("--views", type=int, default=10, help="viewpoints a face")
    p.add_argument("--gallery", type=int, default=0, help="gallery pictures a product; 0: no crops for the embedder")
    args = p.parse_args()
    cv2.setNumThreads(1)
    from shelfscan.paths import default_robot_file
    from shelfscan.robotfile import read_robot

    robot = read_robot(default_robot_file())
    pool = Pool(args.out, args.gallery > 0)
    for seed in range(args.seed, args.seed + args.stores):
        rng = np.random.default_rng([seed, 98])
        scene, store = make_scene(seed, args.size, int(rng.choice([0, 0, 0, 1])))
        renderer = Renderer(build_world(scene, robot))
        sensing = replace(
            MESSINESS[0].sensing,
            exposure_ev=float(rng.uniform(0, 0.4)),
            motion_blur_px=float(rng.choice([0, 0, 0, 1.2])),
            noise_sigma=float(rng.uniform(1, 5)),
        )
        sensor = SensorModel(sensing, seed)
        capture = 0
        for _, gondola in store.gondolas():
            for x in np.linspace(0.25, gondola.length_m - 0.25, args.views) + rng.uniform(-0.25, 0.25, args.views):
                T = base_pose(gondola, float(x), float(rng.uniform(0.75, 1.0)), robot, rng)
                renderer.place(T)
                for head in robot.rig.heads:
                    capture += 1
                    pool.view(scene, store, renderer, sensor, head, T, capture)
        renderer.close()
        if args.gallery:
            gallery(scene, pool, args.gallery)
        print(f"store {seed}: {pool.number} pictures", flush=True)


if __name__ == "__main__":
    main()
