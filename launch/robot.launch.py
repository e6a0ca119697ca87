"""shelfscan beside a real robot, whose drivers, localisation and Nav2 are already running.

ros2 launch shelfscan robot.launch.py store:=/data/stores/7 run_dir:=/data/runs/2026-11-25 [config:=night.yaml]
    [odom:=/wheel/odom] [scan:=/front/scan] [battery_state:=/bms/state] [record:=false] [wms:=false]
"""

from __future__ import annotations

from launch import LaunchDescription

from shelfscan.ros.launching import describe


def generate_launch_description() -> LaunchDescription:
    return describe(simulator=False)
