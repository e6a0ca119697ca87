"""Simulated stores: parallel aisles of gondolas, their shelves, and the occupancy map."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from shelfscan.errors import BadInput
from shelfscan.model.geometry import Pose2D
from shelfscan.model.grid import OccupancyGrid
from shelfscan.model.store import Aisle, Bay, Gondola, Shelf, Store
from shelfscan.sim.scene import SceneBox, SceneLight

AISLE_WIDTH_M = 2.0
BAY_WIDTH_M = 1.2
SHELF_DEPTH_M = 0.45
BACK_M = 0.03
BOARD_M = 0.03
#: Height of the strip on a shelf's front edge that carries the price tags.
EDGE_M = 0.045
GONDOLA_HEIGHT_M = 1.95
#: Upper surfaces of the shelf boards.
SHELVES_M = (0.12, 0.50, 0.86, 1.20, 1.52)
#: Free floor beyond the ends of the gondolas, for turning.
END_M = 1.6
RESOLUTION_M = 0.05


@dataclass(frozen=True, slots=True)
class Size:
    """How many aisles, faces an aisle, and bays a face."""

    aisles: int
    faces: int
    bays: int
    sku_limit: int


#: small, medium and large are the contract's (600, 5,000 and 40,000 facings); tiny is for trying things out.
#: ``sku_limit`` is little more than there are bins, so that a store shows most of its categories.
SIZES = {"tiny": Size(1, 1, 1, 40), "small": Size(1, 2, 5, 330), "medium": Size(4, 2, 10, 2000), "large": Size(33, 2, 10, 2500)}


@dataclass(frozen=True)
class Layout:
    """A store without products, its map, dock, furniture and lamps; ``bounds``: x0, y0, x1, y1 of its walls, metres."""

    store: Store
    grid: OccupancyGrid
    dock: Pose2D
    boxes: tuple[SceneBox, ...]
    lights: tuple[SceneLight, ...]
    bounds: tuple[float, float, float, float]


def make_layout(size: str, seed: int) -> Layout:
    """The layout of a size; the seed only colours the furniture. Raises `BadInput` for an unknown size."""
    if size not in SIZES:
        raise BadInput(f"size is {size!r}; expected one of {', '.join(SIZES)}")
    s = SIZES[size]
    length = s.bays * BAY_WIDTH_M
    pitch = AISLE_WIDTH_M + 2 * (SHELF_DEPTH_M + BACK_M)
    aisles = []
    for k in range(s.aisles):
        y = k * pitch
        name = f"A{k + 1:02d}"
        faces = [_gondola(f"{name}-L", Pose2D(0.0, y + AISLE_WIDTH_M / 2, 0.0), s.bays)]
        if s.faces == 2:
            faces.append(_gondola(f"{name}-R", Pose2D(length, y - AISLE_WIDTH_M / 2, math.pi), s.bays))
        aisles.append(Aisle(name, tuple(faces)))
    store = Store(f"sim-{size}-{seed}", tuple(aisles))
    low_y = -AISLE_WIDTH_M / 2 - (SHELF_DEPTH_M + BACK_M if s.faces == 2 else 0.2)
    high_y = (s.aisles - 1) * pitch + AISLE_WIDTH_M / 2 + SHELF_DEPTH_M + BACK_M
    bounds = (-END_M, low_y, length + END_M, high_y)
    rng = np.random.default_rng([seed, 11])
    _colours(rng)
    boxes = furnished(store, bounds, seed)
    lights = tuple(
        SceneLight(float(x), float(k * pitch), 3.2, float(rng.uniform(0.9, 1.1)))
        for k in range(s.aisles)
        for x in np.arange(0.6, length, 2.4)
    )
    return Layout(store, _grid(bounds, store), Pose2D(-END_M + 0.6, 0.0, 0.0), tuple(boxes), lights, bounds)


def _colours(rng: np.random.Generator) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of metal and of shelf edges."""
    metal = tuple(float(v) for v in np.full(3, rng.uniform(0.55, 0.9)) * rng.uniform(0.92, 1.0, 3))
    return metal, tuple(float(v) for v in rng.uniform(0.25, 0.9, 3))


def furnished(store: Store, bounds: tuple[float, float, float, float], seed: int) -> list[SceneBox]:
    """Walls and the furniture of every face, its boards where ``store`` has them; the seed colours them."""
    metal, edge = _colours(np.random.default_rng([seed, 11]))
    boxes = _walls(bounds)
    for _, gondola in store.gondolas():
        boxes += _furniture(gondola, metal, edge)
    return boxes


def _gondola(name: str, face: Pose2D, bays: int) -> Gondola:
    tops = (*(z - EDGE_M for z in SHELVES_M[1:]), GONDOLA_HEIGHT_M - 0.03)
    made = []
    for b in range(bays):
        bay = f"{name}-B{b + 1:02d}"
        shelves = tuple(
            Shelf(f"{bay}-S{n + 1}", z, round(top - z, 4), SHELF_DEPTH_M, ())
            for n, (z, top) in enumerate(zip(SHELVES_M, tops, strict=True))
        )
        made.append(Bay(bay, round(b * BAY_WIDTH_M, 4), BAY_WIDTH_M, shelves))
    return Gondola(name, face, SHELF_DEPTH_M + BACK_M, GONDOLA_HEIGHT_M, tuple(made))


