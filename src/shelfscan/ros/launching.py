"""The node table as a ROS 2 launch description; the files in ``launch/`` are calls of `describe`."""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from shelfscan.ros.nodes import NAMESPACE, NodeSpec, select

#: Topics of the robot that not every robot calls the same; each is a launch argument with this default.
ROBOT_TOPICS = {"odom": "/odom", "scan": "/scan", "battery_state": "/battery_state", "emergency_stop": "/emergency_stop"}
#: Launch arguments that leave a node out, by the node's switch in the table.
SWITCHES = {"ros.record": "record", "wms.name": "wms"}


def describe(*, simulator: bool) -> LaunchDescription:
    """All nodes of a run, as launch actions. ``simulator``: the one that stands in for the robot too.

    A node that ends is started again; they configure and activate themselves (parameter ``autostart``).
    """
    specs = select(simulator=simulator)
    arguments = [
        DeclareLaunchArgument("store", description="folder of the store bundle"),
        DeclareLaunchArgument("run_dir", description="folder of the run; made when absent, resumed when not"),
        DeclareLaunchArgument("config", default_value="", description="configuration file; empty for the defaults"),
        DeclareLaunchArgument("namespace", default_value=NAMESPACE, description="namespace of all nodes"),
    ]
    arguments += [DeclareLaunchArgument(n, default_value=t, description=f"topic of {t}") for n, t in ROBOT_TOPICS.items()]
    for name in SWITCHES.values():
        arguments.append(DeclareLaunchArgument(name, default_value="true", description=f"false: without its node ({name})"))
    for name in {n for s in specs for n in s.optional_parameters}:
        arguments.append(DeclareLaunchArgument(name, default_value="", description=f"parameter {name}; empty for none"))
    # Camera pictures do not fit Fast DDS' usual shared memory; drivers on the same machine want this profile as well.
    profile = PathJoinSubstitution([FindPackageShare("shelfscan"), "config", "fastdds.xml"])
    return LaunchDescription(
        [*arguments, SetEnvironmentVariable("FASTDDS_DEFAULT_PROFILES_FILE", profile), *(_action(s) for s in specs)]
    )


def _action(spec: NodeSpec) -> Node:
    # Typed as text: launch would make a number of a run folder called 2026.
    parameters = {
        name: ParameterValue(LaunchConfiguration(name), value_type=str) for name in spec.parameters + spec.optional_parameters
    }
    condition = IfCondition(LaunchConfiguration(SWITCHES[spec.switch])) if spec.switch else None
    return Node(
        package="shelfscan",
        executable=spec.executable,
        namespace=LaunchConfiguration("namespace"),
        parameters=[parameters],
        remappings=[(topic, LaunchConfiguration(name)) for name, topic in ROBOT_TOPICS.items()],
        condition=condition,
        output="screen",
        respawn=True,
        respawn_delay=1.0,
    )
