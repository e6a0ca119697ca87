"""A run against the simulator's truth: the only reader of ``truth/`` besides the simulator itself."""

from __future__ import annotations

import csv
import json
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.stats import kstest, norm

from shelfscan.errors import BadInput
from shelfscan.inputs import read_yaml
from shelfscan.sim.oracle import oracle_states

#: Observations are matched with front-row items no further away than this (contract).
MATCH_M = 0.05
STATUSES = ("OK", "LOW", "OUT_OF_STOCK", "UNSEEN")
ECE_BINS = 10
#: Nights are pooled by adding their histograms up.
PIT_BINS = 20

#: What of each bin in ``stock_map.json`` is compared.
MAP_FIELDS = (
    *("bin_id", "status", "misplaced", "facings", "units", "units_low", "units_high", "confidence"),
    *("tag_price", "position", "findings"),
)

Row = dict[str, str]


@dataclass(frozen=True)
class Truth:
    """``bins`` and ``findings`` by bin; ``front``: the items of the front row."""

    bins: dict[str, Row]
    front: list[Row]
    findings: set[tuple[str, str]]
    causes: dict[tuple[str, str], str]
    values: dict[tuple[str, str], str]


def load_truth(folder: Path) -> Truth:
    """Read a truth folder. Raises `BadInput` naming file and what was expected."""
    bins = _read(
        folder / "bins.csv",
        ("bin_id", "sku", "status", "misplaced", "facings", "units", "tag_price", "reachable", "x", "y", "z"),
    )
    items = _read(folder / "items.csv", ("item_id", "sku", "x", "y", "z", "bin_id", "facing"))
    findings = _read(folder / "findings.csv", ("bin_id", "type", "cause", "value"))
    return Truth(
        {b["bin_id"]: b for b in bins},
        [i for i in items if i["facing"] == "1"],
        {(f["bin_id"], f["type"]) for f in findings},
        {(f["bin_id"], f["type"]): f["cause"] for f in findings},
        {(f["bin_id"], f["type"]): f["value"] for f in findings},
    )


def _read(path: Path, columns: Sequence[str]) -> list[Row]:
    try:
        with path.open(newline="", encoding="utf-8") as f:
            reader = csv.DictReader(f)
            missing = [c for c in columns if c not in (reader.fieldnames or ())]
            if missing:
                raise BadInput(f"{path}: line 1: missing column {', '.join(missing)}")
            return [dict(r) for r in reader]
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise BadInput(f"{path}: cannot be read: {e}") from e


