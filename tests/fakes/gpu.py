"""A GPU without a GPU: the driver, PyCUDA and TensorRT 10 or 11 as far as they are used, with the rules of the real ones.

What crashes a real process raises `Crash` here, which no code under test may catch: TensorRT touched before the driver was
asked, CUDA used without a current context, freed memory used, a tensor's address forgotten. Copies and runs happen when the
stream is synchronised, not before. Engines compute what ONNX Runtime computes for the same file.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import json
import sys
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from shelfscan.adapters import _cuda, _tensorrt

MIB = 2**20


class Crash(BaseException):
    """Where a real process would end."""


@dataclass
class FakeGpu:
    """The machine. Change its fields to change what happens; ``faults`` must be empty in the end."""

    name: str = "NVIDIA Orin"
    capability: tuple[int, int] = (8, 7)
    memory: int = 4096 * MIB
    cu_init: int = 0
    scratch: int = MIB  # of an execution context
    builds: int = 0
    build_fails: str = ""
    run_fails: str = ""
    asked: bool = False
    used: int = 0
    at: dict[int, bytearray] = field(default_factory=dict)
    pinned: list[np.ndarray] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    stacks: dict[int, list[object]] = field(default_factory=dict)

    @property
    def stack(self) -> list[object]:
        """Contexts of this thread, the current one last."""
        return self.stacks.setdefault(threading.get_ident(), [])

    def need_context(self, what: str) -> None:
        if not self.stack:
            raise Crash(f"{what} without a current context")

    def read(self, address: int, count: int) -> np.ndarray:
        """float32 from its memory, a copy."""
        if address not in self.at:
            raise Crash("memory that was freed is read")
        return np.frombuffer(self.at[address], np.float32, count).copy()

    def write(self, address: int, values: np.ndarray) -> None:
        if address not in self.at or values.nbytes > len(self.at[address]):
            raise Crash("written outside of memory")
        self.at[address][: values.nbytes] = values.tobytes()

    def enqueue(self, stream_handle: int, work: Callable[[], None]) -> None:
        streams[stream_handle].queue.append(work)

    @property
    def idle(self) -> bool:
        """Nothing is left on it and no context is current anywhere."""
        return not self.used and not self.at and not any(self.stacks.values()) and not self.faults


class _Driver:
    """libcuda's functions, as ctypes calls them."""

    def __init__(self, gpu: FakeGpu) -> None:
        self.gpu = gpu

    def cuInit(self, flags: int) -> int:
        self.gpu.asked = True
        return self.gpu.cu_init

    def cuGetErrorString(self, code: int, text: Any) -> int:
        text._obj.value = b"fake failure"
        return 0

    def cuDriverGetVersion(self, number: Any) -> int:
        number._obj.value = 13000
        return 0

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        device._obj.value = ordinal
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        name.value = self.gpu.name.encode()
        return 0

    def cuDeviceGetAttribute(self, number: Any, attribute: int, device: Any) -> int:
        number._obj.value = self.gpu.capability[{75: 0, 76: 1}[attribute]]
        return 0

    def cuDeviceTotalMem_v2(self, size: Any, device: Any) -> int:
        assert isinstance(size._obj, ctypes.c_size_t)
        size._obj.value = self.gpu.memory
        return 0


def _module(name: str, content: dict[str, Any]) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__dict__.update(content)
    return module


