"""What the grouped path's CUDA kernel needs of a GPU, read from cubins; compiling them needs none."""

from __future__ import annotations

import cubins
import pytest

from sglang_glm52.kernels.int4_experts.grouped_gate_up import PLACES, SOURCE, THREADS, macros, places_for, shared_memory
from sglang_glm52.kernels.int4_experts.grouped_quantize import bias_columns

REGISTERS, BLOCK_SHARED_BYTES = 65536, 227 * 1024  # of sm_90
RESERVED_BYTES = 1024  # of a block; the dump counts them
# hidden, inner, topk, places
CALLS = [(6144, 256, 8, 144), (6144, 256, 8, 160), (6144, 512, 8, 160), (640, 384, 2, 160)]
MOST_EXPERTS = 256


@pytest.mark.parametrize("call", CALLS, ids=lambda call: "h{}-i{}-top{}-places{}".format(*call))
def test_it_keeps_its_values_in_registers_and_fits(
    call: tuple[int, int, int, int], hopper_cubin: cubins.Compile
) -> None:
    hidden, inner, topk, places = call
    stages, dynamic = shared_memory(places, MOST_EXPERTS)
    constants = macros(hidden, inner, topk, bias_columns(hidden), places, stages)
    cubin = hopper_cubin(SOURCE, constants)
    [(name, used)] = cubins.resources(cubin).items()
    assert name == "grouped_gate_up" and used["STACK"] == used["LOCAL"] == 0, used
    assert used["REG"] * THREADS <= REGISTERS
    assert used["SHARED"] - RESERVED_BYTES + dynamic <= BLOCK_SHARED_BYTES


def test_it_takes_many_tokens_of_experts_up_to_the_widest_tested() -> None:
    assert [places_for(n, 256) for n in (1, 1023, 1024, 3583, 3584, 16384)] == [None, None, 144, 144, 160, 160]
    assert places_for(8192, 512) == PLACES[3584] and places_for(8192, 640) is None
