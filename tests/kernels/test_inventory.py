"""The table of kernels, and the document made from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sglang_glm52.commands.bench import BENCHES
from sglang_glm52.kernels import docs
from sglang_glm52.kernels.inventory import KERNELS

ROOT = Path(__file__).parents[2]


def test_names_are_unique():
    names = [kernel.name for kernel in KERNELS]
    functions = [each.function for kernel in KERNELS for each in kernel.implementations]
    assert len(names) == len(set(names)) and len(functions) == len(set(functions))


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_a_kernel_names_a_bench_that_exists(kernel):
    command, bench, what = kernel.bench.split()
    assert (command, bench) == ("glm52", "bench") and what in BENCHES


def test_the_document_is_up_to_date():
    assert (ROOT / "docs/kernels.md").read_text() == docs.kernels_markdown(), docs.__doc__
