"""How much of a store a survey gets right: ``python -m benchmarks.survey --nights OUT --seeds 1 2 3``.

Nights as made by `benchmarks.stores`. Each bin of the planogram that was seen in full with something in it is held against the
proposed bin in its place on the same shelf.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from shelfscan.bundle import load_bundle
from shelfscan.model.bundle import Bundle
from shelfscan.model.store import BinPlace


def nearest(proposal: Bundle, place: BinPlace) -> BinPlace | None:
    """The proposed bin that overlaps a place most, on the shelf at its height."""
    best: tuple[float, BinPlace] | None = None
    for p in proposal.store.places.values():
        if p.gondola_id == place.gondola_id and abs(p.z0_m - place.z0_m) < 0.05:
            overlap = min(p.x1_m, place.x1_m) - max(p.x0_m, place.x0_m)
            if overlap > 0 and (best is None or overlap > best[0]):
                best = (overlap, p)
    return best[1] if best else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nights", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    args = parser.parse_args()
    for seed in args.seeds:
        store, run = args.nights / f"store-{seed}", args.nights / f"run-{seed}"
        folder = Path(tempfile.mkdtemp(prefix="survey-"))
        try:
            command = ["store", "survey", run, "--store", store, "--out", folder / "s"]
            subprocess.run(
                [sys.executable, "-m", "shelfscan.cli.main", *map(str, command)], check=True, stdout=subprocess.DEVNULL
            )
            proposal, true = load_bundle(folder / "s"), load_bundle(store)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        said = {b["bin_id"]: b for b in json.loads((run / "stock_map.json").read_text())["bins"]}
        with (store / "truth" / "bins.csv").open(newline="", encoding="utf-8") as f:
            stocked = [r["bin_id"] for r in csv.DictReader(f) if int(r["facings"]) and said[r["bin_id"]]["status"] != "UNSEEN"]
        sku = wide = 0
        for bin_id in stocked:
            found = nearest(proposal, true.store.places[bin_id])
            if found is None:
                continue
            line, was = proposal.planogram[found.bin_id], true.planogram[bin_id]
            sku += line.sku == was.sku
            wide += line.sku == was.sku and line.facings_wide == was.facings_wide
        print(f"seed {seed}: {len(stocked)} bins, SKU {sku / len(stocked):.1%}, SKU and facings {wide / len(stocked):.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
