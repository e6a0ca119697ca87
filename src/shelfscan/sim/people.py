"""People in the simulated store: figures of plain bodies with drawn faces and clothes, standing and walking at the shelves.

A figure's frame has its origin on the floor between the feet, x to its left, y to its back, z up: it faces -y, as packs do.
They show what a blurred face or body would have been; they are not in the robot's way (people step aside).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.model.store import Gondola, Store
from shelfscan.sim.meshes import Mesh
from shelfscan.sim.scene import SceneBox, ScenePerson

Floats = NDArray[np.float64]
POSES = ("stand", "walk", "reach", "phone", "crouch", "bend", "basket")
TEXTURE_PX = 256
#: From the shelf's front to the middle of a person that stands before it; the robot's cameras are at 0.75 m and more.
BEFORE_SHELF_M = (0.26, 0.36)
Shape = Literal["capsule", "ellipsoid", "head", "torso", "box"]

_SKINS = ((0.96, 0.8, 0.69), (0.88, 0.68, 0.54), (0.76, 0.55, 0.4), (0.58, 0.4, 0.28), (0.42, 0.28, 0.2), (0.28, 0.18, 0.13))
_HAIRS = (
    (0.08, 0.06, 0.05),
    (0.25, 0.16, 0.1),
    (0.45, 0.3, 0.16),
    (0.75, 0.6, 0.35),
    (0.6, 0.6, 0.6),
    (0.9, 0.9, 0.88),
    (0.5, 0.18, 0.1),
)


@dataclass(frozen=True)
class Part:
    """One body of a figure. ``a``, ``b``: ends of a capsule, foot and top of a torso, else the centre twice; ``size``: radius
    or half sides, metres. ``role`` is what must not stay readable: head or body; a basket is neither (``thing``)."""

    name: str
    shape: Shape
    role: Literal["head", "body", "thing"]
    a: Floats
    b: Floats
    size: tuple[float, ...]
    rgb: tuple[float, float, float]


@dataclass(frozen=True)
class Look:
    """How somebody is dressed; everything follows from the seed of a `ScenePerson`."""

    skin: tuple[float, float, float]
    hair: tuple[float, float, float]
    top: tuple[float, float, float]
    second: tuple[float, float, float]
    legs: tuple[float, float, float]
    shoes: tuple[float, float, float]
    pattern: int
    long_hair: bool
    bald: bool
    hat: bool
    glasses: bool
    mask: bool
    beard: bool
    bare_arms: bool
    skirt: float
    stout: float

    @staticmethod
    def of(seed: int) -> Look:
        """The look of a seed."""
        rng = np.random.default_rng([seed, 31])
        tone = _SKINS[int(rng.integers(len(_SKINS)))]
        skin = tuple(float(np.clip(v * rng.uniform(0.92, 1.06), 0, 1)) for v in tone)
        hair = _HAIRS[int(rng.integers(len(_HAIRS)))]
        top, second, legs, shoes = (_cloth(rng) for _ in range(4))
        chance = rng.random(9)
        return Look(
            (skin[0], skin[1], skin[2]),
            hair,
            top,
            second,
            legs,
            shoes,
            int(rng.integers(0, 6)),
            bool(chance[0] < 0.4),
            bool(chance[1] < 0.08),
            bool(chance[2] < 0.15),
            bool(chance[3] < 0.25),
            bool(chance[4] < 0.1),
            bool(chance[5] < 0.2),
            bool(chance[6] < 0.45),
            float(rng.uniform(0.3, 0.62)) if chance[7] < 0.3 else 0.0,
            float(rng.uniform(0.85, 1.3)),
        )


def _cloth(rng: np.random.Generator) -> tuple[float, float, float]:
    """A colour of clothes: often dark, grey or white, sometimes bright."""
    if rng.random() < 0.5:
        v = float(rng.choice([0.07, 0.15, 0.3, 0.5, 0.75, 0.92]))
        r, g, b = np.clip(v + rng.normal(0, 0.03, 3), 0.02, 0.97)
    else:
        r, g, b = cv2.cvtColor(
            np.array([[[rng.uniform(0, 360), rng.uniform(0.3, 0.95), rng.uniform(0.25, 0.95)]]], np.float32), cv2.COLOR_HSV2RGB
        )[0, 0]
    return float(r), float(g), float(b)


def place_people(store: Store, count: int, seed: int) -> tuple[ScenePerson, ...]:
    """``count`` people before bays, evenly over all faces as far as they go; the same for the same arguments."""
    rng = np.random.default_rng([seed, 77])
    bays = [(g, b) for _, g in store.gondolas() for b in g.bays]
    order = [int(i) for i in rng.permutation(len(bays))]
    people = []
    for n in range(count):
        gondola, bay = bays[order[n % len(bays)]]
        people.append(_before(gondola, bay.x_m + float(rng.uniform(0.15, bay.width_m - 0.15)), n, rng))
    return tuple(people)


def _before(gondola: Gondola, x_m: float, number: int, rng: np.random.Generator) -> ScenePerson:
    pose = str(rng.choice(POSES))
    # Who bends, crouches or reaches does so towards the shelf, from a step further back. The others look at the shelf (their
    # back to the robot), along the aisle, or at the robot.
    busy = pose in ("bend", "crouch", "reach")
    away = float(rng.uniform(*BEFORE_SHELF_M)) + (0.1 if busy else 0.0)
    turn = math.pi if busy else float(rng.choice([math.pi, math.pi / 2, -math.pi / 2, 0.0, 0.0]))
    turn += float(rng.normal(0, 0.3))
    p = gondola.face.matrix() @ np.array([x_m, -away, 0.0, 1.0])
    height = float(rng.uniform(0.95, 1.4) if rng.random() < 0.12 else np.clip(rng.normal(1.7, 0.1), 1.48, 1.95))
    x, y = (round(float(v), 4) for v in p[:2])
    yaw = round(gondola.face.yaw_rad + turn, 4)
    return ScenePerson(f"person-{number}", x, y, yaw, round(height, 3), pose, int(rng.integers(0, 2**31)))


def blockers(people: tuple[ScenePerson, ...]) -> tuple[SceneBox, ...]:
    """What people hide, as boxes."""
    return tuple(
        SceneBox("person", p.x_m, p.y_m, p.height_m / 2, 0.24, 0.16, p.height_m / 2, p.yaw_rad, (0.0, 0.0, 0.0)) for p in people
    )


def figure(person: ScenePerson) -> list[Part]:
    """The bodies of a person in its own frame, metres. Raises `ValueError` for an unknown pose."""
    if person.pose not in POSES:
        raise ValueError(f"pose {person.pose!r}; expected one of {', '.join(POSES)}")
    look, h = Look.of(person.look), person.height_m
    rng = np.random.default_rng([person.look, 32])
    stride = float(rng.uniform(0.12, 0.24)) * h if person.pose == "walk" else 0.0
    hip_z = {"crouch": 0.25, "bend": 0.46}.get(person.pose, 0.49) * h
    lean = {"crouch": 0.35, "bend": 0.55, "reach": 0.12}.get(person.pose, float(rng.normal(0.03, 0.05)))
    wide = look.stout
    hips = np.array([0.0, 0.0 if person.pose != "crouch" else 0.06 * h, hip_z])
    up = np.array([0.0, -math.sin(lean), math.cos(lean)])
    neck = hips + 0.335 * h * up
    parts = [Part("torso", "torso", "body", hips - 0.03 * h * up, neck, (0.105 * h * wide, 0.07 * h * wide), look.top)]
    nod = float(rng.normal(0, 0.12)) + {"phone": 0.3, "bend": -0.2, "basket": 0.15}.get(person.pose, 0.0) + 0.5 * lean
    head_up = np.array([0.0, -math.sin(nod), math.cos(nod)])
    head = neck + 0.095 * h * head_up
    parts.append(Part("neck", "capsule", "body", neck - 0.01 * h * up, head, (0.032 * h,), look.skin))
    size = (0.046 * max(h, 1.3), 0.056 * max(h, 1.3), 0.069 * max(h, 1.3))
    parts.append(Part("head", "head", "head", head, head + head_up, size, look.skin))
    parts += _hair(look, head, head_up, size)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        hip = hips + np.array([sign * 0.052 * h * wide, 0.0, 0.0])
        foot = np.array([sign * 0.065 * h, sign * stride, 0.045 * h])
        knee = _joint(hip, foot, 0.245 * h, 0.235 * h, np.array([0.1 * sign, -1.0, 0.0]))
        calf = look.skin if look.skirt > 0 else look.legs
        parts.append(Part(f"{side}-thigh", "capsule", "body", hip, knee, (0.05 * h * wide,), look.legs))
        parts.append(Part(f"{side}-calf", "capsule", "body", knee, foot, (0.034 * h,), calf))
        toe = foot + np.array([sign * 0.015 * h, -0.1 * h, -0.022 * h])
        parts.append(Part(f"{side}-shoe", "capsule", "body", foot - np.array([0, 0, 0.01 * h]), toe, (0.026 * h,), look.shoes))
        shoulder = neck - 0.035 * h * up + np.array([sign * 0.105 * h * wide, 0.0, 0.0])
        hand = _hand(person.pose, sign, shoulder, hips, h, rng)
        elbow = _joint(shoulder, hand, 0.165 * h, 0.155 * h, np.array([0.5 * sign, 0.6, -0.6]))
        parts.append(Part(f"{side}-arm", "capsule", "body", shoulder, elbow, (0.034 * h * min(wide, 1.15),), look.top))
        fore = look.skin if look.bare_arms else look.top
        parts.append(Part(f"{side}-forearm", "capsule", "body", elbow, hand, (0.026 * h,), fore))
        parts.append(Part(f"{side}-hand", "ellipsoid", "body", hand, hand, (0.024 * h, 0.024 * h, 0.042 * h), look.skin))
        if person.pose == "basket" and sign > 0:
            held = hand - np.array([0, 0, 0.12])
            parts.append(Part("basket", "box", "thing", held, held, (0.17, 0.12, 0.1), look.second))
    if look.skirt > 0 and person.pose not in ("crouch", "bend"):
        foot = hips - np.array([0, 0, look.skirt * 0.49 * h])
        parts.append(Part("skirt", "torso", "body", foot, hips + 0.05 * h * up, (0.12 * h * wide, 0.1 * h * wide), look.legs))
    return parts


def _hair(look: Look, head: Floats, up: Floats, size: tuple[float, ...]) -> list[Part]:
    """Hair, a bun or a hat: bodies about the head."""
    parts = []
    back = np.array([0.0, 1.0, 0.0])
    if not look.bald:
        top = head + 0.2 * size[2] * up + 0.2 * size[1] * back
        parts.append(Part("hair", "ellipsoid", "head", top, top, (1.1 * size[0], 1.0 * size[1], 0.95 * size[2]), look.hair))
    if look.long_hair and not look.bald:
        fall = head - 0.55 * size[2] * up + 0.55 * size[1] * back
        half = (1.15 * size[0], 0.6 * size[1], 1.5 * size[2])
        parts.append(Part("long-hair", "ellipsoid", "head", fall, fall, half, look.hair))
    if look.hat:
        crown = head + 0.75 * size[2] * up
        half = (1.2 * size[0], 1.15 * size[1], 0.5 * size[2])
        parts.append(Part("hat", "ellipsoid", "head", crown, crown, half, look.second))
    return parts


def _hand(pose: str, sign: float, shoulder: Floats, hips: Floats, h: float, rng: np.random.Generator) -> Floats:
    """Where a hand is."""
    swing = float(rng.normal(0, 0.05)) * h
    if pose == "reach" and sign > 0:
        return np.asarray(shoulder + np.array([0.02 * h, -0.26 * h, float(rng.uniform(-0.1, 0.16)) * h]))
    if pose == "phone":
        return np.array([sign * 0.03 * h, -0.19 * h, shoulder[2] - 0.12 * h])
    if pose == "bend":
        return np.asarray(shoulder + np.array([0.0, -0.08 * h, -0.27 * h]))
    if pose == "crouch":
        return np.asarray(shoulder + np.array([-sign * 0.03 * h, -0.24 * h, -0.05 * h]))
    if pose == "basket" and sign > 0:
        return np.array([0.15 * h, -0.08 * h, hips[2] - 0.02 * h])
    walk = -sign * 0.12 * h if pose == "walk" else 0.0
    return np.array([sign * 0.155 * h, walk + swing - 0.02 * h, shoulder[2] - 0.3 * h])


def _joint(a: Floats, b: Floats, first: float, second: float, towards: Floats) -> Floats:
    """Where knee or elbow is between two ends, bent ``towards`` a direction; a limb that is too short is stretched."""
    line = b - a
    d = max(float(np.linalg.norm(line)), 1e-6)
    along = line / d
    if d >= first + second:
        return np.asarray(a + along * d * first / (first + second))
    s = (d**2 + first**2 - second**2) / (2 * d)
    out = towards - along * float(along @ towards)
    out /= max(float(np.linalg.norm(out)), 1e-9)
    return np.asarray(a + along * s + out * math.sqrt(max(0.0, first**2 - s**2)))


# -- meshes and pictures -----------------------------------------------------------------------------------------------


def head_mesh(size: tuple[float, ...], n: int = 20) -> Mesh:
    """An egg about the origin, half sides ``size``; the texture's middle column is the front (-y)."""
    u, v = np.meshgrid(np.linspace(0, 1, 2 * n + 1), np.linspace(0.0, 1.0, n + 1))
    lon, lat = (u - 0.5) * 2 * np.pi, (v - 0.5) * np.pi
    chin = 1 - 0.18 * np.clip(-np.sin(lat), 0, 1)
    x, y, z = np.cos(lat) * np.sin(lon) * chin, -np.cos(lat) * np.cos(lon) * chin, np.sin(lat)
    return _grid_mesh(np.stack([x * size[0], y * size[1], z * size[2]], axis=-1), np.stack([u, v], axis=-1))


