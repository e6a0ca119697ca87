"""The render world: a scene as a MuJoCo model whose cameras ride on one mocap body.

Physics has a model of its own (`shelfscan.sim.robot`), so this one can hold just the aisle the robot is in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

from shelfscan.model.geometry import Array
from shelfscan.model.imaging import Camera
from shelfscan.model.robot import RobotModel
from shelfscan.sim.artwork import pack_texture
from shelfscan.sim.condition import damaged_texture
from shelfscan.sim.meshes import Mesh, pack_mesh
from shelfscan.sim.packaging import PackSpec
from shelfscan.sim.people import Look, cloth_texture, face_texture, figure, head_mesh, torso_mesh
from shelfscan.sim.scene import Scene, SceneItem, ScenePerson, SceneTag
from shelfscan.sim.tags import HEIGHT_PX, WIDTH_PX, draw_tag, tag_style

CELL_PX = 256
ATLAS_PX = 4096
TAG_CELL_PX = (704, 404)
#: OpenGL's fixed pipeline lights at most eight lamps.
MAX_LAMPS = 7
GROUP_FURNITURE, GROUP_ITEMS, GROUP_TAGS, GROUP_PEOPLE = 0, 1, 2, 3
TAG_THICK_M = 0.0015


class Atlas:
    """Packs many small pictures into few large textures; MuJoCo takes at most 1,000 textures."""

    def __init__(self, spec: mujoco.MjSpec, name: str, cell_px: tuple[int, int], count: int) -> None:
        self._spec, self._name, self._cell = spec, name, cell_px
        self._columns, self._rows = ATLAS_PX // cell_px[0], ATLAS_PX // cell_px[1]
        if count < self._columns * self._rows:
            self._columns = min(self._columns, max(1, math.ceil(math.sqrt(count * cell_px[1] / cell_px[0]))))
            self._rows = max(1, math.ceil(count / self._columns))
        self._page: NDArray[np.uint8] | None = None
        self._used = 0
        self._pages = 0

    def add(self, picture: NDArray[np.uint8]) -> tuple[str, Array]:
        """Material name and the (x0, y0, x1, y1) of the picture in texture coordinates, y downwards."""
        w, h = self._cell
        if self._page is None:
            self._page = np.full((self._rows * h, self._columns * w, 3), 128, np.uint8)
        row, column = divmod(self._used, self._columns)
        ph, pw = picture.shape[:2]
        self._page[row * h : row * h + ph, column * w : column * w + pw] = picture
        sides = np.array([column * w, row * h, column * w + pw, row * h + ph], dtype=np.float64)
        sides /= np.array([self._columns * w, self._rows * h] * 2)
        material = f"{self._name}{self._pages}"
        self._used += 1
        if self._used == self._columns * self._rows:
            self.close()
        return material, sides

    def close(self) -> None:
        """Hand the last page to MuJoCo."""
        if self._page is None:
            return
        name = f"{self._name}{self._pages}"
        page = np.ascontiguousarray(self._page)
        t = self._spec.add_texture(
            name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, width=page.shape[1], height=page.shape[0], nchannel=3
        )
        t.data = page.tobytes()
        m = self._spec.add_material(name=name, specular=0.15, shininess=0.3)
        m.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
        self._page, self._used, self._pages = None, 0, self._pages + 1


def add_mesh(spec: mujoco.MjSpec, name: str, mesh: Mesh, sides: Array) -> None:
    """A UV mesh whose unit square is placed at ``sides`` of its atlas page."""
    u = sides[0] + (sides[2] - sides[0]) * mesh.texcoords[:, 0]
    # MuJoCo's v runs down the picture, the mesh's upwards.
    v = sides[1] + (sides[3] - sides[1]) * (1.0 - mesh.texcoords[:, 1])
    m = spec.add_mesh(name=name)
    m.uservert = mesh.vertices.ravel()
    m.usernormal = mesh.normals.ravel()
    m.usertexcoord = np.stack([u, v], axis=-1).ravel()
    m.userface = mesh.faces.ravel().tolist()
    m.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL


def new_spec(max_width_px: int, max_height_px: int) -> mujoco.MjSpec:
    """An empty render world: no multisampling, no shadows (both cost more than they show)."""
    spec = mujoco.MjSpec()
    spec.visual.global_.offwidth, spec.visual.global_.offheight = max_width_px, max_height_px
    spec.visual.quality.offsamples = 0
    spec.visual.quality.shadowsize = 0
    spec.visual.headlight.ambient = [0.5] * 3
    spec.visual.headlight.diffuse = [0.18] * 3
    spec.visual.headlight.specular = [0.0] * 3
    spec.stat.extent = 1.0
    spec.visual.map.znear, spec.visual.map.zfar = 0.03, 40.0
    return spec


def add_packs(spec: mujoco.MjSpec, packs: Iterable[PackSpec]) -> dict[str, str]:
    """Meshes and materials of packs; the material's name by SKU (the mesh is called like the SKU)."""
    ordered = list(packs)
    atlas = Atlas(spec, "packs", (CELL_PX, CELL_PX), len(ordered))
    materials = {}
    for pack in ordered:
        material, sides = atlas.add(pack_texture(pack, CELL_PX))
        add_mesh(spec, pack.sku, pack_mesh(pack), sides)
        materials[pack.sku] = material
    atlas.close()
    return materials


