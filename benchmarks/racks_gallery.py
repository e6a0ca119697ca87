"""Cuts a gallery out of labelled photographs: ``OUT/<sku>/<annotation>.png`` for the rows of ``gallery_query.csv`` with the
role "gallery".

    python -m benchmarks.racks_gallery --data DATA/racks --out OUT

Such data may be for evaluation only: write the crops to a scratch folder and keep them out of any repository.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from pathlib import Path

from PIL import Image

from shelfscan.adapters.pictures import read_picture
from shelfscan.errors import BadInput


def cut_gallery(data: Path, out: Path) -> int:
    """Write one picture a row; returns how many. Raises `BadInput` naming what of the data is missing or wrong."""
    try:
        labels = json.loads((data / "annotations.json").read_text(encoding="utf-8"))
        boxes = {int(a["id"]): [float(v) for v in a["bbox"]] for a in labels["annotations"]}
        with (data / "gallery_query.csv").open(newline="", encoding="utf-8") as f:
            rows = [row for row in csv.DictReader(f) if row["role"] == "gallery"]
    except (OSError, ValueError, KeyError) as e:
        raise BadInput(f"{data}: expected annotations.json and gallery_query.csv: {e}") from e
    pictures = {name: read_picture(data / "images" / name) for name in sorted({row["image"] for row in rows})}
    for row in rows:
        x, y, w, h = boxes[int(row["annotation_id"])]
        crop = pictures[row["image"]][max(0, int(y)) : int(y + h) + 1, max(0, int(x)) : int(x + w) + 1]
        folder = out / re.sub(r"[^\w.+-]", "_", row["sku"])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(crop).save(folder / f"{row['annotation_id']}.png")
    return len(rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with annotations.json, gallery_query.csv, images/")
    parser.add_argument("--out", type=Path, required=True, help="folder for the crops, one folder a SKU")
    options = parser.parse_args()
    try:
        print(f"{options.out}: {cut_gallery(options.data, options.out)} pictures")
    except BadInput as e:
        raise SystemExit(f"racks_gallery: {e}") from e


if __name__ == "__main__":
    main()
