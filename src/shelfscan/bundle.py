"""Reads, checks and writes store bundles. The check says every problem at once; ``truth/`` is never opened here."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shelfscan.errors import BadInput
from shelfscan.inputs import field_problems, read_yaml
from shelfscan.model.bundle import Bundle, WmsLocation
from shelfscan.model.catalogue import Catalogue, Product
from shelfscan.model.geometry import Pose2D
from shelfscan.model.grid import OccupancyGrid
from shelfscan.model.gtin import valid_gtin
from shelfscan.model.planogram import Planogram, PlanogramLine
from shelfscan.model.robot import RobotModel
from shelfscan.model.store import Aisle, Bay, Bin, Gondola, Shelf, Store
from shelfscan.robotfile import read_robot

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
#: Lengths may overlap by rounding, not by more.
SLACK_M = 1e-4


class _Doc(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Face(_Doc):
    x_m: float
    y_m: float
    yaw_rad: float


class _Bin(_Doc):
    id: str = Field(min_length=1)
    x_m: float = Field(ge=-SLACK_M)
    width_m: float = Field(gt=0)


class _Shelf(_Doc):
    id: str = Field(min_length=1)
    z_m: float = Field(ge=0)
    clear_height_m: float = Field(gt=0)
    depth_m: float = Field(gt=0)
    bins: list[_Bin]


class _Bay(_Doc):
    id: str = Field(min_length=1)
    x_m: float
    width_m: float = Field(gt=0)
    shelves: list[_Shelf]


class _Gondola(_Doc):
    id: str = Field(min_length=1)
    face: _Face
    depth_m: float = Field(gt=0)
    height_m: float = Field(gt=0)
    bays: list[_Bay]


class _Aisle(_Doc):
    id: str = Field(min_length=1)
    gondolas: list[_Gondola]


class _Store(_Doc):
    schema_: int = Field(alias="schema", ge=1, le=1)
    site: str = Field(min_length=1)
    frame: str = Field(pattern="^map$")
    aisles: list[_Aisle] = Field(min_length=1)


#: Ids name folders and files of the gallery and of a run's evidence.
PLAIN = "expected an id without slashes, backslashes and control characters, and not just dots"


def _plain(name: str) -> bool:
    """Whether an id can name a file and nothing beyond its folder."""
    return name.isprintable() and not set(name) & {"/", "\\"} and name.strip(".") != ""


def load_bundle(root: Path) -> Bundle:
    """Read a store bundle. Raises `BadInput` with every problem found."""
    reader = _Reader(root)
    bundle = reader.read()
    if reader.problems or bundle is None:
        raise BadInput(reader.problems)
    return bundle


def read_layout(root: Path) -> Bundle:
    """A bundle without its planogram and warehouse locations: for a store of which nobody knows yet what stands where.

    Bays may be without shelves. Raises `BadInput` with every problem found.
    """
    reader = _Reader(root)
    bundle = reader.read(planned=False)
    if reader.problems or bundle is None:
        raise BadInput(reader.problems)
    return bundle


def check_bundle(root: Path) -> list[str]:
    """Every problem of a bundle, one line each naming file, line or field and what was expected; empty when fine."""
    reader = _Reader(root)
    reader.read()
    if not reader.problems:
        reader.check_pictures()
    return reader.problems


class _Reader:
    """Collects problems instead of stopping at the first."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[str] = []
        #: Where planned bins stand in planogram.csv, and locations in wms.csv.
        self._planned_at: dict[str, int] = {}
        self._location_at: list[int] = []

    def read(self, *, planned: bool = True) -> Bundle | None:
        if not self.root.is_dir():
            what = "a file; expected the folder of a store bundle" if self.root.exists() else "no such store bundle"
            self.problems.append(f"{self.root}: {what}")
            return None
        store = self._store()
        catalogue = self._catalogue()
        planogram = self._planogram() if planned else {}
        grid = self._guard(lambda: read_map(self.root / "map.yaml"))
        robot = self._guard(lambda: read_robot(self.root / "robot.yaml"))
        wms = self._wms() if planned else ()
        gallery = self._gallery(catalogue)
        if store is not None:
            self._cross(store, catalogue, planogram, wms)
        if store is None or grid is None or robot is None or self.problems:
            return None
        return Bundle(self.root, store, catalogue, planogram, gallery, grid, robot, wms)

    def check_pictures(self) -> None:
        """Decode every gallery picture."""
        for path in sorted((self.root / "gallery").rglob("*")):
            if path.suffix.lower() in PICTURES and cv2.imread(str(path), cv2.IMREAD_REDUCED_COLOR_8) is None:
                self.problems.append(f"{path}: not a readable picture")

    def _guard(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except BadInput as e:
            self.problems += e.problems
            return None

    def _store(self) -> Store | None:
        path = self.root / "store.yaml"
        data = self._guard(lambda: read_yaml(path))
        if data is None:
            return None
        try:
            doc = _Store.model_validate(data)
        except ValidationError as e:
            self.problems += field_problems(path, e, _Store)
            return None
        store = _to_store(doc)
        self._layout(path, store)
        return store

    def _layout(self, path: Path, store: Store) -> None:
        seen: set[str] = set()

        def once(kind: str, name: str) -> None:
            if name in seen:
                self.problems.append(f"{path}: {kind} {name}: this id is there twice")
            if not _plain(name):
                self.problems.append(f"{path}: {kind} {name!r}: {PLAIN}")
            seen.add(name)

        for aisle, gondola in store.gondolas():
            if gondola is aisle.gondolas[0]:
                once("aisle", aisle.aisle_id)
            once("gondola", gondola.gondola_id)
            self._apart(path, "bays", [(b.bay_id, b.x_m, b.x_m + b.width_m) for b in gondola.bays])
            for bay in gondola.bays:
                once("bay", bay.bay_id)
                self._apart(path, "shelves", [(s.shelf_id, s.z_m, s.z_m + s.clear_height_m) for s in bay.shelves])
                for shelf in bay.shelves:
                    once("shelf", shelf.shelf_id)
                    self._apart(path, "bins", [(b.bin_id, b.x_m, b.x_m + b.width_m) for b in shelf.bins])
                    for b in shelf.bins:
                        once("bin", b.bin_id)
                        if b.x_m + b.width_m > bay.width_m + SLACK_M:
                            self.problems.append(f"{path}: bin {b.bin_id}: reaches beyond its bay of {bay.width_m} m")

    def _apart(self, path: Path, kind: str, stretches: list[tuple[str, float, float]]) -> None:
        """Neighbours (id, from, to; metres) must not overlap: a product would stand in two bins at once."""
        for (a, _, end), (b, begin, _) in pairwise(sorted(stretches, key=lambda s: s[1])):
            if end > begin + SLACK_M:
                self.problems.append(f"{path}: {kind} {a} and {b} overlap by {end - begin:.3f} m")

    def _rows(self, name: str, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
        path = self.root / name
        try:
            # Spreadsheets put a byte order mark first.
            with path.open(newline="", encoding="utf-8-sig") as f:
                reader = csv.DictReader(f)
                found = list(reader.fieldnames or ())
                missing = [c for c in columns if c not in found]
                if missing:
                    there = ", ".join(found) or "nothing"
                    self.problems.append(f"{path}: line 1: missing column {', '.join(missing)} (found {there})")
                    return []
                rows = [(reader.line_num, {k: v or "" for k, v in row.items() if k}) for row in reader]
                if not rows and name != "wms.csv":
                    self.problems.append(f"{path}: expected lines below the header, found none")
                return rows
        except FileNotFoundError:
            self.problems.append(f"{path}: missing")
        except (OSError, UnicodeDecodeError, csv.Error) as e:
            self.problems.append(f"{path}: cannot be read: {e}")
        return []

    def _number(self, name: str, line: int, row: Mapping[str, str], field: str, least: float, whole: bool = False) -> float:
        text = row[field]
        try:
            value = float(int(text)) if whole else float(text)
        except ValueError:
            value = float("nan")
        if not np.isfinite(value) or value < least:
            kind = "a whole number" if whole else "a number"
            self.problems.append(f"{self.root / name}: line {line}: {field} is {text!r}; expected {kind} of at least {least:g}")
            return max(least, 1.0)
        return value

    def _catalogue(self) -> Catalogue:
        name = "catalogue.csv"
        out: dict[str, Product] = {}
        sides = ("width_m", "depth_m", "height_m")
        for line, row in self._rows(name, ("sku", "gtin", "name", "brand", "category", *sides, "price")):
            where = f"{self.root / name}: line {line}"
            if not row["sku"]:
                self.problems.append(f"{where}: sku is empty")
            elif not _plain(row["sku"]):
                self.problems.append(f"{where}: sku {row['sku']!r}: {PLAIN}")
            if row["sku"] in out:
                self.problems.append(f"{where}: sku {row['sku']} is there twice")
            if not valid_gtin(row["gtin"]):
                self.problems.append(f"{where}: gtin {row['gtin']!r} is not a GTIN-8, 12, 13 or 14 with a right check digit")
            w, d, h = (self._number(name, line, row, s, 0.001) for s in sides)
            price = self._number(name, line, row, "price", 0.0)
            out[row["sku"]] = Product(row["sku"], row["gtin"], row["name"], row["brand"], row["category"], w, d, h, price)
        return out

    def _planogram(self) -> Planogram:
        name = "planogram.csv"
        out: dict[str, PlanogramLine] = {}
        counts = ("facings_wide", "facings_high", "facings_deep")
        for line, row in self._rows(name, ("bin_id", "sku", *counts)):
            if row["bin_id"] in out:
                self.problems.append(f"{self.root / name}: line {line}: bin {row['bin_id']} is planned twice")
            wide, high, deep = (int(self._number(name, line, row, c, 1, whole=True)) for c in counts)
            least = int(self._number(name, line, row, "min_units", 0, whole=True)) if row.get("min_units") else None
            most = int(self._number(name, line, row, "max_units", 1, whole=True)) if row.get("max_units") else None
            self._planned_at[row["bin_id"]] = line
            planned = PlanogramLine(row["bin_id"], row["sku"], wide, high, deep, least, most)
            if most is not None and most <= planned.low_at_units:
                where = f"{self.root / name}: line {line}: max_units"
                self.problems.append(f"{where} is {most}; expected more than {planned.low_at_units}, at which the bin is low")
            out[row["bin_id"]] = planned
        return out

    def _wms(self) -> tuple[WmsLocation, ...]:
        name = "wms.csv"
        out = []
        for line, row in self._rows(name, ("location_code", "scope", "bin_id", "sku", "on_hand", "backroom")):
            if row["scope"] not in ("shelf", "site"):
                self.problems.append(f"{self.root / name}: line {line}: scope is {row['scope']!r}; expected shelf or site")
            on_hand, backroom = (self._number(name, line, row, c, 0.0) for c in ("on_hand", "backroom"))
            self._location_at.append(line)
            out.append(WmsLocation(row["location_code"], row["scope"], row["bin_id"], row["sku"], on_hand, backroom))
        return tuple(out)

    def _gallery(self, catalogue: Catalogue) -> dict[str, tuple[Path, ...]]:
        folder = self.root / "gallery"
        if not folder.is_dir():
            self.problems.append(f"{folder}: missing; expected a folder of reference photographs per SKU")
            return {}
        out: dict[str, tuple[Path, ...]] = {}
        for sku in catalogue:
            files = sorted(p for p in (folder / sku).glob("*") if p.suffix.lower() in PICTURES)
            if files:
                out[sku] = tuple(files)
            else:
                self.problems.append(f"{folder / sku}: no reference photograph of this SKU")
        return out

    def _cross(self, store: Store, catalogue: Catalogue, planogram: Planogram, wms: tuple[WmsLocation, ...]) -> None:
        plan = self.root / "planogram.csv"
        for line in planogram.values():
            at = self._planned_at[line.bin_id]
            if line.bin_id not in store.places:
                self.problems.append(f"{plan}: line {at}: bin {line.bin_id} is not in store.yaml")
            if catalogue and line.sku not in catalogue:
                self.problems.append(f"{plan}: line {at}: bin {line.bin_id}: sku {line.sku!r} is not in catalogue.csv")
        if planogram:
            for bin_id in store.places:
                if bin_id not in planogram:
                    self.problems.append(f"{plan}: bin {bin_id} of store.yaml has no planned SKU")
        for at, location in zip(self._location_at, wms, strict=True):
            if location.bin_id and location.bin_id not in store.places:
                where = f"{self.root / 'wms.csv'}: line {at}: location {location.location_code}"
                self.problems.append(f"{where}: bin {location.bin_id} is not in store.yaml")


def read_map(path: Path) -> OccupancyGrid:
    """An occupancy map in Nav2's format (``map_saver`` YAML and a picture, trinary). Raises `BadInput`."""
    data = read_yaml(path)
    missing = [k for k in ("image", "resolution", "origin") if not isinstance(data, dict) or k not in data]
    if missing:
        raise BadInput(f"{path}: missing field {', '.join(missing)}")
    file = path.parent / str(data["image"])
    # OpenCV would add a warning of its own about a file that is not there.
    picture = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) if file.is_file() else None
    if picture is None:
        raise BadInput(f"{file}: the map's picture is missing or unreadable")
    try:
        resolution = float(data["resolution"])
        x_m, y_m, yaw = (float(v) for v in data["origin"])
        occupied_at, free_at = float(data.get("occupied_thresh", 0.65)), float(data.get("free_thresh", 0.25))
    except (TypeError, ValueError):
        raise BadInput(f"{path}: expected resolution in metres, origin [x, y, yaw], and thresholds in 0..1") from None
    if not np.isfinite([resolution, x_m, y_m]).all() or resolution <= 0 or yaw != 0.0:
        raise BadInput(f"{path}: expected a resolution above 0 and an unrotated map (yaw 0)")
    p = picture.astype(np.float64) / 255.0
    occupied = p if data.get("negate") else 1.0 - p
    cells = np.full(picture.shape, -1, np.int8)
    cells[occupied > occupied_at] = 100
    cells[occupied < free_at] = 0
    return OccupancyGrid(np.flipud(cells).copy(), resolution, (x_m, y_m))


def write_map(path: Path, grid: OccupancyGrid) -> None:
    """Write ``path`` (YAML) and the .pgm beside it, as `read_map` reads them."""
    shades = np.full(grid.cells.shape, 205, np.uint8)
    shades[grid.cells == 0] = 254
    shades[grid.cells == 100] = 0
    rows, cols = len(shades), len(shades[0])
    pgm = path.with_suffix(".pgm")
    pgm.write_bytes(f"P5\n{cols} {rows}\n255\n".encode() + np.flipud(shades).tobytes())
    data = {
        "image": pgm.name,
        "mode": "trinary",
        "resolution": grid.resolution_m,
        "origin": [*grid.origin_m, 0.0],
        "negate": 0,
        "occupied_thresh": 0.65,
        # The shade of unknown cells, 205, is an occupancy of 0.1961: with 0.25 they would be read as free.
        "free_thresh": 0.196,
    }
    path.write_text(yaml.safe_dump(data, sort_keys=False))


def _to_store(doc: _Store) -> Store:
    def shelf(s: _Shelf) -> Shelf:
        return Shelf(s.id, s.z_m, s.clear_height_m, s.depth_m, tuple(Bin(b.id, b.x_m, b.width_m) for b in s.bins))

    def bay(b: _Bay) -> Bay:
        return Bay(b.id, b.x_m, b.width_m, tuple(shelf(s) for s in b.shelves))

    def gondola(g: _Gondola) -> Gondola:
        face = Pose2D(g.face.x_m, g.face.y_m, g.face.yaw_rad)
        return Gondola(g.id, face, g.depth_m, g.height_m, tuple(bay(b) for b in g.bays))

    return Store(doc.site, tuple(Aisle(a.id, tuple(gondola(g) for g in a.gondolas)) for a in doc.aisles), doc.frame)


def store_document(store: Store) -> dict[str, Any]:
    """The store as ``store.yaml`` holds it."""

    def shelf(s: Shelf) -> dict[str, Any]:
        bins = [{"id": b.bin_id, "x_m": b.x_m, "width_m": b.width_m} for b in s.bins]
        return {"id": s.shelf_id, "z_m": s.z_m, "clear_height_m": s.clear_height_m, "depth_m": s.depth_m, "bins": bins}

    def gondola(g: Gondola) -> dict[str, Any]:
        bays = [{"id": b.bay_id, "x_m": b.x_m, "width_m": b.width_m, "shelves": [shelf(s) for s in b.shelves]} for b in g.bays]
        face = {"x_m": g.face.x_m, "y_m": g.face.y_m, "yaw_rad": g.face.yaw_rad}
        return {"id": g.gondola_id, "face": face, "depth_m": g.depth_m, "height_m": g.height_m, "bays": bays}

    aisles = [{"id": a.aisle_id, "gondolas": [gondola(g) for g in a.gondolas]} for a in store.aisles]
    return {"schema": 1, "site": store.site, "frame": store.frame, "aisles": aisles}


def write_csv(path: Path, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """A CSV file with ``\\n`` line ends, the same bytes everywhere."""
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def save_bundle(
    root: Path, store: Store, catalogue: Catalogue, planogram: Planogram, grid: OccupancyGrid, wms: tuple[WmsLocation, ...]
) -> None:
    """Write everything of a bundle but ``robot.yaml``, ``gallery/`` and ``truth/`` into an existing folder."""
    text = yaml.dump(store_document(store), Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False)
    (root / "store.yaml").write_text(text)
    write_csv(
        root / "catalogue.csv",
        ("sku", "gtin", "name", "brand", "category", "width_m", "depth_m", "height_m", "price"),
        [
            (p.sku, p.gtin, p.name, p.brand, p.category, p.width_m, p.depth_m, p.height_m, f"{p.price:.2f}")
            for p in catalogue.values()
        ],
    )
    # The column of maxima only where there are any.
    limits = ("min_units", "max_units") if any(p.max_units is not None for p in planogram.values()) else ("min_units",)
    write_csv(
        root / "planogram.csv",
        ("bin_id", "sku", "facings_wide", "facings_high", "facings_deep", *limits),
        [
            (
                *(p.bin_id, p.sku, p.facings_wide, p.facings_high, p.facings_deep),
                *("" if (n := getattr(p, name)) is None else n for name in limits),
            )
            for p in planogram.values()
        ],
    )
    write_map(root / "map.yaml", grid)
    write_csv(
        root / "wms.csv",
        ("location_code", "scope", "bin_id", "sku", "on_hand", "backroom"),
        [(w.location_code, w.scope, w.bin_id, w.sku, f"{w.on_hand:g}", f"{w.backroom:g}") for w in wms],
    )


__all__ = [
    "RobotModel",
    "check_bundle",
    "load_bundle",
    "read_layout",
    "read_map",
    "save_bundle",
    "store_document",
    "valid_gtin",
    "write_csv",
    "write_map",
]
