"""Where model files lie and what they claim to be.

``models/manifest.json`` lists every model: name, file, size, sha256, licence, data, input, outputs, metrics and the
command that made it, and int8 variants of it where there are some. The folder is found as every project file is
(`shelfscan.paths.shared_file`); checksums are verified once a process. Nothing is ever downloaded.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from shelfscan.errors import BadInput, MissingModel
from shelfscan.inputs import field_problems
from shelfscan.paths import shared_file

#: Which file of a network: the float one, or an int8 variant. ``int8`` has unsigned activations, as processors want them;
#: ``int8_symmetric`` has signed ones around zero, the only ones that TensorRT takes for what they are.
Chosen = Literal["fp32", "int8", "int8_symmetric"]
#: How a network is computed: fp16 and bf16 from the float file. ``auto``: see `chosen_precision`.
Precision = Literal["auto", "fp32", "fp16", "bf16", "int8"]
Computed = Literal["fp32", "fp16", "bf16", "int8"]
Backend = Literal["onnxruntime", "openvino", "tensorrt"]
#: What each backend can compute.
COMPUTES: dict[Backend, tuple[Computed, ...]] = {
    "onnxruntime": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
    "tensorrt": ("fp32", "fp16", "int8"),
}

_Sha256 = Field(pattern=r"^[0-9a-f]{64}$")


class _Entry(BaseModel):
    # A store's own tools may note more than is known here.
    model_config = ConfigDict(extra="allow", frozen=True)


class Metric(_Entry):
    """Numbers and how to get them again: ``values`` by name (groups of numbers may be nested one deep)."""

    command: str = Field(min_length=1)
    values: dict[str, float | dict[str, float]]
    date: str = ""
    data: str = ""


class ModelFile(_Entry):
    """A file beside the manifest."""

    file: str
    bytes: int = Field(gt=0)
    sha256: str = _Sha256

    @field_validator("file")
    @classmethod
    def _beside(cls, value: str) -> str:
        if not value or value == ".." or Path(value).name != value:
            raise ValueError("expected the name of a file beside the manifest")
        return value


class Variant(ModelFile):
    """The same network in another precision. ``made_from`` is the sha256 of the float file it was made of."""

    made_from: str = _Sha256
    command: str = ""
    metrics: dict[str, Metric] = {}


class ModelEntry(ModelFile):
    """What the manifest says of one model; ``file``, ``bytes`` and ``sha256`` are the float network's.

    ``classes``, ``thresholds``, ``photo_thresholds`` and ``iou`` are a detector's alone; ``thresholds`` are for one look at
    a known scale, ``photo_thresholds`` for scores fused from several looks at a photograph (`perception.photo`). ``replaced``
    and ``parent`` are said of a site's own versions: the checksums of what was in use before, and of the weights that the
    training began with.
    """

    name: str = Field(min_length=1)
    licence: str = Field(min_length=1)
    card: str = ""
    data: str = Field(min_length=1)
    input: str = Field(min_length=1)
    outputs: str = ""
    command: str = Field(min_length=1)
    metrics: dict[str, Metric] = {}
    classes: tuple[str, ...] = ()
    thresholds: dict[str, Annotated[float, Field(gt=0, lt=1)]] = {}
    photo_thresholds: dict[str, Annotated[float, Field(gt=0, lt=1)]] = {}
    iou: float = Field(default=0.55, gt=0, lt=1)
    variants: dict[Literal["int8", "int8_symmetric"], Variant] = {}
    made: str = ""
    data_sha256: str = ""
    parent: str = ""
    replaced: str = ""

    @property
    def for_photographs(self) -> dict[str, float]:
        """The least fused score a class; models that say none get somewhat less than for one look."""
        return dict(self.photo_thresholds) or {k: round(0.85 * v, 3) for k, v in self.thresholds.items()}

    @property
    def int8(self) -> Variant | None:
        """The int8 variant of exactly this float file; None when there is none, or it was made from other weights."""
        return self.variant("int8")

    def variant(self, kind: Chosen) -> Variant | None:
        """A variant of exactly this float file; None when there is none, or it was made from other weights."""
        variant = self.variants.get(kind) if kind != "fp32" else None
        return variant if variant is not None and variant.made_from == self.sha256 else None

    def to_json(self) -> dict[str, Any]:
        """What was said, and nothing that was not."""
        return self.model_dump(mode="json", exclude_unset=True)


class _Manifest(BaseModel):
    models: tuple[ModelEntry, ...]


def models_dir() -> Path:
    """The folder with ``manifest.json``. Raises `MissingModel` naming the places looked at."""
    try:
        return shared_file("models", "manifest.json").parent
    except BadInput as e:
        raise MissingModel(str(e)) from None


def manifest(folder: Path | None = None) -> dict[str, ModelEntry]:
    """The manifest's models by name. Raises `MissingModel` naming every field that is not what it should be."""
    path = (folder or models_dir()) / "manifest.json"
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise MissingModel(f"{path}: expected an object with 'models', each with 'name' and 'file': {e}") from e
    try:
        models = _Manifest.model_validate(data).models
    except ValidationError as e:
        raise MissingModel(field_problems(path, e, _Manifest)) from e
    names = [m.name for m in models]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise MissingModel(f"{path}: listed more than once: {', '.join(twice)}")
    return {m.name: m for m in models}


