"""Put a model into ``models/manifest.json``: ``python -m training.manifest NAME FILE --set key=json …``.

Keys given replace what the entry says; file name, size and checksum are always taken from the file. ``--metric`` notes numbers
with the command that gives them. A variant made of other weights is dropped: `training.quantise` makes it again. Nothing is
written unless the manifest is then one that `shelfscan.adapters.models` accepts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

from pydantic import ValidationError

from shelfscan.adapters.models import ModelEntry
from shelfscan.inputs import field_problems
from shelfscan.runfolder import write_atomic


def main() -> None:
    p = argparse.ArgumentParser(description="Put a model into the manifest beside it.")
    p.add_argument("name")
    p.add_argument("file", type=Path)
    p.add_argument("--set", nargs="*", default=[], help="key=JSON")
    p.add_argument("--metric", nargs=3, action="append", default=[], metavar=("NAME", "COMMAND", "JSON"))
    args = p.parse_args()
    path = args.file.parent / "manifest.json"
    models = json.loads(path.read_text())["models"] if path.exists() else []
    entry = next((m for m in models if m["name"] == args.name), None)
    if entry is None:
        entry = {"name": args.name}
        models.append(entry)
    data = args.file.read_bytes()
    entry.update(file=args.file.name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    for pair in args.set:
        key, _, value = pair.partition("=")
        entry[key] = json.loads(value)
    for name, command, values in args.metric:
        entry.setdefault("metrics", {})[name] = {"command": command, "values": json.loads(values)}
    for kind, variant in list(entry.get("variants", {}).items()):
        if variant["made_from"] != entry["sha256"]:
            del entry["variants"][kind]
            print(f"{args.name}: its {kind} variant was of other weights and is dropped; make it again with training.quantise")
    try:
        ModelEntry.model_validate(entry)
    except ValidationError as e:
        raise SystemExit("\n".join(field_problems(path, e, ModelEntry))) from None
    write_atomic(path, (json.dumps({"models": sorted(models, key=lambda m: str(m["name"]))}, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
