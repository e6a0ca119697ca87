"""The node table: which processes make up shelfscan under ROS. The supervisor, the launch files and the docs share it.

Nothing here needs ROS to be installed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

#: Namespace of every node; node code uses relative names.
NAMESPACE = "/shelfscan"


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node, which is one process.

    ``parameters`` are paths every caller passes by name; ``optional_parameters`` are left out when there is no value.
    ``simulator_only``: stands in for hardware, absent on a real robot. ``switch`` names the configuration value that
    leaves the node out ("ros.record" when false, "wms.name" when "none"), empty for nodes that are always there.
    ``critical``: without it there is no mission, so giving it up ends the run; other nodes are missed, not mourned.
    ``ready_s``: how long it may take until it works, after the start of its process.
    """

    name: str
    module: str
    does: str
    parameters: tuple[str, ...] = ("store", "run_dir", "config")
    optional_parameters: tuple[str, ...] = ()
    simulator_only: bool = False
    switch: str = ""
    critical: bool = True
    ready_s: float = 60.0

    @property
    def executable(self) -> str:
        """Name for ``ros2 run shelfscan <executable>`` and launch files."""
        return self.name

    def arguments(self, values: Mapping[str, str], namespace: str = NAMESPACE) -> list[str]:
        """``--ros-args`` for these parameter values; raises `KeyError` naming a required one that is absent."""
        out = ["--ros-args", "-r", f"__ns:={namespace}"]
        for name in self.parameters:
            out += ["-p", f"{name}:={values[name]}"]
        for name in self.optional_parameters:
            if values.get(name):
                out += ["-p", f"{name}:={values[name]}"]
        return out

    def command(self, values: Mapping[str, str], namespace: str = NAMESPACE) -> list[str]:
        """The command line that runs this node with the running interpreter."""
        return [sys.executable, "-m", self.module, *self.arguments(values, namespace)]


#: In the order of the data's way through them; any of them may be started, and restarted, at any time.
NODES: tuple[NodeSpec, ...] = (
    NodeSpec(
        "sim",
        "shelfscan.ros.sim",
        "simulated robot, cameras and Nav2 action servers",
        optional_parameters=("faults",),
        simulator_only=True,
    ),
    NodeSpec("capture", "shelfscan.ros.capture", "synchronised captures with the pose at the capture"),
    NodeSpec("mission", "shelfscan.ros.mission", "plans and drives the mission through Nav2"),
    NodeSpec("perception", "shelfscan.ros.perception", "captures to bay scans in the ledger", ready_s=120.0),
    NodeSpec("stock", "shelfscan.ros.stock", "ledger to stock map, findings and markers"),
    NodeSpec(
        "wms_bridge", "shelfscan.ros.wms_bridge", "syncs the ended mission with the WMS", switch="wms.name", critical=False
    ),
    NodeSpec(
        "recorder", "shelfscan.ros.recorder", "everything on the wire to an MCAP bag", switch="ros.record", critical=False
    ),
)


def node(name: str) -> NodeSpec:
    """The node of this name. Raises `KeyError`."""
    for spec in NODES:
        if spec.name == name:
            return spec
    raise KeyError(f"no node {name!r}; there are {', '.join(s.name for s in NODES)}")


def select(*, simulator: bool, record: bool = True, wms: bool = True) -> tuple[NodeSpec, ...]:
    """The nodes of one kind of run."""
    off = {switch for switch, on in (("ros.record", record), ("wms.name", wms)) if not on}
    return tuple(s for s in NODES if (simulator or not s.simulator_only) and s.switch not in off)
