"""Parity by construction: an operation has its reference, cases, bench and test, and they take the same arguments."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import pytest

from sglang_glm52.kernels.inventory import KERNELS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "sglang_glm52/kernels"
EVERY_KERNEL = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)


def test_the_inventory_lists_every_folder():
    folders = {path.parent.name for path in FOLDER.glob("*/__init__.py")}
    assert folders == {kernel.name for kernel in KERNELS}


@EVERY_KERNEL
def test_an_operation_has_all_its_files(kernel):
    files = [FOLDER / kernel.name / f"{part}.py" for part in ("kernel", "ref", "cases", "bench")]
    files += [ROOT / f"tests/kernels/test_{kernel.name}.py"]
    files += [ROOT / "tests" / each.tests for each in kernel.implementations]
    assert [str(file.relative_to(ROOT)) for file in files if not file.is_file()] == []


def test_what_kernels_are_compiled_from_is_in_the_wheel():
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    sources = [path for path in FOLDER.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert [path for path in sources if not is_packaged(path, packaged)] == []
    assert any(path.suffix == ".cu" for path in sources)


def is_packaged(path: Path, packaged: dict[str, list[str]]) -> bool:
    """Whether a pattern of the package that `path` lies in, at any depth, names it."""
    package = next(folder for folder in path.parents if (folder / "__init__.py").is_file())
    patterns = packaged.get(".".join(package.relative_to(ROOT).parts), [])
    return any(path.relative_to(package).match(pattern) for pattern in patterns)


@EVERY_KERNEL
def test_the_package_offers_the_public_function_alone(kernel):
    package = import_module(f"sglang_glm52.kernels.{kernel.name}")
    assert package.__all__ == [kernel.name]
    assert getattr(package, kernel.name).__module__ == f"sglang_glm52.kernels.{kernel.name}.kernel"


@EVERY_KERNEL
def test_every_implementation_and_the_reference_take_the_same_arguments(kernel):
    public = parameters(kernel, f"kernel:{kernel.name}")
    for function in (f"ref:{kernel.name}", *(each.function for each in kernel.implementations)):
        assert parameters(kernel, function) == public, function


def parameters(kernel, function: str) -> list[tuple[str, object, object]]:
    module, name = function.split(":")
    found = inspect.signature(getattr(import_module(f"sglang_glm52.kernels.{kernel.name}.{module}"), name))
    return [(each.name, each.kind, each.default) for each in found.parameters.values()]


@EVERY_KERNEL
def test_the_kernels_docstring_names_its_companions(kernel):
    text = import_module(f"sglang_glm52.kernels.{kernel.name}.kernel").__doc__
    modules = [f"{each.function.split(':')[0]}.py" for each in kernel.implementations]
    expected = ["ref.py", "cases.py", "bench.py", f"tests/kernels/test_{kernel.name}.py", *modules]
    assert [name for name in expected if name not in text] == []


@EVERY_KERNEL
def test_cases_have_distinct_names_and_a_reason(kernel):
    cases = import_module(f"sglang_glm52.kernels.{kernel.name}.cases").CASES
    assert len({str(case) for case in cases}) == len(cases)
    assert all(case.why for case in cases) and any(case.timed for case in cases)
