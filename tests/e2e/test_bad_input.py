"""What a user can get wrong, by the command line: exit 2, one line a problem that names it, nothing left behind."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from fakes import command_line

pytest.importorskip("mujoco")

from shelfscan.paths import ROOT

STORE = ROOT / "maps" / "demo"
TRUTH = STORE / "truth"
#: What the tests look at has nothing to do with price tags, and reading them takes most of a run.
QUICK = "tags: {reader: none}\n"
#: A recording of two captures of the demo store, made as the recorder makes them.
RECORD = """
import sys
from contextlib import closing
from pathlib import Path
from shelfscan.adapters.bag_write import BagWriter
from shelfscan.adapters.frames_cdr import EVENT_TYPE, EVENTS_TOPIC, FRAME_TYPE, FRAMES_TOPIC, encode_capture, encode_event
from shelfscan.bootstrap import make_simulator
from shelfscan.bundle import load_bundle
from shelfscan.config import Config
from shelfscan.mission.plan import plan_mission
from shelfscan.ports import Event
from shelfscan.sim.simulator import SimFrameSource, SimNavigator
bundle = load_bundle(Path(sys.argv[1]))
simulator = make_simulator(bundle, Config(), start_ns=1_700_000_000_000_000_000)
source, navigator = SimFrameSource(simulator), SimNavigator(simulator)
plan = plan_mission(bundle.store, bundle.robot, bundle.grid, mission_id="recorded")
with closing(BagWriter(Path(sys.argv[2]))) as writer:
    at = simulator.now_ns
    body = {"mission_id": "recorded", "plan": plan.to_json()}
    writer.write(EVENTS_TOPIC, EVENT_TYPE, encode_event(Event("mission.started", "mission.started/recorded", at, body)), at)
    for viewpoint in plan.viewpoints[:2]:
        navigator.go_to(viewpoint.pose, 60.0)
        frames = source.capture("recorded", viewpoint.viewpoint_id)
        for data in encode_capture(frames):
            writer.write(FRAMES_TOPIC, FRAME_TYPE, data, frames.stamp_ns)
simulator.close()
"""


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "200", **more}


def shelfscan(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "shelfscan.cli.main", *map(str, arguments)]
    return subprocess.run(command, env=environment(**env), capture_output=True, text=True, timeout=120)


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Lines of stderr but for progress; none of them is a traceback."""
    assert "Traceback" not in done.stderr, done.stderr
    return [line for line in done.stderr.splitlines() if not line.endswith(" %")]


