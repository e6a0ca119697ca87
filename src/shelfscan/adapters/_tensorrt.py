"""Building, keeping and running TensorRT engines: the 10 and 11 API, which have in common what is used here.

Networks are strongly typed: precision is what the ONNX file says (fp32 as it is, fp16 by `_onnx_typed`, int8 by its
QuantizeLinear nodes), because TensorRT 11 has no flags for it any more. PyCUDA moves the data.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shelfscan.adapters import _engine_cache
from shelfscan.adapters._cuda import ELSE, CudaContext, Gpu, cuda_context, find_gpu
from shelfscan.adapters._engine_cache import EngineKey, Profile
from shelfscan.adapters.models import Computed
from shelfscan.errors import BackendError, MissingModel

VERSIONS = (10, 11)
#: TensorRT for RTX has the API of 10 and 11 without what these have for compatibility; NVIDIA's own package and that of PyPI.
RTX = ("tensorrt_rtx", "tensorrt_rtx_bindings")
RTX_VERSIONS = (1,)
WORKSPACE_MIB = 1024
#: Loading TensorRT on a small, busy computer.
TRIAL_S = 120.0

_log = logging.getLogger("shelfscan.tensorrt")

Shapes = dict[str, Sequence[int | str | None]]
#: Raises unless inputs and outputs are those of the wanted kind of network.
Check = Callable[[Shapes, Shapes], object]


@dataclass(frozen=True)
class EngineOptions:
    """``cache``: folder of built engines, None for the user's own; ``workspace_mib``: scratch memory that a build may plan."""

    cache: Path | None = None
    workspace_mib: int = WORKSPACE_MIB


def load_tensorrt() -> Any:
    """NVIDIA's Python package: TensorRT, else TensorRT for RTX. Call `find_gpu` first.

    Raises `BackendError` when neither is there, or one of another generation.
    """
    try:
        import tensorrt as trt
    except (ImportError, OSError) as e:
        rtx = next((name for name in RTX if importlib.util.find_spec(name) is not None), None)
        if rtx is None:
            raise BackendError(
                f"TensorRT's Python package cannot be used: {e}; JetPack or NVIDIA's packages for this CUDA bring it, "
                f"pip install tensorrt-rtx that for RTX cards; or {ELSE}"
            ) from e
        try:
            trt = importlib.import_module(rtx)
        except (ImportError, OSError) as e:
            raise BackendError(f"TensorRT for RTX cannot be used: {e}; or {ELSE}") from e
    major = str(getattr(trt, "__version__", "")).split(".")[0]
    expected = RTX_VERSIONS if is_rtx(trt) else VERSIONS
    if not major.isdigit() or int(major) not in expected:
        raise BackendError(f"{title(trt)}: expected {' or '.join(map(str, expected))}; install one of these, or {ELSE}")
    return trt


def is_rtx(trt: Any) -> bool:
    """Whether this is TensorRT for RTX: its engines are of no use to the other, and compiled when first run."""
    return str(trt.__name__) in RTX


def version_of(trt: Any) -> str:
    """What an engine's key names: "10.3.0", or "RTX 1.7.1"."""
    version = str(getattr(trt, "__version__", "of unknown version"))
    return f"RTX {version}" if is_rtx(trt) else version


def title(trt: Any) -> str:
    """Product and version, for people."""
    return f"TensorRT {version_of(trt)}"


def load_all() -> tuple[Gpu, Any, CudaContext]:
    """The GPU, TensorRT and the context, each asked for when what it needs has answered. Raises `BackendError`."""
    gpu = find_gpu()
    trt = load_tensorrt()
    context = cuda_context()
    with context.current("starting TensorRT"):
        if trt.Runtime(logger_of(trt)) is None:
            raise BackendError(f"{title(trt)} does not start: {logger_of(trt).last()}; or {ELSE}")
    return gpu, trt, context


@lru_cache(maxsize=1)
def trial() -> str:
    """What goes wrong when all of it is loaded, tried in a process of its own; empty when nothing does.

    Libraries that do not fit each other or the driver can end the process that loads them, which shall not be ours.
    """
    code = "from shelfscan.adapters._tensorrt import load_all; load_all()"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TRIAL_S, env=env)
    except subprocess.TimeoutExpired:
        return f"no answer within {TRIAL_S:.0f} s"
    if done.returncode == 0:
        return ""
    if done.returncode < 0:
        return f"loading TensorRT ends the process ({signal.Signals(-done.returncode).name})"
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    last = said[-1] if said else f"ended with status {done.returncode}"
    return last.removeprefix(f"{BackendError.__module__}.{BackendError.__qualname__}: ")


