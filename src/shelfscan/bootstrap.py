"""The one place that turns a validated configuration into objects. Nothing is built at import."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shelfscan.adapters.model_store import in_use
from shelfscan.config import ApprovalConfig, Config
from shelfscan.errors import MissingModel
from shelfscan.mission.machine import Rules
from shelfscan.mission.runner import Limits
from shelfscan.model.bundle import Bundle
from shelfscan.model.catalogue import Catalogue
from shelfscan.model.imaging import Rgb
from shelfscan.ports import Detector, Embedder, Ledger, TagReader

if TYPE_CHECKING:
    from shelfscan.perception.photo import PhotoDetector
    from shelfscan.perception.recognise import Recogniser
    from shelfscan.pipeline import ScanPipeline
    from shelfscan.sim.faults import Faults
    from shelfscan.sim.simulator import Simulator
    from shelfscan.stock.project import StockProjector
    from shelfscan.wms.port import WmsClient
    from shelfscan.wms.rules import ApprovalPolicy


def _backend(wanted: str) -> str:
    """``auto`` is OpenVINO where it is installed (faster on CPUs), ONNX Runtime elsewhere."""
    if wanted != "auto":
        return wanted
    return "openvino" if importlib.util.find_spec("openvino") else "onnx"


def make_detector(config: Config, *, threshold: float | None = None) -> Detector:
    """The shelf detector; ``threshold`` replaces the model's own scores. Raises `MissingModel` naming what is absent."""
    d = config.detector
    backend = _backend(d.backend)
    models = in_use(d.model, config.models.folder)
    try:
        if backend == "openvino":
            from shelfscan.adapters.detect_openvino import OpenvinoDetector

            return OpenvinoDetector(d.model, threshold=threshold, threads=d.threads, precision=d.precision, models=models)
        from shelfscan.adapters.detect_onnx import OnnxDetector

        return OnnxDetector(d.model, threshold=threshold, threads=d.threads, precision=d.precision, models=models)
    except ImportError as e:
        raise MissingModel(f"detector backend {backend!r} is not installed: {e}") from e


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
    """The product embedder. Raises `MissingModel` naming what is absent."""
    name, backend = config.embedder.model, _backend(config.embedder.backend)
    models = in_use(name, config.models.folder)
    try:
        if backend == "openvino":
            from shelfscan.adapters.embed_openvino import OpenvinoEmbedder

            return OpenvinoEmbedder(name, threads=config.embedder.threads, models=models)
        from shelfscan.adapters.embed_onnx import OnnxEmbedder

        return OnnxEmbedder(name, threads=config.embedder.threads, models=models)
    except ImportError as e:
        raise MissingModel(f"embedder backend {backend!r} is not installed: {e}") from e


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
    backend = _backend(config.detector.backend)
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


def make_recogniser(
    config: Config, embedder: Embedder, references: Mapping[str, Sequence[Rgb]], *, hurried: bool = False
) -> Recogniser:
    """A recogniser that knows the given reference pictures; ``hurried``: a robot's, which has many crops to name."""
    from shelfscan.perception.recognise import AS_IS, INSETS, Gallery, Recogniser, Verify

    gallery = Gallery.build(embedder, references, AS_IS if hurried else INSETS)
    return Recogniser(embedder, gallery, verify=Verify(config.recognition.verify), hurried=hurried)


def load_references(bundle: Bundle) -> dict[str, list[Rgb]]:
    """The bundle's gallery as pictures."""
    from shelfscan.adapters.pictures import read_picture

    return {sku: [read_picture(p) for p in paths] for sku, paths in bundle.gallery.items()}


def make_pipeline(bundle: Bundle, config: Config) -> ScanPipeline:
    """The processing of one capture, for this store. Raises `MissingModel` when dates are wanted and RapidOCR is not there."""
    from shelfscan.pipeline import ScanPipeline

    recogniser = make_recogniser(config, make_embedder(config), load_references(bundle), hurried=True)
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
    )


def make_projector(bundle: Bundle, mission_id: str) -> StockProjector:
    """The stock map's projection, for this store and mission."""
    from shelfscan.stock.project import StockProjector

    return StockProjector(bundle.store, bundle.catalogue, bundle.planogram, mission_id=mission_id)


def open_ledger(run_dir: Path, site: str) -> Ledger:
    """The run's ledger, made when absent. Raises `LedgerError` when it belongs to another store."""
    from shelfscan.adapters.ledger_sqlite import SqliteLedger

    run_dir.mkdir(parents=True, exist_ok=True)
    return SqliteLedger(run_dir / "ledger.sqlite", site=site)


def make_simulator(bundle: Bundle, config: Config, *, start_ns: int, faults: Faults | None = None) -> Simulator:
    """The simulated robot in this store's true state. Only simulated bundles have one."""
    from shelfscan.sim.scene import scene_of
    from shelfscan.sim.simulator import Simulator

    scene = scene_of(bundle.root)
    return Simulator(scene, bundle.robot, bundle.grid, seed=config.sim.seed, faults=faults, start_ns=start_ns)


def make_wms(bundle: Bundle, run_dir: Path, config: Config) -> WmsClient | None:
    """The warehouse system the run syncs with, or None."""
    if config.wms.name == "none":
        return None
    from shelfscan.adapters.wms_builtin import BuiltinWms

    return BuiltinWms.open(config.wms.path or run_dir / "wms.sqlite", bundle.wms, bundle.catalogue)


def make_policy(config: ApprovalConfig) -> ApprovalPolicy:
    """Rules for what may post without a person."""
    from shelfscan.wms.rules import ApprovalPolicy

    return ApprovalPolicy(**config.model_dump())


def make_rules(config: Config) -> tuple[Rules, Limits]:
    """The mission's patience."""
    m = config.mission
    return (
        Rules(m.max_drives, m.max_captures, m.max_pending, m.scan_timeout_s),
        Limits(drive_s=m.drive_timeout_s, dock_s=m.dock_timeout_s),
    )
