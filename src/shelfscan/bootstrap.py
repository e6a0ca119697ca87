"""The one place that turns a validated configuration into objects. Nothing is built at import."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, time, timezone, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from shelfscan.adapters.backends import Name, order
from shelfscan.adapters.model_store import in_use
from shelfscan.config import ApprovalConfig, Config, DetectorConfig, EmbedderConfig, EpcisConfig, FolderConfig, SapConfig
from shelfscan.errors import BackendError, BadInput, MissingModel
from shelfscan.mission.machine import Rules
from shelfscan.mission.runner import Limits
from shelfscan.model.bundle import Bundle
from shelfscan.model.catalogue import Catalogue
from shelfscan.model.imaging import Rgb
from shelfscan.ports import Detector, Embedder, Ledger, PeopleFinder, TagReader

if TYPE_CHECKING:
    from shelfscan.adapters._tensorrt import EngineOptions
    from shelfscan.adapters.gallery_cache import GalleryCache
    from shelfscan.adapters.ledger_place import LedgerPlace
    from shelfscan.adapters.store_day import StoreDays
    from shelfscan.audit.health import Sickness
    from shelfscan.mission.plan import Planned
    from shelfscan.mission.sight import KeepOut
    from shelfscan.model.mission import MissionPlan, Viewpoint
    from shelfscan.model.store import Store
    from shelfscan.perception.photo import PhotoDetector
    from shelfscan.perception.privacy import PrivacyFilter
    from shelfscan.perception.recognise import Recogniser
    from shelfscan.pipeline import ScanPipeline
    from shelfscan.sim.faults import Faults
    from shelfscan.sim.simulator import Simulator
    from shelfscan.stock.project import StockProjector
    from shelfscan.wms.port import WmsClient
    from shelfscan.wms.rules import ApprovalPolicy


#: The robot of ``config/robot.yaml``, whose healthy runs ``models/health.json`` was learned from.
SIMULATED_ROBOT = "demo robot"
_log = logging.getLogger("shelfscan.backends")

Made = TypeVar("Made")


def _first(what: str, asked: DetectorConfig | EmbedderConfig, make: Callable[[Name], Made]) -> Made:
    """The first backend that works; only with ``auto`` there is a second. Errors name the setting."""
    names = order(asked.backend, asked.precision)
    for name in names:
        try:
            return make(name)
        except BackendError as e:
            if name == names[-1]:
                raise BackendError(f"{what}.backend {asked.backend}: {e}") from e
            _log.warning("%s: TensorRT cannot be used, %s is used instead: %s", what, names[names.index(name) + 1], e)
        except ImportError as e:
            raise MissingModel(f"{what} backend {name!r} is not installed: {e}") from e
        except BadInput as e:
            if isinstance(e, MissingModel):
                raise
            raise BadInput(f"{what}.{problem}" for problem in e.problems) from e
    raise AssertionError("there is always something to try")


def _processor_backend(wanted: str) -> str:
    """The backend of the small networks, which run on the processor also beside a GPU: the detector's where that is one."""
    if wanted in ("openvino", "onnx"):
        return wanted
    return "openvino" if importlib.util.find_spec("openvino") else "onnx"


def _engine_options(config: Config) -> EngineOptions:
    from shelfscan.adapters._tensorrt import EngineOptions

    return EngineOptions(config.tensorrt.engines, config.tensorrt.workspace_mib)


def make_detector(config: Config, *, threshold: float | None = None) -> Detector:
    """The shelf detector; ``threshold`` replaces the model's own scores.

    Raises `MissingModel` naming the file or package that is absent, `BackendError` when a GPU was asked for and can't be used.
    """
    d = config.detector
    models = in_use(d.model, config.models.folder)

    def make(backend: Name) -> Detector:
        if backend == "tensorrt":
            from shelfscan.adapters.detect_tensorrt import TensorrtDetector

            options = _engine_options(config)
            return TensorrtDetector(d.model, threshold=threshold, precision=d.precision, models=models, options=options)
        if backend == "openvino":
            from shelfscan.adapters.detect_openvino import OpenvinoDetector

            return OpenvinoDetector(d.model, threshold=threshold, threads=d.threads, precision=d.precision, models=models)
        from shelfscan.adapters.detect_onnx import OnnxDetector

        return OnnxDetector(d.model, threshold=threshold, threads=d.threads, precision=d.precision, models=models)

    return _first("detector", d, make)


