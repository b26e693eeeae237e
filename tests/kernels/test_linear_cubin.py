"""What the kernel of `fp8_linear` needs of a GPU, read from cubins; compiling them needs none."""

from __future__ import annotations

import re

import cubins
import pytest

from sglang_glm52.kernels.fp8_linear.cases import LAYERS, Case
from sglang_glm52.kernels.fp8_linear.fused import SOURCE, macros
from sglang_glm52.kernels.fp8_linear.tuning import choose_tuning, token_tiles

MULTIPROCESSORS, REGISTERS, BLOCK_SHARED_BYTES = 132, 65536, 227 * 1024  # of an H200
TOKENS = (1, 8, 16)  # one for each tuning of a shape
CALLS = [Case(num_tokens, *shape, why) for shape, why in LAYERS.items() for num_tokens in TOKENS]


@pytest.mark.parametrize("case", CALLS, ids=str)
def test_weights_are_on_their_way_before_the_kernel_waits(case: Case, hopper_cubin: cubins.Compile) -> None:
    """All in registers, none of which spills; and blocks fit on a multiprocessor."""
    tuning = choose_tuning(case.outputs, case.inputs, case.num_tokens, MULTIPROCESSORS)
    tiles = token_tiles(case.num_tokens)
    path = hopper_cubin(SOURCE, macros(tuning, case.outputs, case.inputs, tiles))
    [used] = cubins.resources(path).values()
    assert used["STACK"] == used["LOCAL"] == 0, used
    assert tuning.warps * 32 * used["REG"] <= REGISTERS, used
    assert tuning.shared_bytes(tiles) + used["SHARED"] <= BLOCK_SHARED_BYTES, used
    before_the_wait, _ = cubins.code(path).split("ACQBULK")
    assert len(re.findall(r"\bLDG\.E\.NA\.\S*128", before_the_wait)) == 4 * tuning.units
