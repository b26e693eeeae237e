"""What the package's shape promises: who may import whom, one job a file, errors that are not swallowed."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from import_graph import PACKAGE, ROOT, closure, imported_names, sources

HEAVY = {"torch", "sglang", "transformers", "triton"}
MAX_LINES = 400


def top_level(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("where", ["arch", "errors", "formats", "planner", "quantize", "tiny", "parsers/scanner"])
def test_tools_need_no_sglang(where):
    """They run where SGLang does not, and no second host version can break them."""
    for file in sources(where):
        assert "sglang" not in top_level(closure(file)), file


def test_kernels_need_torch_triton_and_cudas_bindings_alone():
    allowed = {"torch", "triton", "cuda", "sglang_glm52", *sys.stdlib_module_names}
    for file in sources("kernels"):
        names = imported_names(file)
        if file.name != "bench.py":
            assert top_level(names) <= allowed, file
            used = [name for name in names if name.startswith("cuda.")]
            assert all(name.startswith(("cuda.bindings", "cuda.pathfinder")) for name in used), file
            own = {name for name in names if name.startswith("sglang_glm52.")}
            assert all(name.startswith(("sglang_glm52.kernels", "sglang_glm52.formats")) for name in own), file


@pytest.mark.parametrize("module", ["__init__", "plugin", "cli", "env", "host/ledger", "host/docs", "host/guard"])
def test_light_modules_import_nothing_heavy(module):
    """SGLang imports the plugin in every process of every model; a failure there could not be kept."""
    [file] = sources(module)
    assert not top_level(closure(file, at_import_only=True)) & HEAVY


def test_only_the_host_folder_knows_the_hook_registry():
    users = [f for f in sources() if any("hook_registry" in name for name in imported_names(f))]
    assert users and all(file.is_relative_to(PACKAGE / "host") for file in users)


def all_files() -> list[Path]:
    return [*sources(), *sorted((ROOT / "tests").rglob("*.py"))]


@pytest.mark.parametrize("file", all_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_has_one_job(file):
    lines = len(file.read_text().splitlines())
    assert lines <= MAX_LINES, f"{lines} lines, at most {MAX_LINES}: split it by what it decides"


def test_errors_are_not_swallowed():
    """`except Exception` stands nowhere but where a command ends; a bare `except` nowhere at all."""
    broad = []
    for file in sources():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ExceptHandler) and (
                node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
            ):
                broad.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert [place for place in broad if not place.startswith("sglang_glm52/cli.py")] == []
