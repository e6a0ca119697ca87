"""How many people stay readable, and what looking costs: ``python -m benchmarks.people [--store STORE …] [--photos DIR …]``.

Stores are simulated ones; with people (``store build --people N``) it says which share of the pixels of heads and bodies is
not hidden in the captures of a tour, without people which share of the pictures is hidden for nothing. Real faces are those
that the package scikit-image carries. ``--photos``: photographs without people, looked at by the networks alone (no depth).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.adapters.pictures import read_picture
from shelfscan.bootstrap import make_people_finders, make_privacy
from shelfscan.bundle import load_bundle
from shelfscan.config import Config
from shelfscan.mission.plan import plan_mission
from shelfscan.model.imaging import FrameBundle
from shelfscan.perception.hidden import hidden_of, pixels_of
from shelfscan.sim.render import Renderer, SensorModel, capture_head
from shelfscan.sim.scene import scene_of
from shelfscan.sim.world import build_world


def tour(store: Path, config: Config) -> dict[str, object]:
    """A store's viewpoints, captured, looked at, and compared with the map of ids."""
    bundle, scene = load_bundle(store), scene_of(store)
    privacy = make_privacy(bundle.store, config)
    assert privacy is not None
    renderer, sensor = Renderer(build_world(scene, bundle.robot)), SensorModel(scene.sensing, 0)
    names = [renderer.model.geom(g).name for g in range(renderer.model.ngeom)]
    of = {r: np.array([n.startswith("person-") and n.split("/")[1] == r for n in names] + [False]) for r in ("head", "body")}
    shown, readable = dict.fromkeys(of, 0), dict.fromkeys(of, 0)
    pictures, worst, nobody, cpu = 0, 0.0, [], []
    for n, viewpoint in enumerate(plan_mission(bundle.store, bundle.robot, bundle.grid, mission_id="m").viewpoints):
        renderer.place(viewpoint.pose.matrix())
        frames = tuple(capture_head(renderer, sensor, h, n) for h in bundle.robot.rig.heads)
        begun = time.process_time()
        after = privacy.apply(FrameBundle("m", "v", "v", 0, viewpoint.pose.matrix(), frames))
        cpu.append(1e3 * (time.process_time() - begun) / len(frames))
        for f in after.frames:
            hidden = hidden_of(f.rgb_jpeg)
            assert hidden is not None
            for camera in ("left", "right", "rgb"):
                i = (f.head.rgb if camera == "rgb" else f.head.left).intrinsics
                ids = renderer.segmentation(f"{f.head.name}/{camera}", i.width_px, i.height_px)
                mask = pixels_of(getattr(hidden, camera), i.height_px, i.width_px)
                pictures += 1
                if not any(of[r][ids].any() for r in of):
                    nobody.append(float(mask.mean()))
                for role, is_it in of.items():
                    there = is_it[ids]
                    left = int((there & ~mask).sum())
                    shown[role] += int(there.sum())
                    readable[role] += left
                    worst = max(worst, left / max(1, int(there.sum())))
    renderer.close()
    return {
        "store": str(store), "people": len(scene.people), "pictures": pictures, "pixels": shown, "readable": readable,
        "worst_share": round(worst, 4), "pictures_without_people": len(nobody),
        "hidden_for_nothing": round(float(np.mean(nobody)), 4) if nobody else None,
        "of_them_touched": round(float(np.mean(np.array(nobody) > 0)), 4) if nobody else None,
        "cpu_ms_a_head": round(median(cpu), 1), "cpu_ms_a_head_most": round(max(cpu), 1),
    }  # fmt: skip


def real_faces(config: Config) -> dict[str, object]:
    """Which of scikit-image's pictures of people are found: two whole ones, 100 small faces on grey, 100 pieces without one."""
    import skimage

    finders = make_people_finders(config)

    def found(picture: NDArray[np.uint8], box: tuple[int, int, int, int]) -> bool:
        y0, y1, x0, x1 = box
        for f in finders:
            seen = f.find(np.ascontiguousarray(picture))
            near = cv2.resize(seen.astype(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
            if near[y0:y1, x0:x1].mean() > 0.5:
                return True
        return False

    whole = {
        "astronaut": found(skimage.data.astronaut(), (70, 170, 180, 270)),
        "camera": found(np.repeat(skimage.data.camera()[..., None], 3, axis=-1), (130, 195, 210, 270)),
    }
    small = np.load(Path(skimage.__file__).parent / "data" / "lfw_subset.npy")
    out: dict[str, object] = {"whole": whole}
    for side in (32, 64, 128):
        hits = []
        for face in small:
            picture = np.full((648, 486), 128, np.uint8)
            picture[240 : 240 + side, 180 : 180 + side] = cv2.resize((255 * face).astype(np.uint8), (side, side))
            hits.append(found(np.repeat(picture[..., None], 3, axis=-1), (240, 240 + side, 180, 180 + side)))
        out[f"lfw_{side}px"] = {"faces_found_of_100": sum(hits[:100]), "other_pieces_of_100": sum(hits[100:])}
    return out


def photographs(folder: Path, config: Config, most: int = 60) -> dict[str, object]:
    """Share of photographs without people that the networks alone would hide (no depth speaks for the shelf here)."""
    finders = make_people_finders(config)
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    out: dict[str, list[float]] = {f.description.split(" (")[0]: [] for f in finders}
    for path in files[:: max(1, len(files) // most)]:
        picture = read_picture(path)
        scale = 648 / max(picture.shape[:2])
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for f in finders:
            out[f.description.split(" (")[0]].append(float(f.find(np.asarray(small, np.uint8)).mean()))
    told = {
        n: {"touched": round(float(np.mean(np.array(v) > 0)), 3), "hidden": round(float(np.mean(v)), 4)} for n, v in out.items()
    }
    return {"photos": str(folder), "count": len(next(iter(out.values()))), **told}


def main() -> None:
    p = argparse.ArgumentParser(description="How many people stay readable, and what looking for them costs.")
    p.add_argument("--store", type=Path, nargs="*", default=[])
    p.add_argument("--photos", type=Path, nargs="*", default=[])
    args = p.parse_args()
    cv2.setNumThreads(1)
    config = Config()
    for store in args.store:
        print(json.dumps(tour(store, config)), flush=True)
    print(json.dumps(real_faces(config)), flush=True)
    for folder in args.photos:
        print(json.dumps(photographs(folder, config)), flush=True)


if __name__ == "__main__":
    main()