def make_photo_detector(config: Config, *, threshold: float | None = None) -> PhotoDetector:
    """The detector as plain photographs want it; ``threshold`` replaces the model's own. Raises `MissingModel`."""
    from shelfscan.adapters.models import model_entry
    from shelfscan.model.detections import DetectionClass
    from shelfscan.perception.photo import FAINT, PhotoDetector

    detector = make_detector(config, threshold=FAINT)
    name = config.detector.model
    given = model_entry(name, in_use(name, config.models.folder)).for_photographs
    return PhotoDetector(detector, [given[c.name] if threshold is None else threshold for c in DetectionClass])


def make_embedder(config: Config) -> Embedder:
    """The product embedder. Raises as `make_detector` does."""
    e = config.embedder
    models = in_use(e.model, config.models.folder)

    def make(backend: Name) -> Embedder:
        if backend == "tensorrt":
            from shelfscan.adapters.embed_tensorrt import TensorrtEmbedder

            return TensorrtEmbedder(e.model, precision=e.precision, models=models, options=_engine_options(config))
        if backend == "openvino":
            from shelfscan.adapters.embed_openvino import OpenvinoEmbedder

            return OpenvinoEmbedder(e.model, threads=e.threads, precision=e.precision, models=models)
        from shelfscan.adapters.embed_onnx import OnnxEmbedder

        return OnnxEmbedder(e.model, threads=e.threads, precision=e.precision, models=models)

    return _first("embedder", e, make)


def make_tag_reader(config: Config, catalogue: Catalogue | None = None) -> TagReader | None:
    """The price-tag reader, or None when it is switched off or what it needs is not installed.

    The catalogue says whether the currency has decimals: only where all its prices are whole may a tag's be. Raises
    `MissingModel` when the reader's own model is asked for and is not there.
    """
    wanted, details = config.tags.reader, config.tags.details
    engine = importlib.util.find_spec("rapidocr") is not None
    if wanted == "none" or (wanted == "rapidocr" and not engine):
        return None
    decimals = None
    if catalogue is not None:
        decimals = 0 if all(round(p.price % 1, 6) == 0 for p in catalogue.values()) else 2
    whole_tag: TagReader | None = None
    if engine:
        from shelfscan.adapters.tags_rapidocr import RapidOcrTagReader

        whole_tag = RapidOcrTagReader(all_lines=details, decimals=decimals)
    if wanted == "rapidocr":
        return whole_tag
    from shelfscan.adapters._price_net import runner
    from shelfscan.adapters.tags_price import PriceTagReader

    name = "reader"
    backend = _processor_backend(config.detector.backend)
    try:
        run = runner(name, backend, 1, in_use(name, config.models.folder))
    except ImportError as e:
        raise MissingModel(f"tag reader: backend {backend!r} is not installed: {e}") from e
    if details:
        codes = None
        if importlib.util.find_spec("zxingcpp") is not None:
            from shelfscan.adapters.codes_zxing import ZxingCodeReader

            codes = ZxingCodeReader(thorough=False).read
        return PriceTagReader(run, details=whole_tag, codes=codes, decimals=decimals)
    return PriceTagReader(run, second=whole_tag if wanted == "auto" else None, decimals=decimals)


def make_privacy(store: Store, config: Config) -> PrivacyFilter | None:
    """What makes people unreadable in captures, or None where that is switched off. Raises `MissingModel`."""
    if not config.privacy.blur:
        return None
    from shelfscan.perception.privacy import PrivacyFilter

    return PrivacyFilter(store, make_people_finders(config))


def make_people_finders(config: Config) -> list[PeopleFinder]:
    """The networks that find people: the project's own, and BlazeFace. Raises `MissingModel` naming what is absent."""
    from shelfscan.adapters.faces_blaze import BlazeFaces, blaze_available

    finders = [_people_net(config)]
    if config.privacy.faces == "blaze" or (config.privacy.faces == "auto" and blaze_available()):
        finders.append(BlazeFaces(threads=config.privacy.threads))
    return finders


