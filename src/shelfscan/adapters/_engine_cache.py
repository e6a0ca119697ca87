"""Built TensorRT engines on disk: a file says what it was built of and for, and is used for exactly that.

A file is one line that says what it is, one line of JSON (the key, and size and checksum of what follows), and the engine.
An engine runs on the GPU model and TensorRT version it was built with only; everything else that it depends on is in the
key too. Whatever is not as it should be is built anew: a cache may be deleted, cut short or copied from elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shelfscan.runfolder import write_atomic

MAGIC = b"shelfscan engine\n"
#: Grows when networks are prepared or built in another way, so that engines of before are built anew.
RECIPE = 1
#: Engines of one model and precision that are kept; rolling back to a version of before then needs no build.
KEPT = 4

#: Input by name: least, usual and largest shape; None where the network itself says.
Shape = tuple[int | None, ...]
Profile = dict[str, tuple[Shape, Shape, Shape]]


@dataclass(frozen=True)
class EngineKey:
    """All that an engine depends on. ``model_sha256``: of the ONNX file; ``capability``: CUDA's number of the GPU's kind."""

    model: str
    model_sha256: str
    precision: str
    gpu: str
    capability: str
    tensorrt: str
    profile: Profile
    recipe: int = RECIPE

    @property
    def file_name(self) -> str:
        """Where it lies in a cache folder; other versions of model and GPU have other names, the rest is in the file."""
        gpu = re.sub(r"[^a-z0-9]+", "-", self.gpu.lower()).strip("-")
        return f"{self.model}.{self.precision}.{self.model_sha256[:12]}.{gpu}-sm{self.capability.replace('.', '')}.engine"

    def to_json(self) -> dict[str, Any]:
        """As in the file: tuples are lists there."""
        said: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return said


class Unusable(Exception):
    """Why a cached engine is not used; the text is for the log."""


def read(folder: Path, key: EngineKey) -> bytes | None:
    """The engine of a key, None when there is none. Raises `Unusable` for a file that is not one of exactly this key."""
    path = folder / key.file_name
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as e:
        raise Unusable(f"{path} cannot be read: {e.strerror}") from e
    magic, _, rest = data.partition(b"\n")
    head, _, engine = rest.partition(b"\n")
    try:
        said = json.loads(head) if magic + b"\n" == MAGIC else None
    except ValueError:
        said = None
    if not isinstance(said, dict) or not isinstance(said.get("key"), dict):
        raise Unusable(f"{path} is no engine of ours")
    wanted = key.to_json()
    differs = [f"{k} {said['key'].get(k)!r}, now {v!r}" for k, v in wanted.items() if said["key"].get(k) != v]
    if differs:
        raise Unusable(f"{path} was built for {'; '.join(differs)}")
    if said.get("bytes") != len(engine):
        raise Unusable(f"{path} is cut short: {len(engine)} of {said.get('bytes')} bytes")
    if said.get("sha256") != hashlib.sha256(engine).hexdigest():
        raise Unusable(f"{path} is damaged: another checksum than when it was written")
    return engine


def write(folder: Path, key: EngineKey, engine: bytes) -> Path:
    """Keep an engine, and forget the oldest of its model and precision. Raises `OSError` when it cannot be written."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    head = {"key": key.to_json(), "bytes": len(engine), "sha256": hashlib.sha256(engine).hexdigest()}
    path = folder / key.file_name
    write_atomic(path, MAGIC + json.dumps(head).encode() + b"\n" + engine)
    others = [p for p in folder.glob(f"{key.model}.{key.precision}.*.engine") if p != path]
    for old in sorted(others, key=lambda p: p.stat().st_mtime, reverse=True)[KEPT - 1 :]:
        old.unlink(missing_ok=True)
    return path


def default_folder() -> Path:
    """``$XDG_CACHE_HOME/shelfscan/engines``, by default below ``~/.cache``."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return home / "shelfscan" / "engines"
