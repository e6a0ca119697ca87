"""The layout of a store: aisles > gondolas > bays > shelves > bins.

A *gondola* here is one face of shelving with its own face frame (see `shelfscan.model.geometry`):
``x`` runs to the shopper's right, ``y`` into the shelf, ``z`` up. All lengths in metres.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from shelfscan.model.geometry import Array, Pose2D, apply


@dataclass(frozen=True, slots=True)
class Bin:
    """A stretch of one shelf planned for one SKU: ``x_m`` from the bay's left edge, full depth and height."""

    bin_id: str
    x_m: float
    width_m: float


@dataclass(frozen=True, slots=True)
class Shelf:
    """One shelf board of a bay: ``z_m`` is its upper surface; ``clear_height_m`` the usable height above it."""

    shelf_id: str
    z_m: float
    clear_height_m: float
    depth_m: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Bay:
    """One bay (module): ``x_m`` from the gondola's left end."""

    bay_id: str
    x_m: float
    width_m: float
    shelves: tuple[Shelf, ...]


@dataclass(frozen=True, slots=True)
class Gondola:
    """One face of shelving; ``face`` is the face frame's pose in ``map`` (yaw: direction of its x axis)."""

    gondola_id: str
    face: Pose2D
    depth_m: float
    height_m: float
    bays: tuple[Bay, ...]

    @property
    def length_m(self) -> float:
        """Length of the face along its x axis."""
        return max((b.x_m + b.width_m for b in self.bays), default=0.0)


@dataclass(frozen=True, slots=True)
class Aisle:
    """An aisle and the faces a robot sees from it."""

    aisle_id: str
    gondolas: tuple[Gondola, ...]


@dataclass(frozen=True)
class BinPlace:
    """A bin with its place in the store: front rectangle in the face frame, metres.

    The front plane is ``y = 0``; x in ``x0_m..x1_m``, z in ``z0_m..z1_m``.
    """

    bin_id: str
    shelf_id: str
    bay_id: str
    gondola_id: str
    aisle_id: str
    x0_m: float
    x1_m: float
    z0_m: float
    z1_m: float
    depth_m: float
    T_map_face: Array

    @property
    def front_centre_map_m(self) -> tuple[float, float, float]:
        """Centre of the bin's front in ``map``."""
        p = apply(self.T_map_face, np.array([(self.x0_m + self.x1_m) / 2, 0.0, (self.z0_m + self.z1_m) / 2]))
        return (float(p[0]), float(p[1]), float(p[2]))


def on_shelves(places: Iterable[BinPlace], up_m: Mapping[str, float]) -> list[BinPlace]:
    """Bins where their shelves were found; ``up_m``: how far above the layout's height, metres, by shelf id."""
    return [
        replace(p, z0_m=p.z0_m + up_m[p.shelf_id], z1_m=p.z1_m + up_m[p.shelf_id]) if up_m.get(p.shelf_id) else p
        for p in places
    ]


class PlacesAlong:
    """Bins of one face by where along it they are, up to ``beside_m`` beside their ends: few are near a place."""

    CELL_M = 0.25

    def __init__(self, places: Iterable[BinPlace], beside_m: float) -> None:
        self._cells: dict[int, list[BinPlace]] = {}
        for p in places:
            # A hair more, so that no rounding leaves one out.
            first, last = (math.floor(x / self.CELL_M) for x in (p.x0_m - beside_m - 1e-6, p.x1_m + beside_m + 1e-6))
            for cell in range(first, last + 1):
                self._cells.setdefault(cell, []).append(p)

    def near(self, x_m: float) -> Sequence[BinPlace]:
        """All bins within ``beside_m`` of a place along the face, and some others, in the given order."""
        return self._cells.get(math.floor(x_m / self.CELL_M), ())


@dataclass(frozen=True)
class Store:
    """A store's layout. ``frame`` is always ``map``."""

    site: str
    aisles: tuple[Aisle, ...]
    frame: str = "map"

    def gondolas(self) -> Iterator[tuple[Aisle, Gondola]]:
        """All faces with their aisle, in file order."""
        for aisle in self.aisles:
            for gondola in aisle.gondolas:
                yield aisle, gondola

    @cached_property
    def places(self) -> dict[str, BinPlace]:
        """Every bin by id, with its place; in file order."""
        out: dict[str, BinPlace] = {}
        for aisle, gondola in self.gondolas():
            T_map_face = gondola.face.matrix()
            for bay in gondola.bays:
                for shelf in bay.shelves:
                    for b in shelf.bins:
                        x0 = bay.x_m + b.x_m
                        out[b.bin_id] = BinPlace(
                            bin_id=b.bin_id,
                            shelf_id=shelf.shelf_id,
                            bay_id=bay.bay_id,
                            gondola_id=gondola.gondola_id,
                            aisle_id=aisle.aisle_id,
                            x0_m=x0,
                            x1_m=x0 + b.width_m,
                            z0_m=shelf.z_m,
                            z1_m=shelf.z_m + shelf.clear_height_m,
                            depth_m=shelf.depth_m,
                            T_map_face=T_map_face,
                        )
        return out

    def places_of(self, gondola_id: str) -> list[BinPlace]:
        """The bins of one face, in file order."""
        return [p for p in self.places.values() if p.gondola_id == gondola_id]
