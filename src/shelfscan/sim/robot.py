"""Physics of the simulated robot: a differential drive in MuJoCo, odometry, lidar, battery, localisation error."""

from __future__ import annotations

import math

import mujoco
import numpy as np
from numpy.typing import NDArray

from shelfscan.errors import ShelfscanError
from shelfscan.model.geometry import Array, Pose2D, planar
from shelfscan.model.robot import RobotModel
from shelfscan.sim.engine import warnings_to_log
from shelfscan.sim.scene import Scene, Sensing

STEP_S = 0.004
LIDAR_RAYS = 360
LIDAR_HEIGHT_M = 0.2
LIDAR_MAX_M = 12.0
_MOUNT_M = 0.02
#: After these MuJoCo puts everything back to where it began.
_RESETS = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)


class RobotBody:
    """The body in a world of plain boxes. Poses are those of ``base`` (on the floor between the wheels) in ``map``."""

    def __init__(self, scene: Scene, robot: RobotModel, start: Pose2D) -> None:
        self.robot = robot
        warnings_to_log()
        self._model = _physics(scene, robot, start)
        self._data = mujoco.MjData(self._model)
        self._wheels = [self._model.joint(n).qposadr[0] for n in ("left", "right")]
        mujoco.mj_forward(self._model, self._data)
        self._angles = self._encoders()
        self.odometry = Pose2D(0.0, 0.0, 0.0)
        self.twist = (0.0, 0.0)
        self.battery_wh = robot.battery_wh

    def step(self, v_mps: float, w_radps: float, charging: bool = False) -> None:
        """One physics step of `STEP_S` with a wanted twist. Raises `ShelfscanError` if the physics breaks down."""
        half, radius = self.robot.wheel_separation_m / 2, self.robot.wheel_radius_m
        self._data.ctrl[:] = [(v_mps - w_radps * half) / radius, (v_mps + w_radps * half) / radius]
        mujoco.mj_step(self._model, self._data)
        if any(self._data.warning[w].number for w in _RESETS):
            raise ShelfscanError("the simulated robot's physics broke down; a run must not go on from where it is put then")
        angles = self._encoders()
        left, right = (angles - self._angles) * radius
        self._angles = angles
        forward, turn = (left + right) / 2, (right - left) / self.robot.wheel_separation_m
        o = self.odometry
        middle = o.yaw_rad + turn / 2
        self.odometry = Pose2D(o.x_m + forward * math.cos(middle), o.y_m + forward * math.sin(middle), o.yaw_rad + turn)
        self.twist = (forward / STEP_S, turn / STEP_S)
        power = -600.0 if charging else self.robot.idle_w + self.robot.drive_w * min(1.0, abs(forward) / STEP_S / 0.5)
        self.battery_wh = min(self.robot.battery_wh, max(0.0, self.battery_wh - power * STEP_S / 3600))

    @property
    def pose(self) -> Pose2D:
        """The true pose."""
        x, y = (float(v) for v in self._data.qpos[:2])
        w, qx, qy, z = (float(v) for v in self._data.qpos[3:7])
        return Pose2D(x, y, math.atan2(2 * (w * z + qx * qy), 1 - 2 * (qy * qy + z * z)))

    def scan(self) -> NDArray[np.float32]:
        """`LIDAR_RAYS` ranges in metres, counter-clockwise from straight ahead; inf beyond `LIDAR_MAX_M`."""
        pose = self.pose
        angle = pose.yaw_rad + np.arange(LIDAR_RAYS) * 2 * np.pi / LIDAR_RAYS
        directions = np.stack([np.cos(angle), np.sin(angle), np.zeros(LIDAR_RAYS)], axis=-1)
        origin = np.array([pose.x_m, pose.y_m, LIDAR_HEIGHT_M])
        hits = np.full(LIDAR_RAYS, -1, np.int32)
        distance = np.full(LIDAR_RAYS, -1.0)
        group = np.array([1, 0, 0, 0, 0, 0], np.uint8)  # the robot itself is in another group
        mujoco.mj_multiRay(
            self._model, self._data, origin, directions.ravel(), group, 1, -1, hits, distance, None, LIDAR_RAYS, LIDAR_MAX_M
        )  # fmt: skip
        distance[(hits < 0) | (distance < 0)] = np.inf
        return distance.astype(np.float32)

    def _encoders(self) -> Array:
        return np.array([float(self._data.qpos[a]) for a in self._wheels])