def _add_damaged(spec: mujoco.MjSpec, items: Sequence[SceneItem], scene: Scene) -> dict[str, str]:
    """A mesh and material of its own for each damaged item; the material's name by item (the mesh is called like the item)."""
    if not items:
        return {}
    atlas = Atlas(spec, "damaged", (CELL_PX, CELL_PX), len(items))
    materials = {}
    for item in items:
        pack = scene.packs[item.sku]
        texture = damaged_texture(pack_texture(pack, CELL_PX), scene.damage[item.item_id], item.item_id)
        materials[item.item_id], sides = atlas.add(texture)
        add_mesh(spec, item.item_id, pack_mesh(pack), sides)
    atlas.close()
    return materials


def quaternion(rotation: Array) -> list[float]:
    """(w, x, y, z) of a rotation matrix, as MuJoCo has it."""
    out = np.zeros(4)
    mujoco.mju_mat2Quat(out, np.ascontiguousarray(rotation, dtype=np.float64).ravel())
    return [float(v) for v in out]


def camera_rotation(T_base_optical: Array) -> Array:
    """Rotation of a MuJoCo camera (y up, looking along -z) for an optical frame (y down, z forward)."""
    return np.asarray(T_base_optical[:3, :3] @ np.diag([1.0, -1.0, -1.0]))


def add_camera(body: mujoco.MjsBody, name: str, camera: Camera, shift: Array | None = None) -> None:
    """A camera of the rig. The principal point is taken as the middle of the picture."""
    i = camera.intrinsics
    position = camera.T_base_optical[:3, 3] + (0.0 if shift is None else shift)
    fovy = 2 * math.degrees(math.atan(i.height_px / 2 / i.fy_px))
    body.add_camera(name=name, pos=position, quat=quaternion(camera_rotation(camera.T_base_optical)), fovy=fovy)


