"""Turns a run's snapshot into the API's answers."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from shelfscan.audit.ranking import to_work_through
from shelfscan.mission.machine import Progress
from shelfscan.model.catalogue import Product
from shelfscan.model.mission import Viewpoint
from shelfscan.model.stock import BinState, BinStatus, Finding, StockMap
from shelfscan.stock.project import iso_utc
from shelfscan.web.layout import pose_out
from shelfscan.web.live import RunView, Snapshot
from shelfscan.web.schema import (
    BinDetail,
    BinOut,
    FindingOut,
    MissionOut,
    PlanLine,
    ProductOut,
    StockMapOut,
    SummaryOut,
    SyncOut,
    ViewpointOut,
    WmsStock,
)

#: What a finished run offers for download.
FILES = (
    "report.html",
    "report.json",
    "stock_map.json",
    "observations.csv",
    "exceptions.csv",
    "stock_map.geojson",
    "counts.epcis.json",
)


def no_run() -> MissionOut:
    """The answer when there is nothing to show yet."""
    return MissionOut(state="no_run", degraded=False, problems=[])


def mission(view: RunView, now: Snapshot) -> MissionOut:
    """Where the run is."""
    robot = now.robot_viewpoint
    problems = _problems(now)
    out = MissionOut(
        state=_state(now),
        degraded=bool(problems),
        problems=problems,
        run=view.run_dir.name,
        mission_id=now.info.mission_id,
        site=now.info.site,
        mode=now.info.mode,
        created_at=now.info.created_at,
        phase=str(now.phase),
        message=now.message,
        last_event_at=iso_utc(now.last_event_ns),
        robot=pose_out(robot.pose) if robot else None,
        robot_at=now.last_at,
        files=[n for n in FILES if (view.run_dir / n).is_file()],
    )
    p = now.progress
    if p is None:
        return out
    viewpoints = [
        ViewpointOut(
            viewpoint_id=v.viewpoint_id,
            gondola_id=v.gondola_id,
            pose=pose_out(v.pose),
            bay_ids=list(v.bay_ids),
            state=_viewpoint_state(v, p, now),
            why=" ".join(p.failures.get(v.viewpoint_id, ())) if v.viewpoint_id not in p.done else "",
        )
        for v in p.plan.viewpoints
    ]
    return out.model_copy(
        update={
            "viewpoints": viewpoints,
            "viewpoints_total": len(viewpoints),
            "viewpoints_done": sum(v.state == "done" for v in viewpoints),
            "viewpoints_failed": sum(v.state == "failed" for v in viewpoints),
            "interruptions": p.interruptions,
        }
    )


def _state(now: Snapshot) -> str:
    if now.ledger_gone:
        return "ledger_gone"
    if now.progress is None:
        # A run folder without a ledger but with its results is a finished run somebody sent.
        return "done" if now.stock_map is not None and not now.live else "waiting"
    if now.progress.ended is not None:
        return str(now.progress.ended)
    return "paused" if now.progress.paused else "running"


def _problems(now: Snapshot) -> list[str]:
    out = []
    if now.bundle_problem:
        out.append(now.bundle_problem)
    if now.map_problem and now.live:
        out.append(now.map_problem)
    if now.ledger_gone:
        out.append("The run's ledger cannot be read any more; what is shown is the last that was known.")
    if now.silent_s:
        out.append(f"Nothing new for {now.silent_s / 60:.0f} min: the run seems to be interrupted. It can be resumed.")
    if now.progress is not None:
        failed = [v.viewpoint_id for v in now.progress.plan.viewpoints if now.progress.given_up(v.viewpoint_id, now.rules)]
        if failed:
            why = " ".join(now.progress.failures.get(failed[0], ()))
            out.append(f"{len(failed)} viewpoints were given up, first {failed[0]}: {why}")
    warned = {v: w for v, w in now.warnings.items() if w}
    if warned:
        last = list(warned)[-1]
        out.append(f"{len(warned)} captures with warnings, last {last}: {warned[last][0]}")
    if now.sync.state == "degraded":
        out.append(f"WMS: {now.sync.text or 'not reachable; nothing is lost, it is tried again'}")
    return out


def _viewpoint_state(v: Viewpoint, p: Progress, now: Snapshot) -> str:
    if v.viewpoint_id in p.done:
        return "done"
    if v.viewpoint_id in p.pending:
        return "pending"
    if p.given_up(v.viewpoint_id, now.rules):
        return "failed"
    if p.ended is not None:
        return "failed"
    if v.viewpoint_id == p.at:
        return "here"
    return "next" if v.viewpoint_id == now.next_viewpoint else "todo"


def pending_bays(now: Snapshot) -> set[str]:
    """Bays a running mission still has to look at."""
    p = now.progress
    if p is None or p.ended is not None:
        return set()
    left = [v for v in p.plan.viewpoints if v.viewpoint_id not in p.done and not p.given_up(v.viewpoint_id, now.rules)]
    return {b for v in left for b in v.bay_ids}


def stock_map(now: Snapshot, made: StockMap) -> StockMapOut:
    """The map with its key figures."""
    bays = pending_bays(now)
    bins = [_bin(b, now, bays) for b in made.bins]
    return StockMapOut(
        site=made.site,
        mission_id=made.mission_id,
        created_at=made.created_at,
        live=now.live,
        summary=summarise(bins),
        bins=bins,
    )


def summarise(bins: list[BinOut]) -> SummaryOut:
    """Key figures. Bins still to be looked at are counted as pending as well as UNSEEN, without a reason."""
    reasons: dict[str, int] = {}
    for b in bins:
        if b.status == BinStatus.UNSEEN and not b.pending:
            reasons[b.reason or "unknown"] = reasons.get(b.reason or "unknown", 0) + 1
    said = [b.status for b in bins]
    unseen = said.count("UNSEEN")
    return SummaryOut(
        bins=len(bins),
        counted=len(bins) - unseen,
        ok=said.count("OK"),
        low=said.count("LOW"),
        out_of_stock=said.count("OUT_OF_STOCK"),
        unseen=unseen,
        pending=sum(b.pending for b in bins),
        misplaced=sum(b.misplaced for b in bins),
        unseen_reasons=dict(sorted(reasons.items(), key=lambda r: (-r[1], r[0]))),
    )


def _bin(b: BinState, now: Snapshot, bays: set[str]) -> BinOut:
    place = now.bundle.store.places.get(b.bin_id) if now.bundle else None
    return BinOut(
        bin_id=b.bin_id,
        sku=b.sku,
        status=str(b.status),
        misplaced=b.misplaced,
        facings=b.facings,
        units=b.units,
        units_low=b.units_low,
        units_high=b.units_high,
        confidence=b.confidence,
        tag_price=b.tag_price,
        position=b.position,
        observed_at=b.observed_at,
        reason=b.reason,
        findings=list(b.findings),
        evidence=list(b.evidence),
        pending=b.status == BinStatus.UNSEEN and place is not None and place.bay_id in bays,
    )


def findings(now: Snapshot) -> list[FindingOut]:
    """All findings as one works through them."""
    if now.stock_map is None:
        return []
    states = {b.bin_id: b for b in now.stock_map.bins}
    ranked = to_work_through(now.stock_map.findings, now.bundle.store.places if now.bundle else {})
    return [_finding(f, states.get(f.bin_id), now) for f in ranked]


def _finding(f: Finding, state: BinState | None, now: Snapshot) -> FindingOut:
    line = now.bundle.planogram.get(f.bin_id) if now.bundle else None
    product = _product(now, state.sku if state else "")
    return FindingOut(
        finding_id=f.finding_id,
        bin_id=f.bin_id,
        type=f.type,
        cause=f.cause,
        confidence=f.confidence,
        value=f.value,
        suggestion=f.suggestion,
        evidence=f.evidence,
        alarm=f.alarm,
        sku=state.sku if state else "",
        name=product.name if product else "",
        units=state.units if state and state.status != BinStatus.UNSEEN else None,
        capacity_units=line.capacity_units if line else None,
    )


def sync(now: Snapshot) -> SyncOut:
    """The sync with product names."""
    lines = []
    for x in now.sync.lines:
        product = _product(now, x.sku)
        lines.append(x.model_copy(update={"name": product.name}) if product else x)
    return now.sync.model_copy(update={"lines": lines})


def bin_detail(view: RunView, now: Snapshot, bin_id: str) -> BinDetail | None:
    """All that is known of one bin, or None when there is no such bin."""
    state = next((b for b in now.stock_map.bins if b.bin_id == bin_id), None) if now.stock_map else None
    if state is None:
        return None
    line = now.bundle.planogram.get(bin_id) if now.bundle else None
    product = _product(now, state.sku)
    where = f"?run={quote(view.run_dir.name)}"
    pictures = []
    if product and now.bundle:
        pictures = [f"/reference/{quote(product.sku)}/{n}{where}" for n in range(len(now.bundle.gallery.get(product.sku, ())))]
    return BinDetail(
        bin=_bin(state, now, pending_bays(now)),
        plan=PlanLine(
            sku=line.sku,
            facings_wide=line.facings_wide,
            facings_high=line.facings_high,
            facings_deep=line.facings_deep,
            capacity_units=line.capacity_units,
            low_at_units=line.low_at_units,
        )
        if line
        else None,
        product=_product_out(product, pictures) if product else None,
        wms=_wms(now, bin_id, state.sku),
        sync=next((x for x in sync(now).lines if x.bin_id == bin_id), None),
        findings=[f for f in findings(now) if f.bin_id == bin_id],
        looks=view.looks_at(bin_id),
        evidence_urls=[f"/evidence/{quote(evidence_name(e))}{where}" for e in state.evidence],
    )


def _product(now: Snapshot, sku: str) -> Product | None:
    return now.bundle.catalogue.get(sku) if now.bundle else None


def _product_out(p: Product, pictures: list[str]) -> ProductOut:
    return ProductOut(
        sku=p.sku,
        gtin=p.gtin,
        name=p.name,
        brand=p.brand,
        category=p.category,
        width_m=p.width_m,
        depth_m=p.depth_m,
        height_m=p.height_m,
        price=p.price,
        pictures=pictures,
    )


def _wms(now: Snapshot, bin_id: str, sku: str) -> WmsStock | None:
    rows = now.bundle.wms if now.bundle else ()
    row = next((r for r in rows if r.bin_id == bin_id), None) or next(
        (r for r in rows if r.scope == "site" and r.sku == sku), None
    )
    if row is None:
        return None
    return WmsStock(location_code=row.location_code, scope=row.scope, on_hand=row.on_hand, backroom=row.backroom)


def evidence_name(name: str) -> str:
    """A picture's name below ``evidence/``; stock maps name it from the run folder, scans from ``evidence/``."""
    return name.removeprefix("evidence/")


def inside(root: Path, name: str) -> Path | None:
    """A file below ``root``, or None: absent, not a file, or reached by dots or links that lead outside."""
    if "\x00" in name:
        return None
    try:
        base = root.resolve(strict=True)
        path = (base / name).resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    return path if path.is_file() and path.is_relative_to(base) else None
