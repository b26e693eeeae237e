"""What the decode path's kernels need of a GPU, read from cubins; compiling them needs none."""

from __future__ import annotations

import cubins
import pytest

from sglang_glm52.kernels.int4_experts.cases import CASES
from sglang_glm52.kernels.int4_experts.decode import FOLDER, SOURCES, macros
from sglang_glm52.kernels.int4_experts.tuning import MAX_SLOTS, Tuning, choose_tuning

REGISTERS, SHARED_BYTES, BLOCK_SHARED_BYTES = 65536, 228 * 1024, 227 * 1024  # of sm_90
RESERVED_BYTES = 1024  # of each block; the dump counts them
MOST_EXPERTS = 256
FITTING = [case for case in CASES if 0 < case.num_tokens * case.topk <= MAX_SLOTS]
CALLS = {(case.hidden, case.inner, slots) for case in FITTING for slots in (case.num_tokens * case.topk, MAX_SLOTS)}
TUNINGS = {(hidden, inner, slots): choose_tuning(hidden, inner, slots) for hidden, inner, slots in sorted(CALLS)}


def resources(
    source: str, tuning: Tuning, hidden: int, inner: int, hopper_cubin: cubins.Compile
) -> dict[str, dict[str, int]]:
    """Kernel -> REG, STACK, LOCAL, and SHARED, bytes that the source declares."""
    path = hopper_cubin(FOLDER / f"{source}.cu", macros(source, tuning, hidden, inner))
    return cubins.resources(path)


@pytest.mark.parametrize("call", TUNINGS, ids=lambda call: "h{}-i{}-slots{}".format(*call))
@pytest.mark.parametrize("source", SOURCES)
def test_kernels_keep_their_values_in_registers(
    source: str, call: tuple[int, int, int], hopper_cubin: cubins.Compile
) -> None:
    found = resources(source, TUNINGS[call], *call[:2], hopper_cubin)
    assert set(found) == set(SOURCES[source])
    for name, used in found.items():
        assert used["STACK"] == used["LOCAL"] == 0, f"{name}: {used}"


@pytest.mark.parametrize("call", TUNINGS, ids=lambda call: "h{}-i{}-slots{}".format(*call))
def test_blocks_fit_on_a_multiprocessor(call: tuple[int, int, int], hopper_cubin: cubins.Compile) -> None:
    (hidden, inner, slots), tuning = call, TUNINGS[call]
    for name, warps, blocks, dynamic in (
        ("gate_up", tuning.gate_warps, tuning.gate_blocks, tuning.gate_up_bytes(slots, MOST_EXPERTS)),
        ("down", tuning.down_warps, 1, tuning.down_bytes(slots, MOST_EXPERTS)),
    ):
        used = resources(name, tuning, hidden, inner, hopper_cubin)[name]
        shared = used["SHARED"] + dynamic
        assert blocks * warps * 32 * used["REG"] <= REGISTERS, name
        assert shared - RESERVED_BYTES <= BLOCK_SHARED_BYTES and blocks * shared <= SHARED_BYTES, (name, shared)
