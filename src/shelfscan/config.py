"""One validated configuration for a run. Files are YAML; every field has a default, so an empty file is a config."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from shelfscan.errors import BadInput
from shelfscan.inputs import field_problems, read_yaml


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Backend = Literal["auto", "onnx", "openvino", "tensorrt"]
Precision = Literal["auto", "fp32", "fp16", "bf16", "int8"]


class DetectorConfig(_Section):
    """Which detector finds products and price tags. ``auto`` takes the fastest backend that can be used here: TensorRT (fp16),
    OpenVINO (int8 where the model has an int8 variant of exactly its weights), else ONNX Runtime."""

    model: str = "detector"
    backend: Backend = "auto"
    precision: Precision = "auto"
    threads: int = Field(default=2, ge=1, le=256)


class EmbedderConfig(_Section):
    """Which network tells products apart."""

    model: str = "embedder"
    backend: Backend = "auto"
    precision: Precision = "auto"
    threads: int = Field(default=2, ge=1, le=256)


class ProcessingConfig(_Section):
    """How a capture is worked on. ``heads_at_once``: camera heads, or products that they show, that are looked at at the same
    time, a core for each."""

    heads_at_once: int = Field(default=2, ge=1, le=8)


class RecognitionConfig(_Section):
    """When a product is looked at closely (local features, colours in place): when the embedding leaves doubt, or as said.
    ``cache``: folder that what is known of the gallery is kept in, None: the user's cache folder."""

    verify: Literal["never", "doubt", "always"] = "doubt"
    cache: Path | None = None


class ModelsConfig(_Section):
    """``folder``: a site's own models, which come before the shipped ones of their names. None: only the shipped ones."""

    folder: Path | None = None


class TensorrtConfig(_Section):
    """Engines of NVIDIA GPUs. ``engines``: folder they are kept in once built, None: the user's cache folder.
    ``workspace_mib``: GPU memory that a layer may take for scratch; less makes building possible on small GPUs."""

    engines: Path | None = None
    workspace_mib: int = Field(default=1024, ge=16, le=65536)


class TagsConfig(_Section):
    """How price tags are read. ``auto``: the project's own small network, and RapidOCR (where installed) for what it is not
    sure of; ``small`` and ``rapidocr``: one of them alone. ``details``: name, unit price, item number and EAN too, by RapidOCR
    on every tag."""

    reader: Literal["auto", "small", "rapidocr", "none"] = "auto"
    details: bool = False


class ConditionConfig(_Section):
    """What is told of the condition of goods. ``damage``: products that differ from their kind are looked for. ``dates``:
    expiry dates are read, by RapidOCR at a second a product; told when they are ``near_expiry_days`` away or less."""

    damage: bool = True
    dates: bool = False
    near_expiry_days: int = Field(default=7, ge=0, le=3650)


