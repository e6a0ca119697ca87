"""Where model files lie and what they claim to be.

``models/manifest.json`` lists every model: name, file, sha256, licence, data, input, classes, metrics and the command
that made it. The folder is found as every project file is (`shelfscan.paths.shared_file`); checksums are verified
once a process.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from shelfscan.errors import BadInput, MissingModel
from shelfscan.paths import shared_file


def models_dir() -> Path:
    """The folder with ``manifest.json``. Raises `MissingModel` naming the places looked at."""
    try:
        return shared_file("models", "manifest.json").parent
    except BadInput as e:
        raise MissingModel(str(e)) from None


def manifest(folder: Path | None = None) -> dict[str, Any]:
    """The manifest's models by name. Raises `MissingModel` when it is not what it should be."""
    path = (folder or models_dir()) / "manifest.json"
    try:
        models = json.loads(path.read_text(encoding="utf-8"))["models"]
        return {entry["name"]: entry for entry in models}
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise MissingModel(f"{path}: expected an object with 'models', each with 'name' and 'file': {e}") from e


def model_entry(name: str, folder: Path | None = None) -> dict[str, Any]:
    """What the manifest says about one model."""
    models = manifest(folder)
    if name not in models:
        raise MissingModel(f"{folder or models_dir()}/manifest.json: no model {name!r}; it lists {sorted(models)}")
    entry: dict[str, Any] = models[name]
    return entry


def model_path(name: str, folder: Path | None = None) -> Path:
    """The file of a model, its checksum verified. Raises `MissingModel` naming file, expected and found checksum."""
    folder = folder or models_dir()
    entry = model_entry(name, folder)
    path = folder / str(entry["file"])
    if not path.is_file():
        raise MissingModel(f"{path}: the file of model {name!r} is missing")
    found = file_sha256(path)
    if found != entry["sha256"]:
        raise MissingModel(f"{path}: sha256 {found} is not the manifest's {entry['sha256']}")
    return path


def file_sha256(path: Path) -> str:
    """The checksum of a file, read again only when the file has changed."""
    stat = path.stat()
    return _sha256(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=32)
def _sha256(path: Path, mtime_ns: int, size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