def _check_numbers(path: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Raise `BadInput` naming each line (the header is 1) and column that holds no number."""
    problems = []
    for line, row in enumerate(rows, start=2):
        for column in columns:
            try:
                float(row[column])
            except (TypeError, ValueError):
                problems.append(f"{path}: line {line}: {column} is {row[column]!r}; expected a number")
    if problems:
        raise BadInput(problems)


def _load_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; is {path.parent} a finished run?") from None
    except OSError as e:
        raise BadInput(f"{path}: cannot be read: {e.strerror}") from e
    except ValueError as e:
        raise BadInput(f"{path}: not JSON: {e}") from e


def _load_map(path: Path) -> tuple[str, list[dict[str, Any]]]:
    """Site (empty when it is not said) and bins of a stock map. Raises `BadInput` naming every bin and field that is wrong."""
    data = _load_json(path)
    bins = data.get("bins") if isinstance(data, dict) else None
    if not isinstance(bins, list):
        raise BadInput(f"{path}: not a stock map: expected an object with a list 'bins'")
    problems = []
    for n, row in enumerate(bins):
        missing = [f for f in MAP_FIELDS if not isinstance(row, dict) or f not in row]
        if missing:
            problems.append(f"{path}: bins.{n}: missing {', '.join(missing)}")
    if problems:
        raise BadInput(problems)
    return str(data.get("site", "")), bins


def _site_of(truth_dir: Path) -> str:
    """The store that a truth folder is of; empty when it does not lie in a bundle."""
    path = truth_dir.resolve().parent / "store.yaml"
    store = read_yaml(path) if path.is_file() else None
    return str(store.get("site", "")) if isinstance(store, dict) else ""


def score_run(run_dir: Path, truth_dir: Path) -> dict[str, Any]:
    """The contract's ``score`` keys for a run folder. Accuracies are over counted reachable bins unless named otherwise."""
    truth = load_truth(truth_dir)
    site, said_rows = _load_map(run_dir / "stock_map.json")
    expected = _site_of(truth_dir)
    if site and expected and site != expected:
        raise BadInput(f"{run_dir}: is a run of store {site!r}; {truth_dir} is the truth of {expected!r}")
    observations = _read(run_dir / "observations.csv", ("observation_id", "bin_id", "sku", "x", "y", "z", "confidence"))
    _check_numbers(run_dir / "observations.csv", observations, ("x", "y", "z"))
    report = _load_json(run_dir / "report.json") if (run_dir / "report.json").is_file() else {}
    said: dict[str, dict[str, Any]] = {}
    twice = 0
    for row in said_rows:
        twice += row["bin_id"] in said
        said[row["bin_id"]] = row
    unknown = [b for b in said if b not in truth.bins]
    reachable = [b for b, t in truth.bins.items() if t["reachable"] == "1"]
    counted = [b for b in reachable if b in said and said[b]["status"] != "UNSEEN"]
    out: dict[str, Any] = {
        "bins_total": len(truth.bins),
        "bins_reachable": len(reachable),
        "bins_counted": len(counted),
        "coverage": _ratio(len(counted), len(reachable)),
        "unknown_bins": len(unknown),
    }
    out |= _observations(observations, truth, twice)
    accuracies = _bin_accuracies(counted, said, truth)
    out |= accuracies
    out |= _intervals(counted, said, truth)
    out |= _apart(counted, said, truth, truth_dir.resolve().parent)
    out["status"] = _statuses([b for b in truth.bins if b in said and said[b]["status"] != "UNSEEN"], said, truth)
    flags = [(truth.bins[b]["misplaced"] == "1", bool(said[b]["misplaced"])) for b in counted]
    out["misplaced"] = _prf(flags)
    out["ece"] = _ece([(float(said[b]["confidence"]), said[b]["status"] == truth.bins[b]["status"]) for b in counted])
    out |= _tags(counted, said, truth)
    errors = [
        float(np.linalg.norm(np.subtract(said[b]["position"], [float(truth.bins[b][k]) for k in "xyz"]))) for b in counted
    ]
    out["position_error_m"] = {"p50": _percentile(errors, 50), "p95": _percentile(errors, 95)}
    out |= _findings(counted, said, truth, _not_alarms(run_dir / "stock_map.json"))
    out |= _top_value(run_dir / "stock_map.json", truth, set(counted))
    out["unseen_as_wrong"] = {
        k: _rounded(v * len(counted) / len(reachable)) if reachable and v is not None else None
        for k, v in accuracies.items()
        if k in ("facings_exact", "units_within_1", "status_accuracy")
    }
    seconds = float(report.get("seconds") or 0.0)
    facings = sum(int(t["facings"]) for t in truth.bins.values())
    out["seconds"] = round(seconds, 1)
    out["facings_per_hour"] = round(facings / seconds * 3600) if seconds else None
    return out


def _apart(counted: Sequence[str], said: Mapping[str, Any], truth: Truth, root: Path) -> dict[str, Any]:
    """Bins whose goods were pulled forward apart from the others, and beside them the oracle's row (see `oracle`)."""
    out: dict[str, Any] = {}
    oracle = oracle_states(root, truth.front) if (root / "planogram.csv").is_file() else {}
    known = [b for b in counted if b in oracle]
    if known:
        out["oracle"] = _units_row(known, oracle, truth)
    if all("faced_up" in t for t in truth.bins.values()):
        for name, flag in (("faced_up", "1"), ("not_faced_up", "0")):
            bins = [b for b in counted if truth.bins[b]["faced_up"] == flag]
            out[name] = {"bins": len(bins), **_units_row(bins, said, truth)}
            if oracle and bins:
                out[name]["oracle_within_1"] = _units_row([b for b in bins if b in oracle], oracle, truth)["units_within_1"]
    return out


def _units_row(bins: Sequence[str], said: Mapping[str, Any], truth: Truth) -> dict[str, Any]:
    if not bins:
        return dict.fromkeys(("units_within_1", "units_mae", "interval_coverage", "interval_width"))
    row = _bin_accuracies(bins, said, truth) | _intervals(bins, said, truth)
    return {k: row[k] for k in ("units_within_1", "units_mae", "interval_coverage", "interval_width")}


def _observations(observations: Sequence[Row], truth: Truth, bins_twice: int) -> dict[str, Any]:
    """One-to-one matching with front-row items within `MATCH_M`, nearest pairs overall."""
    ids = Counter(o["observation_id"] for o in observations)
    repeated = sum(n - 1 for n in ids.values())
    if not observations or not truth.front:
        return {"duplicates": bins_twice + repeated, "bin_assignment_accuracy": None, "sku_top1": None}
    a = np.array([[float(o[k]) for k in "xyz"] for o in observations])
    b = np.array([[float(t[k]) for k in "xyz"] for t in truth.front])
    pairs = cKDTree(a).sparse_distance_matrix(cKDTree(b), MATCH_M, output_type="coo_matrix")
    match = _assign(pairs.row, pairs.col, pairs.data, len(a))
    right_bin = sum(m >= 0 and observations[n]["bin_id"] == truth.front[m]["bin_id"] for n, m in enumerate(match))
    right_sku = sum(m >= 0 and observations[n]["sku"] == truth.front[m]["sku"] for n, m in enumerate(match))
    # An observation without a partner whose neighbourhood holds an item that has one was counted twice.
    lonely = {int(r) for r in pairs.row} - {n for n, m in enumerate(match) if m >= 0}
    return {
        "duplicates": bins_twice + repeated + len(lonely),
        "bin_assignment_accuracy": _ratio(right_bin, len(observations)),
        "sku_top1": _ratio(right_sku, len(observations)),
        "observations": len(observations),
        "observations_unmatched": sum(m < 0 for m in match),
        "front_items": len(truth.front),
        "front_items_found": _ratio(sum(m >= 0 for m in match), len(truth.front)),
    }


def _assign(rows: NDArray[Any], cols: NDArray[Any], cost: NDArray[Any], n: int) -> list[int]:
    """Minimum-cost one-to-one matching of a sparse bipartite graph, component by component; -1 unmatched."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    match = [-1] * n
    if not len(rows):
        return match
    m = int(cols.max()) + 1
    graph = coo_matrix((np.ones(len(rows)), (rows, cols + n)), shape=(n + m, n + m))
    _, label = connected_components(graph, directed=False)
    groups: dict[int, list[int]] = {}
    for e, r in enumerate(rows):
        groups.setdefault(int(label[r]), []).append(e)
    for edges in groups.values():
        rs, cs = sorted({int(rows[e]) for e in edges}), sorted({int(cols[e]) for e in edges})
        table = np.full((len(rs), len(cs)), 1e3)
        for e in edges:
            table[rs.index(int(rows[e])), cs.index(int(cols[e]))] = cost[e]
        for i, j in zip(*linear_sum_assignment(table), strict=True):
            if table[i, j] < 1e3:
                match[rs[i]] = cs[j]
    return match


def _bin_accuracies(counted: Sequence[str], said: Mapping[str, Any], truth: Truth) -> dict[str, Any]:
    def mean(f: Callable[[str], float]) -> float | None:
        return _rounded(float(np.mean([f(b) for b in counted]))) if counted else None

    def gap(b: str, key: str) -> float:
        return abs(float(said[b][key]) - float(truth.bins[b][key]))

    return {
        "facings_exact": mean(lambda b: gap(b, "facings") < 0.5),
        "facings_mae": mean(lambda b: gap(b, "facings")),
        "units_within_1": mean(lambda b: abs(round(float(said[b]["units"])) - int(truth.bins[b]["units"])) <= 1),
        "units_mae": mean(lambda b: gap(b, "units")),
        "status_accuracy": mean(lambda b: said[b]["status"] == truth.bins[b]["status"]),
    }


def _intervals(counted: Sequence[str], said: Mapping[str, Any], truth: Truth) -> dict[str, Any]:
    """Coverage, width, CRPS and randomised PIT (Czado et al., 2009) of the beliefs over units."""
    if not counted:
        return dict.fromkeys(
            ("interval_coverage", "interval_width", "interval_crps", "interval_pit_ks", "interval_pit_histogram")
        )
    # Other nights get other draws: pooled, one draw for all would look like a bias.
    rng = np.random.default_rng(zlib.crc32("".join(f"{b}{truth.bins[b]['units']}" for b in counted).encode()))
    inside, width, crps, pit = [], [], [], []
    for b in counted:
        s, true = said[b], int(truth.bins[b]["units"])
        inside.append(int(s["units_low"]) <= true <= int(s["units_high"]))
        width.append(int(s["units_high"]) - int(s["units_low"]))
        support, p = _belief(s)
        steps = np.arange(0, max(int(support[-1]), true) + 2)
        F = np.array([p[support <= k].sum() for k in steps])
        crps.append(float(((F - (steps >= true)) ** 2).sum()))
        below, upto = float(p[support < true].sum()), float(p[support <= true].sum())
        pit.append(below + rng.random() * (upto - below))
    return {
        "interval_coverage": _rounded(float(np.mean(inside))),
        "interval_width": _rounded(float(np.mean(width))),
        "interval_crps": _rounded(float(np.mean(crps))),
        "interval_pit_ks": _rounded(float(kstest(pit, "uniform").statistic)),
        "interval_pit_histogram": np.histogram(pit, bins=PIT_BINS, range=(0, 1))[0].tolist(),
    }


def _belief(state: Mapping[str, Any]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Whole numbers and their probabilities: as the map states them, else from its mean and 95 % interval.

    Then a normal distribution, cut at the interval's ends widened by one, stands for what the map does not say.
    """
    if state.get("units_pmf"):
        numbers, shares = zip(*state["units_pmf"], strict=True)
        return np.array(numbers, np.int64), np.array(shares, np.float64) / sum(shares)
    low, high, mean = int(state["units_low"]), int(state["units_high"]), float(state["units"])
    support = np.arange(max(0, low - 1), high + 2)
    if high == low:
        return support, (support == low).astype(float)
    p = np.diff(norm.cdf(np.concatenate([[support[0] - 0.5], support + 0.5]), mean, (high - low) / 3.92))
    return support, p / max(float(p.sum()), 1e-12)


def _statuses(bins: Sequence[str], said: Mapping[str, Any], truth: Truth) -> dict[str, Any]:
    """Precision and recall over bins that got a count."""
    out = {}
    for name in STATUSES[:3]:
        true = [b for b in bins if truth.bins[b]["status"] == name]
        claimed = [b for b in bins if said[b]["status"] == name]
        hit = sum(truth.bins[b]["status"] == name for b in claimed)
        out[name] = {
            "precision": _ratio(hit, len(claimed)),
            "recall": _ratio(hit, len(true)),
            "true": len(true),
            "said": len(claimed),
        }
    out["UNSEEN"] = {
        "precision": None,
        "recall": None,
        "true": sum(t["reachable"] == "0" for t in truth.bins.values()),
        "said": sum(s["status"] == "UNSEEN" for s in said.values()),
    }
    return out


def _prf(flags: Sequence[tuple[bool, bool]]) -> dict[str, float | None]:
    hit = sum(t and s for t, s in flags)
    precision, recall = _ratio(hit, sum(s for _, s in flags)), _ratio(hit, sum(t for t, _ in flags))
    f1 = (
        _rounded(2 * precision * recall / (precision + recall))
        if precision and recall
        else (0.0 if hit == 0 and flags else None)
    )
    return {"precision": precision, "recall": recall, "f1": f1}


def _ece(rated: Sequence[tuple[float, bool]]) -> float | None:
    """Expected calibration error in equal-width bins (Naeini et al., 2015)."""
    if not rated:
        return None
    confidence, right = np.array([c for c, _ in rated]), np.array([r for _, r in rated], dtype=float)
    index = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = [
        (index == k).mean() * abs(confidence[index == k].mean() - right[index == k].mean())
        for k in range(ECE_BINS)
        if (index == k).any()
    ]
    return _rounded(float(sum(gaps)))


def _tags(counted: Sequence[str], said: Mapping[str, Any], truth: Truth) -> dict[str, Any]:
    """Prices read of those printed, and right of those read (as numbers: the separator is a matter of style)."""
    printed = [b for b in counted if truth.bins[b]["tag_price"]]
    answered = [b for b in printed if said[b]["tag_price"]]
    exact = sum(_digits(said[b]["tag_price"]) == _digits(truth.bins[b]["tag_price"]) for b in answered)
    return {"tag_answered": _ratio(len(answered), len(printed)), "tag_exact": _ratio(exact, len(answered))}


def _digits(text: str) -> str:
    return "".join(c for c in text if c.isdigit())


def _not_alarms(stock_map: Path) -> set[tuple[str, str]]:
    """Findings (bin, type) that a map itself calls something to check, no alarm."""
    return {(f["bin_id"], f["type"]) for f in _load_json(stock_map).get("findings", ()) if not f.get("alarm", True)}


def _findings(counted: Sequence[str], said: Mapping[str, Any], truth: Truth, doubted: set[tuple[str, str]]) -> dict[str, Any]:
    """Precision and recall of all that was told, and of the alarms alone; false alarms are alarms."""
    inside = set(counted)
    claimed = {(b, f.rsplit("/", 1)[1]) for b in counted for f in said[b]["findings"]}
    true = {t for t in truth.findings if t[0] in inside}
    # What is there and was never said is a recall of 0, not a line left out.
    kinds = sorted({k for _, k in claimed | true})
    alarms = claimed - doubted

    def per_kind(told: set[tuple[str, str]]) -> dict[str, Any]:
        return {
            k: {
                "precision": _ratio(len({c for c in told if c[1] == k} & true), sum(c[1] == k for c in told)),
                "recall": _ratio(len({c for c in told if c[1] == k} & true), sum(t[1] == k for t in true)),
            }
            for k in kinds
        }

    verdicts = [v for v in (_verdict(b, claimed, truth) for b in counted) if v is not None]
    # Of a product that stands nowhere in its bin nobody can measure height or width.
    sizes = [t for t in true if t[1] == "dimension_mismatch" and int(truth.bins[t[0]]["units"]) > 0]
    return {
        "findings": per_kind(claimed),
        "alarms": per_kind(alarms),
        "wrong_sizes_there_recall": _ratio(sum(t in claimed for t in sizes), len(sizes)),
        "alarms_of_true": _ratio(len(alarms & true), len(claimed & true)),
        "verdict_accuracy": _ratio(sum(verdicts), len(verdicts)),
        "false_alarms_per_1000": _rounded(1000 * len(alarms - true) / len(counted)) if counted else None,
        "false_findings_per_1000": _rounded(1000 * len(claimed - true) / len(counted)) if counted else None,
    }


#: Findings that cost sales, and how many of the list a person may get through in a morning.
LOST_SALES, TOP = ("out_of_stock", "low"), 50


def _top_value(stock_map: Path, truth: Truth, counted: set[str]) -> dict[str, float | None]:
    """Share of the truly lost sales (values of empty and low bins that were counted) in the first `TOP` findings of the map;
    and of what as many could hold at best, which in a large store is far from all."""
    lost = {f: float(v or 0) for f, v in truth.values.items() if f[1] in LOST_SALES and f[0] in counted}
    total, best = sum(lost.values()), sum(sorted(lost.values())[-TOP:])
    if not total:
        return {"top50_lost_sales": None, "top50_of_best": None}
    first = [(f["bin_id"], f["type"]) for f in _load_json(stock_map).get("findings", ()) if f["bin_id"] in counted][:TOP]
    held = sum(lost.get(f, 0.0) for f in set(first))
    return {"top50_lost_sales": _rounded(held / total), "top50_of_best": _rounded(held / best)}


#: Disagreements between shelf and planogram: one of the two has to be put right.
DISAGREE = ("misplaced", "foreign", "swapped", "wrong_facings", "stale_planogram")


def _verdict(bin_id: str, claimed: set[tuple[str, str]], truth: Truth) -> bool | None:
    """Whether the right one of shelf and planogram was blamed for a bin's disagreement; None without one or a word on it."""
    told = {k for b, k in claimed if b == bin_id and k in DISAGREE}
    causes = {truth.causes[f] for f in truth.findings if f[0] == bin_id and f[1] in DISAGREE}
    if not told or not causes:
        return None
    return ("planogram" if "stale_planogram" in told else "shelf") in causes


def _percentile(values: Sequence[float], q: float) -> float | None:
    return _rounded(float(np.percentile(values, q))) if values else None


def _ratio(part: int, whole: int) -> float | None:
    return _rounded(part / whole) if whole else None


def _rounded(value: float) -> float:
    return round(value, 4)