def _people_net(config: Config) -> PeopleFinder:
    p = config.privacy
    models = in_use(p.model, config.models.folder)
    try:
        if _processor_backend(p.backend) == "openvino":
            from shelfscan.adapters.people_openvino import OpenvinoPeople

            return OpenvinoPeople(p.model, threads=p.threads, models=models)
        from shelfscan.adapters.people_onnx import OnnxPeople

        return OnnxPeople(p.model, threads=p.threads, models=models)
    except ImportError as e:
        raise MissingModel(f"privacy backend {p.backend!r} is not installed: {e}") from e


def make_recogniser(
    config: Config,
    embedder: Embedder,
    references: Mapping[str, Sequence[Rgb]],
    *,
    hurried: bool = False,
    cache: GalleryCache | None = None,
) -> Recogniser:
    """A recogniser that knows the given reference pictures; ``hurried``: a robot's, which has many crops to name; ``cache``:
    where what close looks know of these pictures is kept."""
    from shelfscan.perception.recognise import AS_IS, INSETS, Gallery, Recogniser, Verify

    gallery = Gallery.build(embedder, references, AS_IS if hurried else INSETS)
    verify = Verify(config.recognition.verify)
    if cache is None:
        return Recogniser(embedder, gallery, verify=verify, hurried=hurried)
    cache.load(gallery.details)
    return Recogniser(embedder, gallery, verify=verify, hurried=hurried, prepared=lambda: cache.save_beside(gallery.details))


def load_references(bundle: Bundle) -> dict[str, list[Rgb]]:
    """The bundle's gallery as pictures."""
    from shelfscan.adapters.pictures import read_picture

    return {sku: [read_picture(p) for p in paths] for sku, paths in bundle.gallery.items()}


def gallery_cache(bundle: Bundle, config: Config) -> GalleryCache | None:
    """Where what close looks know of the bundle's gallery is kept; None where nothing is looked at closely."""
    from shelfscan.adapters.gallery_cache import GalleryCache, default_folder

    if config.recognition.verify == "never":
        return None
    return GalleryCache(config.recognition.cache or default_folder(), bundle.root, bundle.gallery)


def prepare_gallery(
    bundle: Bundle, config: Config, report: Callable[[str, float], None], tell: Callable[[str], None] = lambda line: None
) -> None:
    """Work out what close looks need of the gallery with all cores, unless it is kept from before or nothing can be kept."""
    cache = gallery_cache(bundle, config)
    if cache is None or cache.complete():
        return
    if cache.writable():
        cache.fill(load_references(bundle), report)
    else:
        tell(f"{cache.file.parent} cannot be written (recognition.cache): the first captures will take longer")


def make_pipeline(bundle: Bundle, config: Config, at_once: int | None = None) -> ScanPipeline:
    """The processing of one capture, for this store; ``at_once``: so many heads at a time, None: as configured.

    Raises `MissingModel` when dates are wanted and RapidOCR is not there.
    """
    from shelfscan.pipeline import ScanPipeline

    # Before the pictures are read: its checksums are of these.
    cache = gallery_cache(bundle, config)
    recogniser = make_recogniser(config, make_embedder(config), load_references(bundle), hurried=True, cache=cache)
    tag_reader = make_tag_reader(config, bundle.catalogue)
    store, catalogue, planogram = bundle.store, bundle.catalogue, bundle.planogram
    detector = make_detector(config)
    dates = None
    if config.condition.dates:
        from shelfscan.adapters.dates_rapidocr import RapidOcrDates

        dates = RapidOcrDates().read
    return ScanPipeline(
        store,
        catalogue,
        planogram,
        detector,
        recogniser,
        tag_reader,
        damage=config.condition.damage,
        dates=dates,
        near_expiry_days=config.condition.near_expiry_days,
        at_once=config.processing.heads_at_once if at_once is None else at_once,
    )


