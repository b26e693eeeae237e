"""What the kernel of `head_linear` needs of a GPU, read from cubins; compiling them needs none."""

from __future__ import annotations

import re

import cubins
import pytest

from sglang_glm52.kernels.head_linear.fused import SOURCE, macros


@pytest.mark.parametrize("heads", [4, 8, 16])
def test_weights_are_on_their_way_before_the_kernel_waits(heads: int, hopper_cubin: cubins.Compile) -> None:
    """All in registers, none of which spills."""
    path = hopper_cubin(SOURCE, macros(heads, 256, 512))
    [used] = cubins.resources(path).values()
    assert used["STACK"] == used["LOCAL"] == 0, used
    before, after = cubins.code(path).split("ACQBULK")
    assert len(re.findall(r"\bLDG\.E\S*\.128", before)) == 2 * 512 // 32
    assert "PREEXIT" in after
