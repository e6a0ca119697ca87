"""What one capture told: products, tags and which bin fronts were really seen.

These documents are what the ledger keeps, so each converts to and from plain JSON data without loss.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shelfscan.model.detections import Candidate

COVERAGE_COLUMNS = 16
COVERAGE_ROWS = 8
#: A front counts as seen in full with this share of its cells: one cell may fall to a pixel's rounding.
IN_FULL = 0.99


@dataclass(frozen=True, slots=True)
class Observation:
    """One product seen by one head in one capture.

    ``position_map_m`` is the centre of its *front face* as measured; ``size_m`` (width, height) of the box at
    that depth; ``face_m`` the same point in the face frame of ``gondola_id`` (x right, y into the shelf, z up);
    ``box_px`` in the upright RGB picture; ``view_angle_rad`` between the ray and the face normal.
    """

    observation_id: str
    head: str
    gondola_id: str
    box_px: tuple[float, float, float, float]
    score: float
    position_map_m: tuple[float, float, float]
    face_m: tuple[float, float, float]
    size_m: tuple[float, float]
    depth_confidence: float
    view_angle_rad: float
    candidates: tuple[Candidate, ...] = ()
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class TagReading:
    """A price tag seen by one head; texts are empty when they could not be read for sure (see `TagText`)."""

    head: str
    gondola_id: str
    face_m: tuple[float, float, float]
    box_px: tuple[float, float, float, float]
    score: float
    price_text: str = ""
    item_text: str = ""
    ean_text: str = ""
    confidence: float = 0.0
    currency: str = ""
    unit_price_text: str = ""
    unit_text: str = ""
    name_text: str = ""
    promotion: bool = False


@dataclass(frozen=True, slots=True)
class BinCoverage:
    """Which cells of a bin's front this capture saw in full, within 35° of the normal and unoccluded.

    ``seen`` has bit ``row * COVERAGE_COLUMNS + column`` set for a seen cell (row 0 at the bottom, column 0 at the
    left); ``blocked`` likewise for cells hidden by something standing in front of the shelf's front plane;
    ``evidence`` names the picture of the front that this capture took, when it shows enough of it.
    """

    bin_id: str
    seen: int
    blocked: int
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class PlaceCheck:
    """What stands in one planned place, looked at exactly where the measured front says the item is.

    ``depth_m`` behind the front plane; ``weight``: how squarely it was seen, 0..1; ``candidates`` hold the planned SKU's
    similarity too. ``turn``: ``upside_down``, ``lying`` (a quarter turn), ``other_side`` (none of the sides that the gallery
    shows), or empty when it is the front or nobody knows. ``damage``: how much it differs from its kind, 0 when that was
    not judged; ``evidence`` names the picture of it. ``near_expiry``: the expiry date read on it (ISO 8601) when that is near.
    """

    bin_id: str
    column: int
    row: int
    head: str
    depth_m: float
    weight: float
    candidates: tuple[Candidate, ...]
    turn: str = ""
    damage: float = 0.0
    evidence: str = ""
    near_expiry: str = ""


@dataclass(frozen=True, slots=True)
class TopLook:
    """What the tops of a column look like, seen from above by one head.

    ``depth_m``: of the column's front behind the front plane. ``tops``: for each stretch as deep as one item behind the first,
    how it differs from the first one's top (colour, pattern, strength of the pattern), None where it was not seen.
    """

    bin_id: str
    column: int
    head: str
    depth_m: float
    tops: tuple[tuple[float, float, float] | None, ...]


#: Cells of a `FrontGrid`: metres along the face and up.
FRONT_X_M = 0.01
FRONT_Z_M = 0.02
UNKNOWN_MM = -32768


@dataclass(frozen=True, eq=False)
class FrontGrid:
    """How far behind the front plane the front-most surface stands, per cell of a gondola face, as one head saw it.

    ``depth_mm``: (rows, columns) int16 millimetres behind the face frame's y = 0, `UNKNOWN_MM` where nothing was
    measured; cell (0, 0) begins at column ``column`` and row ``row`` of the face's grid (`FRONT_X_M`, `FRONT_Z_M`,
    from the face frame's origin). ``eye_x_m``, ``eye_z_m``: where the camera was.
    """

    head: str
    gondola_id: str
    column: int
    row: int
    eye_x_m: float
    eye_z_m: float
    depth_mm: NDArray[np.int16]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; the depths as compressed text."""
        packed = zlib.compress(self.depth_mm.astype("<i2").tobytes(), 6)
        return {
            "head": self.head,
            "gondola_id": self.gondola_id,
            "column": self.column,
            "row": self.row,
            "eye_x_m": self.eye_x_m,
            "eye_z_m": self.eye_z_m,
            "shape": list(self.depth_mm.shape),
            "depth_mm": base64.b64encode(packed).decode("ascii"),
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> FrontGrid:
        """Inverse of `to_json`."""
        raw = np.frombuffer(zlib.decompress(base64.b64decode(data["depth_mm"])), "<i2")
        depth = raw.astype(np.int16).reshape(data["shape"])
        return FrontGrid(data["head"], data["gondola_id"], data["column"], data["row"], data["eye_x_m"], data["eye_z_m"], depth)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrontGrid) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.head, self.gondola_id, self.column, self.row, self.depth_mm.tobytes()))