def make_projector(bundle: Bundle, mission_id: str) -> StockProjector:
    """The stock map's projection, for this store and mission."""
    from shelfscan.adapters.confidence_file import load_confidence
    from shelfscan.adapters.pictures import gallery_shapes
    from shelfscan.adapters.units_file import load_units_model
    from shelfscan.paths import shared_file
    from shelfscan.stock.project import StockProjector

    units = load_units_model(shared_file("models", "units.json"))
    own = bundle.root / "confidence.json"
    sure = load_confidence(own if own.is_file() else shared_file("models", "confidence.json"))
    shapes = gallery_shapes(bundle.gallery)
    return StockProjector(
        bundle.store, bundle.catalogue, bundle.planogram, mission_id=mission_id, units=units, sure=sure, shapes=shapes
    )


def check_health(bundle: Bundle, ledger: Ledger, mission_id: str) -> tuple[dict[str, float], list[Sickness]]:
    """What a run measured of its own cameras, and what that says; the store's own baseline counts before the shipped one."""
    from shelfscan.adapters.health_file import load_baseline
    from shelfscan.audit.health import Baseline, diagnose, measured, side_by_side
    from shelfscan.mission.machine import project
    from shelfscan.model.scan import BayScan
    from shelfscan.paths import shared_file

    events = [s.event for s in ledger.read(kinds=("bay_scan",)) if s.event.payload.get("mission_id") == mission_id]
    scans = [BayScan.from_json(dict(e.payload)) for e in events]
    progress = project(ledger.read(kinds=("mission.started", "mission.extended")), mission_id)
    viewpoints = progress.plan.viewpoints if progress is not None else ()
    aisle_of = {v.viewpoint_id: v.aisle_id for v in viewpoints}
    own = bundle.root / "health.json"
    if own.is_file():
        baseline = load_baseline(own)
    else:
        # What is usual of the simulated robot's cameras says nothing of others.
        simulated = bundle.robot.name == SIMULATED_ROBOT
        baseline = load_baseline(shared_file("models", "health.json")) if simulated else Baseline()
    measures = measured(scans, bundle.planogram)
    return measures, diagnose(measures, baseline, scans, aisle_of, side_by_side(viewpoints))


def open_ledger(run_dir: Path, site: str, config: Config | None = None) -> Ledger:
    """The run's ledger, made when absent. Raises `LedgerError` when it belongs to another store.

    A run folder knows where its ledger is; the configuration says where a new one is made, by default in the folder.
    """
    from shelfscan.adapters.ledger_place import find_ledger, has_ledger, keep_place

    run_dir.mkdir(parents=True, exist_ok=True)
    place = _ledger_place(config) if config is not None else None
    if place is not None and not has_ledger(run_dir):
        keep_place(run_dir, place)
    return find_ledger(run_dir, site=site)


def check_ledger(config: Config) -> str:
    """What can be said of the configured database, empty where ledgers are files.

    Raises `BadInput` or `LedgerError` when no run could keep its events there.
    """
    from shelfscan.adapters.ledger_place import server_of
    from shelfscan.adapters.ledger_postgres import about

    place = _ledger_place(config)
    return about(server_of(place), place.wait_s) if place is not None else ""


def _ledger_place(config: Config) -> LedgerPlace | None:
    from shelfscan.adapters.ledger_place import LedgerPlace

    p = config.ledger
    return LedgerPlace.new(p.url, p.password, p.tls, p.ca, p.wait_s) if p.url else None


def make_simulator(bundle: Bundle, config: Config, *, start_ns: int, faults: Faults | None = None) -> Simulator:
    """The simulated robot in this store's true state. Only simulated bundles have one."""
    from shelfscan.mission.sight import without
    from shelfscan.sim.scene import scene_of
    from shelfscan.sim.simulator import Simulator

    scene = scene_of(bundle.root)
    # A robot's Nav2 knows the keep-outs from its own filter mask; the simulated one from here.
    grid = without(bundle.grid, _zones(config, datetime.now()))
    return Simulator(scene, bundle.robot, grid, seed=config.sim.seed, faults=faults, start_ns=start_ns)