class KeepOutConfig(_Section):
    """A part of the floor the robot must not enter: corners [x, y] in ``map``, metres. ``between``: hours of the day such as
    "21:00-23:30" (this computer's time zone) for which it holds; none: always."""

    name: str = Field(min_length=1)
    corners_m: list[tuple[float, float]] = Field(min_length=3)
    between: str | None = Field(default=None, pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$")


class MissionConfig(_Section):
    """How patient a mission is; seconds of wall time.

    Below ``low_battery`` (share of full) the robot charges until ``full_battery``. After ``most_hours`` it goes home, and what
    is left is UNSEEN with the reason "time". Nothing is planned inside ``keep_outs``; ``first_aisles`` come before all others.
    ``second_looks``: when the tour is done, what it did not show in full is looked at from elsewhere.
    """

    max_drives: int = Field(default=3, ge=1)
    max_captures: int = Field(default=3, ge=1)
    max_pending: int = Field(default=3, ge=1)
    retry_after_s: float = Field(default=30.0, ge=0)
    scan_timeout_s: float = Field(default=90.0, gt=0)
    drive_timeout_s: float = Field(default=120.0, gt=0)
    dock_timeout_s: float = Field(default=60.0, gt=0)
    low_battery: float = Field(default=0.15, ge=0, lt=1)
    full_battery: float = Field(default=0.8, gt=0, le=1)
    charge_timeout_s: float = Field(default=14400.0, gt=0)
    most_hours: float | None = Field(default=None, gt=0, le=24)
    keep_outs: list[KeepOutConfig] = []
    first_aisles: list[str] = []
    second_looks: bool = True


class SimConfig(_Section):
    """The simulated robot. ``real_time_factor``: simulated seconds per second of wall time under ROS."""

    seed: int = 0
    real_time_factor: float = Field(default=4.0, gt=0, le=50)


class RosConfig(_Section):
    """ROS set-up. ``domain_id`` None: a free one is chosen. ``robot``: simulator here, or a real robot's drivers."""

    domain_id: int | None = Field(default=None, ge=0, le=101)
    robot: Literal["simulator", "real"] = "simulator"
    record: bool = True
    ready_timeout_s: float = Field(default=90.0, gt=0)


class PrivacyConfig(_Section):
    """People in the pictures. ``blur``: they are found and made unreadable in capture.

    ``backend`` and ``threads`` are the network ``model``'s; ``faces``: whether BlazeFace looks as well (auto: where it is
    installed). ``retention_days``: pictures, recordings and evidence of runs that began longer ago are deleted; None: they are
    kept until somebody does (`shelfscan retention apply`).
    """

    blur: bool = True
    model: str = "people"
    backend: Literal["auto", "onnx", "openvino"] = "auto"
    faces: Literal["auto", "blaze", "none"] = "auto"
    threads: int = Field(default=1, ge=1, le=256)
    retention_days: float | None = Field(default=None, ge=0, le=36500)


class ApprovalConfig(_Section):
    """What may post to the WMS without a person. Off unless ``auto_post`` says otherwise; see `ApprovalPolicy`."""

    auto_post: bool = False
    min_confidence: float = Field(default=0.95, ge=0, le=1)
    max_delta_units: float = Field(default=6, ge=0)
    max_delta_value: float = Field(default=50, ge=0)
    max_interval_units: float = Field(default=2, ge=0)
    max_age_h: float = Field(default=12, gt=0)
    movement_margin_s: float = Field(default=300, ge=0)


class TrytonConfig(_Section):
    """A Tryton server. ``password`` names where the secret is (``env:NAME`` or ``file:PATH``); ``time_zone``: the store's
    (IANA), for the days that counts are asked for; empty: this computer's."""

    url: str = "https://localhost:8000"
    database: str = "tryton"
    user: str = "shelfscan"
    password: str = "env:SHELFSCAN_TRYTON_PASSWORD"
    time_zone: str = ""
    timeout_s: float = Field(default=60.0, gt=0)


class OdooConfig(_Section):
    """An Odoo server. ``key`` names where the API key is; ``user``, its login, is needed with ``api: jsonrpc`` (before 19);
    ``time_zone``: the store's (IANA), for the days that counts are asked for; empty: this computer's."""

    url: str = "https://localhost:8069"
    database: str = "odoo"
    user: str = "shelfscan"
    key: str = "env:SHELFSCAN_ODOO_KEY"
    api: Literal["json2", "jsonrpc"] = "json2"
    time_zone: str = ""
    timeout_s: float = Field(default=60.0, gt=0)


class SapConfig(_Section):
    """An SAP S/4HANA client. ``password``, or ``token`` (bearer, over user and password): secrets' places. ``plant``: of
    location codes that name none. ``time_zone``: SAP's own clock's (IANA). ``units``: what pieces are called."""

    url: str = "https://localhost:44300"
    client: str = Field(default="100", pattern=r"^\d{3}$")
    user: str = "SHELFSCAN"
    password: str = "env:SHELFSCAN_SAP_PASSWORD"
    token: str = ""
    plant: str = "1010"
    time_zone: str = "UTC"
    units: list[str] = ["EA", "PC", "ST"]
    timeout_s: float = Field(default=60.0, gt=0)


class InvenTreeConfig(_Section):
    """An InvenTree server. ``token`` names where the API token is; ``time_zone``: the server's own (IANA), for its times have
    none. ``settle_s``: how long it may take to carry out one change. ``ask_status``: the status of a stock item that asks for a
    count (50 is *Attention needed*, or the key of a custom one); 0 is none."""

    url: str = "https://localhost:8000"
    token: str = "env:SHELFSCAN_INVENTREE_TOKEN"
    time_zone: str = "UTC"
    settle_s: float = Field(default=5.0, ge=0)
    ask_status: int = Field(default=0, ge=0)
    timeout_s: float = Field(default=60.0, gt=0)


class FolderConfig(_Section):
    """A folder that a warehouse system watches: CSV in ``in/``, ``out/`` and ``done/``. ``answer_wait_s``: for an answer in
    ``done/``. ``remote``: ``sftp://user@host:port/path`` instead of ``root``, with a private key and the server's known key."""

    root: Path = Path("wms")
    answer_wait_s: float = Field(default=60.0, ge=0)
    remote: str = ""
    key: Path = Path("~/.ssh/id_ed25519")
    known_hosts: Path = Path("~/.ssh/known_hosts")
    timeout_s: float = Field(default=30.0, gt=0)


class WebhookConfig(_Section):
    """A REST service of your own; paths and field names over those of `adapters.wms_webhook`. ``token``: bearer, a secret's
    place. ``template`` and ``line_template``: files for `adapters.webhook_body`, both or none."""

    url: str = "https://localhost:8443/wms"
    token: str = "env:SHELFSCAN_WEBHOOK_TOKEN"
    paths: dict[Literal["locations", "products", "stock", "movements", "submit", "find"], str] = {}
    fields: dict[str, str] = {}
    template: Path | None = None
    line_template: Path | None = None
    timeout_s: float = Field(default=30.0, gt=0)


class EpcisConfig(_Section):
    """Where EPCIS 2.0 events go. ``read_point`` and ``biz_location``: templates, see `wms.epcis.Places`; ``token`` (bearer) and
    ``password``: a secret's place, or empty for none."""

    to: Literal["folder", "http", "mqtt"] = "folder"
    folder: Path = Path("epcis")
    url: str = "https://localhost:8443/epcis"
    token: str = "env:SHELFSCAN_EPCIS_TOKEN"
    broker: str = "localhost"
    port: int = Field(default=8883, gt=0, lt=65536)
    topic: str = "shelfscan/epcis"
    tls: bool = True
    user: str = ""
    password: str = "env:SHELFSCAN_MQTT_PASSWORD"
    read_point: str = "urn:shelfscan:{site}:{location}"
    biz_location: str = "urn:shelfscan:{site}"
    wait_s: float = Field(default=30.0, ge=0)
    timeout_s: float = Field(default=30.0, gt=0)


class WmsConfig(_Section):
    """Which warehouse system, and under which rules. ``path``: the built-in one's file; None: in the run folder."""

    name: Literal["builtin", "tryton", "odoo", "sap", "inventree", "folder", "webhook", "epcis", "none"] = "builtin"
    path: Path | None = None
    tryton: TrytonConfig = TrytonConfig()
    odoo: OdooConfig = OdooConfig()
    sap: SapConfig = SapConfig()
    inventree: InvenTreeConfig = InvenTreeConfig()
    folder: FolderConfig = FolderConfig()
    webhook: WebhookConfig = WebhookConfig()
    epcis: EpcisConfig = EpcisConfig()
    approval: ApprovalConfig = ApprovalConfig()


class LedgerConfig(_Section):
    """Where the events of a new run are kept. ``url`` empty: in ``ledger.sqlite`` in the run folder; else in PostgreSQL,
    ``postgresql://user@host:port/database``. ``password``: a secret's place, or empty for none. ``tls`` auto: not on this
    computer. ``ca``: certificates to check the server's with, None: the system's. ``wait_s``: for a server that is away."""

    url: str = ""
    password: str = "env:SHELFSCAN_LEDGER_PASSWORD"
    tls: Literal["auto", "on", "off"] = "auto"
    ca: Path | None = None
    wait_s: float = Field(default=30.0, ge=0, le=3600)

    @field_validator("url", mode="before")
    @classmethod
    def _no_password(cls, url: object) -> object:
        """The configuration goes into run folders, and what is wrong in it into messages: a password must not be there."""
        if isinstance(url, str) and ("password=" in url or ":" in url.partition("://")[2].rpartition("@")[0]):
            raise ValueError("without a password: ledger.password names the place it is kept in")
        return url


class Config(_Section):
    """Everything a run can be told."""

    models: ModelsConfig = ModelsConfig()
    detector: DetectorConfig = DetectorConfig()
    embedder: EmbedderConfig = EmbedderConfig()
    tensorrt: TensorrtConfig = TensorrtConfig()
    processing: ProcessingConfig = ProcessingConfig()
    recognition: RecognitionConfig = RecognitionConfig()
    tags: TagsConfig = TagsConfig()
    condition: ConditionConfig = ConditionConfig()
    mission: MissionConfig = MissionConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    sim: SimConfig = SimConfig()
    ros: RosConfig = RosConfig()
    ledger: LedgerConfig = LedgerConfig()
    wms: WmsConfig = WmsConfig()

    def to_yaml(self) -> str:
        """The complete configuration as YAML text (what a run folder keeps)."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load_config(path: Path | None, overrides: dict[str, Any] | None = None) -> Config:
    """Read a YAML configuration; ``overrides`` are dotted names (``mission.max_drives``) with values.

    Raises `BadInput` naming the file and every wrong field.
    """
    data: Any = {}
    if path is not None:
        data = read_yaml(path, "configuration file") or {}
        if not isinstance(data, dict):
            raise BadInput(f"{path}: expected sections such as 'detector:', found {type(data).__name__}")
    for dotted, value in (overrides or {}).items():
        *sections, name = dotted.split(".")
        target = data
        for section in sections:
            # A section that is none is said below, with all else that is wrong.
            target = target.setdefault(section, {}) if isinstance(target, dict) else {}
        if isinstance(target, dict):
            target[name] = value
    try:
        return Config.model_validate(data)
    except ValidationError as e:
        where = str(path) if path is not None else "options"
        raise BadInput(field_problems(where, e, Config)) from e