def _physics(scene: Scene, robot: RobotModel, start: Pose2D) -> mujoco.MjModel:
    spec = mujoco.MjSpec()
    spec.option.timestep = STEP_S
    # A driven wheel that loses the floor for a moment is too stiff for the default: the robot would be thrown about.
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    world = spec.worldbody
    world.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 0.1], friction=[1.0, 0.005, 0.0001])
    for box in scene.boxes:
        if box.kind in ("edge", "upright"):
            continue
        world.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[box.x_m, box.y_m, box.z_m],
            size=[box.half_x_m, box.half_y_m, box.half_z_m],
            quat=[math.cos(box.yaw_rad / 2), 0, 0, math.sin(box.yaw_rad / 2)],
        )
    base = world.add_body(
        name="base", pos=[start.x_m, start.y_m, 0.0], quat=[math.cos(start.yaw_rad / 2), 0, 0, math.sin(start.yaw_rad / 2)]
    )
    base.add_freejoint()
    r = robot.wheel_radius_m
    body = {"type": mujoco.mjtGeom.mjGEOM_CYLINDER, "group": 1}
    base.add_geom(size=[robot.footprint_radius_m - 0.03, 0.1, 0], pos=[0, 0, _MOUNT_M + 0.13], mass=30, **body)
    base.add_geom(size=[0.03, 0.7, 0], pos=[0, 0, 0.95], mass=3, **body)
    for x in (-0.16, 0.16):
        # Casters slide: MuJoCo takes the larger friction of a pair unless a priority says otherwise.
        base.add_geom(
            type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.02, 0, 0], pos=[x, 0, 0.021], mass=0.2,
            friction=[0.001, 0.001, 0.001], priority=1, group=1,
        )  # fmt: skip
    for name, side in (("left", 1.0), ("right", -1.0)):
        wheel = base.add_body(name=name, pos=[0, side * robot.wheel_separation_m / 2, r])
        wheel.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0, 1, 0], damping=0.05, armature=0.02)
        wheel.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[r, 0.015, 0], quat=[math.sqrt(0.5), math.sqrt(0.5), 0, 0],
            mass=0.8, friction=[1.2, 0.005, 0.0001], priority=2, group=1,
        )  # fmt: skip
        motor = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        motor.set_to_velocity(kv=6.0)
    return spec.compile()


class Localiser:
    """A pose estimate as a localisation system would give it: the truth plus a Gauss-Markov error along the way."""

    def __init__(self, sensing: Sensing, seed: int) -> None:
        self._s = sensing
        self._rng = np.random.default_rng([seed, 5])
        self._error = self._rng.normal(0.0, 1.0, 3)
        self._last: Pose2D | None = None

    def estimate(self, truth: Pose2D) -> Array:
        """``T_map_base`` as believed, (4, 4)."""
        sigma = np.array([self._s.pose_sigma_m, self._s.pose_sigma_m, self._s.pose_sigma_rad])
        if self._last is not None:
            moved = math.hypot(truth.x_m - self._last.x_m, truth.y_m - self._last.y_m)
            keep = math.exp(-moved / self._s.pose_correlation_m)
            self._error = keep * self._error + math.sqrt(max(0.0, 1 - keep**2)) * self._rng.normal(0.0, 1.0, 3)
        self._last = truth
        dx, dy, dyaw = self._error * sigma
        return planar(truth.x_m + float(dx), truth.y_m + float(dy), truth.yaw_rad + float(dyaw))