def make_wms(bundle: Bundle, run_dir: Path, config: Config) -> WmsClient | None:
    """The warehouse system the run syncs with, or None."""
    if config.wms.name == "none":
        return None
    if config.wms.name == "tryton":
        from shelfscan.adapters.secret import read_secret
        from shelfscan.adapters.wms_tryton import TrytonWms

        t = config.wms.tryton
        password = read_secret(t.password, "wms.tryton.password")
        days = _days(t.time_zone, "wms.tryton.time_zone")
        return TrytonWms(t.url, t.database, t.user, password, bundle.wms, days=days, timeout_s=t.timeout_s)
    if config.wms.name == "webhook":
        from shelfscan.adapters.secret import read_secret
        from shelfscan.adapters.webhook_body import load_body
        from shelfscan.adapters.wms_webhook import FIELDS, WebhookWms

        w = config.wms.webhook
        unknown = sorted(set(w.fields) - set(FIELDS))
        if unknown:
            raise BadInput([f"wms.webhook.fields: unknown field {u!r}; known: {', '.join(FIELDS)}" for u in unknown])
        token = read_secret(w.token, "wms.webhook.token")
        paths, body = {str(k): v for k, v in w.paths.items()}, None
        if (w.template is None) != (w.line_template is None):
            raise BadInput("wms.webhook: template and line_template: both or none")
        if w.template is not None and w.line_template is not None:
            body = load_body(w.template, w.line_template)
        return WebhookWms(w.url, token, bundle.wms, paths=paths, fields=w.fields, body=body, timeout_s=w.timeout_s)
    if config.wms.name == "folder":
        return _make_folder(config.wms.folder, bundle)
    if config.wms.name == "epcis":
        return _make_epcis(config.wms.epcis)
    if config.wms.name == "sap":
        return _make_sap(config.wms.sap, bundle)
    if config.wms.name == "inventree":
        from shelfscan.adapters.secret import read_secret
        from shelfscan.adapters.wms_inventree import InvenTreeWms

        i = config.wms.inventree
        zone = _zone(i.time_zone, "wms.inventree.time_zone")
        token = read_secret(i.token, "wms.inventree.token")
        return InvenTreeWms(
            i.url, token, bundle.wms, zone=zone, timeout_s=i.timeout_s, settle_s=i.settle_s, ask_status=i.ask_status
        )
    if config.wms.name == "odoo":
        from shelfscan.adapters.secret import read_secret
        from shelfscan.adapters.wms_odoo import OdooWms

        o = config.wms.odoo
        key = read_secret(o.key, "wms.odoo.key")
        days = _days(o.time_zone, "wms.odoo.time_zone")
        return OdooWms(o.url, o.database, key, bundle.wms, api=o.api, user=o.user, days=days, timeout_s=o.timeout_s)
    from shelfscan.adapters.wms_builtin import BuiltinWms

    return BuiltinWms.open(config.wms.path or run_dir / "wms.sqlite", bundle.wms, bundle.catalogue)


def _zone(name: str, field: str) -> tzinfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        # UTC needs no time zone data, which a small system may lack.
        return timezone.utc if name == "UTC" else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise BadInput(
            f"{field}: {name!r} is no time zone such as Europe/Berlin, or this computer has no time zone data"
        ) from None


def _days(name: str, field: str) -> StoreDays:
    """Days of a store in a time zone, or in this computer's where none is named. Raises `BadInput`."""
    from shelfscan.adapters.store_day import StoreDays

    return StoreDays(_zone(name, field) if name else None)


def _make_sap(s: SapConfig, bundle: Bundle) -> WmsClient:
    from shelfscan.adapters.secret import read_secret
    from shelfscan.adapters.wms_sap import SapWms

    zone = _zone(s.time_zone, "wms.sap.time_zone")
    token = read_secret(s.token, "wms.sap.token") if s.token else ""
    password = "" if token else read_secret(s.password, "wms.sap.password")
    login = (s.url, s.client, s.user, password)
    return SapWms(*login, bundle.wms, plant=s.plant, zone=zone, token=token, units=s.units, timeout_s=s.timeout_s)


