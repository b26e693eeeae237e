"""What the kernel of `sparse_mla` needs of a GPU, read from cubins; compiling them needs none."""

from __future__ import annotations

import cubins
import pytest

from sglang_glm52.kernels.sparse_mla.fused import SOURCE, macros
from sglang_glm52.kernels.sparse_mla.kernel import HEADS
from sglang_glm52.kernels.sparse_mla.tuning import choose_tuning

REGISTERS, SHARED_BYTES, BLOCK_RESERVED_BYTES = 65536, 228 * 1024, 1024  # of a multiprocessor of an H200
TOKENS = (4, 16, 32, 64, 256, 8192)  # one for each tuning


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("num_tokens", TOKENS)
def test_as_many_blocks_fit_on_a_multiprocessor_as_are_meant_to(
    num_tokens: int, heads: int, hopper_cubin: cubins.Compile
) -> None:
    """And no register spills, but for four addresses at most."""
    topk = 2048
    tuning = choose_tuning(num_tokens, heads, topk)
    path = hopper_cubin(SOURCE, macros(tuning, heads, topk))
    [used] = cubins.resources(path).values()
    assert used["LOCAL"] == 0, used
    assert used["STACK"] <= 16, used
    assert tuning.resident * tuning.threads * used["REG"] <= REGISTERS, used
    assert tuning.resident * (tuning.shared_bytes(heads, topk) + BLOCK_RESERVED_BYTES) <= SHARED_BYTES
