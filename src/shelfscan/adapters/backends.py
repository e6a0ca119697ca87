"""Which inference backends can be used on this machine, and why not the others. Nothing is loaded to find out."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shelfscan.adapters._cuda import ELSE, find_gpu
from shelfscan.adapters._tensorrt import RTX
from shelfscan.adapters.models import COMPUTES, Backend, Precision
from shelfscan.errors import BackendError

#: Names as configurations have them, and as manifests and reports do.
Name = Literal["tensorrt", "openvino", "onnx"]
FULL: dict[Name, Backend] = {"tensorrt": "tensorrt", "openvino": "openvino", "onnx": "onnxruntime"}


@dataclass(frozen=True, slots=True)
class Found:
    """A backend and whether it can be used. ``why``: what it would run on, or what is missing."""

    name: Name
    usable: bool
    why: str


def found_backends() -> tuple[Found, ...]:
    """All backends, the fastest first."""
    looks: tuple[tuple[Name, Callable[[], tuple[bool, str]]], ...] = (
        ("tensorrt", _tensorrt), ("openvino", lambda: _package("openvino")), ("onnx", lambda: _package("onnxruntime")),
    )  # fmt: skip
    return tuple(Found(name, *look()) for name, look in looks)


def order(wanted: Literal["auto"] | Name, precision: Precision) -> list[Name]:
    """What to try, in this order: what is asked for, or with ``auto`` every usable backend that computes ``precision``.

    With ``auto``, ONNX Runtime is last even where it is missing, so that there is something to say it.
    """
    if wanted != "auto":
        return [wanted]
    able = [f.name for f in found_backends() if f.usable and (precision == "auto" or precision in COMPUTES[FULL[f.name]])]
    return able or ["onnx"]


def _tensorrt() -> tuple[bool, str]:
    try:
        gpu = find_gpu()
    except BackendError as e:
        return False, str(e).removesuffix(f", or {ELSE}")
    there = f"{gpu.name} (capability {gpu.capability}, {gpu.memory_mib} MiB, driver for CUDA {gpu.driver})"
    needs = {
        "tensorrt": "TensorRT's Python package (JetPack or NVIDIA's packages bring it; on RTX cards, pip install tensorrt-rtx)",
        "pycuda": "PyCUDA (pip install 'shelfscan[tensorrt]')",
        "onnx": "onnx (pip install 'shelfscan[tensorrt]')",
    }
    others = {"tensorrt": RTX}
    missing = [t for m, t in needs.items() if not any(importlib.util.find_spec(n) is not None for n in (m, *others.get(m, ())))]
    if missing:
        return False, f"{there} is here, but not {', nor '.join(missing)}"
    return True, there


def _package(name: str) -> tuple[bool, str]:
    if importlib.util.find_spec(name) is None:
        return False, f"the package {name} is not installed"
    try:
        return True, f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return True, f"{name} of unknown version"


#: Names of /proc/cpuinfo for processors that multiply bf16.
_BF16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")


def processor_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether bf16 can be faster than fp32 on this processor: others compute it by way of fp32, and only lose digits."""
    try:
        words = cpuinfo.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    return any(flag in words for flag in _BF16_FLAGS)
