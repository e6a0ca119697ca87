"""What of the TensorRT backend runs with an NVIDIA driver but without TensorRT: ``python benchmarks/gpu_smoke.py``.

Real: the driver, PyCUDA, GPU memory, streams, threads, running out of memory. Stood in for: TensorRT, by a module with its API
that computes with ONNX Runtime (or with one small kernel) what lies in GPU memory. So the code that asks the driver, keeps the
context, moves data and frees it meets a real GPU; engines do not. If PyTorch is there, the detector is also run on the GPU in
the precisions that TensorRT would use, and compared with ONNX Runtime: how much fp16 loses on this hardware.

Each step prints whether it ran. Exit code 1 when one failed. Nothing runs longer than ``--seconds``.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests"), str(ROOT)]

from fakes.gpu import FakeGpu, make_tensorrt  # noqa: E402

from shelfscan.adapters import _cuda, _tensorrt  # noqa: E402
from shelfscan.adapters._shelf_detector import ShelfDetector  # noqa: E402
from shelfscan.adapters._tensorrt import EngineOptions  # noqa: E402
from shelfscan.adapters.detect_onnx import OnnxDetector  # noqa: E402
from shelfscan.adapters.detect_tensorrt import TensorrtDetector  # noqa: E402
from shelfscan.adapters.embed_onnx import OnnxEmbedder  # noqa: E402
from shelfscan.adapters.embed_tensorrt import TensorrtEmbedder  # noqa: E402
from shelfscan.adapters.models import model_path  # noqa: E402
from shelfscan.errors import BackendError  # noqa: E402
from shelfscan.evaluation.backends import (  # noqa: E402
    compare_detectors,
    compare_embedders,
    golden_crops,
    golden_pictures,
)

KERNEL = """extern "C" __global__ void twice_and_one(const float *x, float *y, int n)
{ int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) y[i] = 2.0f * x[i] + 1.0f; }
"""


class NotHere(Exception):
    """A step that cannot be run on this machine; the text says why."""


class RealMemory(FakeGpu):
    """The stand-in's view of a real GPU: its memory through PyCUDA, its streams by their handles."""

    def __init__(self, cuda: Any, name: str) -> None:
        super().__init__(name, asked=True)
        self.cuda = cuda
        self.streams: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()  # a stream holds GPU memory
        self.kernel: Any = None
        self.launched = 0
        plain = cuda.Stream

        def tracked() -> Any:
            stream = plain()
            self.streams[stream.handle] = stream
            return stream

        cuda.Stream = tracked

    @property
    def stack(self) -> list[object]:
        current = self.cuda.Context.get_current()
        return [] if current is None else [current]

    def need_context(self, what: str) -> None:
        if self.cuda.Context.get_current() is None:
            raise RuntimeError(f"{what} without a current context")

    def read(self, address: int, count: int) -> np.ndarray:
        out = np.empty(count, np.float32)
        self.cuda.memcpy_dtoh(out, address)
        return out

    def write(self, address: int, values: np.ndarray) -> None:
        self.cuda.memcpy_htod(address, values)

    def enqueue(self, stream_handle: int, work: Callable[[], None]) -> None:
        self.streams[stream_handle].synchronize()
        work()


def stand_in(gpu: RealMemory) -> None:
    """Put the stand-in for TensorRT into this process."""
    sys.modules["tensorrt"] = make_tensorrt(gpu, "10.3.0")
    _tensorrt.trial = lambda: ""  # type: ignore[assignment]
    _tensorrt.logger_of.cache_clear()


def driver() -> str:
    gpu = _cuda.find_gpu()
    return f"{gpu.name}, capability {gpu.capability}, {gpu.memory_mib} MiB, driver for CUDA {gpu.driver}"


def no_gpu_allowed() -> str:
    code = "from shelfscan.adapters._cuda import find_gpu; find_gpu()"
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{os.environ.get('PYTHONPATH', '')}", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=30)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and "BackendError" in last, (done.returncode, last)
    return last


