"""The doctor tries things, in its own process and in others, and says what it found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from shelfscan.cli.doctor import run_checks
from shelfscan.paths import ROOT


def doctor(*args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **variables}
    command = [sys.executable, "-m", "shelfscan.cli.main", "doctor", *args]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=200)


def test_every_check_says_something_and_none_raises() -> None:
    checks = run_checks()
    assert {c.state for c in checks} <= {"ok", "warn", "fail"}
    assert all(c.name and c.detail for c in checks)
    assert len({c.name for c in checks}) == len(checks)


def test_json_is_one_object_and_agrees_with_the_exit_status() -> None:
    done = doctor("--json")
    said = json.loads(done.stdout)
    failed = [c for c in said["checks"] if c["state"] == "fail"]
    assert said["ok"] == (not failed) == (done.returncode == 0)
    assert done.returncode in (0, 1)


def test_a_renderer_that_does_not_work_is_found_by_trying() -> None:
    said = json.loads(doctor("--json", MUJOCO_GL="nonsense").stdout)
    (rendering,) = [c for c in said["checks"] if c["name"] == "rendering"]
    if "not installed" not in rendering["detail"]:
        assert rendering["state"] == "fail" and "MUJOCO_GL=nonsense" in rendering["detail"]


def test_a_spoilt_model_fails_and_is_named(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for folder in ("models", "config"):
        shutil.copytree(ROOT / folder, home / folder)
    (home / "models" / "detector.onnx").write_bytes(b"not a network")
    done = doctor("--json", SHELFSCAN_HOME=str(home))
    (detector,) = [c for c in json.loads(done.stdout)["checks"] if c["name"] == "detector"]
    assert done.returncode == 1 and detector["state"] == "fail"
    assert "detector.onnx" in detector["detail"] and "sha256" in detector["detail"]


def test_missing_models_fail_without_a_traceback(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    shutil.copytree(ROOT / "models", tmp_path / "models")
    (tmp_path / "models" / "embedder.onnx").unlink()
    done = doctor(SHELFSCAN_HOME=str(tmp_path))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert any(line.startswith("FAIL embedder") and "missing" in line for line in done.stdout.splitlines())


def test_a_configuration_s_backend_is_what_is_tried(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("detector: {backend: onnx}\nembedder: {backend: tensorrt}\n")
    done = doctor("--json", "--config", str(config))
    checks = {c["name"]: c for c in json.loads(done.stdout)["checks"]}
    assert "ONNX Runtime CPU, fp32" in checks["detector"]["detail"] and "(backend onnx)" in checks["detector"]["detail"]
    assert "in use: detector" in checks["onnxruntime"]["detail"]
    if checks["tensorrt"]["detail"].startswith("not used"):
        assert done.returncode == 1 and checks["embedder"]["state"] == "fail"
        assert checks["embedder"]["detail"].startswith("embedder.backend tensorrt: ")
    wrong = doctor("--config", str(tmp_path / "none.yaml"))
    assert wrong.returncode == 2 and "none.yaml" in wrong.stderr
