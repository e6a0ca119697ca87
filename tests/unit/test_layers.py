"""Imports point downwards only, ROS stays in ``ros/``, and nothing but the simulator and ``score`` opens a store's truth."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src" / "shelfscan"

#: From the ground up; a module may import its own level and those below it.
LEVELS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("model",),
    ("ports",),
    ("perception", "audit", "stock", "mission", "wms"),
    ("pipeline",),
    # Helpers that touch files or processes stand beside the adapters.
    (
        "adapters",
        "sim",
        "inputs",
        "runfolder",
        "runinfo",
        "runs",
        "bundle",
        "robotfile",
        "paths",
        "shm",
        "ready",
        "retention",
        "_leash",
        "_threads",
    ),
    # What is made of several of them.
    ("calibration", "survey"),
    ("config",),
    ("bootstrap", "supervisor", "schedule", "evaluation", "learn"),
    ("cli", "web", "ros"),
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
#: ROS packages; they are imported in ``ros/`` and nowhere else.
ROS = re.compile(r"^(rclpy|launch|launch_ros|ament_index_python|\w+_msgs|std_srvs|builtin_interfaces)$")
#: Who may name the folder: its maker, the comparison, and the demo, which hands the path to the comparison.
TRUTH_READERS = ("sim/", "cli/score.py", "cli/demo.py")
#: `truth` as a whole path part.
TRUTH = re.compile(r"(^|/)truth(/|$)")


def imports(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import, also those inside functions and under TYPE_CHECKING."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(x for x in (base, node.module or "") if x)
            yield node.lineno, module
            if module == "shelfscan":  # `from shelfscan import paths`
                for alias in node.names:
                    yield node.lineno, f"shelfscan.{alias.name}"


def docstrings(tree: ast.AST) -> set[int]:
    """ids of the string constants that are documentation."""
    found = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            found.add(id(body[0].value))
    return found


def faults(source: str, path: str) -> list[str]:
    """What is wrong with the module at ``path`` (below ``src/shelfscan``), one line a fault."""
    tree = ast.parse(source)
    own = path.split("/")[0].removesuffix(".py")
    package = ("shelfscan", *path.split("/")[:-1])
    found = []
    if own != "__init__" and own not in LEVEL:
        return [f"{path}: '{own}' is on no level; give it its place in LEVELS"]
    for line, module in imports(tree, package):
        top, _, rest = module.partition(".")
        if top == "shelfscan" and rest and own != "__init__":
            other = rest.split(".")[0]
            if other in LEVEL and LEVEL[other] > LEVEL[own]:
                found.append(f"{path}:{line}: {own} imports {module}, which stands above it")
        elif ROS.match(top) and own != "ros":
            found.append(f"{path}:{line}: imports {top} outside ros/")
    if not path.startswith(TRUTH_READERS):
        documentation = docstrings(tree)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in documentation:
                continue
            if TRUTH.search(node.value):
                found.append(f"{path}:{node.lineno}: names the truth folder: {node.value!r}")
    return found


def modules() -> list[str]:
    return sorted(p.relative_to(SRC).as_posix() for p in SRC.rglob("*.py"))


def test_there_is_something_to_check() -> None:
    assert {"errors.py", "pipeline.py", "bootstrap.py", "cli/main.py", "ros/nodes.py"} <= set(modules())


def test_every_level_exists() -> None:
    there = {m.split("/")[0].removesuffix(".py") for m in modules()}
    assert set(LEVEL) <= there


@pytest.mark.parametrize("path", modules())
def test_module_keeps_to_its_layer(path: str) -> None:
    assert faults((SRC / path).read_text(encoding="utf-8"), path) == []


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("perception/x.py", "from shelfscan.adapters.pictures import read_picture", "stands above it"),
        ("model/x.py", "def f():\n    import shelfscan.ports", "stands above it"),
        ("stock/x.py", "from shelfscan import bootstrap", "stands above it"),
        ("mission/x.py", "from ..config import Config", "stands above it"),
        ("audit/x.py", "if TYPE_CHECKING:\n    from shelfscan.cli.main import app", "stands above it"),
        ("adapters/x.py", "import rclpy.node", "outside ros/"),
        ("pipeline.py", "from sensor_msgs.msg import Image", "outside ros/"),
        ("cli/run.py", "p = bundle / 'truth' / 'bins.csv'", "truth folder"),
        ("pipeline.py", "p = f'{root}/truth/items.csv'", "truth folder"),
        ("novelty.py", "", "on no level"),
    ],
)
def test_a_bad_module_is_found(path: str, source: str, fault: str) -> None:
    found = faults(source, path)
    assert len(found) == 1
    assert fault in found[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("ros/x.py", "import rclpy\nfrom shelfscan.bootstrap import make_pipeline"),
        ("sim/x.py", "p = root / 'truth' / 'scene.json'"),
        (
            "pipeline.py",
            '"""Never opens truth/."""\nfrom shelfscan.perception.tags import read\nfrom shelfscan.errors import BadInput',
        ),
        ("perception/x.py", "from . import tags\nfrom .tags import read\nfrom ..model.scan import BayScan"),
    ],
)
def test_a_good_module_is_let_be(path: str, source: str) -> None:
    assert faults(source, path) == []
