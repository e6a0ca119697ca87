"""A site's own models: a folder with a manifest that stands before the shipped one, version by version.

``manifest.json`` there has two lists: ``models``, what is in use (as in the shipped manifest, so every backend reads it),
and ``kept``, every version that ever was, with its card. An entry says what it ``replaced`` by checksum; rolling back
follows that, down to the shipped weights. Files are named by checksum and never overwritten; the manifest is replaced in
one step, last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from shelfscan.adapters.models import Chosen, ModelEntry, ModelFile, entry_path, file_sha256, manifest, model_entry, models_dir
from shelfscan.errors import BadInput, MissingModel
from shelfscan.inputs import field_problems
from shelfscan.runfolder import claimed, write_atomic

#: The metric of a manifest with what a training measured on the pictures it held out.
HELD_OUT = "held_out"
#: Letters of a checksum that name a version.
SHORT = 12


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a model. ``folder`` has its file; ``used``: it is what runs take."""

    name: str
    entry: ModelEntry
    folder: Path
    shipped: bool
    used: bool

    @property
    def sha256(self) -> str:
        """Checksum of its file, as its manifest says."""
        return self.entry.sha256


class _Kept(BaseModel):
    kept: tuple[ModelEntry, ...] = ()


def in_use(name: str, site: Path | None) -> Path | None:
    """The folder a model is taken from: the site's when it has one of that name, else None for the shipped one.

    Raises `MissingModel` when ``site`` is given but is no folder of models.
    """
    if site is None:
        return None
    if not (site / "manifest.json").exists():
        raise MissingModel(f"{site}: models.folder of the configuration: no manifest.json there; `shelfscan train` makes one")
    return site if name in manifest(site) else None


def versions(site: Path | None) -> list[Version]:
    """Every version of every model, the shipped ones first, then the site's in the order they were made."""
    current = manifest(site) if site is not None and (site / "manifest.json").exists() else {}
    out = [Version(name, entry, models_dir(), True, name not in current) for name, entry in sorted(manifest().items())]
    if site is not None:
        for entry in _kept(site):
            used = entry.name in current and current[entry.name].sha256 == entry.sha256
            out.append(Version(entry.name, entry, site, False, used))
    return out


def install(site: Path, name: str, file: Path, entry: Mapping[str, Any], card: str) -> Version:
    """Put a new version into use; what was used before is kept. Raises `BadInput` when the folder is not usable.

    ``entry``: what the manifest shall say, without name, file, bytes, checksum, card and what it replaced.
    """
    with claimed(site):
        before = model_entry(name, in_use(name, site) if (site / "manifest.json").exists() else None)
        data = file.read_bytes()
        sha = file_sha256(file)
        stem = f"{name}-{sha[:SHORT]}"
        full = {
            "name": name, "file": f"{stem}.onnx", "bytes": len(data), "sha256": sha, **entry, "card": f"{stem}.md",
            "replaced": before.sha256,
        }  # fmt: skip
        try:
            new = ModelEntry.model_validate(full)
        except ValidationError as e:
            raise BadInput(field_problems(f"{site}: new version of {name}", e, ModelEntry)) from e
        kept = [e for e in _kept(site) if (e.name, e.sha256) != (name, sha)]
        write_atomic(site / new.file, data)
        write_atomic(site / new.card, card.encode())
        _write(site, [*kept, new], {**_used(site), name: new})
    return Version(name, new, site, False, True)


def roll_back(site: Path, name: str, to: str | None = None) -> Version:
    """Use what the current version replaced, or the version whose checksum begins with ``to`` (``shipped``: that one).

    Raises `BadInput` when there is nothing to go back to.
    """
    with claimed(site):
        used, kept = _used(site), [e for e in _kept(site) if e.name == name]
        shipped = model_entry(name)
        if to is None and name not in used:
            raise BadInput(f"{site}: {name} is the shipped one already; nothing to roll back")
        wanted = (used[name].replaced or "shipped") if to is None else to
        matches = [e for e in kept if e.sha256.startswith(wanted)]
        if wanted == "shipped" or (not matches and shipped.sha256.startswith(wanted)):
            matches = []
        elif len(matches) != 1:
            known = ", ".join([*(e.sha256[:SHORT] for e in kept), "shipped"])
            # The shipped weights may have changed since with an update: what was replaced is gone, the new ones are there.
            if to is not None:
                raise BadInput(f"{site}: {to}: {'several versions' if matches else 'no version'} of {name}; known: {known}")
            matches = []
        if matches:
            entry_path(matches[0], site)
            _write(site, _kept(site), {**used, name: matches[0]})
            return Version(name, matches[0], site, False, True)
        _write(site, _kept(site), {k: v for k, v in used.items() if k != name})
        return Version(name, shipped, models_dir(), True, True)


def faults(version: Version) -> list[str]:
    """What is wrong with a version, one line each: files, checksums, sizes, card, shapes; nothing when it can be used."""
    entry, folder = version.entry, version.folder
    out: list[str] = []
    if not (folder / entry.card).is_file():
        out.append(f"{folder}/{entry.card}: the card of {version.name} is missing")
    files: dict[Chosen, ModelFile] = {"fp32": entry}
    for kind in entry.variants:
        variant = entry.variant(kind)
        if variant is None:
            out.append(f"{folder}/manifest.json: {version.name}: its {kind} variant was made from other weights")
        else:
            files[kind] = variant
    for precision, said in files.items():
        try:
            path = entry_path(entry, folder, precision)
            size = path.stat().st_size
            if said.bytes != size:
                out.append(f"{folder}/manifest.json: {version.name}: bytes: {said.bytes}, {said.file} has {size}")
            _open(path, detects=bool(entry.classes))
        except BadInput as e:
            out += e.problems
    return out


def _open(path: Path, *, detects: bool) -> None:
    """Raise `MissingModel` unless the file can be run and has the shapes of its kind; ``detects``: its entry names classes."""
    from shelfscan.adapters import _pack_embedder, _people_net, _shelf_detector
    from shelfscan.adapters._onnx import open_session

    session = open_session(path, 1)
    inputs = {i.name: i.shape for i in session.get_inputs()}
    outputs = {o.name: o.shape for o in session.get_outputs()}
    if "image" in inputs and (detects or "distances" in outputs):
        _shelf_detector.check_shapes(path, inputs, outputs)
    elif "image" in inputs:
        _people_net.check_shapes(path, inputs.get("image"), outputs.get("scores"))
    elif "crops" in inputs:
        _pack_embedder.expect_shapes(path, inputs.get("crops"), outputs.get("embedding"))


def _used(site: Path) -> dict[str, ModelEntry]:
    return manifest(site) if (site / "manifest.json").exists() else {}


def _kept(site: Path) -> list[ModelEntry]:
    path = site / "manifest.json"
    if not path.exists():
        return []
    manifest(site)  # says what is wrong with it
    try:
        return list(_Kept.model_validate_json(path.read_bytes()).kept)
    except ValidationError as e:
        raise MissingModel(field_problems(path, e, _Kept)) from e


def _write(site: Path, kept: Sequence[ModelEntry], used: Mapping[str, ModelEntry]) -> None:
    document = {"models": [used[k].to_json() for k in sorted(used)], "kept": [e.to_json() for e in kept]}
    write_atomic(site / "manifest.json", (json.dumps(document, indent=1) + "\n").encode())
