"""How fast captures become stock: times of the processing by stage, on captures rendered from a simulated store."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from statistics import median as median_of
from typing import Any

from shelfscan.bootstrap import make_pipeline, make_privacy, make_projector, make_simulator
from shelfscan.bundle import load_bundle
from shelfscan.config import Config
from shelfscan.errors import NavigationError
from shelfscan.evaluation.data import Report
from shelfscan.model.bundle import Bundle
from shelfscan.model.imaging import FrameBundle
from shelfscan.perception.privacy import PrivacyFilter
from shelfscan.perception.stage import STAGES
from shelfscan.pipeline import ScanResult
from shelfscan.ports import Event

MISSION = "bench"
#: The date of the rendered captures; any will do.
START_NS = 1_700_000_000_000_000_000


class StageTimes:
    """Seconds by stage of one capture; give it to `ScanPipeline.process`."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self.calls: dict[str, int] = dict.fromkeys(STAGES, 0)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        t0 = self._clock()
        try:
            yield
        finally:
            self.seconds[stage] += self._clock() - t0
            self.calls[stage] += 1


def render_captures(store: Path, config: Config, most: int | None = None) -> list[FrameBundle]:
    """Drive the mission's tour in the simulator and capture at every viewpoint (the first ``most``)."""
    from shelfscan.mission.plan import plan_mission
    from shelfscan.sim.simulator import SimNavigator

    bundle = load_bundle(store)
    simulator = make_simulator(bundle, config, start_ns=START_NS)
    navigator = SimNavigator(simulator)
    captures = []
    try:
        plan = plan_mission(bundle.store, bundle.robot, bundle.grid, mission_id=MISSION)
        for viewpoint in plan.viewpoints[:most]:
            result = navigator.go_to(viewpoint.pose, 120.0)
            if not result.ok:
                raise NavigationError(f"{viewpoint.viewpoint_id}: {result.message}")
            captures.append(simulator.capture(MISSION, viewpoint.viewpoint_id))
    finally:
        simulator.close()
    return captures


def measure_speed(store: Path, config: Config, repeats: int, report: Report, most: int | None = None) -> dict[str, Any]:
    """Process the captures of a store ``repeats`` times, after once to warm up.

    Rendering runs in a process of its own, so that ``peak_mb`` is the memory of loading and processing. The times of
    single steps are per head (``depth_ms``, ``detector_ms``, and ``privacy_ms``, which capture spends before any of it),
    facing and tag; ``stages`` are per viewpoint, measured with one head worked on at a time, and ``alone_ms`` is their sum.
    ``viewpoint_ms`` and ``viewpoint_p95_ms`` are with as many heads at once as configured. ``facings_per_hour``: facings of the
    map the captures give, by the time of processing alone.
    """
    report("rendering captures", 0.0)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        captures = pool.submit(render_captures, store, config, most).result()
    bundle = load_bundle(store)
    report("loading models and gallery", 0.1)
    reset = _reset_peak()
    pipeline = make_pipeline(bundle, config)
    captures, privacy_ms = _unreadable(make_privacy(bundle.store, config), captures, repeats)
    results = [pipeline.process(c) for c in captures]  # the first inference of a network is slow
    peak_mb = _peak_mb() if reset else None
    alone = make_pipeline(bundle, config, at_once=1)
    for c in captures:
        alone.process(c)
    profiles: list[dict[str, float]] = []
    for k, capture in enumerate(captures):
        runs: list[dict[str, float]] = []
        for n in range(repeats):
            report(f"viewpoint {k + 1} of {len(captures)}", 0.2 + 0.7 * (k + n / repeats) / len(captures))
            times = StageTimes()
            t0 = time.perf_counter()
            pipeline.process(capture)
            t1 = time.perf_counter()
            alone.process(capture, times)
            one = time.perf_counter() - t1
            runs.append({"whole": t1 - t0, "alone": one, **times.seconds, "other": one - sum(times.seconds.values())})
        profiles.append({name: 1e3 * median_of(r[name] for r in runs) for name in runs[0]})
    # Viewpoints differ in what they see: medians are over repeats of one, means over viewpoints.
    ms = {name: fmean(p[name] for p in profiles) for name in profiles[0]}
    heads = len(profiles) * len(bundle.robot.rig.heads)
    crops, tags = (sum(len(part) for part in parts) for parts in _seen(results))
    map_ms, facings = _project(bundle, results, repeats)
    seconds = (len(captures) * ms["whole"] + map_ms) / 1e3
    return {
        "facings_per_hour": round(3600 * facings / seconds),
        "viewpoint_ms": round(ms["whole"], 1),
        "viewpoint_p95_ms": round(sorted(p["whole"] for p in profiles)[math.ceil(0.95 * len(profiles)) - 1], 1),
        "alone_ms": round(ms["alone"], 1),
        "privacy_ms": privacy_ms,
        "depth_ms": round(ms["depth"] * len(profiles) / heads, 1),
        "detector_ms": round(ms["detect"] * len(profiles) / heads, 1),
        "recogniser_ms_per_facing": _each(ms["recognise"] * len(profiles), crops),
        "tags_ms": _each(ms["tags"] * len(profiles), tags),
        "map_ms": map_ms,
        "peak_mb": peak_mb,
        "machine": machine(),
        "stages": {name: round(value, 1) for name, value in ms.items() if name not in ("whole", "alone")},
        "viewpoints": len(captures),
        "facings": facings,
        "repeats": repeats,
        "detector": pipeline.detector.description,
    }


def _unreadable(
    privacy: PrivacyFilter | None, captures: list[FrameBundle], repeats: int
) -> tuple[list[FrameBundle], float | None]:
    """The captures as the capture node passes them on, and the milliseconds a head that takes; None where it is off."""
    if privacy is None:
        return captures, None
    out = [privacy.apply(c) for c in captures]
    times: list[float] = []
    for capture in captures:
        runs: list[float] = []
        for _ in range(repeats):
            t0 = time.perf_counter()
            privacy.apply(capture)
            runs.append(1e3 * (time.perf_counter() - t0) / len(capture.frames))
        times.append(median_of(runs))
    return out, round(fmean(times), 1)


def _seen(results: Sequence[ScanResult]) -> tuple[list[Sequence[object]], list[Sequence[object]]]:
    """What was named and the tags that were read, a list of each by capture."""
    return [r.scan.observations for r in results], [r.scan.tags for r in results]


def _each(total_ms: float, count: int) -> float | None:
    return round(total_ms / count, 2) if count else None


def _project(bundle: Bundle, results: Sequence[ScanResult], repeats: int) -> tuple[float, int]:
    """Milliseconds from all scans to the stock map, median, and the facings on it."""
    times: list[float] = []
    facings = 0
    for _ in range(repeats):
        projector = make_projector(bundle, MISSION)
        t0 = time.perf_counter()
        for r in results:
            scan = r.scan
            projector.add_event(Event("bay_scan", f"bay_scan/{MISSION}/{scan.capture_id}", scan.stamp_ns, scan.to_json()))
        stock_map = projector.stock_map(START_NS)
        times.append(1e3 * (time.perf_counter() - t0))
        facings = sum(b.facings for b in stock_map.bins)
    return round(median_of(times), 1), facings


def machine() -> str:
    """Processor, cores this process may use, memory."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), name)
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores, {platform.system()} {platform.machine()}"


def _reset_peak() -> bool:
    """Start counting the peak of this process's memory anew; whether that can be measured here."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return Path("/proc/self/status").is_file()
    return True


def _peak_mb() -> float | None:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024, 1)
    return None
