"""UV-mapped meshes of packs for the renderer. Metres, centred at the origin, front towards -y, z up, x to the right.

Texture coordinates are in the unit square of one pack's texture (see `shelfscan.sim.artwork.FACES`), v upwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shelfscan.sim.artwork import FACES
from shelfscan.sim.packaging import PackSpec

Floats = NDArray[np.float64]
#: Keeps the sampler off a face's border, where the next face's colours begin.
INSET = 0.008


@dataclass(frozen=True)
class Mesh:
    """``vertices``, ``normals`` (V, 3); ``texcoords`` (V, 2) in 0..1; ``faces`` (F, 3) int32, outward."""

    vertices: Floats
    normals: Floats
    texcoords: Floats
    faces: NDArray[np.int32]


def pack_mesh(spec: PackSpec) -> Mesh:
    """The mesh of a pack in its true size."""
    half = np.array([spec.width_m, spec.depth_m, spec.height_m]) / 2
    if spec.shape == "can":
        return _revolved(half, np.array([[0.94, 0.0], [1.0, 0.03], [1.0, 0.97], [0.94, 1.0]]))
    if spec.shape == "bottle":
        return _revolved(
            half,
            np.array([[0.96, 0.0], [1.0, 0.03], [1.0, 0.58], [0.93, 0.66], [0.55, 0.8], [0.38, 0.87], [0.4, 0.9], [0.4, 1.0]]),
        )
    if spec.shape == "bag":
        return _pillow(half)
    return _box(half)


def _place(face: str, uv: Floats) -> Floats:
    """Unit-square coordinates (v upwards) of one face to the texture's."""
    x0, y0, x1, y1 = FACES[face]
    u = x0 + (x1 - x0) * (INSET + (1 - 2 * INSET) * uv[..., 0])
    v = (1 - y1) + (y1 - y0) * (INSET + (1 - 2 * INSET) * uv[..., 1])
    return np.stack([u, v], axis=-1)


def _box(half: Floats) -> Mesh:
    corners = [
        ("front", (0, -1, 0), [(-1, -1, -1), (1, -1, -1), (1, -1, 1), (-1, -1, 1)]),
        ("back", (0, 1, 0), [(1, 1, -1), (-1, 1, -1), (-1, 1, 1), (1, 1, 1)]),
        ("side", (1, 0, 0), [(1, -1, -1), (1, 1, -1), (1, 1, 1), (1, -1, 1)]),
        ("side", (-1, 0, 0), [(-1, 1, -1), (-1, -1, -1), (-1, -1, 1), (-1, 1, 1)]),
        ("top", (0, 0, 1), [(-1, -1, 1), (1, -1, 1), (1, 1, 1), (-1, 1, 1)]),
        ("top", (0, 0, -1), [(-1, 1, -1), (1, 1, -1), (1, -1, -1), (-1, -1, -1)]),
    ]
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float64)
    vertices = np.concatenate([np.array(c, dtype=np.float64) * half for _, _, c in corners])
    normals = np.repeat(np.array([n for _, n, _ in corners], dtype=np.float64), 4, axis=0)
    texcoords = np.concatenate([_place(face, square) for face, _, _ in corners])
    faces = np.concatenate([np.array([[0, 1, 2], [0, 2, 3]]) + 4 * k for k in range(6)])
    return Mesh(vertices, normals, texcoords, faces.astype(np.int32))