def make_pycuda(gpu: FakeGpu) -> types.ModuleType:
    """``pycuda.driver``."""

    class Error(Exception):
        pass

    class MemoryError(Error):
        pass

    class LogicError(Error):
        pass

    class Context:
        def push(self) -> None:
            gpu.stack.append(self)

        @staticmethod
        def pop() -> None:
            if not gpu.stack:
                raise LogicError("context::pop failed: invalid device context")
            gpu.stack.pop()

        def detach(self) -> None:
            """Give the primary context back."""

    class Device:
        def __init__(self, ordinal: int) -> None:
            if not started:
                raise LogicError("cuDeviceGet failed: initialization error")

        def retain_primary_context(self) -> Context:
            return primary

    class DeviceAllocation:
        def __init__(self, size: int) -> None:
            gpu.need_context("mem_alloc")
            if gpu.used + size > gpu.memory:
                raise MemoryError("cuMemAlloc failed: out of memory")
            gpu.used += size
            self.address = max([0x1000, *(a + len(b) for a, b in gpu.at.items())])
            gpu.at[self.address] = bytearray(size)

        def __int__(self) -> int:
            return self.address

        def free(self) -> None:
            gpu.need_context("mem_free")
            if self.address not in gpu.at:
                raise LogicError("cuMemFree failed: invalid argument")
            gpu.used -= len(gpu.at.pop(self.address))

    class Stream:
        def __init__(self) -> None:
            gpu.need_context("Stream")
            self.handle = id(self)
            streams[self.handle] = self
            self.queue: list[Callable[[], None]] = []

        def synchronize(self) -> None:
            gpu.need_context("synchronize")
            if gpu.run_fails:
                self.queue.clear()
                raise LogicError(f"cuStreamSynchronize failed: {gpu.run_fails}")
            while self.queue:
                self.queue.pop(0)()

    def page_locked(host: np.ndarray) -> np.ndarray:
        if not any(np.shares_memory(host, p) for p in gpu.pinned):
            raise Crash("an asynchronous copy with memory that is not page-locked")
        return host

    def memcpy_htod_async(device: DeviceAllocation, host: np.ndarray, stream: Stream) -> None:
        page_locked(host)
        if device.address not in gpu.at or host.nbytes > len(gpu.at[device.address]):
            raise LogicError("cuMemcpyHtoDAsync failed: invalid argument")
        stream.queue.append(lambda: gpu.at[device.address].__setitem__(slice(0, host.nbytes), host.tobytes()))

    def memcpy_dtoh_async(host: np.ndarray, device: DeviceAllocation, stream: Stream) -> None:
        page_locked(host)
        if device.address not in gpu.at or host.nbytes > len(gpu.at[device.address]):
            raise LogicError("cuMemcpyDtoHAsync failed: invalid argument")
        stream.queue.append(lambda: host.__setitem__(slice(None), np.frombuffer(gpu.at[device.address], host.dtype, host.size)))

    def pagelocked_empty(shape: int, dtype: Any) -> np.ndarray:
        gpu.need_context("pagelocked_empty")
        gpu.pinned.append(np.full(shape, np.nan, dtype))
        return gpu.pinned[-1]

    started: list[bool] = []
    primary = Context()
    content = {
        "Error": Error, "MemoryError": MemoryError, "LogicError": LogicError, "Context": Context, "Device": Device,
        "Stream": Stream, "mem_alloc": DeviceAllocation, "memcpy_htod_async": memcpy_htod_async,
        "memcpy_dtoh_async": memcpy_dtoh_async, "pagelocked_empty": pagelocked_empty,
        "init": lambda: started.append(True), "mem_get_info": lambda: (gpu.memory - gpu.used, gpu.memory),
    }  # fmt: skip
    return _module("pycuda.driver", content)


#: Streams by handle, which is all that TensorRT is told of them.
streams: dict[int, Any] = {}


#: What TensorRT for RTX 1.7.1 said of itself on a GPU that it does not take.
RTX_RUNS_ON = ((8, 0), (8, 6), (8, 9), (12, 0), (12, 1))
RTX_MODULE = "tensorrt_rtx_bindings"


class _Module(types.ModuleType):
    """TensorRT takes the process down when it is touched before anybody asked for a driver."""

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("__") and not super().__getattribute__("__dict__")["_gpu"].asked:
            raise Crash(f"tensorrt.{name} before the driver was asked")
        return super().__getattribute__(name)


