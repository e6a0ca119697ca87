"""A run folder of the demo store whose ledger a test writes step by step, as a real run would."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np

from shelfscan.adapters.ledger_sqlite import SqliteLedger
from shelfscan.bundle import load_bundle
from shelfscan.config import Config
from shelfscan.mission.plan import plan_mission
from shelfscan.model.detections import Candidate
from shelfscan.model.mission import Viewpoint
from shelfscan.model.scan import COVERAGE_COLUMNS, COVERAGE_ROWS, BayScan, BinCoverage, Observation
from shelfscan.ports import Event
from shelfscan.runfolder import write_evidence
from shelfscan.runinfo import RunInfo, write_run_info

DEMO = Path(__file__).resolve().parents[2] / "maps" / "demo"
START_NS = 1_790_000_000_000_000_000
ALL = (1 << (COVERAGE_COLUMNS * COVERAGE_ROWS)) - 1


class WebRun:
    """``full`` stands in every bin but ``empty`` (seen, nothing there) and ``hidden`` (something stood in front)."""

    def __init__(self, root: Path, name: str = "run", *, created_at: str = "2026-11-25T03:00:00Z") -> None:
        self.dir = root / name
        self.mission_id = f"m-{name}"
        self.bundle = load_bundle(DEMO)
        self.plan = plan_mission(self.bundle.store, self.bundle.robot, self.bundle.grid, mission_id=self.mission_id)
        self.bins = list(self.bundle.store.places)
        self.empty, self.hidden = self.bins[1], self.bins[2]
        self.dir.mkdir(parents=True)
        (self.dir / "config.yaml").write_text(Config().to_yaml())
        write_run_info(self.dir, RunInfo(str(DEMO), self.mission_id, self.bundle.store.site, "direct", created_at))
        self.ledger = SqliteLedger(self.dir / "ledger.sqlite", site=self.bundle.store.site)
        self._n = 0

    def append(self, kind: str, **payload: object) -> None:
        self._n += 1
        stamp = START_NS + self._n * 1_000_000_000
        self.ledger.append([Event(kind, f"{kind}/{self._n}", stamp, {"mission_id": self.mission_id, **payload})])

    def begin(self) -> None:
        self.append("mission.started", plan=self.plan.to_json())
        self.append("mission.undocked", ok=True, message="")

    def visit(self, index: int) -> Viewpoint:
        """Reach a viewpoint, capture, and have its scan computed."""
        v = self.plan.viewpoints[index]
        self.append("viewpoint.reached", viewpoint_id=v.viewpoint_id)
        self.append("viewpoint.captured", viewpoint_id=v.viewpoint_id, capture_id=f"{v.viewpoint_id}-1")
        scan, pictures = self._scan(v, index)
        write_evidence(self.dir, pictures)
        self.append("bay_scan", **{k: x for k, x in scan.to_json().items() if k != "mission_id"})
        return v

    def end(self, phase: str = "done") -> None:
        self.append("mission.ended", phase=phase, message="every viewpoint scanned")

    def copy(self, name: str) -> Path:
        """The folder under another name, as somebody might send it."""
        return Path(shutil.copytree(self.dir, self.dir.parent / name))

    def _scan(self, v: Viewpoint, index: int) -> tuple[BayScan, dict[str, bytes]]:
        share = -(-len(self.bins) // len(self.plan.viewpoints))
        mine = self.bins[index * share : (index + 1) * share]
        observations: list[Observation] = []
        coverage: list[BinCoverage] = []
        pictures: dict[str, bytes] = {}
        for bin_id in mine:
            if bin_id == self.hidden:
                coverage.append(BinCoverage(bin_id, 0, ALL))
                continue
            name = f"{bin_id}/{v.viewpoint_id}-1-low.jpg"
            pictures[name] = cv2.imencode(".jpg", np.full((60, 80, 3), 90, np.uint8))[1].tobytes()
            coverage.append(BinCoverage(bin_id, ALL, 0, evidence=name))
            if bin_id != self.empty:
                observations += self._products(v, bin_id)
        return BayScan(
            self.mission_id,
            v.viewpoint_id,
            f"{v.viewpoint_id}-1",
            START_NS + self._n * 1_000_000_000,
            v.bay_ids,
            tuple(observations),
            (),
            tuple(coverage),
        ), pictures

    def _products(self, v: Viewpoint, bin_id: str) -> list[Observation]:
        place, line = self.bundle.store.places[bin_id], self.bundle.planogram[bin_id]
        product = self.bundle.catalogue[line.sku]
        step = (place.x1_m - place.x0_m) / line.facings_wide
        out = []
        for column in range(line.facings_wide):
            for level in range(line.facings_high):
                face = (place.x0_m + (column + 0.5) * step, 0.02, place.z0_m + (level + 0.5) * product.height_m)
                on_map = place.T_map_face @ np.array([*face, 1.0])
                out.append(
                    Observation(
                        observation_id=f"{v.viewpoint_id}/{bin_id}/{column}-{level}",
                        head="low",
                        gondola_id=place.gondola_id,
                        box_px=(0.0, 0.0, 50.0, 90.0),
                        score=0.95,
                        position_map_m=(float(on_map[0]), float(on_map[1]), float(on_map[2])),
                        face_m=face,
                        size_m=(product.width_m, product.height_m),
                        depth_confidence=0.9,
                        view_angle_rad=0.1,
                        candidates=(Candidate(line.sku, 0.9),),
                    )
                )
        return out
