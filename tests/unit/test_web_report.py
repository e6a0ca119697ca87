"""``report.html``: everything that matters is on it, nothing in the data can break it."""

from __future__ import annotations

import copy
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import shelfscan.web
from shelfscan.model.stock import UNSEEN_TEXT, UnseenReason
from shelfscan.web.report import SHOWN, TYPES, render_report

DATA: dict[str, Any] = {
    "mission_id": "m-1",
    "site": "sim <small>",
    "mode": "ros",
    "created_at": "2026-11-25T04:00:00Z",
    "seconds": 187.4,
    "versions": {"shelfscan": "0.1.0"},
    "mission": {"phase": "done", "message": "every viewpoint scanned", "viewpoints": 20, "scanned": 19, "interruptions": 1},
    "summary": {
        "bins": 254, "counted": 250, "unseen": {"blocked": 3, "glare": 1}, "out_of_stock": 12, "low": 9, "ok": 229,
        "misplaced": 4,
    },
    "timings": {"process_s": {"median": 1.25, "sum": 25.0, "n": 20}, "map_s": 0.5},
    "sync": {"state": "done", "text": "147 equal, 85 held", "counts": {"equal": 147, "held": 85}, "lines": []},
    "score": {"coverage": 1.0, "facings_exact": 0.934, "status": {"OUT_OF_STOCK": {"precision": 0.95, "recall": None}}},
    "exceptions": [
        {
            "bin_id": "A01-L-B01-S1-01", "sku": "SKU-1", "name": "Oats <b>", "type": "out_of_stock", "confidence": 0.9,
            "units": 0.0, "capacity": 12, "value": 3.5, "suggestion": "refill", "evidence": "evidence/A01-L-B01-S1-01/x y.jpg",
        },
        {
            "bin_id": "A01-L-B01-S1-02", "sku": "SKU-2", "name": "Rice", "type": "unseen", "confidence": 1.0, "units": 2.0,
            "capacity": 12, "value": 0.0, "suggestion": "not seen: blocked", "evidence": "",
        },
    ],
}  # fmt: skip


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words += data + " "


def page(**changes: Any) -> _Page:
    return _Page(render_report({**copy.deepcopy(DATA), **changes}))


def test_the_page_says_what_the_data_says() -> None:
    words = " ".join(page().words.split())
    for text in (
        "sim <small>", "19 of 20 viewpoints", "resumed 1 times", "250 of 254 bins counted (98.4 %)", "12 out of stock",
        "3 min 07 s",
        "Not seen: 3 the robot could not get there, 1 glare hid it.", "Oats <b>", "0 / 12", "147 equal, 85 held", "93.4 %",
        "Out of stock, precision 95.0 %", "median 1.25 s",
    ):  # fmt: skip
        assert text in words, text


def test_unseen_bins_stand_apart_from_what_to_act_on() -> None:
    words = page().words
    assert words.index("What to act on") < words.index("Oats") < words.index("What was not seen") < words.index("Rice")


def test_pictures_are_relative_and_stay_below_the_run_folder() -> None:
    assert "evidence/A01-L-B01-S1-01/x%20y.jpg" in page().links
    for evil in ("../secret.jpg", "/etc/passwd", "javascript:alert(1)", "evidence/../../x"):
        changed = [{**DATA["exceptions"][0], "evidence": evil}]
        assert page(exceptions=changed).links == []


def test_nothing_is_loaded_and_no_script_runs() -> None:
    made = page()
    assert "script" not in made.tags and "link" not in made.tags
    assert all(not link.startswith(("http", "//")) for link in made.links)


def test_what_is_absent_is_said_or_left_out() -> None:
    words = page(score=None, sync=None, timings={}, exceptions=[]).words
    assert "Not synced" in words and "Accuracy" not in words and "Times" not in words and "Nothing." in words


def test_a_store_without_bins_does_not_divide_by_zero() -> None:
    summary = {**DATA["summary"], "bins": 0, "counted": 0, "unseen": {}}
    assert "0 of 0 bins" in " ".join(page(summary=summary).words.split())


def test_long_lists_are_cut_and_counted() -> None:
    many = [{**DATA["exceptions"][0], "bin_id": f"B{n}"} for n in range(SHOWN + 7)]
    made = page(exceptions=many)
    assert "7 more in" in " ".join(made.words.split()) and "exceptions.csv" in made.links


def test_a_missing_field_is_an_error_not_a_blank() -> None:
    data = copy.deepcopy(DATA)
    del data["mission"]["scanned"]
    with pytest.raises(Exception, match="scanned"):
        render_report(data)


def test_report_page_and_bridge_say_the_same_of_what_was_not_seen() -> None:
    """The page's words are kept in its script; they must be those of everything else."""
    text = (Path(shelfscan.web.__file__).parent / "static" / "draw.js").read_text(encoding="utf-8")
    body = text.split("const REASONS = {", 1)[1].split("};", 1)[0]
    said = dict(re.findall(r'(\w+): "([^"]+)"', body))
    assert said.pop("unknown")
    assert said == UNSEEN_TEXT
    assert set(said) == {str(r) for r in UnseenReason}


def test_every_kind_of_finding_has_one_name_in_report_and_dashboard() -> None:
    script = Path(shelfscan.web.__file__).with_name("static") / "app.js"
    named = dict(re.findall(r'(\w+): \["([^"]+)", "', script.read_text()))
    table = (Path(__file__).parents[2] / "docs" / "findings.md").read_text().split("## Wrong facings")[0]
    documented = {kind for row in re.findall(r"^\| (`.+?) \|", table, re.M) for kind in re.findall(r"`(\w+)`", row)}
    assert len(documented) > 15
    assert documented <= set(TYPES)
    assert set(TYPES) - {"low_stock", "unseen", "price"} <= set(named)
    assert {k: named[k] for k in TYPES if k in named} == {k: v for k, v in TYPES.items() if k in named}
