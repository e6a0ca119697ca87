"""TensorRT with PyCUDA against a simulated GPU that enforces the rules of both: caches, errors, shapes, threads, memory."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the simulated TensorRT reads files with it")
from fakes import gpu as fake
from fakes.gpu import MIB, FakeGpu, install
from hypothesis import given, settings
from hypothesis import strategies as st

from shelfscan.adapters import _cuda, _engine_cache, _tensorrt
from shelfscan.adapters._engine_cache import MAGIC, EngineKey, Unusable
from shelfscan.adapters._tensorrt import EngineOptions
from shelfscan.adapters.backends import found_backends, order, processor_has_bf16
from shelfscan.adapters.detect_tensorrt import TensorrtDetector
from shelfscan.adapters.embed_tensorrt import TensorrtEmbedder
from shelfscan.adapters.models import file_sha256, model_entry, models_dir
from shelfscan.bootstrap import make_detector, make_embedder
from shelfscan.config import load_config
from shelfscan.errors import BackendError, BadInput, MissingModel, ShelfscanError
from shelfscan.paths import ROOT

VERSIONS = ("10.3.0", "11.4.0.106", "RTX 1.7.1.116")
PICTURE = np.random.default_rng(3).integers(0, 255, (96, 128, 3), np.uint8)


@pytest.fixture(params=VERSIONS)
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeGpu]:
    """A simulated GPU with one generation of TensorRT after the other; nothing may be left on it."""
    rtx = request.param.startswith("RTX")
    made = install(monkeypatch, tmp_path / "cache", request.param, FakeGpu(capability=(8, 9) if rtx else (8, 7)))
    yield made
    assert made.idle, (made.used, made.stacks, made.faults)


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeGpu:
    return install(monkeypatch, tmp_path / "cache")


def engines(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "shelfscan" / "engines").glob("*"))


def crops(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(count)
    return [rng.integers(0, 255, (40 + n, 60, 3), np.uint8) for n in range(count)]


# --- both generations -----------------------------------------------------------------------------------------------------


def test_a_detector_is_built_once_then_read(gpu: FakeGpu, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "shelfscan.tensorrt"):
        first = TensorrtDetector()
    assert "building the TensorRT engine of detector.onnx for NVIDIA Orin (fp16)" in caplog.text
    found = first.detect(PICTURE)
    first.close()
    assert gpu.used == 0, "closing gives the memory back"
    caplog.clear()
    again = TensorrtDetector()
    assert gpu.builds == 1 and not caplog.records
    np.testing.assert_array_equal(again.detect(PICTURE).boxes_px, found.boxes_px)
    assert (
        re.match(r"detector \(detector.onnx\), TensorRT (RTX )?1", again.description)
        and "NVIDIA Orin, fp16" in again.description
    )
    again.close()
    assert len(engines(tmp_path)) == 1


def test_crops_in_any_number_come_in_batches(gpu: FakeGpu) -> None:
    from shelfscan.adapters.embed_onnx import OnnxEmbedder

    embedder = TensorrtEmbedder()
    reference = OnnxEmbedder(threads=1)
    for count in (0, 1, 31, 33):
        some = crops(count)
        ours = embedder.embed(some)
        assert ours.shape == (count, reference.length)
        assert (ours * reference.embed(some)).sum(1).min(initial=1) > 0.999
    embedder.close()


def test_any_size_within_the_profile_is_run_and_no_other(gpu: FakeGpu) -> None:
    detector = TensorrtDetector(max_side_px=160)
    for height, width in ((1, 1), (160, 33), (31, 160), (900, 1200)):
        detector.detect(np.zeros((height, width, 3), np.uint8))
    engine = detector._engine
    outside = r"image: shape \(1, 3, 192, 160\) is outside the engine's \(1, 3, 32, 32\) to \(1, 3, 160, 160\)"
    with pytest.raises(BackendError, match=outside):
        engine.run({"image": np.zeros((1, 3, 192, 160), np.float32)})
    with pytest.raises(BackendError, match="outside"):
        engine.run({"image": np.zeros((2, 3, 32, 32), np.float32)})
    detector.close()


def test_it_is_not_read_as_open_any_more(gpu: FakeGpu) -> None:
    detector = TensorrtDetector()
    detector.close()
    detector.close()
    with pytest.raises(BackendError, match="closed"):
        detector.detect(PICTURE)


def test_what_nobody_knows_any_more_gives_its_memory_back(gpu: FakeGpu) -> None:
    TensorrtDetector()
    assert gpu.used == 0


def test_threads_share_one_engine_and_get_their_own_answers(gpu: FakeGpu) -> None:
    embedder = TensorrtEmbedder()
    some = crops(12)
    alone = [embedder.embed([c]) for c in some]
    got: dict[int, np.ndarray] = {}
    failed: list[BaseException] = []

    def work(n: int) -> None:
        try:
            got[n] = embedder.embed([some[n]])
        except BaseException as e:  # noqa: BLE001 - a thread's failure must not be lost
            failed.append(e)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failed == []
    for n in range(12):
        np.testing.assert_array_equal(got[n], alone[n])
    closer = threading.Thread(target=embedder.close)
    closer.start()
    closer.join()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_each_precision_has_an_engine_of_its_own(gpu: FakeGpu, tmp_path: Path, precision: str) -> None:
    for asked in ("fp32", "fp16", precision):
        TensorrtDetector(precision=asked).close()  # type: ignore[arg-type]
    assert gpu.builds == 2
    assert {p.name.split(".")[1] for p in engines(tmp_path)} == {"fp32", "fp16"}


# --- the cache ------------------------------------------------------------------------------------------------------------


def test_another_tensorrt_version_builds_anew_and_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(monkeypatch, tmp_path / "cache", "10.3.0")
    TensorrtDetector().close()
    newer = install(monkeypatch, tmp_path / "cache", "10.7.0")
    TensorrtDetector().close()
    assert newer.builds == 1
    assert "was built for tensorrt '10.3.0', now '10.7.0'; building the engine anew" in caplog.text
    assert len(engines(tmp_path)) == 1


def test_another_gpu_has_an_engine_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, capability in (("NVIDIA Orin", (8, 7)), ("NVIDIA L4", (8, 9)), ("NVIDIA Orin", (8, 7))):
        made = install(monkeypatch, tmp_path / "cache", gpu=FakeGpu(name, capability))
        TensorrtDetector().close()
    assert made.builds == 0
    assert len(engines(tmp_path)) == 2


def spoil_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def spoil_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)


def spoil_foreign(path: Path) -> None:
    path.write_bytes(b"ftrt\0\0\0" + bytes(5000))


def spoil_empty(path: Path) -> None:
    path.write_bytes(b"")


def spoil_renamed(path: Path) -> None:
    """Another model's engine under this one's name."""
    head, rest = path.read_bytes().removeprefix(MAGIC).split(b"\n", 1)
    said = json.loads(head)
    said["key"]["model_sha256"] = "0" * 64
    path.write_bytes(MAGIC + json.dumps(said).encode() + b"\n" + rest)


def spoil_not_taken(path: Path) -> None:
    """A whole file of ours with a plan that TensorRT does not take."""
    key = json.loads(path.read_bytes().removeprefix(MAGIC).split(b"\n", 1)[0])["key"]
    profile = {n: tuple(tuple(s) for s in three) for n, three in key["profile"].items()}
    _engine_cache.write(path.parent, EngineKey(**{**key, "profile": profile}), b"of another machine")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_cut, "is cut short"), (spoil_bit, "is damaged"), (spoil_foreign, "is no engine of ours"),
        (spoil_empty, "is no engine of ours"), (spoil_renamed, "was built for model_sha256"),
        (spoil_not_taken, r"is not taken by TensorRT \(The engine plan file is not compatible"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_engine_for_this_is_built_anew(
    one_gpu: FakeGpu, tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None], words: str
) -> None:
    TensorrtDetector().close()
    (path,) = engines(tmp_path)
    good = path.read_bytes()
    spoil(path)
    caplog.clear()
    TensorrtDetector().close()
    assert one_gpu.builds == 2 and one_gpu.idle
    (line,) = [r.getMessage() for r in caplog.records if r.getMessage().endswith("building the engine anew")]
    assert path.name in line
    assert re.search(words, line), line
    assert path.read_bytes() == good
    assert [p for p in path.parent.iterdir() if p != path] == [], "no half-written file is left"


def test_a_folder_that_cannot_be_written_only_costs_time(
    one_gpu: FakeGpu, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    detector = TensorrtDetector(options=EngineOptions(tmp_path / "file" / "engines"))
    assert "cannot be kept" in caplog.text
    detector.detect(PICTURE)
    detector.close()


def test_only_the_newest_engines_are_kept(tmp_path: Path) -> None:
    key = EngineKey("detector", "", "fp16", "NVIDIA Orin", "8.7", "10.3.0", {})
    paths = []
    for n in range(7):
        paths.append(_engine_cache.write(tmp_path, replace(key, model_sha256=f"{n:064x}"[::-1]), b"x"))
        os.utime(paths[-1], (n, n))
    other = _engine_cache.write(tmp_path, replace(key, model="embedder"), b"x")
    assert set(tmp_path.iterdir()) == {*paths[-_engine_cache.KEPT :], other}


@given(cut=st.integers(0, 400), flip=st.integers(0, 399))
@settings(max_examples=60, deadline=None)
def test_whatever_happened_to_a_file_it_is_the_engine_or_refused(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int
) -> None:
    folder = tmp_path_factory.mktemp("engines")
    profile = {"image": ((1, 3, 32, 32), (1, 3, 64, 64), (1, 3, 64, 64))}
    key = EngineKey("detector", "a" * 64, "fp16", "NVIDIA Orin", "8.7", "10.3.0", profile)
    path = _engine_cache.write(folder, key, bytes(range(200)))
    data = bytearray(path.read_bytes())
    data[flip % len(data)] ^= 4
    path.write_bytes(data[: max(0, len(data) - cut)])
    try:
        assert _engine_cache.read(folder, key) == bytes(range(200)), "read as whole though it is not"
        pytest.fail("a changed file was taken")
    except Unusable as e:
        assert str(path) in str(e)


# --- what is missing ------------------------------------------------------------------------------------------------------


def test_without_a_driver_nothing_of_nvidia_is_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path)  # a TensorRT that takes the process down when it is touched
    monkeypatch.setattr(_cuda, "_driver", lambda: ctypes.CDLL("libcuda-that-is-not-there.so.1"))
    with pytest.raises(BackendError, match="no NVIDIA driver on this machine .*set the backend to openvino or onnx"):
        TensorrtDetector()
    with pytest.raises(BackendError, match=r"^detector\.backend tensorrt: no NVIDIA driver"):
        make_detector(load_config(None, {"detector.backend": "tensorrt"}))


@pytest.mark.parametrize(("code", "words"), [(100, "no GPU that it may use"), (803, r"fake failure \(803\)")])
def test_a_driver_that_does_not_start_is_said(one_gpu: FakeGpu, code: int, words: str) -> None:
    one_gpu.cu_init = code
    with pytest.raises(BackendError, match=words):
        TensorrtEmbedder()


@pytest.mark.parametrize(
    ("module", "words"),
    [("tensorrt", "TensorRT's Python package cannot be used.*JetPack"), ("pycuda.driver", "PyCUDA cannot be used.*shelfscan")],
)
def test_a_missing_package_is_named(one_gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch, module: str, words: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendError, match=words):
        TensorrtDetector()


@pytest.mark.parametrize("capability", [(8, 9), (9, 0)])
def test_tensorrt_for_rtx_where_there_is_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, capability: tuple[int, int]
) -> None:
    """It comes from PyPI and builds for any GPU, but runs on RTX cards alone: others get the processor, and why."""
    install(monkeypatch, tmp_path / "cache", "RTX 1.7.1.116", FakeGpu("NVIDIA L4", capability))
    assert next(f for f in found_backends() if f.name == "tensorrt").usable
    config = load_config(None)
    asked = config.model_copy(update={"detector": config.detector.model_copy(update={"backend": "tensorrt"})})
    if capability == (8, 9):
        detector = make_detector(asked)
        assert "TensorRT RTX 1.7.1.116 on NVIDIA L4" in detector.description
        detector.close()  # type: ignore[attr-defined]
        install(monkeypatch, tmp_path / "cache", "11.4.0.106", FakeGpu("NVIDIA L4", capability))
        with caplog.at_level(logging.WARNING, "shelfscan.tensorrt"):
            make_detector(asked).close()  # type: ignore[attr-defined]
        assert "was built for tensorrt 'RTX 1.7.1.116', now '11.4.0.106'; building the engine anew" in caplog.text
    else:
        with pytest.raises(BackendError, match="does not take the engine it has just built.*capability"):
            make_detector(asked)
        other = make_detector(config)
        assert "TensorRT cannot be used" in caplog.text and "TensorRT" not in other.description


def test_another_generation_of_tensorrt_for_rtx_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path, "RTX 2.0.1")
    with pytest.raises(BackendError, match="TensorRT RTX 2.0.1: expected 1; install"):
        TensorrtDetector()


@pytest.mark.parametrize("version", ["8.6.1", "12.0.1", "unknown"])
def test_other_generations_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str) -> None:
    install(monkeypatch, tmp_path)
    sys.modules["tensorrt"].__dict__["__version__"] = version
    with pytest.raises(BackendError, match=f"TensorRT {version}: expected 10 or 11"):
        TensorrtDetector()


def test_too_little_memory_to_build_to_run_or_for_data_is_said_each(one_gpu: FakeGpu) -> None:
    one_gpu.memory = 512 * MIB
    with pytest.raises(BackendError, match=r"built no engine: Requested amount.*tensorrt\.workspace_mib"):
        TensorrtDetector()
    small = EngineOptions(workspace_mib=64)
    one_gpu.scratch = 600 * MIB
    with pytest.raises(BackendError, match="no GPU memory to run it"):
        TensorrtDetector(options=small)
    one_gpu.scratch = 505 * MIB
    with pytest.raises(BackendError, match=r"out of GPU memory \(\d+ of 512 MiB are free\); end what else uses the GPU"):
        TensorrtDetector(options=small)
    assert one_gpu.idle, "what failed half-way leaves nothing behind"


def test_a_build_that_fails_has_tensorrt_s_own_words(one_gpu: FakeGpu, tmp_path: Path) -> None:
    one_gpu.build_fails = "Could not find any implementation for node /stem/Conv"
    with pytest.raises(BackendError, match="built no engine: Could not find any implementation for node /stem/Conv"):
        TensorrtDetector()
    assert engines(tmp_path) == [] and one_gpu.idle


def test_a_gpu_that_fails_at_work_is_an_error_and_not_a_wrong_answer(one_gpu: FakeGpu) -> None:
    detector = TensorrtDetector()
    one_gpu.run_fails = "an illegal memory access was encountered"
    with pytest.raises(BackendError, match=r"detector\.onnx: running the engine: the GPU failed: .*illegal memory access"):
        detector.detect(PICTURE)
    one_gpu.run_fails = ""
    detector.close()
    assert one_gpu.idle


def test_other_networks_and_broken_files_are_missing_models(one_gpu: FakeGpu, tmp_path: Path) -> None:
    with pytest.raises(MissingModel, match="crops: expected shape"):
        TensorrtEmbedder("detector", precision="fp32")
    models = tmp_path / "models"
    shutil.copytree(models_dir(), models)
    said = json.loads((models / "manifest.json").read_text())
    (models / "detector.onnx").write_bytes(b"not a network")
    next(m for m in said["models"] if m["name"] == "detector")["sha256"] = file_sha256(models / "detector.onnx")
    (models / "manifest.json").write_text(json.dumps(said))
    for precision in ("fp32", "fp16"):
        with pytest.raises(MissingModel, match=r"detector\.onnx: not a (model that TensorRT|usable ONNX)"):
            TensorrtDetector(models=models, precision=precision)  # type: ignore[arg-type]
    assert one_gpu.idle


def test_the_int8_of_processors_is_never_given_to_tensorrt(one_gpu: FakeGpu, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(models_dir(), models)
    said = json.loads((models / "manifest.json").read_text())
    entry = next(m for m in said["models"] if m["name"] == "detector")
    variant = {"file": "x.onnx", "bytes": 1, "sha256": "0" * 64, "made_from": entry["sha256"]}
    entry["variants"] = {"int8": variant}
    (models / "manifest.json").write_text(json.dumps(said))
    with pytest.raises(MissingModel, match="its int8_symmetric variant does not exist"):
        TensorrtDetector(models=models, precision="int8")
    with pytest.raises(BadInput, match="precision bf16: tensorrt computes fp32, fp16, int8"):
        TensorrtDetector(precision="bf16")


def test_what_the_parser_warns_of_would_be_found() -> None:
    """The int8 file for processors has unsigned activations: the simulated parser refuses what the real one misreads."""
    entry = model_entry("detector")
    if entry.int8 is None:
        pytest.skip("the shipped detector has no int8 variant")
    gpu = FakeGpu(asked=True)
    trt = fake.make_tensorrt(gpu, "10.3.0")
    parser = trt.OnnxParser(trt.Builder.create_network(None, 2), None)
    assert not parser.parse((models_dir() / entry.int8.file).read_bytes())
    assert "uint8" in parser.get_error(0).desc()


def test_a_real_library_without_a_gpu_is_asked_through_ctypes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C compiler here")
    source, library = tmp_path / "cuda.c", tmp_path / "libcuda.so.1"
    source.write_text(
        "int cuInit(unsigned f) { return 999; }\n"
        'int cuGetErrorString(int code, const char **text) { *text = "unknown error"; return 0; }\n'
    )
    subprocess.run([compiler, "-shared", "-fPIC", "-x", "c", source, "-o", library], check=True)
    monkeypatch.setattr(_cuda, "DRIVER", str(library))
    with pytest.raises(BackendError, match=r"does not start: unknown error \(999\)"):
        _cuda.find_gpu()


def test_libraries_that_end_the_process_do_not_end_ours(tmp_path: Path) -> None:
    """A driver that answers, and a TensorRT that crashes when it is imported: tried elsewhere, said, and the CPU is used."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C compiler here")
    calls = ("cuDriverGetVersion", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute", "cuDeviceTotalMem_v2")
    (tmp_path / "cuda.c").write_text("".join(f"int {c}() {{ return 0; }}\n" for c in ("cuInit", *calls)))
    subprocess.run([compiler, "-shared", "-fPIC", "-x", "c", tmp_path / "cuda.c", "-o", tmp_path / "libcuda.so.1"], check=True)
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    (tmp_path / "pycuda").mkdir()
    (tmp_path / "pycuda" / "__init__.py").touch()
    code = "import shelfscan.bootstrap as b, shelfscan.config as c; print(b.make_detector(c.Config()).description)"
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{tmp_path}", "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, env=env)
    assert done.returncode == 0 and "CPU" in done.stdout, done.stderr
    assert "TensorRT cannot be used: loading TensorRT ends the process (SIGSEGV)" in done.stderr


