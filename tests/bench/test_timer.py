import pytest
import torch

from sglang_glm52.bench.kernel_table import tabulate, total_launches, total_ms
from sglang_glm52.bench.timer import profile, step_intervals_ms

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]


@pytest.fixture
def step():
    """A CUDA graph of two products and a fill."""
    a = torch.randn(2048, 2048, device="cuda", dtype=torch.bfloat16)
    out = torch.empty_like(a)
    torch.mm(a, a, out=out)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        torch.mm(a, a, out=out)
        torch.mm(out, a, out=out)
        out.zero_()
    return graph.replay


def test_every_kernel_of_a_graph_is_seen(step):
    rows = tabulate(profile(step, steps=4), steps=4)
    assert total_launches(rows) == 3


def test_a_step_takes_at_least_its_kernels(step):
    intervals = step_intervals_ms(step, steps=20, warmup=3)
    assert len(intervals) == 20
    assert sorted(intervals)[10] >= 0.9 * total_ms(tabulate(profile(step, steps=4), steps=4))
