"""Shelf pictures composed from textured quads under a true pinhole camera, with exact boxes.

Every item is a billboard (its front) with, for boxes, the side the camera sees, painted far to near together with
a map of ids, so occlusion is exact. Label rule, the same for rendered pictures: the front-most item of each
column-and-row place is a PRODUCT when at least 30 % of its silhouette is visible; its box is the tight box of the
visible part. Items behind it are ignored when as much of them is visible, else background. Tags are PRICE_TAG; an empty
stretch of a shelf is EMPTY, its box the opening between neighbours, board and the shelf above.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from training.detector.art import Art, Image, paint, procedural, tag

PRODUCT, PRICE_TAG, EMPTY, IGNORE = 0, 1, 2, -1
VISIBLE = 0.3

ArtMaker = Callable[[np.random.Generator], list[Art]]


@dataclass
class Sample:
    """A picture (H, W, 3) uint8 RGB with boxes (N, 4) float32 in pixels and classes (N,) int64, -1 to be ignored."""

    picture: Image
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]


@dataclass
class _Canvas:
    camera: NDArray[np.float64]  # (3, 4) projection of x right, y into the shelf, z up
    height: int
    width: int
    image: NDArray[np.uint8] = field(init=False)
    ids: NDArray[np.int32] = field(init=False)

    def __post_init__(self) -> None:
        self.image = np.zeros((self.height, self.width, 3), np.uint8)
        self.ids = np.zeros((self.height, self.width), np.int32)

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        p = np.hstack([points, np.ones((len(points), 1))]) @ self.camera.T
        return p[:, :2] / np.maximum(p[:, 2:], 1e-6)

    def quad(self, corners: NDArray[np.float64], texture: Image, shade: float, ident: int) -> None:
        """Paint ``texture`` on four corners (top left, top right, bottom right, bottom left), metres."""
        q = self.project(corners)
        x0, y0 = np.floor(q.min(0)).astype(int)
        x1, y1 = np.ceil(q.max(0)).astype(int) + 1
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, self.width), min(y1, self.height)
        if x1 - x0 < 1 or y1 - y0 < 1 or x1 - x0 > 6000:
            return
        h, w = texture.shape[:2]
        shrink = max(h / max(np.ptp(q[:, 1]), 1), w / max(np.ptp(q[:, 0]), 1))
        if shrink > 2.0:
            size = (max(2, int(w * 1.3 / shrink)), max(2, int(h * 1.3 / shrink)))
            texture = cv2.resize(texture, size, interpolation=cv2.INTER_AREA)
            h, w = texture.shape[:2]
        src = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
        m = cv2.getPerspectiveTransform(src, (q - (x0, y0)).astype(np.float32))
        warped = cv2.warpPerspective(texture, m, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
        alpha = warped[..., 3:].astype(np.float32) / 255
        roi = self.image[y0:y1, x0:x1]
        colour = warped[..., :3].astype(np.float32) * shade
        roi[:] = (roi * (1 - alpha) + colour * 1.0 * (alpha if texture.shape[2] == 4 else 1)).clip(0, 255).astype(np.uint8)
        self.ids[y0:y1, x0:x1][alpha[..., 0] > 0.5] = ident


def _solid(colour: NDArray[np.float64], rng: np.random.Generator, noise: float = 4.0, size: int = 32) -> Image:
    img = (colour + rng.normal(0, noise, (size, size, 1))).clip(0, 255).astype(np.uint8)
    return np.dstack([img, np.full((size, size), 255, np.uint8)])


def _camera(
    rng: np.random.Generator, robot: bool, h: int, w: int, centre_x: float, centre_z: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if robot:
        focal = 0.5 * 1296 / np.tan(np.radians(40)) * rng.uniform(0.9, 1.15)
        distance = rng.uniform(0.72, 1.05)
        turn = np.radians(rng.normal(0, [2.5, 2.0, 1.5]))
    else:
        distance = rng.uniform(0.7, 3.0)
        focal = distance * rng.uniform(250, 1000)
        turn = np.radians(rng.normal(0, [14, 7, 2.5]).clip(-32, 32))
    yaw, pitch, roll = turn
    r0 = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # x right, y down, z forward (into the shelf)
    ry, _ = cv2.Rodrigues(np.array([0.0, yaw, 0.0]))
    rx, _ = cv2.Rodrigues(np.array([pitch, 0.0, 0.0]))
    rz, _ = cv2.Rodrigues(np.array([0.0, 0.0, roll]))
    rotation = rz @ rx @ ry @ r0
    forward = rotation.T @ np.array([0.0, 0.0, 1.0])
    eye = np.array([centre_x, 0.0, centre_z]) - forward * (distance / max(forward[1], 0.3))
    k = np.array([[focal, 0, w / 2], [0, focal, h / 2], [0, 0, 1.0]])
    return k @ np.hstack([rotation, -(rotation @ eye)[:, None]]), eye


def _faces(
    eye: NDArray[np.float64], x0: float, x1: float, y: float, z0: float, z1: float, depth: float
) -> list[tuple[str, NDArray[np.float64]]]:
    def quad(*c: tuple[float, float, float]) -> NDArray[np.float64]:
        return np.array(c, np.float64)

    out = []
    if eye[0] < x0:
        out.append(("side", quad((x0, y + depth, z1), (x0, y, z1), (x0, y, z0), (x0, y + depth, z0))))
    if eye[0] > x1:
        out.append(("side", quad((x1, y, z1), (x1, y + depth, z1), (x1, y + depth, z0), (x1, y, z0))))
    if eye[2] > z1:
        out.append(("top", quad((x0, y + depth, z1), (x1, y + depth, z1), (x1, y, z1), (x0, y, z1))))
    out.append(("front", quad((x0, y, z1), (x1, y, z1), (x1, y, z0), (x0, y, z0))))
    return out


def default_arts(rng: np.random.Generator) -> list[Art]:
    """Some 40 packages for one picture, in families that share a base colour."""
    out: list[Art] = []
    for _ in range(14):
        base = tuple(int(v) for v in rng.integers(20, 250, 3)) if rng.random() < 0.5 else None
        first = procedural(rng, base)  # type: ignore[arg-type]
        out.append(first)
        for _ in range(rng.integers(0, 4)):
            other = procedural(rng, base)  # type: ignore[arg-type]
            out.append(other)
    return out


def compose(
    rng: np.random.Generator,
    make: ArtMaker = default_arts,
    tags: list[Image] | None = None,
    height: int = 1296,
    width: int = 992,
    robot: bool | None = None,
) -> Sample:
    """One shelf picture before the camera's faults (`spoil` adds those)."""
    robot = bool(rng.random() < 0.6) if robot is None else robot
    centre_z = rng.uniform(0.4, 1.6)
    camera, eye = _camera(rng, robot, height, width, 0.0, centre_z)
    canvas = _Canvas(camera, height, width)
    corners = np.array([[u, v] for u in (0, width) for v in (0, height)], np.float64)
    # the stretch of the front plane that is seen
    to_plane = np.linalg.inv(camera[:, [0, 2, 3]])
    seen = np.hstack([corners, np.ones((4, 1))]) @ to_plane.T
    seen = seen[:, :2] / seen[:, 2:]
    left, right = float(np.clip(seen[:, 0].min(), -3, 0)) - 0.1, float(np.clip(seen[:, 0].max(), 0, 3)) + 0.1
    bottom, top = max(-0.05, float(seen[:, 1].min()) - 0.1), min(2.4, float(seen[:, 1].max()) + 0.3)

    depth = rng.uniform(0.3, 0.6)
    wall = np.array([rng.uniform(90, 245)] * 3) + rng.normal(0, 10, 3)
    metal = np.array([rng.uniform(60, 250)] * 3) + rng.normal(0, 14, 3)
    ambient = rng.uniform(0.7, 1.25)
    dark = rng.uniform(0.15, 0.65)
    canvas.image[:] = (rng.uniform(20, 200, 3) * ambient).clip(0, 255)
    floor = _solid(rng.uniform(60, 210, 3), rng, 8)
    canvas.quad(np.array([[-5, 0.6, 0], [5, 0.6, 0], [5, -0.6, 0], [-5, -0.6, 0]]), floor, ambient, 0)
    back_z = rng.uniform(1.6, 2.3)
    canvas.quad(
        np.array([[left, depth, back_z], [right, depth, back_z], [right, depth, 0], [left, depth, 0]]),
        _solid(wall, rng),
        ambient * (1 - dark),
        0,
    )
    if rng.random() < 0.5:  # header art over the shelves
        art = np.dstack([paint(rng, 500, 100), np.full((100, 500), 255, np.uint8)])
        canvas.quad(
            np.array([[left, 0, back_z + 0.3], [right, 0, back_z + 0.3], [right, 0, back_z], [left, 0, back_z]]),
            art,
            ambient,
            0,
        )

    arts = make(rng)
    boards = [rng.uniform(0.08, 0.25)]
    while boards[-1] < back_z - 0.12:
        boards.append(boards[-1] + rng.uniform(0.18, 0.5))
    edge = rng.uniform(0.025, 0.05)
    quads: list[tuple[float, NDArray[np.float64], Image, float, int]] = []
    truth: dict[int, tuple[int, float]] = {}  # id -> class, area of the whole silhouette
    empties: list[tuple[NDArray[np.float64]]] = []
    ident = 0
    order = 0.0
    tag_pool = tags or []
    house_tag = tag(rng)
    tag_w, tag_h = rng.uniform(0.035, 0.09), 0.0
    tag_h = min(edge * 1.1, tag_w * rng.uniform(0.45, 0.8))
    missing = rng.uniform(0.02, 0.14)
    pulled = rng.uniform(0.1, 1.0)
    cut = rng.uniform(0.8, 1.4)  # bay width
    trays = float(rng.choice([0.0, 0.0, 0.15, 0.6]))

    for level, z in enumerate(boards):
        above = boards[level + 1] - edge if level + 1 < len(boards) else back_z + rng.uniform(0, 0.3)
        if above < bottom or z > top or above - z < 0.06:
            continue
        board = _solid(metal, rng)
        quads.append(
            (
                10.0 + depth,
                np.array([[left, depth, z], [right, depth, z], [right, 0, z], [left, 0, z]]),
                board,
                ambient * 0.7,
                0,
            )
        )
        under = z - edge
        quads.append(
            (
                10.0 + depth,
                np.array([[left, 0, under], [right, 0, under], [right, depth, under], [left, depth, under]]),
                board,
                ambient * 0.3,
                0,
            )
        )
        strip = _solid(metal if rng.random() < 0.7 else rng.uniform(30, 255, 3), rng)
        if rng.random() < 0.35:  # a printed strip along the edge: no product, however colourful
            w_px = int(np.clip((right - left) * 400, 60, 2400))
            piece = paint(rng, max(24, min(int(rng.uniform(60, 500)), w_px)), 24)
            strip = np.tile(piece, (1, -(-w_px // piece.shape[1]), 1))[:, :w_px]
            strip = np.dstack([strip, np.full(strip.shape[:2], 255, np.uint8)])
        quads.append((-0.01, np.array([[left, 0, z], [right, 0, z], [right, 0, under], [left, 0, under]]), strip, ambient, 0))
        x = left + rng.uniform(0, 0.15)
        clear = above - z
        fit = [a for a in arts if a.height_m < clear * 0.97] or [arts[0]]
        hugging = rng.random() < 0.8
        while x < right:
            art = fit[rng.integers(len(fit))]
            scale = min(1.0, clear * 0.95 / art.height_m)
            w, h, d = art.width_m * scale, art.height_m * scale, min(art.depth_m, depth)
            columns = int(rng.integers(1, 6))
            stack = int(min(clear * 0.97 // h, rng.integers(1, 4) if art.shape in ("box", "can", "bag") else 1, 3))
            stack = max(stack, 1)
            gap = rng.uniform(0.0, 0.006) if hugging else rng.uniform(0.0, 0.03)
            start = x
            faced = rng.random() < 0.5
            rows = max(1, int(depth // d))
            if rng.random() < missing:
                span = columns * (w + gap)
                shrink = rng.uniform(0, 0.01)
                empties.append(
                    (
                        np.array(
                            [
                                [start + shrink, 0, above],
                                [start + span - shrink, 0, above],
                                [start + span - shrink, 0, z],
                                [start + shrink, 0, z],
                            ]
                        ),
                    )
                )
                x += span
            else:
                for _ in range(columns):
                    taken = 0 if faced else int(min(rng.geometric(1 - 0.45 * pulled) - 1, rows - 1))
                    y = rng.uniform(0, 0.02) + taken * d
                    dx = rng.normal(0, 0.002)
                    for row in range(min(rows - taken, 3)):
                        yy = y + row * d
                        if yy + d > depth + 0.02:
                            break
                        for floor_no in range(stack):
                            if floor_no == stack - 1 and stack > 1 and rng.random() < 0.15:
                                continue
                            z0 = z + floor_no * h
                            shade = (
                                ambient * (1 - dark * min(yy / depth, 1.0) ** 0.7) * (1 - 0.25 * dark * (floor_no == stack - 1))
                            )
                            front = row == 0
                            ident += 1
                            truth[ident] = (PRODUCT if front else IGNORE, 0.0)
                            for name, c in _faces(eye, x + dx, x + dx + w, yy, z0, z0 + h, d):
                                texture = art.texture
                                tone = shade
                                if name != "front":
                                    if art.shape != "box":
                                        continue
                                    tone = shade * (0.65 if name == "side" else 0.8)
                                quads.append((10.0 + yy + (0.001 if name != "front" else 0), c, texture, tone, ident))
                    x += w + gap
            if rng.random() < trays and stack == 1:  # shelf-ready tray: its lip hides the feet of the front row
                lip = h * rng.uniform(0.1, 0.4)
                face = rng.uniform(90, 220, 3) if rng.random() < 0.3 else np.array([190, 150, 105]) * rng.uniform(0.7, 1.2)
                cover = _solid(face, rng, 6)
                if rng.random() < 0.5:
                    cover = np.dstack([paint(rng, 120, 40), np.full((40, 120), 255, np.uint8)])
                corners_m = np.array([[start, -0.002, z + lip], [x, -0.002, z + lip], [x, -0.002, z], [start, -0.002, z]])
                quads.append((9.0, corners_m, cover, ambient, 0))
            if rng.random() < 0.88:  # its price tag
                mid = start + rng.uniform(0.0, max(0.0, min(x - start, 0.3) - tag_w))
                zt = z - (edge - tag_h) / 2 + rng.normal(0, 0.002)
                ident += 1
                truth[ident] = (PRICE_TAG, 0.0)
                texture = house_tag
                pick = rng.random()
                if tag_pool and pick < 0.35:
                    texture = tag_pool[rng.integers(len(tag_pool))]
                elif pick < 0.6:
                    texture = tag(rng)
                order -= 1e-4
                quads.append(
                    (
                        -0.02 + order,
                        np.array(
                            [
                                [mid, -0.004, zt],
                                [mid + tag_w, -0.004, zt],
                                [mid + tag_w, -0.004, zt - tag_h],
                                [mid, -0.004, zt - tag_h],
                            ]
                        ),
                        texture,
                        ambient * rng.uniform(0.9, 1.15),
                        ident,
                    )
                )
            x += rng.uniform(0.0, 0.02) if hugging else rng.uniform(0.0, 0.12)
    post = left + rng.uniform(0, cut)
    while post < right:  # uprights between bays
        quads.append(
            (
                10.0 + depth,
                np.array(
                    [
                        [post, depth - 0.01, back_z],
                        [post + 0.03, depth - 0.01, back_z],
                        [post + 0.03, depth - 0.01, 0],
                        [post, depth - 0.01, 0],
                    ]
                ),
                _solid(metal * 0.8, rng),
                ambient * 0.6,
                0,
            )
        )
        post += cut
    quads.sort(key=lambda q: -q[0])
    areas: dict[int, float] = {}
    for _, corners_m, texture, shade, who in quads:
        canvas.quad(corners_m, texture, shade, who)
        if who:
            q = canvas.project(corners_m).clip(-50, [width + 50, height + 50]).astype(np.float32)
            fill = float((texture[::4, ::4, 3] > 127).mean())
            areas[who] = areas.get(who, 0.0) + cv2.contourArea(q) * fill
    if rng.random() < 0.3:  # a wobbler, a sign or a person's arm before the shelf: not a product
        for _ in range(rng.integers(1, 3)):
            cx, cz, s = rng.uniform(left, right), rng.uniform(bottom, top), rng.uniform(0.04, 0.2)
            art = np.dstack([paint(rng, 80, 80), np.full((80, 80), 255, np.uint8)])
            canvas.quad(
                np.array([[cx, -0.1, cz + s], [cx + s, -0.1, cz + s], [cx + s, -0.1, cz], [cx, -0.1, cz]]), art, ambient, 0
            )
    return _labels(canvas, truth, areas, [e[0] for e in empties])


def boxes_of_ids(ids: NDArray[np.int32]) -> dict[int, tuple[NDArray[np.float32], int]]:
    """Tight box (x_min, y_min, x_max, y_max) and number of pixels of every positive id in a map of ids."""
    from scipy import ndimage

    found = ndimage.find_objects(ids)
    counts = np.bincount(ids.ravel().clip(0))
    out = {}
    for i, place in enumerate(found):
        if place is not None:
            rows, cols = place
            out[i + 1] = (np.array([cols.start, rows.start, cols.stop, rows.stop], np.float32), int(counts[i + 1]))
    return out


def _labels(
    canvas: _Canvas, truth: dict[int, tuple[int, float]], areas: dict[int, float], empties: list[NDArray[np.float64]]
) -> Sample:
    boxes, classes = [], []
    for who, (box, pixels) in boxes_of_ids(canvas.ids).items():
        cls = truth[who][0]
        part = pixels / max(areas.get(who, 1.0), 1.0)
        small = min(box[2] - box[0], box[3] - box[1])
        if cls == IGNORE and part < VISIBLE:
            continue  # a strip of an item behind: background
        if cls == PRODUCT and (part < VISIBLE or small < 8):
            cls = IGNORE
        if cls == PRICE_TAG and (part < 0.4 or small < 6):
            cls = IGNORE
        if small < 3:
            continue
        boxes.append(box)
        classes.append(cls)
    for corners in empties:
        q = canvas.project(corners)
        box = np.array([q[:, 0].min(), q[:, 1].min(), q[:, 0].max(), q[:, 1].max()], np.float32)
        whole = float((box[2] - box[0]) * (box[3] - box[1]))
        box[[0, 2]] = box[[0, 2]].clip(0, canvas.width)
        box[[1, 3]] = box[[1, 3]].clip(0, canvas.height)
        left = float((box[2] - box[0]) * (box[3] - box[1]))
        if left > 400 and left > VISIBLE * whole:
            boxes.append(box)
            classes.append(EMPTY)
    if not boxes:
        return Sample(canvas.image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    return Sample(canvas.image, np.stack(boxes), np.array(classes, np.int64))


def spoil(sample: Sample, rng: np.random.Generator, strength: float = 1.0) -> Sample:
    """The camera's faults on a picture: light falling off, colour cast, blur, noise, glare, JPEG. Boxes stay."""
    img = sample.picture.astype(np.float32)
    h, w = img.shape[:2]
    if rng.random() < 0.5:
        ramp = cv2.resize(
            rng.uniform(1 - 0.35 * strength, 1.1, (3, 3)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC
        )
        img *= ramp[..., None]
    if rng.random() < 0.5:
        img *= (1 + strength * rng.normal(0, 0.07, 3)).astype(np.float32)
    if rng.random() < 0.3:
        for _ in range(rng.integers(1, 4)):
            c = (int(rng.integers(w)), int(rng.integers(h)))
            spot = np.zeros((h // 4, w // 4), np.float32)
            cv2.ellipse(
                spot,
                (c[0] // 4, c[1] // 4),
                (int(rng.integers(5, 50)), int(rng.integers(5, 50))),
                float(rng.uniform(0, 90)),
                0,
                360,
                1.0,
                -1,
            )
            spot = cv2.GaussianBlur(spot, (0, 0), 8)
            img += cv2.resize(spot, (w, h))[..., None] * rng.uniform(40, 160) * strength
    if rng.random() < 0.08:  # a cooler's door: a veil, and soft reflections of lamps in it
        veil = cv2.resize(rng.uniform(0, 1, (5, 4)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
        x0 = int(rng.integers(w))
        veil[:, x0 : x0 + int(rng.integers(4, 40))] += rng.uniform(0.5, 2)
        veil = cv2.GaussianBlur(veil, (0, 0), float(rng.uniform(1, 6)))
        img = img * rng.uniform(0.75, 0.95) + 60 * strength * veil[..., None]
    gain = rng.uniform(1 - 0.3 * strength, 1 + 0.3 * strength)
    img = 255 * np.power((img * gain).clip(0, 255) / 255, rng.uniform(0.8, 1.25))
    pick = rng.random()
    if pick < 0.35:
        img = cv2.GaussianBlur(img, (0, 0), float(rng.uniform(0.4, 1.4) * strength + 0.01))
    elif pick < 0.45:
        n = int(rng.integers(3, 8))
        kernel = np.zeros((n, n), np.float32)
        if rng.random() < 0.7:
            kernel[n // 2] = 1 / n
        else:
            kernel[:, n // 2] = 1 / n
        img = cv2.filter2D(img, -1, kernel)
    img += rng.normal(0, 1, img.shape).astype(np.float32) * rng.uniform(0, 7) * strength
    out = img.clip(0, 255).astype(np.uint8)
    if rng.random() < 0.8:
        ok, data = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(45, 97))])
        out = cv2.imdecode(data, cv2.IMREAD_COLOR) if ok else out
    return Sample(np.ascontiguousarray(out), sample.boxes, sample.classes)