@dataclass(frozen=True, slots=True)
class Alignment:
    """How the believed pose of a capture was corrected, as a plane motion in the face frame of ``gondola_id``.

    A point p measured with the believed pose truly lies at ``apply(p)``: turned by ``yaw_rad`` about (``about_x_m``, 0), where
    the robot stands, and moved by (``dx_m``, ``dy_m``). Sigmas are standard deviations. ``shelves``: how far above the layout's
    height a shelf was found, metres, by shelf id.
    """

    gondola_id: str
    about_x_m: float
    dx_m: float
    dy_m: float
    yaw_rad: float
    sigma_x_m: float
    sigma_y_m: float
    sigma_yaw_rad: float
    shelves: tuple[tuple[str, float], ...] = ()

    def matrix(self) -> NDArray[np.float64]:
        """The motion as a (4, 4) transform of face points."""
        c, s = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        T = np.eye(4)
        T[:2, :2] = [[c, -s], [s, c]]
        T[:2, 3] = [self.about_x_m * (1 - c) + self.dx_m, -self.about_x_m * s + self.dy_m]
        return T

    def apply(self, points_face: NDArray[np.float64]) -> NDArray[np.float64]:
        """Face points (..., 3), metres, as measured, to where they are."""
        T = self.matrix()
        return np.asarray(points_face @ T[:3, :3].T + T[:3, 3])


@dataclass(frozen=True)
class BayScan:
    """Everything one capture adds to what is known."""

    mission_id: str
    viewpoint_id: str
    capture_id: str
    stamp_ns: int
    bay_ids: tuple[str, ...]
    observations: tuple[Observation, ...]
    tags: tuple[TagReading, ...]
    coverage: tuple[BinCoverage, ...]
    fronts: tuple[FrontGrid, ...] = ()
    checks: tuple[PlaceCheck, ...] = ()
    quality: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    alignments: tuple[Alignment, ...] = ()
    tops: tuple[TopLook, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        data = {name: getattr(self, name) for name in ("mission_id", "viewpoint_id", "capture_id", "stamp_ns")}
        data["bay_ids"] = list(self.bay_ids)
        for name in ("observations", "tags", "coverage", "checks", "alignments", "tops"):
            data[name] = [asdict(item) for item in getattr(self, name)]
        data["fronts"] = [grid.to_json() for grid in self.fronts]
        data["quality"] = dict(self.quality)
        data["warnings"] = list(self.warnings)
        return data

    @staticmethod
    def from_json(data: dict[str, Any]) -> BayScan:
        """Inverse of `to_json`."""
        return BayScan(
            mission_id=data["mission_id"],
            viewpoint_id=data["viewpoint_id"],
            capture_id=data["capture_id"],
            stamp_ns=int(data["stamp_ns"]),
            bay_ids=tuple(data["bay_ids"]),
            observations=tuple(_observation(o) for o in data["observations"]),
            tags=tuple(TagReading(**{**t, "face_m": tuple(t["face_m"]), "box_px": tuple(t["box_px"])}) for t in data["tags"]),
            coverage=tuple(
                BinCoverage(c["bin_id"], int(c["seen"]), int(c["blocked"]), c["evidence"]) for c in data["coverage"]
            ),
            fronts=tuple(FrontGrid.from_json(g) for g in data.get("fronts", ())),
            checks=tuple(
                PlaceCheck(**{**c, "candidates": tuple(Candidate(**k) for k in c["candidates"])})
                for c in data.get("checks", ())
            ),
            quality=dict(data["quality"]),
            warnings=tuple(data["warnings"]),
            alignments=tuple(
                Alignment(**{**a, "shelves": tuple((str(s), float(z)) for s, z in a["shelves"])})
                for a in data.get("alignments", ())
            ),
            tops=tuple(
                TopLook(**{**t, "tops": tuple(None if v is None else tuple(v) for v in t["tops"])})
                for t in data.get("tops", ())
            ),
        )


def _observation(o: dict[str, Any]) -> Observation:
    tuples = {k: tuple(o[k]) for k in ("box_px", "position_map_m", "face_m", "size_m")}
    return Observation(**{**o, **tuples, "candidates": tuple(Candidate(**c) for c in o["candidates"])})