def build_world(
    scene: Scene, robot: RobotModel, near: Sequence[tuple[float, float, float, float]] | None = None
) -> mujoco.MjModel:
    """The model of a scene. ``near``: only what lies in these (x0, y0, x1, y1) rectangles of ``map``; None is all."""

    def wanted(x: float, y: float) -> bool:
        return near is None or any(a <= x <= c and b <= y <= d for a, b, c, d in near)

    sensors = [c.intrinsics for h in robot.rig.heads for c in (h.left, h.rgb)]
    spec = new_spec(max(s.width_px for s in sensors), max(s.height_px for s in sensors))
    items = [i for i in scene.items if wanted(i.x_m, i.y_m)]
    tags = [t for t in scene.tags if wanted(t.x_m, t.y_m)]
    materials = add_packs(spec, (scene.packs[s] for s in sorted({i.sku for i in items})))
    damaged = _add_damaged(spec, [i for i in items if i.item_id in scene.damage], scene)
    world = spec.worldbody
    _floor(spec, world)
    lamps = [i for i in scene.lights if wanted(i.x_m, i.y_m)]
    for lamp in lamps[:: max(1, math.ceil(len(lamps) / MAX_LAMPS))]:
        shade = [0.8 * lamp.intensity] * 3
        world.add_light(
            pos=[lamp.x_m, lamp.y_m, lamp.z_m], dir=[0, 0, -1], diffuse=shade, specular=[0.15] * 3, castshadow=False,
            attenuation=[0.45, 0.1, 0.05],
        )  # fmt: skip
    for n, box in enumerate(scene.boxes):
        # Walls and ceiling show above the shelves from everywhere; without them there is a black void, as in no store.
        if (
            near is None
            or box.kind == "wall"
            or any(
                abs(box.x_m - min(max(box.x_m, a), c)) <= box.half_x_m
                and abs(box.y_m - min(max(box.y_m, b), d)) <= box.half_y_m + 0.3
                for a, b, c, d in near
            )
        ):
            world.add_geom(
                name=f"box{n}",
                type=mujoco.mjtGeom.mjGEOM_BOX,
                pos=[box.x_m, box.y_m, box.z_m],
                size=[box.half_x_m, box.half_y_m, box.half_z_m],
                quat=_about_z(box.yaw_rad),
                rgba=[*box.rgb, 1.0],
                contype=0,
                conaffinity=0,
                group=GROUP_FURNITURE,
            )
    for item in items:
        world.add_geom(
            name=item.item_id,
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname=item.item_id if item.item_id in damaged else item.sku,
            material=damaged.get(item.item_id) or materials[item.sku],
            pos=[item.x_m, item.y_m, item.z_m],
            quat=_euler(item.yaw_rad, item.pitch_rad, item.roll_rad),
            contype=0,
            conaffinity=0,
            group=GROUP_ITEMS,
        )
    _add_tags(spec, world, tags, scene)
    base = world.add_body(name="base", mocap=True)
    for head in robot.rig.heads:
        add_camera(base, f"{head.name}/left", head.left)
        # The calibration believes the baseline; the world may differ.
        baseline = head.right.T_base_optical[:3, 3] - head.left.T_base_optical[:3, 3]
        add_camera(base, f"{head.name}/right", head.right, baseline * (scene.sensing.baseline_scale - 1.0))
        add_camera(base, f"{head.name}/rgb", head.rgb)
    # After the base: the renderer moves the first mocap body.
    add_people(spec, [p for p in scene.people if wanted(p.x_m, p.y_m)])
    return spec.compile()


def _about_z(yaw: float) -> list[float]:
    return [math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)]


def _euler(yaw: float, pitch: float, roll: float) -> list[float]:
    if not pitch and not roll:
        return _about_z(yaw)
    c, s = math.cos, math.sin
    rz = np.array([[c(yaw), -s(yaw), 0], [s(yaw), c(yaw), 0], [0, 0, 1]])
    ry = np.array([[c(pitch), 0, s(pitch)], [0, 1, 0], [-s(pitch), 0, c(pitch)]])
    rx = np.array([[1, 0, 0], [0, c(roll), -s(roll)], [0, s(roll), c(roll)]])
    return quaternion(rz @ ry @ rx)


def _floor(spec: mujoco.MjSpec, world: mujoco.MjsBody) -> None:
    spec.add_texture(
        name="floor",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.62, 0.61, 0.58],
        rgb2=[0.66, 0.65, 0.62],
        width=256,
        height=256,
    )
    floor = spec.add_material(name="floor", texrepeat=[1, 1], texuniform=True)
    floor.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "floor"
    world.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 0.1], material="floor", contype=0, conaffinity=0)


