"""Compiling CUDA C++ needs no GPU: what the compiler is given, what it says, and what is kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sglang_glm52.kernels import cuda_source
from sglang_glm52.kernels.cuda_source import compile_cubin, header_folder

KERNEL = (
    '#include <cuda_fp16.h>\nextern "C" __global__ void fill(__half* to) { to[threadIdx.x] = __float2half(VALUE); }\n'
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sglang_glm52" / "cubin"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "fill.cu"
    path.write_text(KERNEL)
    return path


def test_a_cubin_holds_the_kernel_under_its_name(source: Path) -> None:
    cubin = compile_cubin(source, (("VALUE", 1),), "sm_90a")
    assert cubin.startswith(b"\x7fELF") and b".text.fill\0" in cubin


def test_macros_and_target_reach_the_compiler(source: Path) -> None:
    cubins = {compile_cubin(source, (("VALUE", value),), arch) for value in (1, 2) for arch in ("sm_90a", "sm_100a")}
    assert len(cubins) == 4


def test_a_second_call_reads_what_the_first_wrote(source: Path, cache: Path) -> None:
    cubin = compile_cubin(source, (("VALUE", 1),), "sm_90a")
    [kept] = cache.iterdir()  # and no unfinished file beside it
    assert kept.read_bytes() == cubin
    kept.write_bytes(b"kept")
    assert compile_cubin(source, (("VALUE", 1),), "sm_90a") == b"kept"


def test_a_changed_source_is_compiled_again(source: Path, cache: Path) -> None:
    first = compile_cubin(source, (("VALUE", 1),), "sm_90a")
    source.write_text(KERNEL.replace("threadIdx.x", "blockIdx.x"))
    assert compile_cubin(source, (("VALUE", 1),), "sm_90a") != first
    assert len(list(cache.iterdir())) == 2


def test_an_error_carries_the_compilers_words(source: Path, cache: Path) -> None:
    with pytest.raises(RuntimeError, match=r'(?s)fill\.cu does not compile with .*identifier "VALUE" is undefined'):
        compile_cubin(source, (), "sm_90a")
    assert not cache.exists()


def test_missing_headers_say_what_to_install(source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert (header_folder() / "cuda_fp16.h").exists()
    monkeypatch.setattr(cuda_source, "header_candidates", lambda: [tmp_path / "empty"])
    with pytest.raises(FileNotFoundError, match=r"none of .*empty; install the wheel nvidia-cuda-runtime"):
        compile_cubin(source, (("VALUE", 1),), "sm_90a")


def test_a_toolkit_is_found_by_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert tmp_path / "include" in cuda_source.header_candidates()


def test_tilelangs_functions_are_not_taken_for_nvrtcs(source: Path) -> None:
    """SGLang imports TileLang, whose own nvrtc* functions abort the process."""
    code = (
        "import tilelang\nfrom pathlib import Path\nfrom sglang_glm52.kernels.cuda_source import compile_cubin\n"
        f"compile_cubin(Path({str(source)!r}), (('VALUE', 1),), 'sm_90a')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