def refused(*arguments: object, **env: str) -> list[str]:
    """Exit 2, nothing on stdout, and each line of stderr is a problem; returns them."""
    done = command_line.shelfscan(*arguments, COLUMNS="200", **env)
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert done.stdout == ""
    lines = said(done)
    assert lines and all(line.startswith("shelfscan: ") for line in lines), done.stderr
    return [line.removeprefix("shelfscan: ") for line in lines]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    path = tmp_path / "quick.yaml"
    path.write_text(QUICK)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run in one process."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "quick.yaml").write_text(QUICK)
    done = shelfscan("run", "--direct", "--store", STORE, "--out", folder / "run", "--config", folder / "quick.yaml", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["mission"]["phase"] == "done" and said(done) == []
    return folder / "run"


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bag") / "bag"
    subprocess.run([sys.executable, "-c", RECORD, str(STORE), str(folder)], env=environment(), check=True, timeout=120)
    return folder


# -- store bundles --------------------------------------------------------------------------------------------------------


def spoil_column(store: Path) -> None:
    path = store / "catalogue.csv"
    path.write_text(path.read_text().replace("height_m", "hoehe", 1))


def spoil_sku(store: Path) -> None:
    path = store / "planogram.csv"
    lines = path.read_text().splitlines()
    cells = lines[2].split(",")
    lines[2] = ",".join([cells[0], "SKU-NOPE", *cells[2:]])
    path.write_text("\n".join(lines) + "\n")


def spoil_bins(store: Path) -> None:
    path = store / "store.yaml"
    document = yaml.safe_load(path.read_text())
    bins = document["aisles"][0]["gondolas"][0]["bays"][0]["shelves"][0]["bins"]
    bins[1]["x_m"] = bins[0]["x_m"] + bins[0]["width_m"] - 0.07
    path.write_text(yaml.safe_dump(document, sort_keys=False))


STORE_FAULTS: list[tuple[Callable[[Path], None], tuple[str, ...]]] = [
    (spoil_column, ("catalogue.csv: line 1: missing column height_m",)),
    (spoil_sku, ("planogram.csv: line 3: bin ", "sku 'SKU-NOPE' is not in catalogue.csv")),
    (spoil_bins, ("store.yaml: bins ", "overlap by 0.070 m")),
]


@pytest.mark.parametrize(("spoil", "words"), STORE_FAULTS, ids=["column", "sku", "overlap"])
def test_a_store_that_is_wrong_is_refused_by_every_command(
    tmp_path: Path, quick: Path, spoil: Callable[[Path], None], words: tuple[str, ...]
) -> None:
    store = tmp_path / "store"
    shutil.copytree(STORE, store, ignore=shutil.ignore_patterns("truth"))
    spoil(store)
    problems = refused("store", "check", store)
    assert len(problems) == 1 and all(w in problems[0] for w in words), problems
    for way in (["--direct"], []):
        assert refused("run", *way, "--store", store, "--out", tmp_path / "run", "--config", quick) == problems
    assert not (tmp_path / "run").exists()


def test_all_problems_of_a_store_at_once(tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(STORE, store, ignore=shutil.ignore_patterns("truth"))
    for spoil, _ in STORE_FAULTS[1:]:
        spoil(store)
    (store / "map.pgm").unlink()
    (store / "robot.yaml").write_text((store / "robot.yaml").read_text().replace("heads:", "hedas:"))
    problems = refused("store", "check", store)
    for words in ("SKU-NOPE", "overlap by", "map.pgm: ", "robot.yaml: heads: missing", "robot.yaml: hedas: unknown field"):
        assert sum(words in p for p in problems) == 1, (words, problems)
    asked = shelfscan("store", "check", store, "--json")
    assert asked.returncode == 2 and json.loads(asked.stdout)["problems"] == problems and asked.stderr == ""


# -- run ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "options", "words"),
    [
        ({}, ["--store", "nowhere"], ["nowhere: no such store bundle"]),
        (
            {"c.yaml": "mision: {}\nmission: {max_drives: many}\n"},
            ["--config", "c.yaml"],
            ["mision: unknown field", "max_drives"],
        ),
        ({"c.yaml": "a: [\n"}, ["--config", "c.yaml"], ["c.yaml: line 2, column 1: not YAML"]),
        ({}, ["--config", "c.yaml"], ["c.yaml: missing; no such configuration file"]),
        ({"c.yaml": "detector: {model: huge}\n"}, ["--config", "c.yaml"], ["no model 'huge'"]),
        (
            {"f.yaml": "- {kind: fire}\n- 7\n"},
            ["--faults", "f.yaml"],
            ["fault 0: kind: ", "fault 1: document: expected fields"],
        ),
        (
            {"f.yaml": "- {kind: camera_silent, at: 3}\n"},
            ["--faults", "f.yaml"],
            ["fault 0: at: unknown field; known: kind, at_s"],
        ),
        ({"f.yaml": "- {kind: camera_silent, head: nose}\n"}, ["--faults", "f.yaml"], ["no head 'nose'; it has high, low"]),
        ({}, ["--faults", "f.yaml"], ["f.yaml: missing; no such fault file"]),
        ({"taken": ""}, ["--out", "taken"], ["taken: exists already"]),
        ({"taken": ""}, ["--out", "taken", "--resume"], ["taken: is a file; expected a folder"]),
        ({"taken": ""}, ["--out", "taken/run"], ["cannot be made: taken is a file"]),
    ],
)
def test_a_run_that_cannot_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], options: list[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    before = contents(tmp_path)
    given = ["--store", STORE] if "--store" not in options else []
    given += ["--out", "run"] if "--out" not in options else []
    problems = refused("run", "--direct", *given, *options)
    assert len(problems) == len(words) and all(any(w in p for p in problems) for w in words), problems
    assert contents(tmp_path) == before and not (tmp_path / "run").exists()


# -- models ---------------------------------------------------------------------------------------------------------------


def models_at(home: Path) -> Path:
    shutil.copytree(ROOT / "models", home / "models")
    return home / "models"


def rewrite(models: Path, change: Callable[[dict[str, dict[str, object]]], None]) -> None:
    manifest = json.loads((models / "manifest.json").read_text())
    change({m["name"]: m for m in manifest["models"]})
    (models / "manifest.json").write_text(json.dumps(manifest))


def absent(models: Path) -> None:
    (models / "detector.onnx").unlink()


def other_bytes(models: Path) -> None:
    with (models / "detector.onnx").open("ab") as f:
        f.write(b"more")


def no_network(models: Path) -> None:
    data = b"this is no network"
    (models / "detector.onnx").write_bytes(data)
    rewrite(models, lambda m: m["detector"].update(sha256=hashlib.sha256(data).hexdigest()))


def swapped(models: Path) -> None:
    def swap(m: dict[str, dict[str, object]]) -> None:
        keys = ("file", "sha256")
        mine, other = ([m[n][k] for k in keys] for n in ("detector", "embedder"))
        m["detector"].update(zip(keys, other, strict=True))
        m["embedder"].update(zip(keys, mine, strict=True))

    rewrite(models, swap)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize(
    ("spoil", "file", "words"),
    [
        (absent, "detector.onnx", "is missing"),
        (other_bytes, "detector.onnx", "is not the manifest's"),
        (no_network, "detector.onnx", "not a usable"),
        (swapped, "embedder.onnx", "distances: expected shape [1, 4, any], found none"),
    ],
)
def test_a_model_that_is_no_use_is_said_before_anything_starts(
    tmp_path: Path, backend: str, spoil: Callable[[Path], None], file: str, words: str
) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    models = models_at(tmp_path / "home")
    spoil(models)
    config = tmp_path / "c.yaml"
    # fp32 is the file that is spoilt
    config.write_text(f"{QUICK}detector: {{backend: {backend}, precision: fp32}}\nembedder: {{backend: {backend}}}\n")
    photo = next((STORE / "gallery").glob("*/*"))
    for arguments in (
        ["detect", photo, "--out", tmp_path / "coco.json"],
        ["run", "--direct", "--store", STORE, "--out", tmp_path / "run"],
        ["run", "--store", STORE, "--out", tmp_path / "run"],
    ):
        problems = refused(*arguments, "--config", config, SHELFSCAN_HOME=str(tmp_path / "home"))
        assert all(str(models / file) in p for p in problems) and any(words in p for p in problems), problems
    assert not (tmp_path / "run").exists() and not (tmp_path / "coco.json").exists()


# -- bags -----------------------------------------------------------------------------------------------------------------


def test_what_is_no_bag_is_refused(tmp_path: Path, bag: Path, quick: Path) -> None:
    recorded = (bag / "bag_0.mcap").read_bytes() if (bag / "bag_0.mcap").exists() else next(bag.glob("*.mcap")).read_bytes()
    bags = {
        "empty": (None, "not a bag: no .mcap file in this folder"),
        "zero": (b"", "offset 0: not an MCAP file: it is empty"),
        "noise": (random.Random(1).randbytes(20_000), "offset 0: not an MCAP file"),
        "cut": (recorded[:200], "truncated or damaged"),
    }
    for name, (data, words) in bags.items():
        (tmp_path / name).mkdir()
        if data is not None:
            (tmp_path / name / "bag_0.mcap").write_bytes(data)
        problems = refused("replay", tmp_path / name, "--store", STORE, "--out", tmp_path / "run", "--config", quick)
        assert len(problems) == 1 and words in problems[0] and str(tmp_path / name) in problems[0], problems
    assert "no such bag" in refused("replay", tmp_path / "nowhere", "--store", STORE, "--out", tmp_path / "run")[0]
    assert not (tmp_path / "run").exists()


def test_a_truncated_bag_is_used_as_far_as_it_goes(tmp_path: Path, bag: Path, quick: Path) -> None:
    data = next(bag.glob("*.mcap")).read_bytes()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "bag_0.mcap").write_bytes(data[: int(len(data) * 0.75)])
    done = shelfscan("replay", tmp_path / "cut", "--store", STORE, "--out", tmp_path / "run", "--config", quick, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["captures"] == 1
    assert any("cut/bag_0.mcap: offset" in line for line in said(done)) and result["problems"]


def test_another_stores_bag_is_refused(tmp_path: Path, bag: Path, quick: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(STORE, store, ignore=shutil.ignore_patterns("truth"))
    document = yaml.safe_load((store / "store.yaml").read_text())
    mine, document["site"] = document["site"], "elsewhere"
    (store / "store.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    problems = refused("replay", bag, "--store", store, "--out", tmp_path / "run", "--config", quick)
    assert len(problems) == 1 and f"recorded in store {mine!r}, not in 'elsewhere'" in problems[0]
    assert not (tmp_path / "run").exists()


# -- photographs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """One good picture among three that are none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    good = next((STORE / "gallery").glob("*/*.jpg"))
    shutil.copy(good, folder / "a.jpg")
    (folder / "b.jpg").write_text("no picture")
    (folder / "c.jpg").write_bytes(good.read_bytes()[:1500])
    (folder / "d.png").write_bytes(b"")
    return folder


def test_one_bad_picture_stops_no_other(tmp_path: Path, photos: Path) -> None:
    gallery = STORE / "gallery"
    for arguments, result in (
        (["detect", photos, "--out", tmp_path / "coco.json"], tmp_path / "coco.json"),
        (["audit", photos, "--gallery", gallery, "--out", tmp_path / "audit"], tmp_path / "audit" / "audit.json"),
    ):
        done = shelfscan(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        assert len(json.loads(done.stdout)["unreadable"]) == 3 and result.is_file()
        lines = said(done)
        assert len(lines) == 3
        for name, line in zip(("b.jpg", "c.jpg", "d.png"), lines, strict=True):
            assert line.startswith(f"shelfscan: {photos / name}: not a readable picture"), line


def test_no_readable_picture_at_all_is_refused(tmp_path: Path, photos: Path) -> None:
    out, gallery = tmp_path / "out", STORE / "gallery"
    for command in (["detect", "--out", out], ["audit", "--gallery", gallery, "--out", out]):
        problems = refused(*command, photos / "b.jpg", photos / "d.png")
        assert [str(photos / n) in p for n, p in zip(("b.jpg", "d.png"), problems, strict=True)] == [True, True]
        assert "no such picture" in refused(*command, tmp_path / "gone.jpg")[0]
    # A gallery must be whole: a product that is not in it would never be found.
    assert len(refused("audit", photos / "a.jpg", "--gallery", photos, "--out", out)) == 3
    assert not out.exists()
    assert (
        "is a file; expected a folder" in refused("audit", photos / "a.jpg", "--gallery", gallery, "--out", photos / "b.jpg")[0]
    )
    assert "cannot be made" in refused("detect", photos / "a.jpg", "--out", photos / "b.jpg" / "coco.json")[0]


# -- afterwards -----------------------------------------------------------------------------------------------------------


def test_a_score_needs_a_finished_run_of_the_same_store(tmp_path: Path, finished: Path) -> None:
    assert "no such file; is " in refused("score", tmp_path, "--truth", TRUTH)[0]
    assert "bins.csv: no such file" in refused("score", finished, "--truth", tmp_path)[0]
    run = tmp_path / "run"
    run.mkdir()
    for text, words in (("[", "not JSON"), ("{}", "not a stock map"), ('{"bins": [{}]}', "bins.0: missing bin_id, status")):
        (run / "stock_map.json").write_text(text)
        shutil.copy(finished / "observations.csv", run)
        assert words in refused("score", run, "--truth", TRUTH)[0]
    shutil.copy(finished / "stock_map.json", run)
    lines = (finished / "observations.csv").read_text().splitlines()
    cells = lines[2].split(",")
    (run / "observations.csv").write_text("\n".join([*lines[:2], ",".join([*cells[:3], "far", *cells[4:]])]) + "\n")
    assert refused("score", run, "--truth", TRUTH) == [f"{run}/observations.csv: line 3: x is 'far'; expected a number"]
    other = tmp_path / "other"
    shutil.copytree(TRUTH, other / "truth")
    (other / "store.yaml").write_text("{schema: 1, site: elsewhere}\n")
    assert "is the truth of 'elsewhere'" in refused("score", finished, "--truth", other / "truth")[0]
    good = shelfscan("score", finished, "--truth", TRUTH, "--json")
    assert good.returncode == 0 and json.loads(good.stdout)["coverage"] == 1.0 and good.stderr == ""


def test_serve_says_why_it_cannot(tmp_path: Path, finished: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        problems = refused("serve", finished, "--port", port)
    assert problems == [f"port {port} on 127.0.0.1 cannot be used: Address already in use; choose another with --port"]
    assert "not a run folder" in refused("serve", tmp_path)[0]
    (tmp_path / "file").write_text("")
    assert "a file; expected a folder of run folders" in refused("serve", "--runs-dir", tmp_path / "file")[0]


def test_a_review_of_nothing_leaves_nothing(tmp_path: Path, finished: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("ledger.sqlite*", "wms.sqlite*", "evidence"))
    before = contents(run)
    for command in (["review", "approve", run, "NO-LINE", "--why", "seen"], ["review", "list", run]):
        assert refused(*command) == [f"{run}: never synced with builtin to the end; run 'shelfscan sync' first"]
    assert contents(run) == before
    shutil.copy(finished / "ledger.sqlite", run)
    assert shelfscan("sync", run, "--json").returncode == 0
    assert refused("review", "approve", run, "NO-LINE", "--why", "seen") == ["NO-LINE: no such line waits for a person"]
    assert "not a run folder (a file)" in refused("review", "list", run / "run.json")[0]


def test_a_warehouse_system_that_is_down_is_one_line_and_loses_nothing(tmp_path: Path, finished: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("wms.sqlite*", "evidence"))
    (run / "wms.sqlite").write_bytes(b"not a database, for now" * 50)
    down = shelfscan("sync", run, "--json")
    assert down.returncode == 1 and json.loads(down.stdout)["state"] == "degraded"
    assert len(said(down)) == 1 and "nothing is lost" in down.stderr
    (run / "wms.sqlite").unlink()
    (run / "wms.sqlite.lock").unlink(missing_ok=True)
    first, second = (json.loads(shelfscan("sync", run, "--json").stdout) for _ in range(2))
    assert first["state"] == "done" and first["counts"] == second["counts"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    photo = next((STORE / "gallery").glob("*/*.jpg"))
    done = shelfscan("detect", photo, "--out", "/proc/coco.json")
    assert done.returncode == 1 and len(said(done)) == 1 and "/proc" in done.stderr


COMMANDS = [
    ["demo"], ["run"], ["replay"], ["score"], ["sync"], ["serve"], ["detect"], ["audit"], ["doctor"],
    ["bench"], ["eval", "detection"], ["eval", "facings"],
    ["store", "build"], ["store", "check"], ["review", "list"], ["review", "approve"], ["review", "reject"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_option_says_what_it_is(command: list[str]) -> None:
    done = command_line.shelfscan(*command, "--help", COLUMNS="200")
    assert done.returncode == 0 and done.stderr == ""
    options = [line.split() for line in done.stdout.splitlines() if line.startswith("  --")]
    bare = [words[0] for n, words in enumerate(options) if len(words) == 1]
    assert bare == [], f"options without a word of help: {bare}"


def test_the_doctor_answers_in_one_object() -> None:
    done = shelfscan("doctor", "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == (0 if answer["ok"] else 1) and said(done) == []
    assert "shelfscan[onnx]" not in done.stdout
