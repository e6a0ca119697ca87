"""The end of a run, the same for ROS, direct and replay: projection, files of the contract, report."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from shelfscan import __version__
from shelfscan.audit.ranking import to_work_through
from shelfscan.bootstrap import check_health
from shelfscan.config import Config
from shelfscan.mission.machine import Progress, describe
from shelfscan.model.bundle import Bundle
from shelfscan.model.stock import BinState, BinStatus, StockMap
from shelfscan.ports import Ledger
from shelfscan.runfolder import write_atomic
from shelfscan.stock.project import StockProjector
from shelfscan.wms.epcis import Places, epcis_document, observation


@dataclass(frozen=True)
class RunOutcome:
    """A finished run: its map and the content of ``report.json``."""

    run_dir: Path
    stock_map: StockMap
    report: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        """Whether the mission came to a good end."""
        return bool(self.report["mission"]["phase"] == "done")


def finish_run(
    bundle: Bundle,
    config: Config,
    run_dir: Path,
    ledger: Ledger,
    projector: StockProjector,
    *,
    progress: Progress | None,
    now_ns: int,
    seconds: float,
    mode: str,
    timings: Mapping[str, Any] | None = None,
    sync: Mapping[str, Any] | None = None,
) -> RunOutcome:
    """Project the whole ledger and write every file of the run folder. Calling it again rewrites them.

    ``now_ns``: time to date the map with; ``seconds``: wall time the run took; ``sync``: summary of the WMS sync.
    """
    for stored in ledger.read():
        projector.add_event(stored.event)
    stock_map = projector.stock_map(now_ns)
    measures, sick = check_health(bundle, ledger, stock_map.mission_id)
    health = {"measures": measures, "sick": [asdict(s) for s in sick]}
    write_atomic(run_dir / "health.json", (json.dumps(health, indent=1) + "\n").encode())
    report = _report(bundle, stock_map, progress, seconds, mode, timings or {}, sync) | {"health": health["sick"]}
    write_map_files(run_dir, bundle, stock_map)
    write_atomic(run_dir / "config.yaml", config.to_yaml().encode())
    write_report(run_dir, report)
    return RunOutcome(run_dir, stock_map, report)


def write_map_files(run_dir: Path, bundle: Bundle, stock_map: StockMap) -> None:
    """Everything that says what stands where."""
    write_atomic(run_dir / "stock_map.json", (json.dumps(stock_map.to_json(), indent=1) + "\n").encode())
    rows = [(p.observation_id, p.bin_id, p.sku, *p.position_map_m, p.confidence) for p in stock_map.products]
    write_atomic(run_dir / "observations.csv", _csv(("observation_id", "bin_id", "sku", "x", "y", "z", "confidence"), rows))
    write_atomic(
        run_dir / "exceptions.csv",
        _csv(EXCEPTION_COLUMNS, ([e[c] for c in EXCEPTION_COLUMNS] for e in exceptions(bundle, stock_map))),
    )
    write_atomic(run_dir / "stock_map.geojson", (json.dumps(_geojson(bundle, stock_map)) + "\n").encode())
    write_atomic(run_dir / "counts.epcis.json", (json.dumps(_epcis(bundle, stock_map), indent=1) + "\n").encode())


def write_report(run_dir: Path, report: Mapping[str, Any]) -> None:
    """``report.json`` and ``report.html``; call again when something was added (a score)."""
    from shelfscan.web.report import render_report

    write_atomic(run_dir / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    write_atomic(run_dir / "report.html", render_report(dict(report)).encode())


EXCEPTION_COLUMNS = (
    *("bin_id", "sku", "name", "type", "confidence", "units", "capacity", "value", "suggestion", "evidence"),
    "alarm",
)


def exceptions(bundle: Bundle, stock_map: StockMap) -> list[dict[str, Any]]:
    """Findings as one works through them, and after them what was not seen."""
    states = {b.bin_id: b for b in stock_map.bins}
    out = []
    for f in to_work_through(stock_map.findings, bundle.store.places):
        row = _exception(bundle, states[f.bin_id], f.type, f.confidence, f.value, f.suggestion, f.evidence)
        out.append({**row, "alarm": int(f.alarm)})
    for b in stock_map.bins:
        if b.status is BinStatus.UNSEEN:
            out.append(_exception(bundle, b, "unseen", 1.0, 0.0, f"not seen: {b.reason}", b.evidence[0] if b.evidence else ""))
    return out


def _exception(
    bundle: Bundle, b: BinState, kind: str, confidence: float, value: float, suggestion: str, evidence: str
) -> dict[str, Any]:
    line = bundle.planogram[b.bin_id]
    return {
        "bin_id": b.bin_id,
        "sku": b.sku,
        "name": bundle.catalogue[b.sku].name,
        "type": kind,
        "confidence": confidence,
        "units": _counted(b),
        "capacity": line.capacity_units,
        "value": value,
        "suggestion": suggestion,
        "evidence": evidence,
        "alarm": 0,
    }


def _counted(b: BinState) -> float | None:
    """Units of a bin that was counted; None of one that was not: what little was seen of it is no count, let alone 0."""
    return None if b.status is BinStatus.UNSEEN else b.units


def _report(
    bundle: Bundle,
    stock_map: StockMap,
    progress: Progress | None,
    seconds: float,
    mode: str,
    timings: Mapping[str, Any],
    sync: Mapping[str, Any] | None,
) -> dict[str, Any]:
    by_status = Counter(str(b.status) for b in stock_map.bins)
    reasons = Counter(b.reason for b in stock_map.bins if b.status is BinStatus.UNSEEN)
    viewpoints = len(progress.plan.viewpoints) if progress else 0
    missing = [v.viewpoint_id for v in progress.plan.viewpoints if v.viewpoint_id not in progress.done] if progress else []
    return {
        "mission_id": stock_map.mission_id,
        "site": stock_map.site,
        "mode": mode,
        "created_at": datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "seconds": round(seconds, 2),
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": _versions(),
        "mission": {
            "phase": str(progress.ended) if progress and progress.ended else "unknown",
            "message": "; ".join(describe(progress, v) for v in missing[:8])
            if progress and missing
            else "every viewpoint scanned",
            "viewpoints": viewpoints,
            "scanned": len(progress.done) if progress else 0,
            "interruptions": progress.interruptions if progress else 0,
        },
        "summary": {
            "bins": len(stock_map.bins),
            "counted": len(stock_map.bins) - by_status["UNSEEN"],
            "unseen": dict(reasons),
            "out_of_stock": by_status["OUT_OF_STOCK"],
            "low": by_status["LOW"],
            "ok": by_status["OK"],
            "misplaced": sum(b.misplaced for b in stock_map.bins),
        },
        "timings": dict(timings),
        "sync": dict(sync) if sync is not None else None,
        "score": None,
        "exceptions": exceptions(bundle, stock_map)[:200],
    }


def _versions() -> dict[str, str]:
    out = {"shelfscan": __version__}
    for name in ("numpy", "opencv-python-headless", "opencv-python", "onnxruntime", "openvino", "mujoco", "ros-kilted-rclpy"):
        try:
            out[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return out


def _csv(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def _geojson(bundle: Bundle, stock_map: StockMap) -> dict[str, Any]:
    """Bins as line strings along their fronts, in metres of ``map`` (a local frame, so no WGS 84)."""
    features = []
    for b in stock_map.bins:
        place = bundle.store.places[b.bin_id]
        (x0, y0), (x1, y1) = (
            (float(v[0]), float(v[1])) for v in ((place.T_map_face @ [x, 0.0, 0.0, 1.0])[:2] for x in (place.x0_m, place.x1_m))
        )
        features.append(
            {
                "type": "Feature",
                "id": b.bin_id,
                "geometry": {"type": "LineString", "coordinates": [[round(x0, 4), round(y0, 4)], [round(x1, 4), round(y1, 4)]]},
                "properties": {
                    "bin_id": b.bin_id,
                    "sku": b.sku,
                    "status": str(b.status),
                    "reason": b.reason,
                    "misplaced": b.misplaced,
                    "facings": b.facings if b.status is not BinStatus.UNSEEN else None,
                    "units": _counted(b),
                    "confidence": b.confidence,
                    "shelf_z_m": place.z0_m,
                },
            }
        )
    return {"type": "FeatureCollection", "coordinate_system": "map, metres", "features": features}


def _epcis(bundle: Bundle, stock_map: StockMap) -> dict[str, Any]:
    """One EPCIS 2.0 cycle-counting event a counted bin (what was not seen is not counted)."""
    events = []
    for b in stock_map.bins:
        if b.status is BinStatus.UNSEEN:
            continue
        identity = f"urn:uuid:{uuid5(NAMESPACE_URL, f'{stock_map.site}/{stock_map.mission_id}/{b.bin_id}')}"
        gtin = bundle.catalogue[b.sku].gtin.zfill(14)
        events.append(observation(identity, b.observed_at, gtin, round(b.units), Places().of(stock_map.site, b.bin_id)))
    return epcis_document(events, stock_map.created_at)