def model_entry(name: str, folder: Path | None = None) -> ModelEntry:
    """What the manifest says about one model."""
    models = manifest(folder)
    if name not in models:
        raise MissingModel(f"{folder or models_dir()}/manifest.json: no model {name!r}; it lists {sorted(models)}")
    return models[name]


def computed_as(entry: ModelEntry, wanted: Precision, backend: Backend, folder: Path | None = None) -> tuple[Chosen, Computed]:
    """Which file ``wanted`` comes to for a model on a backend, and how it is computed.

    ``auto`` is fp16 on TensorRT; int8 on OpenVINO where there is a variant of exactly this float file; and fp32 everywhere
    else: ONNX Runtime gains little or nothing by int8, and weights that a site trained have no variant. Raises `BadInput`
    when the backend does not compute what is asked for, `MissingModel` when it needs a variant and there is none of these
    weights.
    """
    folder = folder or models_dir()
    kind: Chosen = "int8_symmetric" if backend == "tensorrt" else "int8"
    variant = entry.variant(kind)
    if wanted == "auto":
        if backend == "tensorrt":
            return "fp32", "fp16"
        there = variant is not None and (folder / variant.file).is_file()
        return ("int8", "int8") if there and backend == "openvino" else ("fp32", "fp32")
    if wanted not in COMPUTES[backend]:
        raise BadInput(f"precision {wanted}: {backend} computes {', '.join(COMPUTES[backend])}; ask for one of these or auto")
    if wanted != "int8":
        return "fp32", wanted
    if variant is None:
        why = "was made from other weights" if kind in entry.variants else "does not exist"
        raise MissingModel(f"{folder}/manifest.json: model {entry.name!r}: its {kind} variant {why}; ask for auto or fp32")
    return kind, "int8"


def chosen_precision(entry: ModelEntry, wanted: Precision, backend: Backend, folder: Path | None = None) -> Chosen:
    """Which file ``wanted`` comes to for a model on a backend; errors as of `computed_as`."""
    return computed_as(entry, wanted, backend, folder)[0]


def entry_path(entry: ModelEntry, folder: Path | None = None, precision: Chosen = "fp32") -> Path:
    """The file of an entry, its checksum verified. Raises `MissingModel` naming file, expected and found checksum."""
    if precision != "fp32":
        chosen_precision(entry, "int8", "tensorrt" if precision == "int8_symmetric" else "openvino", folder)
    said = entry.variant(precision) or entry
    path = (folder or models_dir()) / said.file
    if not path.is_file():
        raise MissingModel(f"{path}: the file of model {entry.name!r} is missing")
    found = file_sha256(path)
    if found != said.sha256:
        raise MissingModel(f"{path}: sha256 {found} is not the manifest's {said.sha256}")
    return path


def model_path(name: str, folder: Path | None = None, precision: Chosen = "fp32") -> Path:
    """The file of a model by its name. Raises `MissingModel` as `entry_path` does."""
    return entry_path(model_entry(name, folder), folder, precision)


def file_sha256(path: Path) -> str:
    """The checksum of a file, read again only when the file has changed."""
    stat = path.stat()
    return _sha256(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=32)
def _sha256(path: Path, mtime_ns: int, size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
