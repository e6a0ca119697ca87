"""A plan on the map, to look at."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.model.bundle import Bundle
from shelfscan.model.geometry import apply
from shelfscan.model.mission import MissionPlan

#: About as many pixels on the longer side.
SIZE_PX = 1600
COLOURS = {"seen": (90, 160, 60), "blocked": (40, 40, 200), "occluded": (0, 120, 230), "out_of_view": (170, 60, 150)}
OTHER, WAY, DOCK, ZONE = (150, 150, 150), (190, 140, 40), (30, 30, 30), (200, 200, 255)


def draw(bundle: Bundle, plan: MissionPlan, zones: Sequence[Sequence[tuple[float, float]]] = ()) -> bytes:
    """PNG: shelves green where all will be seen, red blocked, orange hidden, violet out of view, grey left out."""
    grid = bundle.grid
    rows, cols = grid.cells.shape
    k = max(1.0, SIZE_PX / max(rows, cols))
    height, width = round(rows * k), round(cols * k)

    def px(x: float, y: float) -> tuple[int, int]:
        """Picture coordinates: the map's y runs up."""
        c, r = (x - grid.origin_m[0]) / grid.resolution_m * k, (y - grid.origin_m[1]) / grid.resolution_m * k
        return round(c), round(height - r)

    grey = np.select([grid.cells == 0, grid.cells == 100], [255, 90], 205).astype(np.uint8)
    picture: NDArray[np.uint8] = np.repeat(
        cv2.resize(np.flipud(grey), (width, height), interpolation=cv2.INTER_NEAREST)[..., None], 3, 2
    )
    picture = np.ascontiguousarray(picture)
    for corners in zones:
        cv2.fillPoly(picture, [np.array([px(*c) for c in corners], np.int32)], ZONE)
    thick = max(2, round(0.12 / grid.resolution_m * k))
    planned = {v.gondola_id for v in plan.viewpoints}
    for _, gondola in bundle.store.gondolas():
        for place in bundle.store.places_of(gondola.gondola_id):
            reason = plan.why.get(place.bin_id, "seen" if gondola.gondola_id in planned else "skipped")
            # Bins above each other lie on one line of the map: what is not seen is drawn over what is.
            if reason != "seen":
                continue
            _bin(picture, place, px, COLOURS["seen"], thick)
        for place in bundle.store.places_of(gondola.gondola_id):
            reason = plan.why.get(place.bin_id, "seen" if gondola.gondola_id in planned else "skipped")
            if reason != "seen":
                _bin(picture, place, px, COLOURS.get(reason, OTHER), thick)
    dock = bundle.robot.dock
    way = [px(dock.x_m, dock.y_m), *(px(v.pose.x_m, v.pose.y_m) for v in plan.viewpoints), px(dock.x_m, dock.y_m)]
    cv2.polylines(picture, [np.array(way, np.int32)], False, WAY, max(1, round(k / 4)), cv2.LINE_AA)
    for v in plan.viewpoints:
        at = px(v.pose.x_m, v.pose.y_m)
        nose = px(*(apply(v.pose.matrix(), np.array([0.0, 0.25, 0.0]))[:2]))
        cv2.circle(picture, at, max(2, round(k / 1.5)), WAY, -1, cv2.LINE_AA)
        cv2.line(picture, at, nose, WAY, 1, cv2.LINE_AA)
    cv2.rectangle(picture, *_square(px(dock.x_m, dock.y_m), max(4, round(0.2 / grid.resolution_m * k))), DOCK, -1)
    ok, data = cv2.imencode(".png", picture)
    assert ok
    return bytes(data)


def _bin(picture: NDArray[np.uint8], place, px, colour: tuple[int, int, int], thick: int) -> None:  # type: ignore[no-untyped-def]
    ends = apply(place.T_map_face, np.array([[place.x0_m, 0.05, 0.0], [place.x1_m, 0.05, 0.0]]))
    cv2.line(picture, px(*ends[0, :2]), px(*ends[1, :2]), colour, thick)


def _square(at: tuple[int, int], half: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return (at[0] - half, at[1] - half), (at[0] + half, at[1] + half)
