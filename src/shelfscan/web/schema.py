"""What the HTTP API answers. Lengths in metres, angles in radians, times ISO-8601 UTC; frame ``map`` unless said otherwise."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class PoseOut(BaseModel):
    """A planar pose in ``map``."""

    x_m: float
    y_m: float
    yaw_rad: float


class BinPlan(BaseModel):
    """A bin's front rectangle in its gondola's face frame (x to the shopper's right, z up) and what is planned there."""

    bin_id: str
    bay_id: str
    shelf_id: str
    shelf_index: int
    x0_m: float
    x1_m: float
    z0_m: float
    z1_m: float
    sku: str
    name: str
    capacity_units: int


class ShelfPlan(BaseModel):
    """A shelf board: ``z_m`` is its upper surface."""

    shelf_id: str
    x0_m: float
    x1_m: float
    z_m: float


class GondolaPlan(BaseModel):
    """One face of shelving; ``face`` is the face frame's pose in ``map``."""

    gondola_id: str
    aisle_id: str
    face: PoseOut
    length_m: float
    depth_m: float
    height_m: float
    bays: list[str]
    shelves: list[ShelfPlan]
    bins: list[BinPlan]


class StoreOut(BaseModel):
    """``/api/store``: the layout to draw. ``bounds_m`` is x0, y0, x1, y1 of everything."""

    site: str
    bounds_m: tuple[float, float, float, float]
    dock: PoseOut
    robot_radius_m: float
    gondolas: list[GondolaPlan]


class ViewpointOut(BaseModel):
    """A planned stop. ``state``: todo, next, here, pending (captured, scan being computed), done, or failed (given up)."""

    viewpoint_id: str
    gondola_id: str
    pose: PoseOut
    bay_ids: list[str]
    state: str
    why: str = ""


class MissionOut(BaseModel):
    """``/api/mission``: where the run is.

    ``state``: no_run, waiting (nothing in the ledger yet), running, paused, done, cancelled, failed or ledger_gone.
    ``phase`` is the mission machine's; ``problems`` are plain sentences, and ``degraded`` says there are any.
    ``robot`` is the last viewpoint the robot reached. ``last_event_at`` is in the ledger's clock.
    """

    state: str
    degraded: bool
    problems: list[str]
    run: str = ""
    mission_id: str = ""
    site: str = ""
    mode: str = ""
    created_at: str = ""
    phase: str = ""
    message: str = ""
    viewpoints_total: int = 0
    viewpoints_done: int = 0
    viewpoints_failed: int = 0
    interruptions: int = 0
    last_event_at: str = ""
    robot: PoseOut | None = None
    robot_at: str = ""
    viewpoints: list[ViewpointOut] = []
    files: list[str] = []


class SummaryOut(BaseModel):
    """Key figures of a stock map. ``counted`` is every bin that is not UNSEEN; ``pending`` those a live run still drives to."""

    bins: int
    counted: int
    ok: int
    low: int
    out_of_stock: int
    unseen: int
    pending: int
    misplaced: int
    unseen_reasons: dict[str, int]


class BinOut(BaseModel):
    """One bin's belief (definitions of the contract). ``pending``: the running mission has not looked there yet."""

    bin_id: str
    sku: str
    status: str
    misplaced: bool
    facings: int
    units: float
    units_low: int
    units_high: int
    confidence: float
    tag_price: str
    position: tuple[float, float, float]
    observed_at: str
    reason: str = ""
    findings: list[str] = []
    evidence: list[str] = []
    pending: bool = False


class StockMapOut(BaseModel):
    """``/api/stock_map``."""

    site: str
    mission_id: str
    created_at: str
    live: bool
    summary: SummaryOut
    bins: list[BinOut]


class ProductOut(BaseModel):
    """A catalogue entry; ``pictures`` are addresses of its reference photographs."""

    sku: str
    gtin: str
    name: str
    brand: str
    category: str
    width_m: float
    depth_m: float
    height_m: float
    price: float
    pictures: list[str]


class PlanLine(BaseModel):
    """The planogram's line for a bin."""

    sku: str
    facings_wide: int
    facings_high: int
    facings_deep: int
    capacity_units: int
    low_at_units: int


class WmsStock(BaseModel):
    """What the WMS believed when the run began; ``scope`` "site" means a sum over places, not this bin alone."""

    location_code: str
    scope: str
    on_hand: float
    backroom: float


class LookOut(BaseModel):
    """One capture that had the bin in view. ``seen``/``blocked``: shares 0..1 of the bin's front."""

    capture_id: str
    viewpoint_id: str
    at: str
    seen: float
    blocked: float
    evidence: str = ""


class FindingOut(BaseModel):
    """Something to act on; no ``alarm``: to check only. ``value``: money at stake a day, in the store's currency."""

    finding_id: str
    bin_id: str
    type: str
    cause: str
    confidence: float
    value: float
    suggestion: str
    evidence: str
    alarm: bool = True
    sku: str = ""
    name: str = ""
    units: float | None = None
    capacity_units: int | None = None


class SyncLineOut(BaseModel):
    """One location's outcome. ``counted`` and ``on_hand`` in units; null when not known."""

    location_code: str
    bin_id: str = ""
    sku: str = ""
    name: str = ""
    counted: float | None = None
    on_hand: float | None = None
    outcome: str
    reason: str = ""


class SignalOut(BaseModel):
    """What a sync suggests: refill, reorder, phantom_inventory or shrinkage; ``value`` in the store's currency."""

    kind: str
    location_code: str
    bin_id: str = ""
    sku: str = ""
    units: float | None = None
    value: float | None = None
    confidence: float | None = None
    text: str = ""


class TaskOut(BaseModel):
    """A count that the warehouse system had asked for. ``state``: closed (it has its number) or open."""

    ref: str
    location_code: str
    bin_id: str = ""
    state: str
    text: str = ""


class SyncOut(BaseModel):
    """``/api/sync``. ``state``: none (no sync yet), or what the bridge said last."""

    state: str
    wms: str = ""
    text: str = ""
    counts: dict[str, int] = {}
    lines: list[SyncLineOut] = []
    signals: list[SignalOut] = []
    tasks: list[TaskOut] = []


class BinDetail(BaseModel):
    """``/api/bins/{bin_id}``: all that is known of one bin."""

    bin: BinOut
    plan: PlanLine | None
    product: ProductOut | None
    wms: WmsStock | None
    sync: SyncLineOut | None
    findings: list[FindingOut]
    looks: list[LookOut]
    evidence_urls: list[str]


class RunOut(BaseModel):
    """A run folder. ``ended``: its report is written."""

    run: str
    site: str
    mission_id: str
    mode: str
    created_at: str
    ended: bool
    current: bool


class Health(BaseModel):
    """``/healthz``."""

    ok: bool
    version: str
    run: str
    details: dict[str, Any] = {}
