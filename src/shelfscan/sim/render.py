"""Renders camera pictures from the render world, and what a real sensor does to them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray

from shelfscan.errors import SensorError
from shelfscan.model.geometry import Array
from shelfscan.model.imaging import Camera, Head, HeadFrame, Rgb
from shelfscan.sim.engine import warnings_to_log
from shelfscan.sim.scene import Sensing
from shelfscan.sim.world import quaternion

JPEG_QUALITY = 90


class Renderer:
    """Off-screen rendering of one model. Lives in the thread that made it (OpenGL's rule)."""

    def __init__(self, model: mujoco.MjModel) -> None:
        warnings_to_log()
        self.model = model
        self.data = mujoco.MjData(model)
        width, height = int(model.vis.global_.offwidth), int(model.vis.global_.offheight)
        try:
            self._gl = mujoco.GLContext(width, height)
            self._gl.make_current()
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        except Exception as e:
            raise SensorError(
                f"cannot render with MUJOCO_GL={os.environ.get('MUJOCO_GL')}: {e}; "
                "on Debian: apt-get install libegl1 libgl1-mesa-dri libosmesa6"
            ) from e
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + 16)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = 0
        self._option = mujoco.MjvOption()
        for group in range(6):
            self._option.geomgroup[group] = 1
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._perturb = mujoco.MjvPerturb()

    def place(self, T_map_base: Array) -> None:
        """Put the cameras' body at a pose."""
        self.data.mocap_pos[0] = T_map_base[:3, 3]
        self.data.mocap_quat[0] = quaternion(T_map_base[:3, :3])
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def picture(self, camera: str, width_px: int, height_px: int) -> Rgb:
        """(H, W, 3) uint8 RGB from a named camera."""
        rgb = np.empty((height_px, width_px, 3), np.uint8)
        self._draw(camera, width_px, height_px, rgb, None)
        return np.ascontiguousarray(rgb[::-1])

    def depth(self, camera: str, width_px: int, height_px: int) -> NDArray[np.float32]:
        """(H, W) float32 metres along the optical axis. Only for tests and training data."""
        raw = np.empty((height_px, width_px), np.float32)
        self._draw(camera, width_px, height_px, None, raw)
        near, far = (float(v) * float(self.model.stat.extent) for v in (self.model.vis.map.znear, self.model.vis.map.zfar))
        return np.asarray((near / (1 - raw[::-1] * (1 - near / far))).astype(np.float32))

    def segmentation(self, camera: str, width_px: int, height_px: int) -> NDArray[np.int32]:
        """(H, W) int32 geom ids, -1 where there is none. Only for tests and training data."""
        flags = self._scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 1
        try:
            code = self.picture(camera, width_px, height_px).astype(np.int32)
        finally:
            flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 0
        index = code[..., 0] + (code[..., 1] << 8) + (code[..., 2] << 16) - 1
        ids = np.full(self._scene.ngeom + 1, -1, np.int32)
        for i in range(self._scene.ngeom):
            g = self._scene.geoms[i]
            ids[g.segid] = g.objid
        return np.asarray(ids[np.clip(index, -1, len(ids) - 1)])

    def _draw(self, camera: str, w: int, h: int, rgb: Rgb | None, depth: NDArray[np.float32] | None) -> None:
        self._gl.make_current()
        self._camera.fixedcamid = self.model.camera(camera).id
        mujoco.mjv_updateScene(
            self.model, self.data, self._option, self._perturb, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        viewport = mujoco.MjrRect(0, 0, w, h)
        mujoco.mjr_render(viewport, self._scene, self._context)
        mujoco.mjr_readPixels(rgb, depth, viewport, self._context)

    def close(self) -> None:
        """Give the GL context back."""
        self._context.free()
        self._gl.free()


@dataclass
class SensorModel:
    """What lens, chip and electronics add. Deterministic for a seed and a capture number."""

    sensing: Sensing
    seed: int

    def __post_init__(self) -> None:
        rng = np.random.default_rng([self.seed, 7])
        self._noise = rng.normal(0.0, max(self.sensing.noise_sigma, 1e-6), (700, 2600, 3)).clip(-127, 127).astype(np.int8)
        self._vignettes: dict[tuple[int, int], NDArray[np.uint8]] = {}

    def apply(self, picture: Rgb, capture: int, channel: int) -> Rgb:
        """A picture as the sensor would deliver it; (H, W, 3) uint8."""
        s = self.sensing
        rng = np.random.default_rng([self.seed, capture, channel])
        out = cv2.multiply(picture, self._vignette(picture.shape[1], picture.shape[0]), scale=1 / 255)
        if s.exposure_ev:
            gain = 2.0 ** float(np.random.default_rng([self.seed, capture]).uniform(-s.exposure_ev, s.exposure_ev))
            out = cv2.convertScaleAbs(out, alpha=gain)
        if s.motion_blur_px >= 1:
            length = round(s.motion_blur_px * 2) + 1
            # The robot moves along the aisle: that is the short side of a portrait sensor.
            out = cv2.blur(out, (1, length))
        if s.noise_sigma:
            h, w = out.shape[:2]
            tile = self._noise
            rows = -(-h // tile.shape[0]) + 1
            noise = np.tile(tile, (rows, -(-w // tile.shape[1]), 1))
            y = int(rng.integers(0, tile.shape[0]))
            out = cv2.add(out, np.ascontiguousarray(noise[y : y + h, :w]), dtype=cv2.CV_8U)
        return np.asarray(out, dtype=np.uint8)

    def _vignette(self, w: int, h: int) -> NDArray[np.uint8]:
        if (w, h) not in self._vignettes:
            y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
            fall = 255.0 * (1 - 0.16 * (x**2 + y**2) / 2)
            self._vignettes[w, h] = np.repeat(fall.astype(np.uint8)[..., None], 3, axis=-1)
        return self._vignettes[w, h]


Shine = Callable[[Rgb, Camera], Rgb]


def capture_head(
    renderer: Renderer, sensor: SensorModel, head: Head, capture: int, shine: Shine = lambda picture, camera: picture
) -> HeadFrame:
    """One head's synchronised pictures at the pose last given to ``renderer.place``; ``shine`` adds what mirrors lamps."""
    gray = []
    for n, side in enumerate(("left", "right")):
        i = head.left.intrinsics
        drawn = renderer.picture(f"{head.name}/{side}", i.width_px, i.height_px)
        picture = sensor.apply(shine(drawn, head.left if n == 0 else head.right), capture, n)
        mono = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        shift = sensor.sensing.stereo_vertical_px
        if n == 1 and shift:
            mono = cv2.warpAffine(
                mono, np.array([[1, 0, 0], [0, 1, shift]]), (i.width_px, i.height_px), borderMode=cv2.BORDER_REPLICATE
            )
        gray.append(np.asarray(mono, dtype=np.uint8))
    i = head.rgb.intrinsics
    drawn = renderer.picture(f"{head.name}/rgb", i.width_px, i.height_px)
    rgb = sensor.apply(shine(drawn, head.rgb), capture, 2)
    done, jpeg = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise SensorError(f"{head.name}: the RGB picture could not be encoded")
    return HeadFrame(head, gray[0], gray[1], jpeg.tobytes())
