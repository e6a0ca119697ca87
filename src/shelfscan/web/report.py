"""``report.html`` of a finished run: one page to read on a screen or to print, with pictures beside it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from shelfscan.model.stock import UNSEEN_TEXT

#: Rows shown in full; the rest is in ``exceptions.csv``.
SHOWN = 60
#: What a finding is called to people.
TYPES = {
    "out_of_stock": "Out of stock",
    "low": "Low",
    "low_stock": "Low",
    "misplaced": "Misplaced",
    "foreign": "Not in the gallery",
    "unseen": "Not seen",
    "price": "Price",
    "wrong_price": "Wrong price",
    "missing_tag": "Tag missing",
    "damaged": "Damaged",
    "near_expiry": "Near expiry",
    "turned": "Turned",
    "fallen": "Fallen",
    "pushed_back": "Pushed back",
    "wrong_facings": "Wrong facings",
    "overstocked": "Overstocked",
    "stale_planogram": "Planogram out of date",
    "dimension_mismatch": "Wrong size in the catalogue",
    "layout_drift": "Shelf elsewhere than planned",
    "lens_smear": "Lens smeared",
    "defocus": "Camera not sharp",
    "camera_turned": "Camera turned",
    "calibration_drift": "Calibration has drifted",
    "lamp_out": "Lamp out",
    "new_packaging": "New packaging",
    "detector_weak": "Fewer products found",
}


@cache
def _template() -> Template:
    env = Environment(
        loader=PackageLoader("shelfscan.web", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    env.filters.update(percent=_percent, duration=_duration, number=_number, label=label, link=_link)
    return env.get_template("report.html.j2")


def render_report(data: Mapping[str, Any]) -> str:
    """The page for the content of ``report.json``. Pictures are linked relative to the run folder."""
    summary = data["summary"]
    unseen = dict(summary["unseen"])
    exceptions = [e for e in data["exceptions"] if e["type"] != "unseen"]
    missing = [e for e in data["exceptions"] if e["type"] == "unseen"]
    return _template().render(
        data=data,
        summary=summary,
        unseen_total=sum(unseen.values()),
        unseen=[(UNSEEN_TEXT.get(k, label(k)), n) for k, n in sorted(unseen.items(), key=lambda r: -r[1])],
        health=list(data.get("health") or ()),
        # Reports of before know no alarms: everything was one.
        exceptions=[{"alarm": 1, **e} for e in exceptions[:SHOWN]],
        exceptions_more=max(0, len(exceptions) - SHOWN),
        missing=[{**e, "why": _why(str(e.get("suggestion") or ""))} for e in missing[:SHOWN]],
        missing_more=max(0, len(missing) - SHOWN),
        score=_figures(data.get("score")),
        sync=_sync(data.get("sync")),
        timings=_timings(data.get("timings") or {}),
    )


def label(name: object) -> str:
    """``out_of_stock`` as people write it."""
    text = str(name)
    return TYPES.get(text.lower(), text.replace("_", " ").capitalize())


def _why(suggestion: str) -> str:
    reason = suggestion.removeprefix("not seen: ")
    return UNSEEN_TEXT.get(reason, reason or "not known")


def _percent(part: float, whole: float = 1.0) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "–" if value is None else str(value)
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _link(path: str) -> str:
    """A relative address below the run folder; anything else becomes nothing."""
    return quote(path) if path and not path.startswith("/") and ".." not in path.split("/") and ":" not in path else ""


#: Measured against the simulator's truth; shares are shown in percent.
SCORES = (
    ("coverage", "Reachable bins counted", True),
    ("bin_assignment_accuracy", "Products in the right bin", True),
    ("sku_top1", "Products named right", True),
    ("facings_exact", "Facings exact", True),
    ("facings_mae", "Facings, mean error", False),
    ("units_within_1", "Units within one", True),
    ("tag_exact", "Prices read right, of those read", True),
    ("facings_per_hour", "Facings an hour", False),
)


def _figures(score: Any) -> list[tuple[str, str]]:
    if not isinstance(score, Mapping):
        return []
    rows = []
    for key, text, share in SCORES:
        value = score.get(key)
        if isinstance(value, (int, float)):
            rows.append((text, _percent(value) if share else _number(value)))
    status = score.get("status")
    out = status.get("OUT_OF_STOCK") if isinstance(status, Mapping) else None
    if isinstance(out, Mapping):
        for key in ("precision", "recall"):
            if isinstance(out.get(key), (int, float)):
                rows.append((f"Out of stock, {key}", _percent(out[key])))
    return rows


def _sync(sync: Any) -> dict[str, Any] | None:
    if not isinstance(sync, Mapping):
        return None
    given = sync.get("counts")
    counts: Mapping[str, Any] = given if isinstance(given, Mapping) else sync
    return {
        "text": str(sync.get("text") or ""),
        "counts": [(label(k), v) for k, v in counts.items() if isinstance(v, int) and not isinstance(v, bool)],
    }


def _timings(timings: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for name, value in timings.items():
        unit = " s" if name.endswith("_s") else ""
        text = label(name.removesuffix("_s"))
        if isinstance(value, Mapping):
            rows.append((text, ", ".join(f"{k} {_number(v)}{unit if k != 'n' else ''}" for k, v in value.items())))
        else:
            rows.append((text, f"{_number(value)}{unit}"))
    return rows
