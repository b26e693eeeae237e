"""CUDA C++ files compiled at first use with NVRTC, which torch brings along: no compiler to install, no build step.

Kernels are `extern "C"`, and what a template would vary are macros: one cubin for each set of them, kept on disk. Only
launching needs a GPU, so that a test can compile for one that is not there.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from cuda.bindings import driver

from sglang_glm52.kernels import nvrtc

Argument = torch.Tensor | int | float | None  # a pointer, an int, a float, a null pointer
Macros = tuple[tuple[str, int], ...]

SHARED = Path(__file__).with_name("cuda")  # headers of all kernels
_STANDARD = "--std=c++17"


@dataclass(frozen=True, slots=True)
class Kernel:
    """One `extern "C"` kernel of a loaded cubin."""

    function: driver.CUfunction
    name: str

    def launch(
        self, grid: tuple[int, int], threads: int, shared_bytes: int, args: Sequence[Argument], *, stream: int
    ) -> None:
        """Queue it on a stream (torch's `cuda_stream`), so that it may start before the stream's last kernel ends.

        The kernel must run `griddepcontrol.wait` before it reads what earlier kernels wrote, or writes what they use.
        """
        config = driver.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = *grid, 1
        config.blockDimX, config.blockDimY, config.blockDimZ = threads, 1, 1
        config.sharedMemBytes = shared_bytes
        config.hStream = stream
        config.numAttrs = 1
        config.attrs = [_may_overlap()]
        values, types = zip(*map(_parameter, args), strict=True)
        _check(driver.cuLaunchKernelEx(config, self.function, (values, types), 0), f"launch of {self.name}")


@cache
def load(source: Path, names: tuple[str, ...], macros: Macros, device: torch.device) -> Mapping[str, Kernel]:
    """The kernels of a source, compiled for a device and loaded there once. Not while a CUDA graph is captured.

    Args:
        device: with its index. Its context, which torch makes, must exist: that of any tensor on it does.

    Raises:
        RuntimeError: the compiler or the driver refuses, with its words.
    """
    cubin = compile_cubin(source, macros, device_arch(device))
    with torch.cuda.device(device):
        torch.cuda.current_stream().synchronize()  # makes torch's context current in this thread
        [module] = _check(driver.cuModuleLoadData(cubin), f"loading {source.name}")
        kernels = {}
        for name in names:
            [function] = _check(driver.cuModuleGetFunction(module, name.encode()), f"{name} of {source.name}")
            _allow_all_shared_memory(function, device)
            kernels[name] = Kernel(function, name)
    return kernels


def device_arch(device: torch.device) -> str:
    """The target that has all of the device's instructions: sm_90a for an H100 or H200."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}" + ("a" if major >= 9 else "")


def compile_cubin(source: Path, macros: Macros, arch: str) -> bytes:
    """Compile a file, or read what was compiled before from $XDG_CACHE_HOME (~/.cache) / sglang_glm52 / cubin.

    It may include CUDA's headers, the .cuh files beside it and those that kernels share.

    Raises:
        FileNotFoundError: CUDA's headers are not installed.
        RuntimeError: the source has errors; the text is the compiler's log.
    """
    text = source.read_bytes()
    folders = source.parent, SHARED
    headers = b"".join(path.read_bytes() for folder in folders for path in sorted(folder.glob("*.cuh")))
    options = [_STANDARD, f"--gpu-architecture={arch}", *(f"-D{name}={value}" for name, value in macros)]
    key = hashlib.sha256(repr((nvrtc.version(), options)).encode() + text + headers).hexdigest()
    cached = cache_folder() / f"{source.stem}-{key[:32]}.cubin"
    if cached.exists():
        return cached.read_bytes()
    includes = [f"--include-path={folder}" for folder in (*folders, header_folder())]
    cubin = nvrtc.compile_text(text, source.name, options + includes)
    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=cached.parent, delete=False) as part:  # other ranks compile the same
        part.write(cubin)
    os.replace(part.name, cached)
    return cubin


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sglang_glm52" / "cubin"


def header_folder() -> Path:
    """Where cuda_fp16.h lies."""
    folders = header_candidates()
    for folder in folders:
        if (folder / "cuda_fp16.h").exists():
            return folder
    raise FileNotFoundError(
        "cuda_fp16.h is in none of " + ", ".join(map(str, folders)) + "; install the wheel nvidia-cuda-runtime in the "
        "version of torch's CUDA, or set CUDA_HOME to a CUDA toolkit"
    )


def header_candidates() -> list[Path]:
    """Torch's CUDA wheels (nvidia/cu13, nvidia/cuda_runtime before CUDA 13), then installed toolkits."""
    wheels = importlib.util.find_spec("nvidia")
    roots = [Path(root) for root in wheels.submodule_search_locations] if wheels else []
    folders = [folder for root in roots for folder in sorted(root.glob("c*/include"))]
    folders += [Path(os.environ[name]) / "include" for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    return [*folders, Path("/usr/local/cuda/include")]


def _allow_all_shared_memory(function: driver.CUfunction, device: torch.device) -> None:
    """Without this a block gets 48 KB of dynamic shared memory at most."""
    attributes = driver.CUfunction_attribute
    static = attributes.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES
    [static_bytes] = _check(driver.cuFuncGetAttribute(static, function), "static shared memory")
    most = torch.cuda.get_device_properties(device).shared_memory_per_block_optin - static_bytes
    dynamic = attributes.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    _check(driver.cuFuncSetAttribute(function, dynamic, most), f"{most} bytes of dynamic shared memory")


@cache
def num_multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


@cache
def _may_overlap() -> driver.CUlaunchAttribute:
    attribute = driver.CUlaunchAttribute()
    attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
    attribute.value.programmaticStreamSerializationAllowed = 1
    return attribute


def _parameter(argument: Argument) -> tuple[int | float, type]:
    if argument is None or isinstance(argument, torch.Tensor):
        return 0 if argument is None else argument.data_ptr(), ctypes.c_void_p
    return argument, ctypes.c_float if isinstance(argument, float) else ctypes.c_int


def _check(result: tuple, what: str) -> tuple:
    """A binding's (status, values...) -> values."""
    status, *values = result
    if status.value:
        raise RuntimeError(f"{what}: {status.name}")
    return tuple(values)
