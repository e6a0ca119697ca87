"""One root that is a pip package and a ROS package: what keeps both working."""

from __future__ import annotations

import ast
import configparser
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

import shelfscan
from shelfscan.ros.nodes import NODES

ROOT = Path(__file__).resolve().parents[2]
#: Import name of a distribution where it differs.
IMPORTS = {
    "opencv-python-headless": "cv2", "pillow": "PIL", "pyyaml": "yaml", "scikit-image": "skimage", "zxing-cpp": "zxingcpp",
    "types-pyyaml": "yaml", "pytest-timeout": "pytest_timeout", "pytest-xdist": "xdist",
    "mcap-ros2-support": "mcap_ros2",
}  # fmt: skip
#: Comes with JetPack or NVIDIA's packages; what a package registry has of it cannot be installed.
FROM_NVIDIA = {"tensorrt"}
#: Imported by src/ without being in setup.cfg: ROS comes from the distribution or from requirements-ros.txt.
FROM_ROS = re.compile(r"^(rclpy|launch|launch_ros|ament_index_python|\w+_msgs|std_srvs|builtin_interfaces)$")


def setup_cfg() -> configparser.ConfigParser:
    parsed = configparser.ConfigParser()
    parsed.read(ROOT / "setup.cfg", encoding="utf-8")
    return parsed


