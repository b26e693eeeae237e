"""What the router's kernels need of a GPU, read from cubins; compiling them needs none."""

from __future__ import annotations

import re

import cubins
import pytest

from sglang_glm52.kernels.router.fused import (
    CUDA,
    LOGIT_ROWS,
    LOGIT_SPLITS,
    LOGIT_THREADS,
    choice_macros,
    logit_macros,
)

HIDDEN = 6144


@pytest.mark.parametrize("num_tokens", [1, 16, 32])
def test_weights_are_on_their_way_before_the_kernel_waits(num_tokens: int, hopper_cubin: cubins.Compile) -> None:
    """All in registers, none of which spills."""
    path = hopper_cubin(CUDA / "logits.cu", logit_macros(HIDDEN, num_tokens))
    [used] = cubins.resources(path).values()
    assert used["STACK"] == used["LOCAL"] == 0, used
    before, after = cubins.code(path).split("ACQBULK")
    assert len(re.findall(r"\bLDG\.E\S*\.128", before)) == LOGIT_ROWS * HIDDEN // 8 // LOGIT_SPLITS // LOGIT_THREADS
    assert "PREEXIT" in after


@pytest.mark.parametrize(("num_experts", "topk"), [(256, 8), (40, 8), (1024, 32)])
def test_the_choice_keeps_its_scores_in_registers(num_experts: int, topk: int, hopper_cubin: cubins.Compile) -> None:
    path = hopper_cubin(CUDA / "choice.cu", choice_macros(num_experts, topk))
    [used] = cubins.resources(path).values()
    assert used["STACK"] == used["LOCAL"] == 0, used
