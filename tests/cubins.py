"""What a compiled kernel needs of a GPU, by the tools that Triton brings along."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import triton

from sglang_glm52.kernels.cuda_source import Macros

Compile = Callable[[Path, Macros], Path]  # the fixture `hopper_cubin`

_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


def resources(cubin: Path) -> dict[str, dict[str, int]]:
    """Kernel -> REG, STACK, LOCAL, SHARED and more; bytes but for registers."""
    kernels = re.findall(r"Function (\w+):\s+(.*)", _tool("cuobjdump", "--dump-resource-usage", cubin))
    return {name: {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", line)} for name, line in kernels}


def code(cubin: Path) -> str:
    """The machine code as text."""
    return _tool("nvdisasm", "-c", cubin)


def _tool(name: str, *arguments: str | Path) -> str:
    return subprocess.run([_TOOLS / name, *arguments], check=True, capture_output=True, text=True).stdout
