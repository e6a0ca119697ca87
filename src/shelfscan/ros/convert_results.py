"""Results to messages: stock map, findings, scans, mission, sync, markers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Vector3
from shelfscan_msgs.msg import BayScan as BayScanMsg
from shelfscan_msgs.msg import BinState as BinStateMsg
from shelfscan_msgs.msg import Candidate as CandidateMsg
from shelfscan_msgs.msg import Finding as FindingMsg
from shelfscan_msgs.msg import MissionState as MissionStateMsg
from shelfscan_msgs.msg import ProductObservation, TagObservation
from shelfscan_msgs.msg import StockMap as StockMapMsg
from shelfscan_msgs.msg import SyncLine as SyncLineMsg
from shelfscan_msgs.msg import SyncState as SyncStateMsg
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from shelfscan.mission.machine import Progress, Rules
from shelfscan.model.mission import MissionPhase
from shelfscan.model.scan import COVERAGE_COLUMNS, COVERAGE_ROWS, BayScan
from shelfscan.model.stock import BinState, BinStatus, Finding, StockMap
from shelfscan.model.store import Store
from shelfscan.ros.convert import to_header, to_pose

ALL_CELLS = (1 << COVERAGE_COLUMNS * COVERAGE_ROWS) - 1
#: Okabe and Ito's colours, which colour-blind people can tell apart; UNSEEN is grey and see-through.
COLOURS: Mapping[BinStatus, tuple[float, float, float, float]] = {
    BinStatus.OK: (0.0, 0.62, 0.45, 0.9),
    BinStatus.LOW: (0.94, 0.89, 0.26, 0.9),
    BinStatus.OUT_OF_STOCK: (0.84, 0.37, 0.0, 0.9),
    BinStatus.UNSEEN: (0.6, 0.6, 0.6, 0.3),
}
MARKER_DEPTH_M = 0.04


def to_time(iso: str) -> Time:
    """``builtin_interfaces/Time`` of an ISO-8601 UTC text; zero for an empty one."""
    if not iso:
        return Time()
    at = datetime.fromisoformat(iso.replace("Z", "+00:00")).astimezone(timezone.utc)
    whole = at.replace(microsecond=0)
    return Time(sec=int(whole.timestamp()), nanosec=at.microsecond * 1000)


def bin_state_msg(b: BinState) -> BinStateMsg:
    """One bin of the map."""
    x, y, z = b.position
    return BinStateMsg(
        bin_id=b.bin_id,
        sku=b.sku,
        status=str(b.status),
        reason=b.reason,
        misplaced=b.misplaced,
        facings=b.facings,
        units=float(b.units),
        units_low=b.units_low,
        units_high=b.units_high,
        confidence=float(b.confidence),
        tag_price=b.tag_price,
        position=Point(x=x, y=y, z=z),
        observed_at=to_time(b.observed_at),
        findings=list(b.findings),
        evidence=list(b.evidence),
    )


def finding_msg(f: Finding, created_at: str) -> FindingMsg:
    """One finding, stamped with the time of the map it belongs to."""
    out = FindingMsg(finding_id=f.finding_id, bin_id=f.bin_id, type=f.type, cause=f.cause, suggestion=f.suggestion)
    out.header.stamp, out.header.frame_id = to_time(created_at), "map"
    out.confidence, out.value, out.evidence = float(f.confidence), float(f.value), f.evidence
    return out


def stock_map_msg(m: StockMap) -> StockMapMsg:
    """The whole map; what was fused into it (``products``) is not on the wire."""
    out = StockMapMsg(site=m.site, mission_id=m.mission_id, schema=m.schema)
    out.header.stamp, out.header.frame_id = to_time(m.created_at), "map"
    out.bins = [bin_state_msg(b) for b in m.bins]
    out.findings = [finding_msg(f, m.created_at) for f in m.findings]
    return out


def bay_scan_msg(scan: BayScan) -> BayScanMsg:
    """What one capture told."""
    return BayScanMsg(
        header=to_header(scan.stamp_ns, "map"),
        mission_id=scan.mission_id,
        viewpoint_id=scan.viewpoint_id,
        capture_id=scan.capture_id,
        bay_ids=list(scan.bay_ids),
        observations=[
            ProductObservation(
                observation_id=o.observation_id,
                head=o.head,
                gondola_id=o.gondola_id,
                box_px=list(o.box_px),
                score=float(o.score),
                position=Point(x=o.position_map_m[0], y=o.position_map_m[1], z=o.position_map_m[2]),
                width_m=float(o.size_m[0]),
                height_m=float(o.size_m[1]),
                depth_confidence=float(o.depth_confidence),
                view_angle_rad=float(o.view_angle_rad),
                candidates=[CandidateMsg(sku=c.sku, score=float(c.score)) for c in o.candidates],
            )
            for o in scan.observations
        ],
        tags=[
            TagObservation(
                head=t.head,
                gondola_id=t.gondola_id,
                box_px=list(t.box_px),
                score=float(t.score),
                price_text=t.price_text,
                item_text=t.item_text,
                ean_text=t.ean_text,
                confidence=float(t.confidence),
            )
            for t in scan.tags
        ],
        bins_seen_in_full=[c.bin_id for c in scan.coverage if c.seen & ALL_CELLS == ALL_CELLS],
        warnings=list(scan.warnings),
    )


def mission_state_msg(
    progress: Progress | None,
    phase: MissionPhase,
    text: str,
    *,
    site: str,
    stamp_ns: int,
    rules: Rules,
    battery: float = math.nan,
) -> MissionStateMsg:
    """Where the mission is. ``text`` is the viewpoint being driven to or captured, or a message at the end."""
    out = MissionStateMsg(header=to_header(stamp_ns, "map"), site=site, phase=str(phase), text=text, battery=battery)
    if progress is not None:
        plan = progress.plan
        out.mission_id, out.viewpoints, out.scanned = plan.mission_id, len(plan.viewpoints), len(progress.done)
        out.viewpoint_id = text if any(v.viewpoint_id == text for v in plan.viewpoints) else progress.at
        out.failed = sum(progress.given_up(v.viewpoint_id, rules) for v in plan.viewpoints)
        out.interruptions = progress.interruptions
    return out


def sync_state_msg(report: Mapping[str, Any], *, stamp_ns: int) -> SyncStateMsg:
    """A sync report's plain data (`SyncReport.to_json`).

    A conflict changed nothing and asks for a recount: it counts as one.
    """
    out = SyncStateMsg(header=to_header(stamp_ns, "map"), mission_id=report["mission_id"], wms=report["wms"])
    out.state, out.text = report["state"], report["text"]
    n: Mapping[str, int] = report["counts"]
    out.equal, out.posted, out.held, out.ignored = n["equal"], n["posted"], n["held"], n["ignored"]
    out.pending, out.rejected, out.recount = n["pending"], n["rejected"], n["recount"] + n["conflict"]
    out.lines = [
        SyncLineMsg(
            location_code=x["location_code"],
            bin_id=x["bin_id"],
            sku=x["sku"],
            counted=math.nan if x["counted"] is None else float(x["counted"]),
            on_hand=math.nan if x["on_hand"] is None else float(x["on_hand"]),
            outcome=x["outcome"],
            reason=x["reason"],
        )
        for x in report["lines"]
        if x["outcome"] != "equal"
    ]
    return out


def markers_msg(m: StockMap, store: Store) -> MarkerArray:
    """A flat box for each bin's front, coloured by status, for RViz or Foxglove."""
    return MarkerArray(markers=list(_markers(m, store)))


def _markers(m: StockMap, store: Store) -> Iterable[Any]:
    stamp = to_time(m.created_at)
    for n, b in enumerate(m.bins):
        place = store.places[b.bin_id]
        T = place.T_map_face.copy()
        T[:3, 3] = place.front_centre_map_m
        marker = Marker(ns="bins", id=n, type=Marker.CUBE, action=Marker.ADD, pose=to_pose(T), text=f"{b.bin_id} {b.status}")
        marker.header.stamp, marker.header.frame_id = stamp, "map"
        marker.scale = Vector3(x=place.x1_m - place.x0_m - 0.01, y=MARKER_DEPTH_M, z=place.z1_m - place.z0_m - 0.02)
        red, green, blue, alpha = COLOURS[b.status]
        marker.color = ColorRGBA(r=red, g=green, b=blue, a=alpha)
        yield marker