def _revolved(half: Floats, profile: Floats, segments: int = 28) -> Mesh:
    """A body of revolution; ``profile`` rows are (radius share, height share) from foot to top.

    The front half of the circumference shows the front, the rear half the back.
    """
    vs: list[Floats] = []
    ns: list[Floats] = []
    ts: list[Floats] = []
    fs: list[NDArray[np.int32]] = []
    count = 0
    radius, height = profile[:, 0], profile[:, 1]
    slope_r, slope_z = np.gradient(radius * half[0]), np.gradient(height * 2 * half[2])
    for face, start in (("front", np.pi), ("back", 0.0)):
        angle = start + np.linspace(0, np.pi, segments // 2 + 1)
        c, s = np.cos(angle), np.sin(angle)
        x = np.outer(radius, c) * half[0]
        y = np.outer(radius, s) * half[1]
        z = np.broadcast_to((height * 2 - 1)[:, None] * half[2], x.shape)
        n = np.stack([np.outer(slope_z, c), np.outer(slope_z, s), np.broadcast_to(-slope_r[:, None], x.shape)], axis=-1)
        uv = np.stack(np.meshgrid(np.linspace(0, 1, len(angle)), height), axis=-1)
        vs.append(np.stack([x, y, z], axis=-1).reshape(-1, 3))
        ns.append((n / np.maximum(np.linalg.norm(n, axis=-1, keepdims=True), 1e-9)).reshape(-1, 3))
        ts.append(_place(face, uv).reshape(-1, 2))
        fs.append(_grid_faces(len(profile), len(angle)) + count)
        count += len(profile) * len(angle)
    angle = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    for end, sign in ((-1, 1.0), (0, -1.0)):
        rim = np.stack([np.cos(angle) * half[0], np.sin(angle) * half[1], np.zeros_like(angle)], axis=-1) * radius[end]
        rim[:, 2] = (height[end] * 2 - 1) * half[2]
        vs.append(np.vstack([rim.mean(axis=0), rim]))
        ns.append(np.tile([0.0, 0.0, sign], (segments + 1, 1)))
        disc = np.stack([0.5 + 0.5 * np.cos(angle), 0.5 + 0.5 * np.sin(angle)], axis=-1)
        ts.append(_place("top", np.vstack([[0.5, 0.5], disc])))
        k = np.arange(segments)
        fan = np.stack([np.zeros_like(k), 1 + k, 1 + (k + 1) % segments], axis=-1)
        fs.append((fan if sign > 0 else fan[:, ::-1]).astype(np.int32) + count)
        count += segments + 1
    return Mesh(np.vstack(vs), np.vstack(ns), np.vstack(ts), np.vstack(fs).astype(np.int32))


def _grid_faces(rows: int, columns: int) -> NDArray[np.int32]:
    i = np.arange((rows - 1) * columns).reshape(rows - 1, columns)[:, :-1].ravel()
    quads = np.stack([i, i + 1, i + columns + 1, i + columns], axis=-1)
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)


def _pillow(half: Floats, n: int = 9) -> Mesh:
    """A filled bag: two sheets that bulge apart and meet at the seams; flat at the foot so that it stands."""
    u, v = np.meshgrid(np.linspace(-1, 1, n), np.linspace(-1, 1, n))
    bulge = (1 - np.abs(u) ** 3) ** 0.6 * np.where(v > 0, (1 - np.abs(v) ** 3) ** 0.6, (1 - np.abs(v) ** 8) ** 0.5)
    bulge = np.clip(bulge, 0.06, 1.0)
    x = u * half[0] * (1 - 0.04 * (1 - v**2))
    z = v * half[2]
    uv01 = np.stack([(u + 1) / 2, (v + 1) / 2], axis=-1)
    parts = []
    for face, sign in (("front", -1.0), ("back", 1.0)):
        y = sign * bulge * half[1]
        sx = x if sign < 0 else -x
        p = np.stack([sx, y, z], axis=-1)
        du, dv = np.gradient(p, axis=1), np.gradient(p, axis=0)
        normal = np.cross(du, dv)
        normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
        parts.append((p.reshape(-1, 3), normal.reshape(-1, 3), _place(face, uv01).reshape(-1, 2)))
    grid = _grid_faces(n, n)
    return Mesh(
        np.vstack([p[0] for p in parts]),
        np.vstack([p[1] for p in parts]),
        np.vstack([p[2] for p in parts]),
        np.vstack([grid, grid + n * n]).astype(np.int32),
    )