def make_tensorrt(gpu: FakeGpu, version: str) -> types.ModuleType:
    """``tensorrt`` of a version. What a generation no longer has is not there: using it is an AttributeError.

    "RTX 1.7.1" is TensorRT for RTX: it builds anywhere, and runs on the GPUs of `RTX_RUNS_ON` alone.
    """
    name = RTX_MODULE if version.startswith("RTX ") else "tensorrt"
    version = version.removeprefix("RTX ")
    major = 11 if name == RTX_MODULE else int(version.split(".")[0])

    class Severity(IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING = Severity.INTERNAL_ERROR, Severity.ERROR, Severity.WARNING
        INFO, VERBOSE = Severity.INFO, Severity.VERBOSE

        def __init__(self) -> None:
            self.base_made = True

        def log(self, severity: Severity, text: str) -> None:
            raise NotImplementedError

    flags = {"TF32": 7, "REFIT": 4, **({"FP16": 0, "INT8": 1} if major < 11 else {})}
    builder_flag = IntEnum("BuilderFlag", flags)  # type: ignore[misc]
    creation = {"STRONGLY_TYPED": 1, **({"EXPLICIT_BATCH": 0} if major < 11 else {})}
    creation_flag = IntEnum("NetworkDefinitionCreationFlag", creation)  # type: ignore[misc]
    io_mode = IntEnum("TensorIOMode", {"NONE": 0, "INPUT": 1, "OUTPUT": 2})  # type: ignore[misc]
    pool = IntEnum("MemoryPoolType", {"WORKSPACE": 0})  # type: ignore[misc]
    data_type = IntEnum("DataType", {"FLOAT": 0, "HALF": 1, "INT8": 2})  # type: ignore[misc]

    class Tensor:
        def __init__(self, name: str, shape: list[Any], kind: str) -> None:
            self.name = name
            self.shape = tuple(n if isinstance(n, int) else -1 for n in shape)
            self.dtype = {"tensor(float)": data_type.FLOAT, "tensor(float16)": data_type.HALF}[kind]

    class Network:
        def __init__(self, typed: bool) -> None:
            self.typed = typed
            self.data = b""
            self.tensors: tuple[list[Tensor], list[Tensor]] = ([], [])

        num_inputs = property(lambda self: len(self.tensors[0]))
        num_outputs = property(lambda self: len(self.tensors[1]))

        def get_input(self, n: int) -> Tensor:
            return self.tensors[0][n]

        def get_output(self, n: int) -> Tensor:
            return self.tensors[1][n]

    class Profile:
        def __init__(self) -> None:
            self.shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

        def set_shape(self, name: str, least: Any, usual: Any, most: Any) -> None:
            three = tuple(tuple(s) for s in (least, usual, most))
            if len({len(s) for s in three}) != 1 or not all(a <= b <= c for a, b, c in zip(*three, strict=True)):
                raise ValueError("inconsistent dimensions")
            self.shapes[name] = three

    class Config:
        def __init__(self) -> None:
            self.profiles: list[Profile] = []
            self.flags = {builder_flag.TF32}
            self.workspace = 0

        def set_memory_pool_limit(self, which: Any, size: int) -> None:
            assert which == pool.WORKSPACE
            self.workspace = size

        def set_flag(self, flag: Any) -> None:
            self.flags.add(builder_flag(flag))

        def clear_flag(self, flag: Any) -> None:
            self.flags.discard(builder_flag(flag))

        def add_optimization_profile(self, profile: Profile) -> int:
            self.profiles.append(profile)
            return len(self.profiles) - 1 if profile.shapes else -1

    class HostMemory(bytearray):
        nbytes = property(len)

    class Builder:
        def __init__(self, logger: ILogger) -> None:
            assert logger.base_made, "the base class was not initialised"
            gpu.need_context("Builder")
            self.logger = logger

        def create_network(self, flags: int = 0) -> Network:
            return Network(bool(flags & 1 << int(creation_flag.STRONGLY_TYPED)))

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> HostMemory | None:
            gpu.need_context("build_serialized_network")
            gpu.builds += 1

            def refuse(why: str) -> None:
                self.logger.log(Severity.ERROR, why)

            if gpu.build_fails:
                return refuse(gpu.build_fails)
            if config.workspace > gpu.memory - gpu.used:
                return refuse("Requested amount of GPU memory could not be allocated")
            shapes = config.profiles[0].shapes if config.profiles else {}
            for t in network.tensors[0]:
                if -1 in t.shape and t.name not in shapes:
                    return refuse(f"Network has dynamic or shape inputs, but no optimization profile: {t.name}")
                if any(w not in (-1, n) for s in shapes.get(t.name, ()) for w, n in zip(t.shape, s, strict=True)):
                    return refuse(f"{t.name}: profile does not fit the network")
            if network.typed and config.flags & {getattr(builder_flag, f, None) for f in ("FP16", "INT8")}:
                return refuse("precision flags on a strongly typed network")
            said = {"version": version, "gpu": gpu.name, "capability": gpu.capability, "shapes": shapes}
            return HostMemory(json.dumps(said).encode() + b"\n" + network.data)

    class ParserError:
        def __init__(self, text: str) -> None:
            self.text = text

        def desc(self) -> str:
            return self.text

    class OnnxParser:
        def __init__(self, network: Network, logger: ILogger) -> None:
            self.network, self.errors = network, list[ParserError]()

        num_errors = property(lambda self: len(self.errors))

        def get_error(self, n: int) -> ParserError:
            return self.errors[n]

        def parse(self, data: bytes) -> bool:
            try:
                model = onnx.load_model_from_string(data)
                session = _session(data)
            except Exception as e:  # noqa: BLE001 - protobuf's and onnxruntime's own
                self.errors.append(ParserError(f"Failed to parse the ONNX model: {type(e).__name__}"))
                return False
            unsigned = {i.name for i in model.graph.initializer if i.data_type == onnx.TensorProto.UINT8}
            if any(n.op_type == "QuantizeLinear" and unsigned & set(n.input) for n in model.graph.node):
                # The real parser only warns, and then reads the numbers as signed ones.
                self.errors.append(ParserError("uint8 zero points are read as int8"))
                return False
            self.network.data = bytes(data)
            self.network.tensors = (
                [Tensor(i.name, i.shape, i.type) for i in session.get_inputs()],
                [Tensor(o.name, _output_shape(session, o.name), o.type) for o in session.get_outputs()],
            )
            return True

    class ExecutionContext:
        def __init__(self, engine: Engine) -> None:
            self.engine = engine
            gpu.used += gpu.scratch
            self.shapes: dict[str, tuple[int, ...]] = {}
            self.addresses: dict[str, int] = {}

        def __del__(self) -> None:
            gpu.used -= gpu.scratch
            if not gpu.stack:
                gpu.faults.append("an execution context went without a current context")

        def set_input_shape(self, name: str, shape: Any) -> bool:
            if not isinstance(shape, (tuple, list)):
                raise TypeError("incompatible function arguments")
            three = self.engine.shapes[name]
            if len(shape) != len(three[0]) or not all(a <= n <= b for a, n, b in zip(three[0], shape, three[2], strict=True)):
                self.engine.log(f"IExecutionContext::setInputShape: {name} {tuple(shape)} is outside the profile")
                return False
            self.shapes[name] = tuple(shape)
            return True

        def set_tensor_address(self, name: str, address: int) -> bool:
            assert isinstance(address, int)
            if name not in self.engine.names:
                return False
            self.addresses[name] = address
            return True

        def infer_shapes(self) -> list[str]:
            return [n for n in self.engine.inputs if n not in self.shapes]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            if name in self.engine.inputs:
                return self.shapes.get(name, self.engine.inputs[name])
            if self.infer_shapes():
                return self.engine.outputs[name]
            return self.compute_shape(name)

        def compute_shape(self, name: str) -> tuple[int, ...]:
            (given,) = self.shapes.values()
            free = self.engine.outputs[name]
            if len(given) == 4 and free[0] != -1:  # a detector: cells of strides 8, 16, 32
                cells = sum((given[2] // s) * (given[3] // s) for s in (8, 16, 32))
                return tuple(cells if n == -1 and i == len(free) - 1 else n for i, n in enumerate(free))
            return tuple(given[0] if n == -1 else n for n in free)

        def execute_async_v3(self, stream_handle: int) -> bool:
            gpu.need_context("execute_async_v3")
            forgotten = [n for n in self.engine.names if n not in self.addresses]
            if forgotten or self.infer_shapes():
                self.engine.log(f"IExecutionContext::enqueueV3: address or shape of {forgotten or self.infer_shapes()} not set")
                return False
            shapes = dict(self.shapes)
            gpu.enqueue(stream_handle, lambda: self.compute(shapes))
            return True

        def compute(self, shapes: dict[str, tuple[int, ...]]) -> None:
            feeds = {n: gpu.read(self.addresses[n], int(np.prod(s))).reshape(s) for n, s in shapes.items()}
            names = list(self.engine.outputs)
            for name, value in zip(names, self.engine.session.run(names, feeds), strict=True):
                gpu.write(self.addresses[name], np.ascontiguousarray(value, np.float32))

    class Engine:
        def __init__(self, plan: bytes, logger: ILogger) -> None:
            head, _, data = plan.partition(b"\n")
            self.log = lambda text: logger.log(Severity.ERROR, text)
            self.shapes = {n: tuple(map(tuple, s)) for n, s in json.loads(head)["shapes"].items()}
            self.session = _session(data)
            self.size = len(plan)
            gpu.used += self.size
            self.inputs = {i.name: Tensor(i.name, i.shape, i.type).shape for i in self.session.get_inputs()}
            self.outputs = {o.name: tuple(_output_shape(self.session, o.name)) for o in self.session.get_outputs()}
            self.names = [*self.inputs, *self.outputs]
            self.num_io_tensors = len(self.names)
            self.num_optimization_profiles = 1

        def __del__(self) -> None:
            gpu.used -= self.size
            if not gpu.stack:
                gpu.faults.append("an engine went without a current context")

        def get_tensor_name(self, n: int) -> str:
            return self.names[n]

        def get_tensor_mode(self, name: str) -> Any:
            return io_mode.INPUT if name in self.inputs else io_mode.OUTPUT

        def get_tensor_dtype(self, name: str) -> Any:
            return data_type.FLOAT

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return {**self.inputs, **self.outputs}[name]

        def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
            assert profile == 0
            return list(self.shapes[name])

        def create_execution_context(self) -> ExecutionContext | None:
            gpu.need_context("create_execution_context")
            if gpu.used + gpu.scratch > gpu.memory:
                self.log("Requested amount of GPU memory could not be allocated")
                return None
            return ExecutionContext(self)

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            gpu.need_context("Runtime")
            self.logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            gpu.need_context("deserialize_cuda_engine")
            try:
                said = json.loads(bytes(plan).partition(b"\n")[0])
                mine = (said["version"], said["gpu"]) == (version, gpu.name)
            except (ValueError, KeyError, TypeError):
                mine = False
            if name == RTX_MODULE and gpu.capability not in RTX_RUNS_ON:  # as seen on a GPU of capability 9.0
                self.logger.log(
                    Severity.ERROR, f"The engine cannot run on this GPU, which has compute capability {gpu.capability}"
                )
                return None
            if not mine:
                self.logger.log(Severity.ERROR, "The engine plan file is not compatible with this version of TensorRT")
                return None
            return Engine(bytes(plan), self.logger)

    module = _Module(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__dict__.update(
        _gpu=gpu, __version__=version, ILogger=ILogger, Builder=Builder, OnnxParser=OnnxParser, Runtime=Runtime,
        BuilderFlag=builder_flag, NetworkDefinitionCreationFlag=creation_flag, TensorIOMode=io_mode, MemoryPoolType=pool,
        DataType=data_type, nptype={data_type.FLOAT: np.float32, data_type.HALF: np.float16}.__getitem__,
    )  # fmt: skip
    return module


def _session(data: bytes) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _output_shape(session: Any, name: str) -> list[int]:
    """As TensorRT works it out: -1 only where it depends on the input's free sizes."""
    shapes = []
    for batch, side in ((1, 32), (2, 64)):
        feeds = {}
        for i in session.get_inputs():
            shape = [n if isinstance(n, int) else side if k >= 2 else batch for k, n in enumerate(i.shape)]
            feeds[i.name] = np.zeros(shape, np.float32)
        shapes.append(session.run([name], feeds)[0].shape)
    return [a if a == b else -1 for a, b in zip(*shapes, strict=True)]


def install(patch: pytest.MonkeyPatch, cache: Path, version: str = "10.3.0", gpu: FakeGpu | None = None) -> FakeGpu:
    """Put a GPU with its driver, PyCUDA and TensorRT into this process; engines are kept below ``cache``."""
    gpu = gpu or FakeGpu()
    driver = make_pycuda(gpu)
    patch.setattr(_cuda, "_driver", lambda: _Driver(gpu))
    patch.setattr(_cuda, "_held", None)
    patch.setattr(_tensorrt, "trial", lambda: "")  # a process of its own would not see what is put in here
    patch.setitem(sys.modules, "pycuda", _module("pycuda", {"driver": driver, "__path__": []}))
    patch.setitem(sys.modules, "pycuda.driver", driver)
    trt = make_tensorrt(gpu, version)
    patch.setitem(sys.modules, "tensorrt", None)
    patch.setitem(sys.modules, trt.__name__, trt)
    patch.setenv("XDG_CACHE_HOME", str(cache))
    _tensorrt.logger_of.cache_clear()
    return gpu
