"""The simulator's own description of a store's true state, kept in ``truth/scene.json``.

The store builder writes it, the MuJoCo world reads it, nobody else may. Everything is in ``map``, metres and
radians. Item poses are the centre of the item's box; ``roll``/``pitch`` are zero unless an item has fallen.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shelfscan.errors import BadInput
from shelfscan.sim.packaging import PackSpec


@dataclass(frozen=True, slots=True)
class SceneItem:
    """One physical item. ``facing`` is True for the front-most item of its column and row."""

    item_id: str
    sku: str
    x_m: float
    y_m: float
    z_m: float
    yaw_rad: float
    bin_id: str
    facing: bool
    roll_rad: float = 0.0
    pitch_rad: float = 0.0


@dataclass(frozen=True, slots=True)
class SceneTag:
    """A price tag on a shelf edge; (x, y, z) is its centre, yaw that of the face frame's x axis."""

    bin_id: str
    sku: str
    x_m: float
    y_m: float
    z_m: float
    yaw_rad: float
    width_m: float
    height_m: float
    price_text: str
    name: str
    item_text: str
    ean: str


@dataclass(frozen=True, slots=True)
class SceneBox:
    """A box of furniture, wall or clutter.

    ``kind`` selects the material: shelf, back, upright, edge, wall, floor, person or trolley.
    """

    kind: str
    x_m: float
    y_m: float
    z_m: float
    half_x_m: float
    half_y_m: float
    half_z_m: float
    yaw_rad: float
    rgb: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class ScenePerson:
    """Somebody in the store: where the feet are, where the front is turned (yaw 0 faces -y), how tall and in which pose.

    ``look`` seeds face, hair and clothes (`shelfscan.sim.people`).
    """

    person_id: str
    x_m: float
    y_m: float
    yaw_rad: float
    height_m: float
    pose: str
    look: int


@dataclass(frozen=True, slots=True)
class SceneLight:
    """A ceiling lamp pointing down; ``intensity`` 1 is normal."""

    x_m: float
    y_m: float
    z_m: float
    intensity: float


@dataclass(frozen=True)
class Sensing:
    """How the sensors err; zero everywhere is a perfect robot. Level 0 uses the defaults given here."""

    pose_sigma_m: float = 0.0
    pose_sigma_rad: float = 0.0
    pose_correlation_m: float = 5.0
    stereo_vertical_px: float = 0.0
    baseline_scale: float = 1.0
    exposure_ev: float = 0.0
    noise_sigma: float = 2.0
    motion_blur_px: float = 0.0
    glare_fraction: float = 0.0


@dataclass(frozen=True)
class Scene:
    """A whole store as it truly is.

    ``damage``: the kind of damage (see `shelfscan.sim.condition`) by item. ``glare``: items that mirror a lamp, and where on
    their front a camera right before its middle sees that: shares of half its width and height, from the middle.
    """

    seed: int
    size: str
    messy: int
    packs: dict[str, PackSpec]
    items: tuple[SceneItem, ...]
    tags: tuple[SceneTag, ...]
    boxes: tuple[SceneBox, ...]
    lights: tuple[SceneLight, ...]
    sensing: Sensing = field(default_factory=Sensing)
    people: tuple[ScenePerson, ...] = ()
    damage: dict[str, str] = field(default_factory=dict)
    glare: dict[str, tuple[float, float]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write as JSON (stable order, byte for byte the same for the same scene)."""
        document = asdict(self)
        # Stores without these keep the bytes they had before there was such a thing.
        for late in ("people", "damage", "glare"):
            if not document[late]:
                del document[late]
        path.write_text(json.dumps(document, separators=(",", ":"), sort_keys=True))

    @staticmethod
    def load(path: Path) -> Scene:
        """Read what `save` wrote."""
        d: dict[str, Any] = json.loads(path.read_text())
        return Scene(
            seed=d["seed"],
            size=d["size"],
            messy=d["messy"],
            packs={k: PackSpec(**v) for k, v in d["packs"].items()},
            items=tuple(SceneItem(**i) for i in d["items"]),
            tags=tuple(SceneTag(**t) for t in d["tags"]),
            boxes=tuple(SceneBox(**{**b, "rgb": tuple(b["rgb"])}) for b in d["boxes"]),
            lights=tuple(SceneLight(**i) for i in d["lights"]),
            sensing=Sensing(**d["sensing"]),
            people=tuple(ScenePerson(**p) for p in d.get("people", ())),
            damage=dict(d.get("damage", {})),
            glare={i: (float(u), float(v)) for i, (u, v) in d.get("glare", {}).items()},
        )


def scene_of(bundle_root: Path) -> Scene:
    """The true state of a simulated store bundle. Raises `BadInput` when the bundle is not a simulated one."""
    path = bundle_root / "truth" / "scene.json"
    if not path.is_file():
        raise BadInput(f"{bundle_root}: not a simulated store (no {path.name}); a real robot needs ros.robot: real")
    try:
        return Scene.load(path)
    except (ValueError, KeyError, TypeError) as e:
        raise BadInput(f"{path}: not a scene this version can read: {e}") from e
