"""CUDA's run-time compiler, called in its own library whatever else the process has loaded.

TileLang, which SGLang imports, puts functions of the same names into the process that abort where torch has not made
NVRTC's global, and `cuda.bindings.nvrtc` takes those. Names are looked up in NVRTC's library alone here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache

from cuda.pathfinder import load_nvidia_dynamic_lib


def version() -> tuple[int, int]:
    """NVRTC's (major, minor)."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def compile_text(text: bytes, name: str, options: Sequence[str]) -> bytes:
    """CUDA C++ -> the cubin for the one architecture that `options` name.

    Raises:
        RuntimeError: the source has errors; the text is the compiler's log.
    """
    program = ctypes.c_void_p()
    _call("nvrtcCreateProgram", ctypes.byref(program), text, name.encode(), 0, None, None)
    try:
        given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        if _library().nvrtcCompileProgram(program, len(options), given):
            log = _read(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog")
            words = log.rstrip(b"\0\n").decode(errors="replace")
            raise RuntimeError(f"{name} does not compile with {' '.join(options)}:\n{words}")
        return _read(program, "nvrtcGetCUBINSize", "nvrtcGetCUBIN")
    finally:
        _call("nvrtcDestroyProgram", ctypes.byref(program))


def _read(program: ctypes.c_void_p, size_name: str, name: str) -> bytes:
    size = ctypes.c_size_t()
    _call(size_name, program, ctypes.byref(size))
    data = ctypes.create_string_buffer(size.value)
    _call(name, program, data)
    return data.raw


def _call(name: str, *arguments: object) -> None:
    status = getattr(_library(), name)(*arguments)
    if status:
        raise RuntimeError(f"{name}: {_library().nvrtcGetErrorString(status).decode()}")


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(load_nvidia_dynamic_lib("nvrtc").abs_path)
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library
