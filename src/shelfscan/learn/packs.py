"""Pictures of products by SKU: a folder a SKU, or ``labels.csv``; a frozen split; and drawn packages that are never a store's.

The drawn packages keep a training from forgetting what it knew, and measure whether it did.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.adapters.pictures import pictures_in, read_picture
from shelfscan.errors import BadInput
from shelfscan.evaluation.data import read_rows
from shelfscan.learn.augment import spoil
from shelfscan.learn.packnet import SIDE
from shelfscan.learn.workset import Report, read_split
from shelfscan.model.imaging import Rgb
from shelfscan.runfolder import write_atomic

#: Share of a SKU's pictures that is held out, at least one of two or more.
HELD_OUT = 0.25
#: Working copies keep this much more than the input shows, for training to cut from.
COPY_PX = 192
SPLIT_FILE = "split.json"


@dataclass(frozen=True, eq=False)
class Pack:
    """One SKU's pictures, (COPY_PX, COPY_PX, 3) uint8 RGB, stretched to the square as the network's input is."""

    sku: str
    train: tuple[Rgb, ...]
    held_out: tuple[Rgb, ...]


@dataclass(frozen=True)
class PackSet:
    """All SKUs; ``left_out`` says which pictures are not among them and why. ``fingerprint`` is of the training part."""

    packs: tuple[Pack, ...]
    left_out: tuple[str, ...]
    fingerprint: str

    @property
    def held_out(self) -> int:
        """Pictures that are held out."""
        return sum(len(p.held_out) for p in self.packs)

    @property
    def train(self) -> int:
        """Pictures that are trained on."""
        return sum(len(p.train) for p in self.packs)


def files_by_sku(path: Path) -> dict[str, list[Path]]:
    """Picture files by SKU of a folder (``labels.csv`` with file and sku, else a folder a SKU) or of such a CSV.

    Raises `BadInput` with every problem.
    """
    table = path if path.is_file() else path / "labels.csv"
    if not path.exists():
        raise BadInput(f"{path}: no such data folder or labels.csv")
    if table.is_file():
        problems, out, seen = [], dict[str, list[Path]](), dict[Path, int]()
        for line, row in read_rows(table, ("file", "sku")):
            file = table.parent / row["file"]
            if not row["file"] or not row["sku"]:
                problems.append(f"{table}: line {line}: {'file' if not row['file'] else 'sku'}: empty")
            elif file in seen:
                problems.append(f"{table}: line {line}: file {row['file']} is there already, in line {seen[file]}")
            else:
                seen[file] = line
                out.setdefault(row["sku"], []).append(file)
        if problems:
            raise BadInput(problems)
        return out
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        raise BadInput(f"{path}: expected a folder of pictures a SKU, or labels.csv with file and sku")
    if empty := [f"{f}: no picture of this SKU" for f in folders if not pictures_in(f)]:
        raise BadInput(empty)
    return {f.name: pictures_in(f) for f in folders}


def read_packs(path: Path, folder: Path, report: Report) -> PackSet:
    """Read every picture; which are held out is decided once and kept in ``folder``. Unreadable ones are named and left out.

    Raises `BadInput` when fewer than two SKUs, or no SKU with two pictures, are left.
    """
    files = files_by_sku(path)
    left_out: list[str] = []
    owner: dict[str, Path] = {}
    pictures: dict[str, dict[str, Rgb]] = {}
    for n, (sku, paths) in enumerate(sorted(files.items())):
        report(f"reading {sku}", n / len(files))
        for file in paths:
            try:
                sha = hashlib.sha256(file.read_bytes()).hexdigest()
                if sha in owner:
                    left_out.append(f"{file}: the same picture as {owner[sha]}")
                    continue
                picture = read_picture(file)
            except (BadInput, OSError) as e:
                left_out += e.problems if isinstance(e, BadInput) else [f"{file}: cannot be read: {e.strerror}"]
                continue
            owner[sha] = file
            pictures.setdefault(sku, {})[sha] = square(picture, COPY_PX)
    if len(pictures) < 2 or all(len(p) < 2 for p in pictures.values()):
        raise BadInput([*left_out, f"{path}: expected two SKUs or more, and two readable pictures or more of one of them"])
    held = _split(folder / SPLIT_FILE, pictures)
    packs = tuple(
        Pack(sku, tuple(v for k, v in by.items() if k not in held), tuple(v for k, v in by.items() if k in held))
        for sku, by in pictures.items()
    )
    digest = hashlib.sha256(json.dumps({s: sorted(set(by) - held) for s, by in pictures.items()}, sort_keys=True).encode())
    return PackSet(packs, tuple(left_out), digest.hexdigest())


def _split(path: Path, pictures: dict[str, dict[str, Rgb]]) -> set[str]:
    known = read_split(path)
    decided = dict(known)
    for by in pictures.values():
        goal = max(1, round(HELD_OUT * len(by))) if len(by) > 1 else 0
        held = sum(known.get(s) == "held_out" for s in by)
        for sha in sorted(s for s in by if s not in known):
            decided[sha] = "held_out" if held < goal else "train"
            held += decided[sha] == "held_out"
        if by and all(decided[s] == "held_out" for s in by):
            raise BadInput(f"{path}: all pictures of a SKU are held out; give it more pictures, or use another --out")
    if decided != known:
        write_atomic(path, (json.dumps({"pictures": decided}, indent=1, sort_keys=True) + "\n").encode())
    return {s for by in pictures.values() for s in by if decided[s] == "held_out"}


def square(picture: Rgb, side: int) -> Rgb:
    """A picture stretched to a square."""
    method = cv2.INTER_AREA if min(picture.shape[:2]) >= side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (side, side), interpolation=method), np.uint8)


def view(picture: Rgb, rng: np.random.Generator, shelf: bool) -> Rgb:
    """A product seen anew, (SIDE, SIDE, 3): cut a little off, turned, tilted, at another resolution and light.

    ``shelf`` views are worse than those of a gallery: farther, darker, partly covered.
    """
    side = picture.shape[0]
    slack, tilt = (0.07, 0.06) if shelf else (0.03, 0.03)
    j = rng.normal(0, slack / 2, 4).clip(-slack, slack) * side
    quad = np.array([[j[0], j[1]], [side + j[2], j[1]], [side + j[2], side + j[3]], [j[0], side + j[3]]], np.float32)
    quad += (rng.uniform(-tilt, tilt, (4, 2)) * side * rng.random()).astype(np.float32)
    seen = int(np.exp(rng.uniform(np.log(40 if shelf else 80), np.log(SIDE))))
    source = picture
    if seen < 0.6 * side:
        source = np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.35 * side / seen), np.uint8)
    to = np.array([[0, 0], [seen, 0], [seen, seen], [0, seen]], np.float32)
    m = cv2.getPerspectiveTransform(quad, to)
    warped = cv2.warpPerspective(source, m, (seen, seen), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    cut = np.asarray(warped, np.uint8)
    if shelf and rng.random() < 0.2:
        _cover(cut, rng)
    return square(spoil(cut, rng, 1.0 if shelf else 0.5), SIDE)


def _cover(cut: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """The shelf above, a neighbour or a tag before a part of it."""
    n = max(1, int(rng.uniform(0.05, 0.25) * cut.shape[0]))
    sides = (cut[:n], cut[-n:], cut[:, :n], cut[:, -n:])
    sides[int(rng.integers(4))][:] = rng.integers(0, 230, 3).astype(np.uint8)


def drawn(namespace: str, seed: int, count: int) -> list[list[Rgb]]:
    """Fronts of drawn packages, (COPY_PX, COPY_PX, 3), by family: look-alikes are together."""
    from shelfscan.sim.artwork import draw_pack
    from shelfscan.sim.packaging import make_packs

    families: dict[int, list[Rgb]] = {}
    for spec in make_packs(seed, count, namespace):
        front = np.asarray(draw_pack(spec, COPY_PX)["front"], np.uint8)[..., :3]
        families.setdefault(spec.family, []).append(square(front, COPY_PX))
    return list(families.values())


def batch_of(families: Sequence[Sequence[Sequence[Rgb]]], rng: np.random.Generator, count: int) -> list[Sequence[Rgb]]:
    """Pictures of ``count`` products at most, whole families at a time, none twice."""
    out: list[Sequence[Rgb]] = []
    for i in rng.permutation(len(families)):
        out += families[int(i)]
        if len(out) >= count:
            break
    return out[:count]