class Steps:
    """The steps that need the stand-in, with what they share."""

    def __init__(self, folder: Path) -> None:
        self.options = EngineOptions(folder)
        self.context: Any = None
        self.gpu: RealMemory | None = None

    def pycuda(self) -> str:
        try:
            import pycuda
            import pycuda.driver as cuda
        except ImportError as e:
            raise NotHere(f"PyCUDA: {e}") from e
        self.gpu = RealMemory(cuda, _cuda.find_gpu().name)
        self.context = _cuda.cuda_context()
        stand_in(self.gpu)
        with self.context.current("asking"):
            free, total = cuda.mem_get_info()
        assert cuda.Context.get_current() is None, "a context is left current"
        return f"PyCUDA {pycuda.VERSION_TEXT}, {free // 2**20} of {total // 2**20} MiB free"

    def _free(self) -> int:
        assert self.gpu is not None, "needs PyCUDA"
        with self.context.current("asking"):
            return int(self.gpu.cuda.mem_get_info()[0])

    def networks(self) -> str:
        if self.gpu is None:
            raise NotHere("needs PyCUDA")
        pictures = golden_pictures()
        reference, base = OnnxDetector(threads=4, precision="fp32"), OnnxEmbedder(threads=4)
        crops = golden_crops(reference, pictures)
        before = self._free()
        detector = TensorrtDetector(precision="fp32", options=self.options)
        embedder = TensorrtEmbedder(precision="fp32", options=self.options)
        taken = before - self._free()
        same = compare_detectors(reference, detector, pictures)
        alike = compare_embedders(base, embedder, crops)
        assert (same.matched, alike.matched) == (1.0, 1.0) and max(same.score_worst, alike.score_worst) < 1e-4, (same, alike)
        one = embedder.embed(crops)
        got: dict[int, np.ndarray] = {}
        threads = [threading.Thread(target=lambda n=n: got.__setitem__(n, embedder.embed(crops[n:]))) for n in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert sorted(got) == list(range(6)) and all(np.allclose(got[n], one[n:], atol=1e-5) for n in got)
        detector.close()
        embedder.close()
        # The driver keeps what its first user made it load; what comes after must be given back to the last byte.
        after = [self._free()]
        for _ in range(12):
            for network in (TensorrtDetector(precision="fp32", options=self.options), TensorrtEmbedder(options=self.options)):
                network.close()
            after.append(self._free())
        left = before - after[0]
        assert len(set(after)) == 1 and left < taken / 5 and taken > 20 * 2**20, (taken, left, after)
        assert self.gpu.faults == [], self.gpu.faults
        memory = f"{taken >> 20} MiB taken, given back but {left >> 20} of the driver's own; twelve times more to the byte"
        return f"{same.compared} boxes and {len(crops)} crops went through GPU memory, 6 threads, {memory}"

    def kernel(self) -> str:
        """A kernel on the engine's own stream: nothing waits but the engine itself."""
        if self.gpu is None:
            raise NotHere("needs PyCUDA")
        compiler = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
        if compiler is None:
            raise NotHere("nvcc is not here")
        import onnx
        from onnx import TensorProto, helper

        gpu, cuda, folder = self.gpu, self.gpu.cuda, Path(str(self.options.cache))
        (folder / "k.cu").write_text(KERNEL)
        architecture = f"-arch=sm_{_cuda.find_gpu().capability.replace('.', '')}"
        subprocess.run([compiler, architecture, "-cubin", folder / "k.cu", "-o", folder / "k.cubin"], check=True, timeout=60)
        with self.context.current("loading the kernel"):
            function = cuda.module_from_file(str(folder / "k.cubin")).get_function("twice_and_one")
        tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["count", 3, 64]) for n in "xy"]
        nodes = [helper.make_node("Add", ["x", "x"], ["two"]), helper.make_node("Add", ["two", "one"], ["y"])]
        one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
        model = helper.make_model(helper.make_graph(nodes, "g", [tensors[0]], [tensors[1]], [one]), ir_version=9)
        model.opset_import[0].version = 17
        onnx.save(model, str(folder / "twice.onnx"))
        profile = {"x": ((1, 3, 64), (4096, 3, 64), (4096, 3, 64))}
        engine = _tensorrt.open_engine(
            "twice", folder / "twice.onnx", "0" * 64, "fp32", profile, lambda i, o: None, self.options
        )

        def launch(handle: int) -> bool:
            held = engine._held  # noqa: SLF001 - TensorRT would know these addresses
            n = int(np.prod(held.execution.shapes["x"]))
            x, y = (np.intp(int(held.device[k])) for k in "xy")
            function(x, y, np.int32(n), block=(256, 1, 1), grid=(-(-n // 256), 1), stream=gpu.streams[handle])
            return True

        engine._held.execution.execute_async_v3 = launch  # noqa: SLF001
        right: list[bool] = []
        runs = 200

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(runs):
                x = rng.random((int(rng.integers(1, 4097)), 3, 64), np.float32)
                right.append(np.allclose(engine.run({"x": x})["y"], 2 * x + 1, rtol=1e-6))

        t0 = time.perf_counter()
        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        seconds = time.perf_counter() - t0
        engine.close()
        assert right == [True] * 4 * runs, f"{sum(right)} of {4 * runs} runs gave what they should"
        return f"{4 * runs} asynchronous runs from 4 threads, all right, {1e3 * seconds / (4 * runs):.2f} ms each"

    def out_of_memory(self) -> str:
        if self.gpu is None:
            raise NotHere("needs PyCUDA")
        before = self._free()
        side = 32 * int((before / 12) ** 0.5 / 32 + 200)  # an input of somewhat more than all there is
        try:
            TensorrtDetector(precision="fp32", max_side_px=side, options=self.options)
        except BackendError as e:
            assert "out of GPU memory" in str(e), e
            assert self._free() >= before, "what failed half-way keeps memory"
            return str(e)
        raise AssertionError(f"a detector for pictures of {side} px fits")


def precisions() -> str:
    """The detector in PyTorch on the GPU against ONNX Runtime on the processor."""
    try:
        import torch
    except ImportError as e:
        raise NotHere(f"PyTorch: {e}") from e
    if not torch.cuda.is_available():
        raise NotHere("PyTorch sees no GPU")
    from shelfscan.learn.unfold import unfold_detector
    from shelfscan.perception import decode

    torch.backends.cuda.matmul.allow_tf32 = False
    pictures = golden_pictures()
    reference = OnnxDetector(threads=4, precision="fp32")
    sample = torch.from_numpy(decode.letterbox(pictures[0], 0.5)[0])
    said = []
    for name, dtype, tf32 in (("fp32", torch.float32, False), ("tf32", torch.float32, True), ("fp16", torch.float16, False),
                              ("bf16", torch.bfloat16, False)):  # fmt: skip
        torch.backends.cudnn.allow_tf32 = tf32
        net = unfold_detector(model_path("detector"), sample).eval().to("cuda", dtype)

        def run(blob: np.ndarray, net: Any = net, dtype: Any = dtype) -> tuple[np.ndarray, np.ndarray]:
            with torch.inference_mode():
                distances, logits = net(torch.from_numpy(blob).to("cuda", dtype))
                return distances.float().cpu().numpy(), logits.sigmoid().float().cpu().numpy()

        found = compare_detectors(reference, ShelfDetector(run, reference.settings, name), pictures)
        blob = decode.letterbox(pictures[0], 1.0)[0]
        times = []
        for _ in range(30):
            t0 = time.perf_counter()
            run(blob)
            times.append(1e3 * (time.perf_counter() - t0))
        numbers = f"{found.matched:.4f} matched, worst score {found.score_worst:.4f}, {np.median(times):.1f} ms"
        said.append(f"{name} {numbers}, {'within' if found.within else 'OUTSIDE'}")
    return f"detector in PyTorch {torch.__version__}: " + "; ".join(said)


def main() -> int:
    p = argparse.ArgumentParser(description="Run what of the TensorRT backend can be run on this GPU without TensorRT.")
    p.add_argument("--seconds", type=int, default=85, help="the process ends after that")
    args = p.parse_args()
    faulthandler.dump_traceback_later(args.seconds, exit=True)
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        steps = Steps(Path(folder))
        for name, step in (
            ("the driver, through ctypes", driver), ("no GPU allowed to the process", no_gpu_allowed),
            ("PyCUDA and the context", steps.pycuda), ("both networks, stand-in for TensorRT", steps.networks),
            ("a real kernel on the engine's stream", steps.kernel), ("out of GPU memory", steps.out_of_memory),
            ("precisions on this GPU", precisions),
        ):  # fmt: skip
            t0 = time.perf_counter()
            try:
                print(f"ran      {name}: {step()} [{time.perf_counter() - t0:.1f} s]", flush=True)
            except NotHere as e:
                print(f"not run  {name}: {e}", flush=True)
            except Exception as e:  # noqa: BLE001 - the other steps shall still be told
                bad += 1
                print(f"FAILED   {name}: {type(e).__name__}: {e}", flush=True)
                traceback.print_exc()
    print("not run  TensorRT itself", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
