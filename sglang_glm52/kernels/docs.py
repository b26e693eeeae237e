"""docs/kernels.md from the inventory: `python -m sglang_glm52.kernels.docs > docs/kernels.md`."""

from __future__ import annotations

from collections.abc import Iterator

from sglang_glm52.kernels.inventory import KERNELS, Implementation, Kernel

_INTRODUCTION = """# Kernels
Generated from `sglang_glm52/kernels/inventory.py` by `python -m sglang_glm52.kernels.docs > docs/kernels.md`.

An operation is a folder of `sglang_glm52/kernels`: `kernel.py` is its public function, `ref.py` the same in plain torch
(it runs on a CPU and reads as the formula), `cases.py` the shapes that tests and benchmark share, `bench.py` its bytes
and flops. Each implementation takes the arguments of the public function and is held to `ref.py`.
"""


def kernels_markdown() -> str:
    """The whole text of docs/kernels.md."""
    return "\n".join([_INTRODUCTION, *(line for kernel in KERNELS for line in _kernel(kernel))]).rstrip() + "\n"


def _kernel(kernel: Kernel) -> Iterator[str]:
    yield f"## {kernel.name}"
    yield kernel.computes
    yield ""
    yield "| implementation | written in | for | GPUs | tests |"
    yield "| --- | --- | --- | --- | --- |"
    yield from map(_implementation, kernel.implementations)
    yield ""
    yield f"- chosen by: {kernel.choice}"
    yield f"- bound: {kernel.bound}"
    yield f"- benchmark: `{kernel.bench}`"
    yield ""


def _implementation(each: Implementation) -> str:
    return f"| `{each.function}` | {each.language} | {each.use} | {each.gpus} | `tests/{each.tests}` |"


if __name__ == "__main__":
    print(kernels_markdown(), end="")
