"""What the kernels of `mla_prologue` need of a GPU, read from cubins; compiling them needs none."""

from __future__ import annotations

import re

import cubins
import pytest

from sglang_glm52.kernels.cuda_source import Macros
from sglang_glm52.kernels.mla_prologue.fused import CUDA, absorbed_macros, index_macros, prologue_macros, query_macros

GLM52 = {  # at TP 8, and how many 16-byte loads of weights stand before the wait for the kernel before
    "latent.cu": (prologue_macros(2048, 512), 2048 // 256 + 512 // 256),
    "query.cu": (query_macros(8, 64, 256, 576), 0),
    "absorbed.cu": (absorbed_macros(8, 64, 256, 576, 2), 2 * 192 // 32),
    "index.cu": (index_macros(32, 64), 2),
}


@pytest.mark.parametrize(("source", "macros", "num_loads"), [(name, *each) for name, each in GLM52.items()])
def test_weights_are_on_their_way_before_a_kernel_waits(
    source: str, macros: Macros, num_loads: int, hopper_cubin: cubins.Compile
) -> None:
    """All in registers, none of which spills; each way through a kernel waits, and lets the next one start."""
    path = hopper_cubin(CUDA / source, macros)
    [used] = cubins.resources(path).values()
    assert used["STACK"] == used["LOCAL"] == 0, used
    code = re.findall(r"\b(LDG\.E\S*\.128|ACQBULK|PREEXIT|EXIT)\b", cubins.code(path))
    assert code.count("ACQBULK") == code.count("PREEXIT") > 0
    before = loads = 0
    for word in code:
        before += loads if word == "ACQBULK" else 0
        loads = loads + 1 if word.startswith("LDG") else 0
    assert before == num_loads
