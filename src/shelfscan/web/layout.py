"""A store's layout as the dashboard draws it."""

from __future__ import annotations

import numpy as np

from shelfscan.model.bundle import Bundle
from shelfscan.model.geometry import Pose2D, apply
from shelfscan.model.store import Aisle, Gondola
from shelfscan.web.schema import BinPlan, GondolaPlan, PoseOut, ShelfPlan, StoreOut

#: Room around the shelves, so that the robot's way is on the map too.
MARGIN_M = 0.4


def pose_out(pose: Pose2D) -> PoseOut:
    """A pose as the API gives it."""
    return PoseOut(x_m=pose.x_m, y_m=pose.y_m, yaw_rad=pose.yaw_rad)


def store_layout(bundle: Bundle) -> StoreOut:
    """Everything that is drawn of a store, and its bounds in ``map``."""
    corners = [(bundle.robot.dock.x_m, bundle.robot.dock.y_m)]
    for _, gondola in bundle.store.gondolas():
        T_map_face = gondola.face.matrix()
        # Half a standoff more than the cameras keep: the lane that is driven in front of the face.
        front = -(bundle.robot.standoff_max_m + bundle.robot.footprint_radius_m)
        for x in (0.0, gondola.length_m):
            for y in (front, gondola.depth_m):
                p = apply(T_map_face, np.array([x, y, 0.0]))
                corners.append((float(p[0]), float(p[1])))
    xs, ys = [c[0] for c in corners], [c[1] for c in corners]
    return StoreOut(
        site=bundle.store.site,
        bounds_m=(min(xs) - MARGIN_M, min(ys) - MARGIN_M, max(xs) + MARGIN_M, max(ys) + MARGIN_M),
        dock=pose_out(bundle.robot.dock),
        robot_radius_m=bundle.robot.footprint_radius_m,
        gondolas=[_gondola(bundle, aisle, gondola) for aisle, gondola in bundle.store.gondolas()],
    )


def _gondola(bundle: Bundle, aisle: Aisle, gondola: Gondola) -> GondolaPlan:
    shelves: list[ShelfPlan] = []
    bins: list[BinPlan] = []
    for bay in gondola.bays:
        for index, shelf in enumerate(sorted(bay.shelves, key=lambda s: s.z_m)):
            shelves.append(ShelfPlan(shelf_id=shelf.shelf_id, x0_m=bay.x_m, x1_m=bay.x_m + bay.width_m, z_m=shelf.z_m))
            for b in shelf.bins:
                place = bundle.store.places[b.bin_id]
                line = bundle.planogram.get(b.bin_id)
                product = bundle.catalogue.get(line.sku) if line else None
                bins.append(
                    BinPlan(
                        bin_id=b.bin_id,
                        bay_id=bay.bay_id,
                        shelf_id=shelf.shelf_id,
                        shelf_index=index,
                        x0_m=round(place.x0_m, 4),
                        x1_m=round(place.x1_m, 4),
                        z0_m=round(place.z0_m, 4),
                        z1_m=round(place.z1_m, 4),
                        sku=line.sku if line else "",
                        name=product.name if product else "",
                        capacity_units=line.capacity_units if line else 0,
                    )
                )
    return GondolaPlan(
        gondola_id=gondola.gondola_id,
        aisle_id=aisle.aisle_id,
        face=pose_out(gondola.face),
        length_m=gondola.length_m,
        depth_m=gondola.depth_m,
        height_m=gondola.height_m,
        bays=[b.bay_id for b in gondola.bays],
        shelves=shelves,
        bins=bins,
    )