def face_box(
    gondola: Gondola, kind: str, low: tuple[float, float, float], high: tuple[float, float, float], rgb: tuple[float, ...]
) -> SceneBox:
    """A box given by two corners in the face frame."""
    a, b = np.array(low), np.array(high)
    c, h = (a + b) / 2, (b - a) / 2
    p = gondola.face.matrix() @ np.array([*c, 1.0])
    r, g, bl = rgb
    x, y, z, hx, hy, hz = (round(float(v), 5) for v in (p[0], p[1], c[2], *h))
    return SceneBox(kind, x, y, z, hx, hy, hz, gondola.face.yaw_rad, (r, g, bl))


def _furniture(g: Gondola, metal: tuple[float, ...], edge: tuple[float, ...]) -> list[SceneBox]:
    """Back panel, plinth, boards with their edge strips, and uprights between bays."""
    length, depth = g.length_m, SHELF_DEPTH_M
    dark = tuple(0.8 * v for v in metal)
    boxes = [
        face_box(g, "back", (0, depth, 0), (length, depth + BACK_M, g.height_m), tuple(0.92 * v for v in metal)),
        face_box(g, "shelf", (0, 0.03, 0), (length, depth, min(b.shelves[0].z_m for b in g.bays) - BOARD_M), dark),
        face_box(g, "shelf", (-0.02, 0.0, 0), (-0.002, depth, g.height_m), dark),
        face_box(g, "shelf", (length + 0.002, 0.0, 0), (length + 0.02, depth, g.height_m), dark),
    ]
    for bay in g.bays:
        for shelf in bay.shelves:
            x0, x1, z = bay.x_m, bay.x_m + bay.width_m, shelf.z_m
            boxes.append(face_box(g, "shelf", (x0, 0.0, z - BOARD_M), (x1, depth, z), metal))
            boxes.append(face_box(g, "edge", (x0, -0.006, z - EDGE_M), (x1, 0.0, z), edge))
        x = bay.x_m + bay.width_m
        boxes.append(face_box(g, "upright", (x - 0.012, depth - 0.03, 0), (x + 0.012, depth, g.height_m), dark))
    return boxes


def _walls(bounds: tuple[float, float, float, float]) -> list[SceneBox]:
    x0, y0, x1, y1 = bounds
    cx, cy, hx, hy, t = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2, 0.05
    wall = (0.85, 0.84, 0.8)
    return [
        SceneBox("wall", x0 - t, cy, 1.6, t, hy + 2 * t, 1.6, 0.0, wall),
        SceneBox("wall", x1 + t, cy, 1.6, t, hy + 2 * t, 1.6, 0.0, wall),
        SceneBox("wall", cx, y0 - t, 1.6, hx, t, 1.6, 0.0, wall),
        SceneBox("wall", cx, y1 + t, 1.6, hx, t, 1.6, 0.0, wall),
        # The ceiling: over the shelves of the next aisles one sees it, where a single aisle has its walls.
        SceneBox("wall", cx, cy, 3.2 + 2 * t, hx, hy, t, 0.0, wall),
    ]


def _grid(bounds: tuple[float, float, float, float], store: Store) -> OccupancyGrid:
    x0, y0, x1, y1 = bounds
    margin = 4
    cols = math.ceil((x1 - x0) / RESOLUTION_M) + 2 * margin
    rows = math.ceil((y1 - y0) / RESOLUTION_M) + 2 * margin
    origin = (round(x0 - margin * RESOLUTION_M, 4), round(y0 - margin * RESOLUTION_M, 4))
    cells = np.full((rows, cols), -1, np.int8)
    xs = origin[0] + (np.arange(cols) + 0.5) * RESOLUTION_M
    ys = origin[1] + (np.arange(rows) + 0.5) * RESOLUTION_M
    inside = ((xs > x0) & (xs < x1))[None, :] & ((ys > y0) & (ys < y1))[:, None]
    near = ((xs > x0 - 0.1) & (xs < x1 + 0.1))[None, :] & ((ys > y0 - 0.1) & (ys < y1 + 0.1))[:, None]
    cells[near] = 100
    cells[inside] = 0
    for _, g in store.gondolas():
        corners = g.face.matrix() @ np.array([[-0.02, 0, 0, 1], [g.length_m + 0.02, g.depth_m, 0, 1]]).T
        gx, gy = np.sort(corners[0]), np.sort(corners[1])
        cells[np.ix_((ys > gy[0]) & (ys < gy[1]), (xs > gx[0]) & (xs < gx[1]))] = 100
    return OccupancyGrid(cells, RESOLUTION_M, origin)
