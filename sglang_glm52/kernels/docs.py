"""docs/kernels.md from the inventory: `python -m sglang_glm52.kernels.docs > docs/kernels.md`."""

from __future__ import annotations

from collections.abc import Iterator

from sglang_glm52.kernels.inventory import KERNELS, Implementation, Kernel

_INTRODUCTION = """# Kernels
Generated from `sglang_glm52/kernels/inventory.py` by `python -m sglang_glm52.kernels.docs > docs/kernels.md`.

An operation is a folder of `sglang_glm52/kernels`: `kernel.py` is its public function, `ref.py` the same in plain torch
(it runs on a CPU and reads as the formula), `cases.py` the shapes that tests and benchmark share, `bench.py` its bytes
and flops. Each implementation takes the arguments of the public function and is held to `ref.py`. The host is SGLang.
"""


_MEMORY_ERRORS = """## Memory errors
`tests/kernels/test_memory_errors.py` calls every kernel with small tensors, for NVIDIA's compute-sanitizer:

    for tool in "memcheck --padding 512 --report-api-errors no" initcheck synccheck racecheck; do
      PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool $tool --target-processes application-only \\
        --error-exitcode 9 python -m pytest -m gpu -p no:xdist tests/kernels/test_memory_errors.py
    done
    compute-sanitizer --tool memcheck --report-api-errors no --target-processes application-only \\
      --error-exitcode 9 python -m pytest -m gpu -p no:xdist tests/kernels/test_memory_errors.py -k graph

The variable gives each tensor an allocation of its own: in a block of the caching allocator an access behind a tensor's
end is no error. Graphs need that allocator, hence the last command. `cuda.bindings` asks the driver for functions that
it does not have; those are the API errors left out. On an H200 (CUDA 13.0) none of the tools found an error in decode,
grouped with Triton's gate and up, the quantiser, `sparse_mla` and `mla_prologue`. memcheck found none in `fp8_linear`,
`index_topk`, `request_tables` and gate and up in CUDA C++ (`-k "linear or topk or tables or m1500"`), and racecheck
none in any of them. For racecheck's sake every lane arrives at the barriers of gate and up in CUDA C++: where one lane
arrives for its warp after `__syncwarp`, the tool reports reads of the others against the copies that refill the buffer,
in a kernel that is nothing but such a hand-over too (`tests/kernels/handover.cu`). memcheck and racecheck found nothing
in `head_linear`, the choice of experts and decode with its prefetches (`-k "router or heads"`, `-k "experts and
decode"`), and memcheck nothing in the router's logits. There racecheck warned of one thread's `mbarrier.init` and its
first arrival at that barrier; a `__syncthreads` lies between the two since, with which it has not run. Results are the
same bits at each call.
"""


def kernels_markdown() -> str:
    """The whole text of docs/kernels.md."""
    operations = [line for kernel in KERNELS for line in _kernel(kernel)]
    return "\n".join([_INTRODUCTION, *operations, _MEMORY_ERRORS])


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
