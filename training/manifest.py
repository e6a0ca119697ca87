"""Put a model into ``models/manifest.json``: ``python -m training.manifest NAME FILE --set key=json …``.

Keys given replace what the entry says; file name, size and checksum are always taken from the file. ``--metric`` notes numbers
with the command that gives them. An int8 variant made of other weights is dropped with its file and its part of the card:
`training.quantise` makes it again. Nothing is written unless the manifest is then one that `shelfscan.adapters.models` accepts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shelfscan.adapters.models import ModelEntry, file_sha256
from shelfscan.inputs import field_problems
from shelfscan.runfolder import write_atomic

#: Head of the section on the int8 variant in a card.
SECTION = "## int8"


def read_models(folder: Path) -> list[dict[str, Any]]:
    """The entries of a folder's manifest; none where there is no manifest yet."""
    path = folder / "manifest.json"
    return list(json.loads(path.read_text(encoding="utf-8"))["models"]) if path.exists() else []


def write_models(folder: Path, models: Sequence[dict[str, Any]]) -> None:
    """Replace a folder's manifest in one step. Exits, naming every wrong field, when it would not be one."""
    path = folder / "manifest.json"
    for entry in models:
        try:
            ModelEntry.model_validate(entry)
        except ValidationError as e:
            raise SystemExit("\n".join(field_problems(f"{path}: {entry.get('name')}", e, ModelEntry))) from None
    document = {"models": sorted(models, key=lambda m: str(m["name"]))}
    write_atomic(path, (json.dumps(document, indent=1) + "\n").encode())


def with_section(card: str, text: str) -> str:
    """``card`` with its int8 section replaced by ``text`` (appended where it has none; empty: taken away)."""
    before, _, rest = card.partition(f"\n{SECTION}\n")
    at = rest.find("\n## ")
    after = rest[at:] if at >= 0 else ""
    return before.rstrip() + "\n" + (f"\n{text.rstrip()}\n" if text else "") + after


def main() -> None:
    p = argparse.ArgumentParser(description="Put a model into the manifest beside it.")
    p.add_argument("name")
    p.add_argument("file", type=Path)
    p.add_argument("--set", nargs="*", default=[], help="key=JSON")
    p.add_argument("--metric", nargs=3, action="append", default=[], metavar=("NAME", "COMMAND", "JSON"))
    args = p.parse_args()
    folder = args.file.parent
    models = read_models(folder)
    entry = next((m for m in models if m["name"] == args.name), None)
    if entry is None:
        entry = {"name": args.name}
        models.append(entry)
    entry.update(file=args.file.name, bytes=args.file.stat().st_size, sha256=file_sha256(args.file))
    for pair in args.set:
        key, _, value = pair.partition("=")
        entry[key] = json.loads(value)
    for name, command, values in args.metric:
        entry.setdefault("metrics", {})[name] = {"command": command, "values": json.loads(values)}
    stale = [k for k, variant in entry.get("variants", {}).items() if variant["made_from"] != entry["sha256"]]
    files = [str(entry["variants"].pop(kind)["file"]) for kind in stale]
    write_models(folder, models)
    card = folder / str(entry.get("card", ""))
    if files and card.is_file():
        write_atomic(card, with_section(card.read_text(encoding="utf-8"), "").encode())
    for file in files:
        (folder / file).unlink(missing_ok=True)
        print(f"{folder / file}: was made of other weights and is gone; `python -m training.quantise` makes it again")


if __name__ == "__main__":
    main()
