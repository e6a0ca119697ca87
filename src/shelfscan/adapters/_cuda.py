"""The NVIDIA driver, asked directly, and its context for one process.

Libraries that need a driver do not all say so when there is none: importing TensorRT can then end the process. So the driver
is asked first, through ctypes alone, and nothing else of CUDA is imported before it has answered.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from shelfscan.errors import BackendError

DRIVER = "libcuda.so.1"
#: What to do where this is not to be had.
ELSE = "set the backend to openvino or onnx"
#: Numbers of cuda.h.
_NO_DEVICE, _MAJOR, _MINOR = 100, 75, 76


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as the driver names it. ``capability``: CUDA's number of its kind, such as 8.7; ``driver``: the CUDA it speaks."""

    name: str
    capability: str
    driver: str
    memory_mib: int


def find_gpu() -> Gpu:
    """The first GPU that this process may use. Raises `BackendError` saying what is missing."""
    try:
        lib = _driver()
    except OSError as e:
        raise BackendError(f"no NVIDIA driver on this machine ({e}); install it (JetPack brings it), or {ELSE}") from e
    code = int(lib.cuInit(0))
    if code:
        said = "no GPU that it may use" if code == _NO_DEVICE else _reason(lib, code)
        raise BackendError(f"the NVIDIA driver does not start: {said} (cuInit gave {code}); see nvidia-smi, or {ELSE}")
    name, number, device = ctypes.create_string_buffer(256), ctypes.c_int(), ctypes.c_int()
    size = ctypes.c_size_t()
    values = []
    try:
        _ask(lib, "cuDriverGetVersion", ctypes.byref(number))
        driver = f"{number.value // 1000}.{number.value % 1000 // 10}"
        _ask(lib, "cuDeviceGet", ctypes.byref(device), 0)
        _ask(lib, "cuDeviceGetName", name, 256, device)
        for attribute in (_MAJOR, _MINOR):
            _ask(lib, "cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
            values.append(number.value)
        _ask(lib, "cuDeviceTotalMem_v2", ctypes.byref(size), device)
    except AttributeError as e:
        raise BackendError(f"the NVIDIA driver is too old: {e}; update it, or {ELSE}") from e
    capability = f"{values[0]}.{values[1]}"
    return Gpu(name.value.decode(errors="replace"), capability, driver, size.value // 2**20)


def _driver() -> Any:
    return ctypes.CDLL(DRIVER)


def _ask(lib: Any, function: str, *args: object) -> None:
    code = int(getattr(lib, function)(*args))
    if code:
        raise BackendError(f"the NVIDIA driver does not answer: {function}: {_reason(lib, code)}; see nvidia-smi, or {ELSE}")


def _reason(lib: Any, code: int) -> str:
    text = ctypes.c_char_p()
    try:
        lib.cuGetErrorString(code, ctypes.byref(text))
    except AttributeError:
        pass
    return (text.value or b"error").decode(errors="replace") + f" ({code})"


class CudaContext:
    """The primary context of the first GPU: one a process, shared with whatever else of CUDA runs in it.

    A context is current in one thread at a time, or in none: everything that touches the GPU does so within `current`, in
    whichever thread it is called. It is given back at the end of the process, after all that was made later.
    """

    def __init__(self, cuda: Any) -> None:
        self.cuda = cuda
        cuda.init()
        self._context = cuda.Device(0).retain_primary_context()
        weakref.finalize(self, self._context.detach)

    @contextmanager
    def current(self, doing: str) -> Iterator[None]:
        """Make the context current in this thread. What CUDA refuses meanwhile becomes a `BackendError` saying ``doing``."""
        cuda = self.cuda
        try:
            self._context.push()
            try:
                yield
            except cuda.MemoryError as e:
                raise BackendError(f"{doing}: out of GPU memory{self._free()}; end what else uses the GPU, or {ELSE}") from e
            finally:
                self._context.pop()
        except cuda.Error as e:
            raise BackendError(f"{doing}: the GPU failed: {e}; see nvidia-smi and the system's log, or {ELSE}") from e

    def _free(self) -> str:
        try:
            free, total = self.cuda.mem_get_info()
        except self.cuda.Error:
            return ""
        return f" ({free // 2**20} of {total // 2**20} MiB are free)"


_held: CudaContext | None = None
_lock = threading.Lock()


def cuda_context() -> CudaContext:
    """This process's context. Call `find_gpu` first. Raises `BackendError` when PyCUDA is missing or cannot start."""
    global _held
    with _lock:
        if _held is None:
            try:
                import pycuda.driver as cuda
            except (ImportError, OSError) as e:
                raise BackendError(
                    f"PyCUDA cannot be used: {e}; pip install 'shelfscan[tensorrt]' where the CUDA toolkit is, or {ELSE}"
                ) from e
            try:
                _held = CudaContext(cuda)
            except cuda.Error as e:
                raise BackendError(f"the GPU cannot be used: {e}; see nvidia-smi, or {ELSE}") from e
        return _held
