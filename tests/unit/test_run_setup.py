"""What ``shelfscan run`` refuses before anything starts, and the lock on a run folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shelfscan.cli.run import prepared
from shelfscan.config import load_config
from shelfscan.errors import BadInput, MissingModel
from shelfscan.ros.nodes import NODES, node, select
from shelfscan.runfolder import claimed
from shelfscan.runinfo import read_run_info

ROOT = Path(__file__).resolve().parents[2]
STORE = ROOT / "maps" / "demo"


def refused(*args: object, **options: object) -> str:
    with pytest.raises(BadInput) as caught, prepared(*args, direct=True, **options):  # type: ignore[arg-type]
        pass
    return "\n".join(caught.value.problems)


def test_a_new_folder_says_what_it_is_a_run_of(tmp_path: Path) -> None:
    with prepared(STORE, tmp_path / "run", direct=True, mission_id="m7") as setup:
        assert (setup.mission_id, setup.resume) == ("m7", False)
    info = read_run_info(tmp_path / "run")
    assert (info.mission_id, info.mode, info.store) == ("m7", "direct", str(STORE))
    assert load_config(tmp_path / "run" / "config.yaml") == setup.config


def test_a_used_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert "use --resume" in refused(STORE, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    assert "exists already" in refused(STORE, tmp_path / "notes.txt")


def test_resume_wants_a_run_of_this_store_and_mission(tmp_path: Path) -> None:
    assert "not a run folder" in refused(STORE, tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()
    overrides = {"mission.max_drives": 9}
    with prepared(STORE, tmp_path / "run", config=load_config(None, overrides), direct=True, mission_id="m7"):
        pass
    assert "is mission 'm7', not 'm8'" in refused(STORE, tmp_path / "run", resume=True, mission_id="m8")
    with prepared(STORE, tmp_path / "run", resume=True, direct=True) as setup:
        assert setup.mission_id == "m7"
        assert setup.config.mission.max_drives == 9  # as it was begun
    info = tmp_path / "run" / "run.json"
    info.write_text(info.read_text().replace(setup.bundle.store.site, "elsewhere"))
    assert "is a run of store 'elsewhere'" in refused(STORE, tmp_path / "run", resume=True)


def test_wrong_store_faults_and_models_are_said_before_the_folder_is_made(tmp_path: Path) -> None:
    assert str(tmp_path / "shop") in refused(tmp_path / "shop", tmp_path / "run")
    faults = tmp_path / "faults.yaml"
    faults.write_text("- {kind: flood}\n")
    assert "kind" in refused(STORE, tmp_path / "run", faults_file=faults)
    config = load_config(None, {"detector.model": "absent"})
    with pytest.raises(MissingModel), prepared(STORE, tmp_path / "run", config=config, direct=True):
        pass
    assert not (tmp_path / "run").exists()


def test_a_folder_belongs_to_one_process_and_a_kill_gives_it_back(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from shelfscan.runfolder import claimed\n"
        "with claimed(Path(sys.argv[1])): print('mine', flush=True); time.sleep(600)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "mine\n"
        with pytest.raises(BadInput, match="another run is going on"), claimed(tmp_path):
            pass
        process.kill()
    with claimed(tmp_path):
        pass


def test_the_node_table() -> None:
    names = [s.name for s in NODES]
    assert names == ["sim", "capture", "mission", "perception", "stock", "wms_bridge", "recorder"]
    assert "sim" not in [s.name for s in select(simulator=False)]
    assert [s.name for s in select(simulator=True, record=False, wms=False)] == names[:5]
    for spec in NODES:
        assert (ROOT / "src" / Path(*spec.module.split("."))).with_suffix(".py").exists(), spec.name
    values = {"store": "S", "run_dir": "R", "config": "C", "faults": ""}
    assert "faults:=" not in " ".join(node("sim").command(values))
    assert "faults:=F" in node("sim").command({**values, "faults": "F"})
    with pytest.raises(KeyError):
        node("sim").command({"store": "S"})
    with pytest.raises(KeyError, match="no node 'cook'"):
        node("cook")
