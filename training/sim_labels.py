"""Exact boxes for rendered pictures of simulated stores: from a map of ids and the scene, by the label rule of `compose`.

PRODUCT: the front-most item of a column-and-row place with at least 30 % of its silhouette visible; the tight box of
what is visible. Items behind: ignored from that share on, else background. PRICE_TAG: tags at least 40 % visible. EMPTY: a
stretch of a shelf at least 6 cm wide where nothing stands over the whole depth; the box of its opening.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.model.store import Store
from shelfscan.sim.meshes import pack_mesh
from shelfscan.sim.packaging import PackSpec
from shelfscan.sim.scene import Scene, SceneItem, SceneTag
from training.detector.compose import EMPTY, IGNORE, PRICE_TAG, PRODUCT, VISIBLE, boxes_of_ids

Floats = NDArray[np.float64]
_FILL = {"bottle": 0.86, "bag": 0.97}
GAP_M = 0.06


def silhouette(scene: Scene, item: SceneItem, project: Floats, meshes: dict[str, Floats]) -> tuple[Floats, float]:
    """Outline's bounding box (4,) and area in pixels of a whole item, occluded or not. ``project`` is (3, 4)."""
    spec: PackSpec = scene.packs[item.sku]
    if item.sku not in meshes:
        meshes[item.sku] = pack_mesh(spec).vertices
    c, s = np.cos(item.yaw_rad), np.sin(item.yaw_rad)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    points = meshes[item.sku] @ turn.T + (item.x_m, item.y_m, item.z_m)
    q = np.hstack([points, np.ones((len(points), 1))]) @ project.T
    if (q[:, 2] < 0.05).any():
        return np.zeros(4), 0.0
    q = q[:, :2] / q[:, 2:]
    hull = cv2.convexHull(q.astype(np.float32))
    return np.array([*q.min(0), *q.max(0)]), float(cv2.contourArea(hull)) * _FILL.get(spec.shape, 1.0)


def labels(
    scene: Scene,
    store: Store,
    ids: NDArray[np.int32],
    items: Mapping[int, SceneItem],
    tags: Mapping[int, SceneTag],
    project: Floats,
) -> tuple[NDArray[np.float32], NDArray[np.int64], list[tuple[SceneItem, NDArray[np.float32], float]]]:
    """Boxes (N, 4), classes (N,), and the front items with their box and visible share.

    ``ids`` (H, W) holds, per pixel, a key of ``items`` or ``tags`` or 0; ``project`` takes ``map`` to pixels of that picture.
    """
    h, w = ids.shape
    boxes, classes = [], []
    fronts = []
    meshes: dict[str, Floats] = {}
    for key, (box, pixels) in boxes_of_ids(ids).items():
        small = float(min(box[2] - box[0], box[3] - box[1]))
        if small < 3:
            continue
        if key in tags:
            t = tags[key]
            part = pixels / max(_tag_area(t, project), 1.0)
            boxes.append(box)
            classes.append(PRICE_TAG if part >= 0.4 and small >= 6 else IGNORE)
        elif key in items:
            item = items[key]
            _, area = silhouette(scene, item, project, meshes)
            part = pixels / max(area, 1.0)
            if item.facing:
                ok = part >= VISIBLE and small >= 8
                boxes.append(box)
                classes.append(PRODUCT if ok else IGNORE)
                if ok:
                    fronts.append((item, box, min(part, 1.0)))
            elif part >= VISIBLE:
                boxes.append(box)
                classes.append(IGNORE)
    for box in gaps(scene, store, project, h, w):
        boxes.append(box)
        classes.append(EMPTY)
    if not boxes:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.int64), fronts
    return np.stack(boxes).astype(np.float32), np.array(classes, np.int64), fronts


def _tag_area(t: SceneTag, project: Floats) -> float:
    c, s = np.cos(t.yaw_rad), np.sin(t.yaw_rad)
    a = t.width_m / 2
    b = t.height_m / 2
    corners = np.array(
        [[t.x_m + u * a * c, t.y_m + u * a * s, t.z_m + v * b, 1.0] for u, v in ((-1, 1), (1, 1), (1, -1), (-1, -1))]
    )
    q = corners @ project.T
    return float(cv2.contourArea((q[:, :2] / q[:, 2:]).astype(np.float32)))


def gaps(scene: Scene, store: Store, project: Floats, height: int, width: int) -> list[NDArray[np.float32]]:
    """Boxes of the empty stretches in view."""
    by_bin: dict[str, list[SceneItem]] = {}
    for item in scene.items:
        by_bin.setdefault(item.bin_id, []).append(item)
    out = []
    for place in store.places.values():
        corners = (
            np.array([[x, 0, z, 1.0] for x, z in ((place.x0_m, place.z1_m), (place.x1_m, place.z0_m))]) @ place.T_map_face.T
        )
        q = corners @ project.T
        if (q[:, 2] < 0.1).any() or (q[:, 2] > 3).any():
            continue
        uv = q[:, :2] / q[:, 2:]
        if uv[:, 0].max() < 0 or uv[:, 0].min() > width or uv[:, 1].max() < 0 or uv[:, 1].min() > height:
            continue
        back = np.linalg.inv(place.T_map_face)
        edges = [place.x0_m, place.x1_m]
        for item in by_bin.get(place.bin_id, []):
            x = float((back @ (item.x_m, item.y_m, item.z_m, 1.0))[0])
            half = scene.packs[item.sku].width_m / 2
            edges += [x - half, x + half]
        taken = sorted((edges[i], edges[i + 1]) for i in range(2, len(edges), 2))
        x = place.x0_m
        free = []
        for a, b in taken:
            if a - x > GAP_M:
                free.append((x, a))
            x = max(x, b)
        if place.x1_m - x > GAP_M:
            free.append((x, place.x1_m))
        for a, b in free:
            q = np.array([[u, 0, v, 1.0] for u in (a, b) for v in (place.z0_m, place.z1_m)]) @ place.T_map_face.T @ project.T
            q = q[:, :2] / q[:, 2:]
            box = np.array([*q.min(0), *q.max(0)], np.float32)
            whole = float((box[2] - box[0]) * (box[3] - box[1]))
            box[[0, 2]] = box[[0, 2]].clip(0, width)
            box[[1, 3]] = box[[1, 3]].clip(0, height)
            left = float((box[2] - box[0]) * (box[3] - box[1]))
            if left > 400 and left > VISIBLE * whole:
                out.append(box)
    return out