def test_here_and_now_it_is_an_error_in_one_line_and_no_crash() -> None:
    code = "from shelfscan.adapters.detect_tensorrt import TensorrtDetector; TensorrtDetector()"
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=env)
    if done.returncode == 0:
        pytest.skip("there is a GPU with all it needs")
    assert done.returncode == 1, f"ended with {done.returncode}"
    assert done.stderr.strip().splitlines()[-1].startswith("shelfscan.errors.BackendError: ")


# --- which is used --------------------------------------------------------------------------------------------------------


def test_auto_takes_the_gpu_where_all_of_it_is_there(gpu: FakeGpu) -> None:
    assert order("auto", "auto")[0] == "tensorrt"
    found = {f.name: f for f in found_backends()}
    there = f"NVIDIA Orin (capability 8.{gpu.capability[1]}, 4096 MiB, driver for CUDA 13.0)"
    assert found["tensorrt"].usable and there in found["tensorrt"].why
    config = load_config(None, {"tensorrt.workspace_mib": 64})
    for made in (make_detector(config), make_embedder(config)):
        assert "TensorRT" in made.description
        made.close()  # type: ignore[attr-defined]
    assert "tensorrt" not in order("auto", "bf16"), "a precision that it does not compute"


def test_auto_goes_on_with_the_processor_when_the_gpu_fails(one_gpu: FakeGpu, caplog: pytest.LogCaptureFixture) -> None:
    one_gpu.build_fails = "out of luck"
    config = load_config(None, {"detector.threads": 1})
    detector = make_detector(config)
    assert "CPU" in detector.description
    assert "detector: TensorRT cannot be used" in caplog.text and "out of luck" in caplog.text
    with pytest.raises(BackendError, match=r"detector\.backend tensorrt: .*out of luck"):
        make_detector(load_config(None, {"detector.backend": "tensorrt"}))


