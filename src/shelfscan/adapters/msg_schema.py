"""Message definitions: the text a bag carries, its type hash, and encoding without ROS.

Definitions come from the packages installed here (``share/<package>/msg/*.msg``), then from the checkout's own interface
packages, then from the definitions that ``rosbags`` ships, so that bags can be written and read on machines without ROS.
"""

from __future__ import annotations

import os
import re
import sys
from functools import lru_cache
from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from shelfscan.errors import BadInput
from shelfscan.paths import ROOT

SEPARATOR = "=" * 80
#: Built into the typestore: these have no fields a definition could get wrong.
BUILT_IN = ("builtin_interfaces/msg/Time", "builtin_interfaces/msg/Duration")
PRIMITIVES = frozenset(["bool", "byte", "char", "string", "wstring", "float32", "float64"]).union(
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
)
_FIELD = re.compile(r"^\s*([A-Za-z][A-Za-z0-9_/]*)(?:<=\d+)?(?:\[[^\]]*\])?\s+[A-Za-z]")


def definition_dirs() -> list[Path]:
    """Folders that hold ``<package>/msg/*.msg``, most binding first."""
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    return [p / "share" for p in [*prefixes, Path(sys.prefix)]] + [ROOT / "ros2_ws" / "src"]


def _split(type_name: str) -> tuple[str, str]:
    """``package/msg/Name`` (or ``package/Name``) to (package, name)."""
    parts = type_name.split("/")
    if len(parts) not in (2, 3) or not all(parts) or (len(parts) == 3 and parts[1] != "msg"):
        raise BadInput(f"message type {type_name!r}: expected package/msg/Name")
    return parts[0], parts[-1]


@lru_cache(maxsize=512)
def definition(type_name: str) -> str:
    """The text of one ``.msg`` file. Raises `BadInput` when no package here defines the type."""
    package, name = _split(type_name)
    for folder in definition_dirs():
        path = folder / package / "msg" / f"{name}.msg"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    shipped = get_typestore(Stores.ROS2_KILTED)
    full = f"{package}/msg/{name}"
    if full not in shipped.types:
        raise BadInput(f"message type {full}: defined by no package here (looked in {', '.join(map(str, definition_dirs()))})")
    return shipped.generate_msgdef(full, ros_version=2)[0].split(SEPARATOR)[0]


def fields_of(package: str, text: str) -> list[str]:
    """Message types that a definition refers to, as ``package/msg/Name``, in order, each once."""
    found: list[str] = []
    for line in text.splitlines():
        match = _FIELD.match(line.split("#", 1)[0])
        if match is None or match[1] in PRIMITIVES:
            continue
        kind = match[1]
        if kind == "Header":
            kind = "std_msgs/Header"
        p, n = _split(kind) if "/" in kind else (package, kind)
        if f"{p}/msg/{n}" not in found:
            found.append(f"{p}/msg/{n}")
    return found


@lru_cache(maxsize=128)
def schema_text(type_name: str) -> str:
    """A type's definition with those it needs, as MCAP's ``ros2msg`` encoding wants it. Raises `BadInput`."""
    package, name = _split(type_name)
    root = f"{package}/msg/{name}"
    text = definition(root)
    parts, known, todo = [text], {root}, fields_of(package, text)
    while todo:
        kind = todo.pop(0)
        if kind in known:
            continue
        known.add(kind)
        p, n = _split(kind)
        body = definition(kind)
        parts.append(f"{SEPARATOR}\nMSG: {p}/{n}\n{body}")
        todo += fields_of(p, body)
    return "\n".join(part.rstrip("\n") for part in parts) + "\n"


def typestore_of(schemas: dict[str, str]) -> Typestore:
    """A typestore that knows the given types, from their ``ros2msg`` texts. Raises `BadInput` naming the type."""
    store = get_typestore(Stores.EMPTY)
    for type_name, text in schemas.items():
        package, name = _split(type_name)
        try:
            types = get_types_from_msg(text, f"{package}/msg/{name}")
            store.register({k: v for k, v in types.items() if k not in BUILT_IN})
        except Exception as e:  # the parser raises what its grammar trips over
            raise BadInput(f"message type {type_name}: its definition cannot be understood: {e}") from e
    return store


@lru_cache(maxsize=128)
def type_hash(type_name: str) -> str:
    """The type's hash as ROS computes it (``RIHS01_...``)."""
    package, name = _split(type_name)
    return typestore_of({type_name: schema_text(type_name)}).hash_rihs01(f"{package}/msg/{name}")
