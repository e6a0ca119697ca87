"""Node ``sim``: stands in for robot, cameras, localisation and Nav2. Everything else runs unchanged on a real robot.

The cameras render when `trigger_cameras` is called, as hardware-triggered ones do; drives go through Nav2's actions.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from pathlib import Path

from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import BatteryState, CameraInfo, CompressedImage, Image, LaserScan
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from shelfscan.bootstrap import make_simulator
from shelfscan.errors import SensorError
from shelfscan.model.geometry import inverse, planar
from shelfscan.model.imaging import Camera, HeadFrame
from shelfscan.ros import convert, qos
from shelfscan.ros.lifecycle import Level, ShelfscanNode, spin_node
from shelfscan.ros.sim_nav import SimNav
from shelfscan.ros.sim_worker import SimulatorStopped, SimWorker
from shelfscan.sim.faults import Faults
from shelfscan.sim.robot import LIDAR_HEIGHT_M, LIDAR_MAX_M, LIDAR_RAYS
from shelfscan.sim.simulator import Simulator

SCAN_EVERY_S, BATTERY_EVERY_S, REPORT_EVERY_S = 0.2, 1.0, 2.0
LIDAR_FRAME = "base_scan"
LOW_BATTERY = 0.15


class SimNode(ShelfscanNode):
    """See the module's text. Parameter ``faults``: a fault file, empty for none."""

    def __init__(self) -> None:
        super().__init__("sim", threads=10)
        self.declare_parameter("faults", "")

    def acquire(self) -> None:
        bundle, config = self.load_store(), self.load_settings()
        faults = Faults.load(Path(self.text("faults"))) if self.text("faults") else None
        self._simulator = make_simulator(bundle, config, start_ns=time.time_ns(), faults=faults)
        self._factor = config.sim.real_time_factor
        self._clocks = self.create_publisher(Clock, "/clock", qos.sensor())
        self._odometry = self.create_publisher(Odometry, "/odom", qos.stream())
        self._tf = self.create_publisher(TFMessage, "/tf", qos.stream(100))
        self._tf_static = self.create_publisher(TFMessage, "/tf_static", qos.latched())
        self._scans = self.create_publisher(LaserScan, "/scan", qos.sensor())
        self._batteries = self.create_publisher(BatteryState, "/battery_state", qos.sensor())
        heads = bundle.robot.rig.heads
        self._pictures, self._infos = {}, {}
        for head in heads:
            for camera, topic in convert.camera_topics(head.name).items():
                kind = CompressedImage if camera == "rgb" else Image
                self._pictures[head.name, camera] = self.create_publisher(kind, topic, qos.sensor())
                info = convert.info_topic(head.name, camera)
                self._infos[head.name, camera] = self.create_publisher(CameraInfo, info, qos.sensor())
        self._robot = bundle.robot
        self._due = {"scan": 0.0, "battery": 0.0, "report": 0.0}

    def begin(self) -> None:
        self._publish_static()
        self._worker = SimWorker(self._simulator, self._factor, self._publish)
        self._thread: threading.Thread = self.start_thread(self._worker.run, "simulator")
        # Servers appear when the robot is ready to drive and look, so waiting for a server is waiting for that.
        while self._thread.is_alive():
            try:
                self._worker.call(lambda s: None, timeout_s=1.0)
                break
            except SimulatorStopped:
                continue
        self._nav = SimNav(self, self._worker)
        self._trigger = self.create_service(
            Trigger, "trigger_cameras", self._on_trigger, callback_group=MutuallyExclusiveCallbackGroup()
        )

    def halt(self) -> None:
        self._worker.stop()
        self._thread.join(timeout=10.0)
        self._nav.close()
        self.destroy_service(self._trigger)

    def release(self) -> None:
        publishers = (self._clocks, self._odometry, self._tf, self._tf_static, self._scans, self._batteries)
        for publisher in (*publishers, *self._pictures.values(), *self._infos.values()):
            self.destroy_publisher(publisher)

    # -- in the simulator's thread --------------------------------------------------------------------------------

    def _publish(self, simulator: Simulator) -> None:
        stamp_ns = simulator.now_ns
        self._clocks.publish(Clock(clock=convert.to_stamp(stamp_ns)))
        self._publish_pose(simulator, stamp_ns)
        now = time.monotonic()
        if now >= self._due["scan"]:
            self._due["scan"] = now + SCAN_EVERY_S
            self._scans.publish(_scan(simulator, stamp_ns))
        if now >= self._due["battery"]:
            self._due["battery"] = now + BATTERY_EVERY_S
            self._batteries.publish(_battery(simulator, stamp_ns))
        if now >= self._due["report"]:
            self._due["report"] = now + REPORT_EVERY_S
            self._report(simulator)

    def _publish_pose(self, simulator: Simulator, stamp_ns: int) -> None:
        # Localisation corrects odometry, as AMCL does: map -> odom is what is left between the two.
        T_map_base, T_odom_base = simulator.pose_estimate(), simulator.T_odom_base
        transforms = [
            convert.to_transform(T_map_base @ inverse(T_odom_base), stamp_ns, "map", "odom"),
            convert.to_transform(T_odom_base, stamp_ns, "odom", "base_link"),
        ]
        self._tf.publish(TFMessage(transforms=transforms))
        odometry = Odometry(header=convert.to_header(stamp_ns, "odom"), child_frame_id="base_link")
        odometry.pose.pose = convert.to_pose(T_odom_base)
        odometry.twist.twist.linear.x, odometry.twist.twist.angular.z = (float(v) for v in simulator.twist)
        self._odometry.publish(odometry)

    def _look(self, simulator: Simulator) -> int:
        """Render and publish all heads that are not silent; the stamp of their pictures."""
        stamp_ns, frames = simulator.now_ns, simulator.look()
        self._publish_pose(simulator, stamp_ns)
        for frame in frames:
            self._publish_head(frame, stamp_ns)
        return stamp_ns

    def _publish_head(self, frame: HeadFrame, stamp_ns: int) -> None:
        name = frame.head.name
        for camera in ("left", "right", "rgb"):
            self._infos[name, camera].publish(convert.head_camera_info(frame.head, camera, stamp_ns))
        for camera, gray in (("left", frame.left), ("right", frame.right)):
            self._pictures[name, camera].publish(convert.to_image(gray, stamp_ns, convert.optical_frame(name, camera)))
        self._pictures[name, "rgb"].publish(convert.to_compressed(frame.rgb_jpeg, stamp_ns, convert.optical_frame(name, "rgb")))

    def _report(self, simulator: Simulator) -> None:
        pose = simulator.true_pose
        values = {
            "drive": simulator.drive_state,
            "docked": simulator.docked,
            "pose": f"{pose.x_m:.2f} {pose.y_m:.2f} {math.degrees(pose.yaw_rad):.0f} deg",
            "battery": f"{simulator.battery:.2f}",
            "elapsed_s": f"{simulator.elapsed_s:.0f}",
        }
        low = simulator.battery < LOW_BATTERY
        self.report(Level.WARN if low else Level.OK, "battery low" if low else "simulating", **values)

    # -- in ROS' threads ------------------------------------------------------------------------------------------

    def _on_trigger(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.message = str(self._worker.call(self._look))
            response.success = True
        except (SensorError, SimulatorStopped) as e:
            response.message = str(e)
        return response

    def _publish_static(self) -> None:
        transforms: list[TransformStamped] = [
            convert.to_transform(planar(0, 0, 0, LIDAR_HEIGHT_M), time.time_ns(), "base_link", LIDAR_FRAME)
        ]
        for head in self._robot.rig.heads:
            cameras: dict[str, Camera] = {"left": head.left, "right": head.right, "rgb": head.rgb}
            for camera, part in cameras.items():
                frame = convert.optical_frame(head.name, camera)
                transforms.append(convert.to_transform(part.T_base_optical, time.time_ns(), "base_link", frame))
        self._tf_static.publish(TFMessage(transforms=transforms))


def _scan(simulator: Simulator, stamp_ns: int) -> LaserScan:
    return LaserScan(
        header=convert.to_header(stamp_ns, LIDAR_FRAME),
        angle_min=0.0,
        angle_max=2 * math.pi * (LIDAR_RAYS - 1) / LIDAR_RAYS,
        angle_increment=2 * math.pi / LIDAR_RAYS,
        range_min=0.05,
        range_max=LIDAR_MAX_M,
        ranges=simulator.scan().tolist(),
    )


def _battery(simulator: Simulator, stamp_ns: int) -> BatteryState:
    status = BatteryState.POWER_SUPPLY_STATUS_CHARGING if simulator.docked else BatteryState.POWER_SUPPLY_STATUS_DISCHARGING
    return BatteryState(
        header=convert.to_header(stamp_ns, "base_link"),
        percentage=float(simulator.battery),
        voltage=math.nan,
        current=math.nan,
        charge=math.nan,
        capacity=math.nan,
        design_capacity=math.nan,
        power_supply_status=status,
        present=True,
    )


def main() -> int:
    """Entry point of the node."""
    return spin_node(SimNode)


if __name__ == "__main__":
    sys.exit(main())