@pytest.mark.parametrize("module", ["tensorrt", "pycuda"])
def test_auto_without_a_package_is_the_processor_and_says_why(
    one_gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == module else real(name, *a))
    assert "tensorrt" not in order("auto", "auto")
    (found,) = [f for f in found_backends() if f.name == "tensorrt"]
    assert "NVIDIA Orin" in found.why and "is here, but not" in found.why


def test_precisions_that_a_backend_lacks_are_bad_input() -> None:
    with pytest.raises(BadInput, match=r"^detector\.precision fp16: onnxruntime computes fp32, int8"):
        make_detector(load_config(None, {"detector.backend": "onnx", "detector.precision": "fp16"}))
    with pytest.raises(BadInput, match="embedder"):
        load_config(None, {"embedder.precision": "int4"})


def test_bf16_is_looked_up_where_the_processor_says_it(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    for flags, has in (("fpu avx512_bf16 x", True), ("fpu avx512f", False), ("Features: asimd bf16", True)):
        info.write_text(f"flags : {flags}\n")
        assert processor_has_bf16(info) is has
    assert not processor_has_bf16(tmp_path / "nothing")


def test_the_doctor_names_the_backend_in_use_and_why_not_the_others(one_gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    from shelfscan.cli.doctor import Check, _backend

    def says(name: str, detail: str, **options: str) -> tuple[str, str]:
        checks = [Check("detector", "ok", f"detector, {detail}"), Check("embedder", "ok", "embedder, OpenVINO CPU")]
        return _backend(name, load_config(None, options), checks)

    state, detail = says("tensorrt", "TensorRT 10.3.0 on NVIDIA Orin, fp16")
    assert state == "ok" and detail.startswith("NVIDIA Orin") and detail.endswith("in use: detector")
    assert says("openvino", "TensorRT 10.3.0")[1].split("; in use: ")[1].startswith("embedder")
    assert says("onnx", "OpenVINO CPU")[1].endswith("not used: a faster one is")
    forced = says("tensorrt", "OpenVINO CPU", **{"detector.backend": "openvino"})
    assert forced[1].endswith("not used: detector.backend is openvino, embedder.backend is auto")
    monkeypatch.setattr(_tensorrt, "trial", lambda: "loading TensorRT ends the process (SIGSEGV)")
    state, detail = says("tensorrt", "OpenVINO CPU")
    assert state == "warn" and "NVIDIA Orin" in detail and "SIGSEGV" in detail
    one_gpu.cu_init = 100
    assert says("tensorrt", "OpenVINO CPU") == (
        "ok", "not used: the NVIDIA driver does not start: no GPU that it may use (cuInit gave 100); see nvidia-smi"
    )  # fmt: skip


def test_a_backend_error_is_fit_for_a_user() -> None:
    assert issubclass(BackendError, ShelfscanError) and not issubclass(BackendError, BadInput)
    assert _tensorrt.VERSIONS == (10, 11)
