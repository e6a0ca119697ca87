"""Put a model into ``models/manifest.json``: ``python -m training.manifest NAME FILE --set key=json …``.

Keys given replace what the entry says; file name, size and checksum are always taken from the file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path


def main() -> None:
    p = argparse.ArgumentParser(description="Put a model into the manifest beside it.")
    p.add_argument("name")
    p.add_argument("file", type=Path)
    p.add_argument("--set", nargs="*", default=[], help="key=JSON")
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
    path.write_text(json.dumps({"models": sorted(models, key=lambda m: str(m["name"]))}, indent=1) + "\n")


if __name__ == "__main__":
    main()
