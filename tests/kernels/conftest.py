"""Triton kernels are tested on a GPU or, with TRITON_INTERPRET=1 set before Triton is imported, without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cubins import Compile

    from sglang_glm52.kernels.cuda_source import Macros


@pytest.fixture(scope="session")
def triton_device() -> str:
    """Where Triton kernels run, ready to run them."""
    from triton_interpreter import IS_INTERPRETED, repair  # imports Triton

    if not IS_INTERPRETED:
        return "cuda"
    repair()
    return "cpu"


@pytest.fixture(scope="module")
def hopper_cubin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compile]:
    """Compiles a source with macros for sm_90a, and keeps the result while a module's tests run; the cubin's path."""
    from sglang_glm52.kernels.cuda_source import compile_cubin

    folder = tmp_path_factory.mktemp("cubins")

    def compile_to_file(source: Path, macros: Macros) -> Path:
        path = folder / "kernel.cubin"
        path.write_bytes(compile_cubin(source, macros, "sm_90a"))
        return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield compile_to_file
