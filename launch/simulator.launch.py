"""shelfscan with the simulator standing in for robot, cameras and Nav2.

ros2 launch shelfscan simulator.launch.py store:=maps/demo run_dir:=runs/demo [faults:=faults.yaml]
"""

from __future__ import annotations

from launch import LaunchDescription

from shelfscan.ros.launching import describe


def generate_launch_description() -> LaunchDescription:
    return describe(simulator=True)
