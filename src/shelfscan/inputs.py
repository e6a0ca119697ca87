"""What users hand in, and where results shall go: YAML, fields and paths, with errors that say what was expected."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from shelfscan.errors import BadInput

#: Last words of names of fields that hold secrets or their places, or addresses, in which people write passwords.
_SECRET = re.compile(r"(^|_)(password|passphrase|token|secret|key|url|remote)$", re.IGNORECASE)


def read_yaml(path: Path, kind: str = "file") -> Any:
    """A YAML document. Raises `BadInput` naming the file, its ``kind`` when absent, and the line that is no YAML."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except FileNotFoundError:
        raise BadInput(f"{path}: missing; no such {kind}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not YAML: not a text in UTF-8") from None
    except OSError as e:
        raise BadInput(f"{path}: cannot be read: {e.strerror}") from e
    except yaml.YAMLError as e:
        raise BadInput(f"{path}: {_yaml_problem(e)}") from e


def _yaml_problem(e: yaml.YAMLError) -> str:
    mark = getattr(e, "problem_mark", None)
    what = " ".join(x for x in (getattr(e, "context", None), getattr(e, "problem", None)) if x)
    if mark is None or not what:
        return f"not YAML: {' '.join(str(e).split())}"
    return f"line {mark.line + 1}, column {mark.column + 1}: not YAML: {what}"


def field_problems(where: Path | str, e: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line a wrong field of a document that should be a ``model``: file, field, what was expected, what was found."""
    out = []
    for problem in e.errors():
        loc = problem["loc"]
        field = ".".join(str(x) for x in loc) or "document"
        match problem["type"]:
            case "extra_forbidden":
                out.append(f"{where}: {field}: unknown field; known: {', '.join(_fields(model, loc[:-1]))}")
            case "missing":
                out.append(f"{where}: {field}: missing")
            case "model_type" | "dict_type":
                found = type(problem["input"]).__name__
                out.append(f"{where}: {field}: expected fields ({', '.join(_fields(model, loc))}), found {found}")
            case kind:
                said = str(problem["ctx"]["error"]) if kind == "value_error" else problem["msg"]
                found = "" if any(_secret(str(x)) for x in loc) else f" (found {_short(_masked(problem['input']))})"
                out.append(f"{where}: {field}: {said}{found}")
    return out


def _secret(name: str) -> bool:
    """Whether a field of this name may hold a secret, such as one that was written where its place belongs."""
    return bool(_SECRET.search(name))


def _masked(value: object) -> object:
    """The same without the values of fields that may hold a secret."""
    if isinstance(value, dict):
        return {k: "…" if _secret(str(k)) else _masked(v) for k, v in value.items()}
    return [_masked(v) for v in value] if isinstance(value, list) else value


def _short(value: object, most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _fields(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Names a document may have at a place."""
    here: type[BaseModel] = model
    for part in loc:
        field = next((f for n, f in here.model_fields.items() if part in (n, f.alias)), None)
        inner = next(_models(field.annotation), None) if field is not None else None
        here = inner or here
    return [f.alias or n for n, f in here.model_fields.items()]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a type, such as in ``list[Head]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def expect_writable(path: Path, *, folder: bool = False) -> None:
    """Raise `BadInput` when a file (or a ``folder``) could not be written at ``path``; for before long work."""
    if path.exists() and path.is_dir() is not folder:
        raise BadInput(f"{path}: is a {'folder' if path.is_dir() else 'file'}; expected {'a folder' if folder else 'a file'}")
    above = path if folder else path.parent
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise BadInput(f"{path}: cannot be made: {above} is a file")
    if not os.access(above, os.W_OK | os.X_OK):
        raise BadInput(f"{path}: cannot be made: no right to write in {above}")


Model = TypeVar("Model", bound=BaseModel)


def read_json_model(path: Path, model: type[Model]) -> Model:
    """A JSON document that should be a ``model``. Raises `BadInput` naming file and field."""
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise BadInput(f"{path}: cannot be read: {e.strerror}") from e
    except ValidationError as e:
        raise BadInput([f"{path}: {'.'.join(map(str, x['loc'])) or 'file'}: {x['msg']}" for x in e.errors()]) from e
