"""The demo store with people before its shelf, and what of them a camera sees: from a map of ids, as the simulator knows it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shelfscan.bundle import load_bundle
from shelfscan.model.geometry import Array
from shelfscan.model.imaging import Head, HeadFrame
from shelfscan.paths import shared_file
from shelfscan.perception.hidden import hidden_of, pixels_of
from shelfscan.sim.render import Renderer
from shelfscan.sim.scene import scene_of
from shelfscan.sim.world import build_world

#: At the only bay (x 0 to 1.2, face at y = 1, looking towards -y): facing the robot, the shelf, and walking past.
PEOPLE = (
    {"x_m": 0.25, "y_m": 0.68, "yaw_rad": 0.2, "height_m": 1.72, "pose": "stand", "look": 11},
    {"x_m": 0.95, "y_m": 0.70, "yaw_rad": 2.9, "height_m": 1.65, "pose": "reach", "look": 12},
    {"x_m": 1.9, "y_m": 0.2, "yaw_rad": 1.5, "height_m": 1.8, "pose": "walk", "look": 13},
)


def people_store(folder: Path, people: tuple[dict[str, object], ...] = PEOPLE) -> Path:
    """A copy of the demo store with people in it."""
    store = folder / "store"
    shutil.copytree(shared_file("maps", "demo"), store)
    path = store / "truth" / "scene.json"
    scene = json.loads(path.read_text())
    scene["people"] = [{"person_id": f"person-{n}", **p} for n, p in enumerate(people)]
    path.write_text(json.dumps(scene))
    return store


class Witness:
    """Sees which pixels of a capture show a head or a body. Close it; OpenGL wants it in one thread."""

    def __init__(self, store: Path) -> None:
        bundle = load_bundle(store)
        self.renderer = Renderer(build_world(scene_of(store), bundle.robot))
        names = [self.renderer.model.geom(g).name for g in range(self.renderer.model.ngeom)]
        roles = [n.split("/")[1] if n.startswith("person-") else "" for n in names]
        self._is = {role: np.array([r == role for r in roles] + [False]) for role in ("head", "body")}

    def sees(self, head: Head, camera: str, role: str) -> NDArray[np.bool_]:
        """(H, W) of a camera at the pose last given to ``renderer.place``."""
        i = (head.rgb if camera == "rgb" else head.left).intrinsics
        return np.asarray(self._is[role][self.renderer.segmentation(f"{head.name}/{camera}", i.width_px, i.height_px)])

    def readable(self, T_map_base: Array, frame: HeadFrame) -> dict[tuple[str, str], tuple[int, int]]:
        """By camera and role: pixels that show it, and how many of them are not hidden."""
        self.renderer.place(T_map_base)
        hidden = hidden_of(frame.rgb_jpeg)
        assert hidden is not None, "nobody was looked for"
        out = {}
        for camera in ("left", "right", "rgb"):
            for role in ("head", "body"):
                shown = self.sees(frame.head, camera, role)
                out[camera, role] = int(shown.sum()), int((shown & ~pixels_of(getattr(hidden, camera), *shown.shape)).sum())
        return out

    def close(self) -> None:
        self.renderer.close()