def _add_tags(spec: mujoco.MjSpec, world: mujoco.MjsBody, tags: Sequence[SceneTag], scene: Scene) -> None:
    atlas = Atlas(spec, "tags", TAG_CELL_PX, len(tags))
    style = tag_style(scene.seed)
    for tag in tags:
        unit = f"1 unit = {tag.price_text}"
        material, sides = atlas.add(draw_tag(tag.name, tag.price_text, tag.item_text, tag.ean, unit, style))
        name = f"tag-{tag.bin_id}"
        add_mesh(spec, name, _card(tag.width_m, tag.height_m), sides)
        world.add_geom(
            name=name,
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname=name,
            material=material,
            pos=[tag.x_m, tag.y_m, tag.z_m],
            quat=_about_z(tag.yaw_rad),
            contype=0,
            conaffinity=0,
            group=GROUP_TAGS,
        )
    atlas.close()


def add_people(spec: mujoco.MjSpec, people: Sequence[ScenePerson]) -> None:
    """Everybody as a mocap body called like the person; geoms are ``<person_id>/<role>/<part>`` (see `Part`)."""
    if not people:
        return
    atlas = Atlas(spec, "people", (CELL_PX, CELL_PX), 2 * len(people))
    for person in people:
        look = Look.of(person.look)
        body = spec.worldbody.add_body(
            name=person.person_id, mocap=True, pos=[person.x_m, person.y_m, 0.0], quat=_about_z(person.yaw_rad)
        )
        drawn = {
            "head": atlas.add(face_texture(look, person.look)),
            "torso": atlas.add(cloth_texture(look, person.look)),
        }
        for part in figure(person):
            name = f"{person.person_id}/{part.role}/{part.name}"
            common = {"name": name, "contype": 0, "conaffinity": 0, "group": GROUP_PEOPLE}
            if part.shape == "capsule":
                ends = [*part.a, *part.b]
                size = [part.size[0], 0, 0]
                body.add_geom(type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=ends, size=size, rgba=[*part.rgb, 1.0], **common)
            elif part.shape in ("ellipsoid", "box"):
                kind = mujoco.mjtGeom.mjGEOM_ELLIPSOID if part.shape == "ellipsoid" else mujoco.mjtGeom.mjGEOM_BOX
                body.add_geom(type=kind, pos=part.a, size=part.size, rgba=[*part.rgb, 1.0], **common)
            else:
                axis = part.b - part.a
                length = float(np.linalg.norm(axis))
                mesh = head_mesh(part.size) if part.shape == "head" else torso_mesh(length, part.size)
                material, sides = drawn[part.shape]
                add_mesh(spec, name, mesh, sides)
                body.add_geom(
                    type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, material=material, pos=part.a, quat=_leaning(axis), **common
                )
    atlas.close()


def _leaning(axis: Array) -> list[float]:
    """The turn about x that takes z to an axis of the y-z plane."""
    angle = -math.atan2(float(axis[1]), float(axis[2]))
    return [math.cos(angle / 2), math.sin(angle / 2), 0.0, 0.0]


def _card(width_m: float, height_m: float) -> Mesh:
    """A thin card facing -y: its front shows the whole picture, its other sides one pixel of paper."""
    half = np.array([width_m, TAG_THICK_M, height_m]) / 2
    front = [(-1, -1, -1), (1, -1, -1), (1, -1, 1), (-1, -1, 1)]
    rear = [(1, 1, -1), (-1, 1, -1), (-1, 1, 1), (1, 1, 1)]
    vertices = np.array(front + rear, dtype=np.float64) * half
    normals = np.repeat(np.array([[0.0, -1, 0], [0, 1, 0]]), 4, axis=0)
    texcoords = np.array([[0, 0], [1, 0], [1, 1], [0, 1]] + [[0.02, 0.5]] * 4, dtype=np.float64)
    rim = [(0, 5, 1), (0, 4, 5), (1, 5, 4), (3, 2, 7), (3, 7, 6), (1, 4, 2), (2, 4, 7), (0, 3, 5), (3, 6, 5)]
    faces = np.array([(0, 1, 2), (0, 2, 3), (4, 5, 6), (4, 6, 7), *rim], dtype=np.int32)
    return Mesh(vertices, normals, texcoords, faces)


__all__ = ["HEIGHT_PX", "WIDTH_PX", "Atlas", "add_mesh", "add_packs", "build_world", "new_spec"]