@lru_cache(maxsize=4)
def logger_of(trt: Any) -> Any:
    """TensorRT's log: the last errors are kept for our own messages. One a process, as TensorRT wants it."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=3)

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(" ".join(text.split())[:300])
            elif severity == trt.ILogger.WARNING:
                _log.debug("%s", text)

        def last(self) -> str:
            """What was said since this was asked last."""
            said = " | ".join(self.errors) or "TensorRT said nothing"
            self.errors.clear()
            return said

    return Log()


def build_engine(
    trt: Any, data: bytes, source: str, profile: Profile, check: Check, workspace_mib: int = WORKSPACE_MIB
) -> bytes:
    """An ONNX model (its bytes) as a serialized engine. ``source`` names it in errors.

    Raises `MissingModel` when ``check`` refuses its inputs and outputs, or it is no ONNX model; `BackendError` with
    TensorRT's own words when no engine can be built of it.
    """
    log = logger_of(trt)
    log.errors.clear()
    try:
        builder = trt.Builder(log)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, log)
        if not parser.parse(data):
            said = "; ".join(str(parser.get_error(i).desc()) for i in range(parser.num_errors)) or log.last()
            raise MissingModel(f"{source}: not a model that {title(trt)} accepts: {said}")
        inputs = {t.name: t for t in (network.get_input(i) for i in range(network.num_inputs))}
        outputs = [network.get_output(i) for i in range(network.num_outputs)]
        check({n: _free(t.shape) for n, t in inputs.items()}, {t.name: _free(t.shape) for t in outputs})
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mib * 2**20)
        # On by default: ten bits of mantissa are not what fp32 says.
        config.clear_flag(trt.BuilderFlag.TF32)
        shapes = builder.create_optimization_profile()
        for name, three in profile.items():
            own = tuple(inputs[name].shape)
            shapes.set_shape(name, *(tuple(o if s is None else s for s, o in zip(shape, own, strict=True)) for shape in three))
        if config.add_optimization_profile(shapes) < 0:
            raise BackendError(f"{source}: TensorRT refuses the range of shapes {profile}: {log.last()}")
        plan = builder.build_serialized_network(network, config)
    except (RuntimeError, TypeError, ValueError, AttributeError) as e:  # what its bindings raise
        raise BackendError(f"{source}: {title(trt)} cannot build an engine: {e}: {log.last()}") from e
    if plan is None:
        raise BackendError(
            f"{source}: {title(trt)} built no engine: {log.last()}; "
            f"with too little GPU memory a smaller tensorrt.workspace_mib may do, or {ELSE}"
        )
    return bytes(memoryview(plan))


def _free(shape: Sequence[int]) -> list[int | None]:
    return [int(n) if n >= 0 else None for n in shape]


class _Stale(Exception):
    """TensorRT does not take a plan."""


@dataclass
class _Held:
    """What lives on the GPU and goes together. ``device``, ``host``: memory there, and page-locked memory here, by tensor."""

    context: CudaContext
    runtime: Any = None
    engine: Any = None
    execution: Any = None
    stream: Any = None
    device: dict[str, Any] = field(default_factory=dict)
    host: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def release(self) -> None:
        """Free all of it; what fails is logged, since the rest of the program does not need it."""
        try:
            with self.context.current("freeing GPU memory"):
                while self.device:
                    self.device.popitem()[1].free()
                self.host.clear()  # page-locked memory is given back with its array
                self.execution = self.stream = self.engine = self.runtime = None
        except BackendError as e:
            _log.warning("%s", e)


class Engine:
    """An engine on the GPU with its memory. Any thread may call it; calls wait for each other.

    ``inputs`` and ``outputs``: shapes by name, None where free. All tensors are float32. Memory is taken once, for the
    largest shapes of the profile.
    """

    def __init__(self, trt: Any, context: CudaContext, plan: bytes, source: str, gpu: str) -> None:
        """Raises `_Stale` when TensorRT does not take the plan, `BackendError` when there is no memory for it."""
        self._trt, self._source = trt, source
        self.description = f"{title(trt)} on {gpu}"
        self._lock = threading.Lock()
        self.inputs: Shapes = {}
        self.outputs: Shapes = {}
        self._range: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        self._held = _Held(context)
        # Runs when closed, when nobody knows the engine any more, or at the end of the process, whichever comes first.
        self._finalizer = weakref.finalize(self, self._held.release)
        try:
            with context.current(f"{source}: loading the engine"):
                self._load(plan)
        except BaseException:
            self._finalizer()
            raise

    # Nothing of the GPU is in a local variable: an exception's traceback would keep it beyond its release.

    def _load(self, plan: bytes) -> None:
        trt, held, log = self._trt, self._held, logger_of(self._trt)
        cuda = held.context.cuda
        log.errors.clear()
        held.runtime = trt.Runtime(log)
        held.engine = held.runtime.deserialize_cuda_engine(plan)
        if held.engine is None:
            raise _Stale(log.last())
        held.execution = held.engine.create_execution_context()
        if held.execution is None:
            raise BackendError(f"{self._source}: no GPU memory to run it: {log.last()}; end what else uses the GPU, or {ELSE}")
        held.stream = cuda.Stream()
        for name in [held.engine.get_tensor_name(i) for i in range(held.engine.num_io_tensors)]:
            if trt.nptype(held.engine.get_tensor_dtype(name)) != np.float32:
                raise BackendError(f"{self._source}: {name}: expected float32, found {held.engine.get_tensor_dtype(name)}")
            shape = _free(held.engine.get_tensor_shape(name))
            if held.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                self.inputs[name] = shape
                least, _, most = (tuple(s) for s in held.engine.get_tensor_profile_shape(name, 0))
                self._range[name] = least, most
                self._expect(held.execution.set_input_shape(name, most), f"set_input_shape {name} {most}")
            else:
                self.outputs[name] = shape
        for name in (*self.inputs, *self.outputs):
            size = math.prod(held.execution.get_tensor_shape(name))
            if size <= 0:
                raise BackendError(f"{self._source}: {name}: its largest size cannot be told")
            held.device[name] = cuda.mem_alloc(4 * size)
            held.host[name] = cuda.pagelocked_empty(size, np.float32)
            self._expect(held.execution.set_tensor_address(name, int(held.device[name])), f"set_tensor_address {name}")

    def _expect(self, done: bool, what: str) -> None:
        if not done:
            raise BackendError(f"{self._source}: TensorRT refuses {what}: {logger_of(self._trt).last()}")

    def run(self, feeds: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Outputs by name, copies. Raises `BackendError` for a shape outside the profile, and when the GPU fails."""
        with self._lock:
            if self._held.execution is None:
                raise BackendError(f"{self._source}: the engine is closed")
            for name, (least, most) in self._range.items():
                shape = feeds[name].shape
                if len(shape) != len(least) or not all(a <= n <= b for a, n, b in zip(least, shape, most, strict=True)):
                    raise BackendError(f"{self._source}: {name}: shape {shape} is outside the engine's {least} to {most}")
            with self._held.context.current(f"{self._source}: running the engine"):
                return self._run(feeds)

    def _run(self, feeds: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        held, cuda = self._held, self._held.context.cuda
        for name in self.inputs:
            values = feeds[name]
            host = held.host[name][: values.size]
            np.copyto(host, values.reshape(-1))
            self._expect(held.execution.set_input_shape(name, values.shape), f"set_input_shape {name} {values.shape}")
            cuda.memcpy_htod_async(held.device[name], host, held.stream)
        missing = held.execution.infer_shapes()
        self._expect(not missing, f"to run without {', '.join(missing)}")
        self._expect(held.execution.execute_async_v3(held.stream.handle), "execute_async_v3")
        shapes = {name: tuple(held.execution.get_tensor_shape(name)) for name in self.outputs}
        for name, shape in shapes.items():
            cuda.memcpy_dtoh_async(held.host[name][: math.prod(shape)], held.device[name], held.stream)
        held.stream.synchronize()
        return {name: held.host[name][: math.prod(shape)].reshape(shape).copy() for name, shape in shapes.items()}

    def close(self) -> None:
        """Free its memory now; it cannot be used any more."""
        with self._lock:
            self._finalizer()


def open_engine(
    name: str,
    path: Path,
    sha256: str,
    computed: Computed,
    profile: Profile,
    check: Check,
    options: EngineOptions,
) -> Engine:
    """The engine of a model file, from the cache or built anew (minutes on a small GPU, once).

    ``sha256``: of the file; ``profile``: least, usual and largest shapes; ``check`` raises unless inputs and outputs are as
    expected. Raises `BackendError` saying what is missing or failed, `MissingModel` for a file that is no such model.
    """
    find_gpu()
    problem = trial()
    if problem:
        raise BackendError(f"TensorRT cannot be used: {problem}" + ("" if problem.endswith(ELSE) else f"; or {ELSE}"))
    gpu, trt, context = load_all()
    key = EngineKey(name, sha256, computed, gpu.name, gpu.capability, version_of(trt), profile)
    folder = options.cache or _engine_cache.default_folder()
    try:
        plan = _engine_cache.read(folder, key)
        if plan is not None:
            return _checked(Engine(trt, context, plan, path.name, gpu.name), check)
    except _engine_cache.Unusable as e:
        _log.warning("%s; building the engine anew", e)
    except _Stale as e:
        _log.warning("%s is not taken by TensorRT (%s); building the engine anew", folder / key.file_name, e)
    _log.warning("building the TensorRT engine of %s for %s (%s); this takes minutes, once", path.name, gpu.name, computed)
    data = path.read_bytes()
    if computed == "fp16":
        from shelfscan.adapters._onnx_typed import fp16_typed

        data = fp16_typed(path)
    with context.current(f"{path.name}: building the engine"):
        plan = build_engine(trt, data, path.name, profile, check, options.workspace_mib)
    try:
        _engine_cache.write(folder, key, plan)
    except OSError as e:
        _log.warning("%s: the engine cannot be kept (%s); it is built anew at every start", folder, e.strerror or e)
    try:
        return _checked(Engine(trt, context, plan, path.name, gpu.name), check)
    except _Stale as e:
        raise BackendError(f"{path.name}: {title(trt)} does not take the engine it has just built: {e}") from e


def _checked(engine: Engine, check: Check) -> Engine:
    try:
        check(engine.inputs, engine.outputs)
    except MissingModel:
        engine.close()
        raise
    return engine