def torso_mesh(length_m: float, size: tuple[float, ...], n: int = 24) -> Mesh:
    """A lofted trunk from z = 0 up to ``length_m``; ``size``: half its width and depth at the hips."""
    # Height share, then width and depth against the hips'.
    rows = np.array(
        [[0.0, 0.96, 0.95], [0.12, 1.0, 1.0], [0.4, 0.86, 0.9], [0.72, 1.04, 1.05], [0.9, 1.0, 0.85], [1.0, 0.4, 0.5]]
    )
    u, k = np.meshgrid(np.linspace(0, 1, n + 1), np.arange(len(rows)))
    lon = (u - 0.5) * 2 * np.pi
    x, y = np.sin(lon) * rows[k, 1] * size[0], -np.cos(lon) * rows[k, 2] * size[1]
    return _grid_mesh(np.stack([x, y, rows[k, 0] * length_m], axis=-1), np.stack([u, rows[k, 0]], axis=-1))


def _grid_mesh(points: Floats, texcoords: Floats) -> Mesh:
    rows, columns = points.shape[:2]
    du, dv = np.gradient(points, axis=1), np.gradient(points, axis=0)
    normal = np.cross(du, dv)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    i = np.arange((rows - 1) * columns).reshape(rows - 1, columns)[:, :-1].ravel()
    quads = np.stack([i, i + 1, i + columns + 1, i + columns], axis=-1)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)
    return Mesh(points.reshape(-1, 3), normal.reshape(-1, 3), texcoords.reshape(-1, 2), faces)