def requirements(text: str) -> set[str]:
    """Lower-case distribution names of one requirement a line."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return {re.split(r"[\s<>=!~;\[]", line)[0].lower() for line in lines if line}


def declared() -> set[str]:
    cfg = setup_cfg()
    names = requirements(cfg["options"]["install_requires"])
    for extra in cfg["options.extras_require"].values():
        names |= requirements(extra)
    return names


def entry_points() -> dict[str, str]:
    lines = setup_cfg()["options.entry_points"]["console_scripts"].strip().splitlines()
    return dict(re.split(r"\s*=\s*", line.strip(), maxsplit=1) for line in lines)  # type: ignore[misc]


def imported() -> set[str]:
    """Top-level modules that the sources import, anywhere in a module."""
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {a.name.split(".")[0] for a in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"shelfscan"}


def test_every_node_has_an_entry_point_for_ros2_run() -> None:
    points = entry_points()
    assert points.pop("shelfscan") == "shelfscan.cli.main:main"
    assert points == {n.executable: f"{n.module}:main" for n in NODES}


@pytest.mark.parametrize("target", entry_points().values())
def test_entry_points_lead_somewhere(target: str) -> None:
    module, function = target.split(":")
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, f"no module {module}"
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    assert function in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}


def test_versions_agree() -> None:
    for manifest in (ROOT / "package.xml", ROOT / "ros2_ws/src/shelfscan_msgs/package.xml"):
        assert ET.parse(manifest).getroot().findtext("version") == shelfscan.__version__, manifest
    assert f"## {shelfscan.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_what_is_imported_is_declared() -> None:
    available = {IMPORTS.get(name, name.replace("-", "_")) for name in declared()}
    undeclared = {m for m in imported() - FROM_NVIDIA if m not in available and not FROM_ROS.match(m)}
    assert undeclared == set(), "imported in src/ but in neither install_requires nor an extra of setup.cfg"


def test_ros_packages_that_are_imported_are_in_package_xml() -> None:
    depends = {e.text for e in ET.parse(ROOT / "package.xml").getroot() if e.tag.endswith("depend")}
    assert {m for m in imported() if FROM_ROS.match(m)} - depends == set()


def test_every_dependency_is_pinned_and_explained() -> None:
    pinned = requirements((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    told = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8").lower()
    not_by_setup = requirements(setup_cfg()["options.extras_require"]["train"])
    not_by_setup |= requirements(setup_cfg()["options.extras_require"]["tensorrt"])
    for extra in ("mqtt", "keyring"):
        not_by_setup |= requirements(setup_cfg()["options.extras_require"][extra])
    names = declared() - {"setuptools"}
    assert names - not_by_setup - pinned == set(), "not in constraints.txt"
    assert {n for n in names if f"`{n}`" not in told} == set(), "not in docs/dependencies.md"


def test_ros_wheels_are_pinned() -> None:
    wanted = requirements((ROOT / "requirements-ros.txt").read_text(encoding="utf-8")) - {"setuptools"}
    assert wanted - requirements((ROOT / "constraints.txt").read_text(encoding="utf-8")) == set()


def test_the_python_version_stands_where_colcon_can_read_it() -> None:
    # In setup.cfg or pyproject.toml it makes older colcon fail with a SyntaxError.
    assert "python_requires" in (ROOT / "setup.py").read_text(encoding="utf-8")
    assert not setup_cfg().has_option("options", "python_requires")
    assert "[project]" not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_colcon_is_told_where_the_root_package_is() -> None:
    defaults = yaml.safe_load((ROOT / "ros2_ws" / "colcon_defaults.yaml").read_text(encoding="utf-8"))
    assert all(defaults[verb]["base-paths"] == ["..", "src"] for verb in ("list", "build", "test"))
    links = [p for p in (ROOT / "ros2_ws").iterdir() if p.is_symlink()]
    assert links == [], "a link to the root makes a cycle"


def test_one_opencv() -> None:
    # opencv-python and opencv-python-headless overwrite each other's files, and the former needs a display's libraries.
    import importlib.metadata

    names = {str(d.metadata["Name"]).lower() for d in importlib.metadata.distributions()}
    assert {n for n in names if n.startswith("opencv")} == {"opencv-python-headless"}


@pytest.mark.parametrize("where", ["bin/shelfscan"])
def test_the_command_works_when_installed(where: str) -> None:
    command = Path(sys.prefix) / where
    if not command.exists():
        pytest.skip("shelfscan is not installed in this environment; scripts/setup.sh does it")
    out = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert out.strip() == f"shelfscan {shelfscan.__version__}"


@pytest.mark.long
@pytest.mark.timeout(900)
def test_colcon_builds_the_workspace(tmp_path: Path) -> None:
    """`cd ros2_ws && colcon build` on a copy, as docs/robot-bringup.md says; the root package installs real code."""
    venv = Path(sys.prefix)
    if importlib.util.find_spec("colcon_core") is None or not (venv / "bin" / "colcon").exists():
        pytest.skip("no colcon in this environment")
    root = tmp_path / "checkout"
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in tracked.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file() and not name.startswith(("maps/", "models/", "tests/", "training/", "docs/")):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    command = re.search(r"```sh\n(cd ros2_ws\n.*?colcon build.*?)```", (ROOT / "docs/robot-bringup.md").read_text(), re.DOTALL)
    assert command is not None, "docs/robot-bringup.md no longer says how to build the workspace"
    (root / ".venv").symlink_to(venv)
    hidden = ("PYTHONPATH", "LD_LIBRARY_PATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE", "AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH")
    env = {k: v for k, v in os.environ.items() if k not in hidden and not k.startswith("COLCON")}
    env["PATH"] = os.pathsep.join(p for p in env["PATH"].split(os.pathsep) if not p.startswith(str(venv)))
    built = subprocess.run(["bash", "-ec", command[1]], cwd=root, env=env, capture_output=True, text=True, timeout=800)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "2 packages finished" in built.stdout + built.stderr

    install = root / "ros2_ws" / "install"
    for node in NODES:
        assert os.access(install / "lib" / "shelfscan" / node.executable, os.X_OK)
    assert (install / "share/ament_index/resource_index/packages/shelfscan").is_file()
    assert {p.name for p in (install / "share/shelfscan/launch").iterdir()} == {"robot.launch.py", "simulator.launch.py"}
    (code,) = install.glob("lib/python3*/site-packages/shelfscan")
    source = root / "src" / "shelfscan"
    expected = {p.relative_to(source) for p in source.rglob("*") if p.is_file()}
    assert expected - {p.relative_to(code) for p in code.rglob("*")} == set(), "left out of the installation"
    # The installed command, from the installed code and not from the checkout.
    said = subprocess.run(
        ["bash", "-ec", ". ros2_ws/install/setup.bash && ros2_ws/install/lib/shelfscan/shelfscan --version"],
        cwd=root, env=env, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert said.stdout.strip() == f"shelfscan {shelfscan.__version__}", said.stderr


def test_the_default_configuration_file_shows_every_setting_with_its_default() -> None:
    from shelfscan.config import Config

    shown = yaml.safe_load((ROOT / "config" / "default.yaml").read_text(encoding="utf-8"))
    assert shown == Config().model_dump(mode="json")