def _make_folder(f: FolderConfig, bundle: Bundle) -> WmsClient:
    from shelfscan.adapters.wms_folder import FolderWms

    if not f.remote:
        from shelfscan.adapters.exchange import LocalExchange

        return FolderWms(LocalExchange(f.root), bundle.wms, answer_wait_s=f.answer_wait_s)
    from shelfscan.adapters.exchange_sftp import SftpExchange, SftpPlace

    place = SftpPlace.of(f.remote, "wms.folder.remote")
    files = SftpExchange(place, key=f.key, known_hosts=f.known_hosts, timeout_s=f.timeout_s)
    # Every look is a connection of its own.
    return FolderWms(files, bundle.wms, answer_wait_s=f.answer_wait_s, poll_s=5.0)


def _make_epcis(e: EpcisConfig) -> WmsClient:
    from shelfscan.adapters.secret import read_secret
    from shelfscan.adapters.wms_epcis import Carrier, EpcisWms, FolderCarrier
    from shelfscan.wms.epcis import Places

    places = Places(e.read_point, e.biz_location)
    carrier: Carrier
    if e.to == "http":
        from shelfscan.adapters.epcis_http import HttpCarrier

        token = read_secret(e.token, "wms.epcis.token") if e.token else ""
        carrier = HttpCarrier(e.url, token, wait_s=e.wait_s, timeout_s=e.timeout_s)
    elif e.to == "mqtt":
        from shelfscan.adapters.epcis_mqtt import MqttCarrier

        password = read_secret(e.password, "wms.epcis.password") if e.user and e.password else ""
        carrier = MqttCarrier(e.broker, e.port, e.topic, user=e.user, password=password, tls=e.tls, wait_s=e.wait_s)
    else:
        carrier = FolderCarrier(e.folder)
    return EpcisWms(carrier, places)


def make_policy(config: ApprovalConfig) -> ApprovalPolicy:
    """Rules for what may post without a person."""
    from shelfscan.wms.rules import ApprovalPolicy

    return ApprovalPolicy(**config.model_dump())


def plan_of(
    bundle: Bundle,
    config: Config,
    mission_id: str,
    *,
    now: datetime | None = None,
    aisles: Collection[str] = (),
    bins: Collection[str] = (),
) -> Planned:
    """The mission of a store under a configuration; ``now``: when it begins, for the hours of keep-outs.

    Raises `BadInput` when it cannot be planned.
    """
    from shelfscan.mission.plan import plan_in_full

    return plan_in_full(
        bundle.store,
        bundle.robot,
        bundle.grid,
        mission_id=mission_id,
        aisles=aisles,
        bins=bins,
        keep_outs=_zones(config, now or datetime.now()),
        first=config.mission.first_aisles,
    )


def second_looks_of(bundle: Bundle, config: Config, ledger: Ledger, plan: MissionPlan) -> tuple[Viewpoint, ...]:
    """Where to look from at what a mission's tour did not show in full, from its scans in the ledger and where they stand."""
    from shelfscan.mission.second import second_looks

    projector = make_projector(bundle, plan.mission_id)
    for stored in ledger.read():
        projector.add_event(stored.event)
    zones = _zones(config, datetime.now())
    return second_looks(plan, projector.scans, bundle.store, bundle.robot, bundle.grid, zones, projector.seen())


def _zones(config: Config, now: datetime) -> list[KeepOut]:
    """The keep-outs that hold at any time of a mission that begins now."""
    from shelfscan.mission.sight import KeepOut

    m = config.mission
    zones = []
    for k in m.keep_outs:
        between = None
        if k.between is not None:
            start, _, end = k.between.partition("-")
            between = (time.fromisoformat(start), time.fromisoformat(end))
        zones.append(KeepOut(k.name, tuple(k.corners_m), between))
    return [z for z in zones if z.holds(now.time(), m.most_hours or 12.0)]


def make_rules(config: Config) -> tuple[Rules, Limits]:
    """The mission's patience."""
    m = config.mission
    return (
        Rules(m.max_drives, m.max_captures, m.max_pending, m.scan_timeout_s, m.retry_after_s, m.second_looks),
        Limits(
            drive_s=m.drive_timeout_s,
            dock_s=m.dock_timeout_s,
            charge_s=m.charge_timeout_s,
            low_battery=m.low_battery,
            full_battery=m.full_battery,
        ),
    )