def face_texture(look: Look, seed: int) -> NDArray[np.uint8]:
    """(256, 256, 3) RGB: a head unrolled, the face in the middle, hair at the sides (the back of the head)."""
    rng = np.random.default_rng([seed, 33])
    n = TEXTURE_PX
    out = np.empty((n, n, 3), np.float32)
    out[:] = np.array(look.skin, np.float32) * 255
    out *= (1 + 0.05 * rng.normal(size=(n // 8, n // 8)).repeat(8, 0).repeat(8, 1)[..., None]).astype(np.float32)
    hair = tuple(255 * v for v in look.hair)
    if not look.bald:
        line = int(n * rng.uniform(0.24, 0.34))
        cv2.rectangle(out, (0, 0), (n, line), hair, -1)
        side = int(n * rng.uniform(0.26, 0.33))
        for x0, x1 in ((0, side), (n - side, n)):
            cv2.rectangle(out, (x0, 0), (x1, int(n * rng.uniform(0.55, 0.8))), hair, -1)
    dark = tuple(180 * v for v in look.skin)
    for sign in (-1, 1):
        x = n // 2 + sign * int(0.075 * n)
        y = int(0.47 * n)
        cv2.ellipse(out, (x, y), (11, 6), 0, 0, 360, (245, 245, 245), -1)
        cv2.circle(out, (x + int(rng.integers(-3, 4)), y), 5, tuple(float(v) for v in rng.uniform(20, 120, 3)), -1)
        cv2.line(out, (x - 12, y - 13), (x + 12, y - 14), tuple(0.7 * v for v in hair), 4)
        cv2.ellipse(out, (n // 2 + sign * int(0.2 * n), int(0.52 * n)), (7, 14), 0, 0, 360, dark, -1)  # an ear
        if look.glasses:
            cv2.ellipse(out, (x, y), (16, 12), 0, 0, 360, (20, 20, 20), 3)
    if look.glasses:
        cv2.line(out, (n // 2 - 6, int(0.47 * n)), (n // 2 + 6, int(0.47 * n)), (20, 20, 20), 3)
    cv2.line(out, (n // 2, int(0.48 * n)), (n // 2 + 5, int(0.6 * n)), dark, 4)
    cv2.ellipse(out, (n // 2, int(0.6 * n)), (9, 4), 0, 0, 180, dark, 3)
    if look.beard:
        cv2.ellipse(out, (n // 2, int(0.7 * n)), (34, 28), 0, 0, 180, hair, -1)
    cv2.ellipse(out, (n // 2, int(0.68 * n)), (15, int(rng.integers(3, 8))), 0, 0, 360, (150, 60, 60), -1)
    if look.mask:
        cv2.ellipse(out, (n // 2, int(0.66 * n)), (40, 32), 0, 0, 360, (200, 220, 235), -1)
    return np.clip(cv2.GaussianBlur(out, (0, 0), 0.8), 0, 255).astype(np.uint8)


def cloth_texture(look: Look, seed: int) -> NDArray[np.uint8]:
    """(256, 256, 3) RGB: clothes around the trunk: plain, striped, checked, printed, or an open jacket."""
    rng = np.random.default_rng([seed, 34])
    n = TEXTURE_PX
    out = np.empty((n, n, 3), np.float32)
    out[:] = np.array(look.top, np.float32) * 255
    second = tuple(255 * v for v in look.second)
    step = int(rng.integers(10, 40))
    if look.pattern in (1, 3):
        for k in range(0, n, step):
            cv2.rectangle(out, (0, k), (n, k + step // 2), second, -1)
    if look.pattern in (2, 3):
        for k in range(0, n, step):
            cv2.rectangle(out, (k, 0), (k + step // 3, n), second, -1)
    if look.pattern == 4:
        for _ in range(60):
            x, y = (int(v) for v in rng.integers(0, n, 2))
            cv2.circle(out, (x, y), int(rng.integers(3, 12)), tuple(float(v) for v in rng.uniform(0, 255, 3)), -1)
    if look.pattern == 5:
        cv2.rectangle(out, (n // 2 - 22, 0), (n // 2 + 22, n), second, -1)
    if look.pattern == 0 and rng.random() < 0.4:
        for _ in range(6):  # a print on the chest
            x0, y0, x1, y1 = (int(v) for v in rng.integers(-34, 35, 4))
            cv2.line(out, (n // 2 + x0, n // 3 + y0), (n // 2 + x1, n // 3 + y1), second, 7)
    folds = cv2.GaussianBlur(rng.normal(0, 1, (n, n)).astype(np.float32), (0, 0), 9)
    out *= 1 + 0.12 * folds[..., None] / max(float(folds.std()), 1e-6)
    return np.clip(out, 0, 255).astype(np.uint8)
