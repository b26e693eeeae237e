import pytest
import torch
from torch import nn

from sglang_glm52.bench.routing import watch_routers
from sglang_glm52.bench.shard_report import uniform_experts_hit

NUM_EXPERTS, TOP_K = 32, 2


class Router(nn.Module):
    """Logits that put `chosen` [num_tokens, TOP_K] first."""

    def __init__(self, chosen: torch.Tensor) -> None:
        super().__init__()
        self.chosen = chosen
        self.e_score_correction_bias = nn.Parameter(torch.zeros(NUM_EXPERTS), requires_grad=False)

    def forward(self, _hidden: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(self.chosen), NUM_EXPERTS).scatter_(1, self.chosen, 1.0)


def model_of(*routers: nn.Module) -> nn.Module:
    mlps = [nn.ModuleDict({"gate": router, "gate_up_proj": nn.Identity()}) for router in routers]
    layers = nn.ModuleList(nn.ModuleDict({"mlp": mlp}) for mlp in mlps)
    return nn.ModuleDict({"model": nn.ModuleDict({"layers": layers})})


def run(model: nn.Module) -> None:
    for layer in model["model"]["layers"]:
        layer["mlp"]["gate"](torch.zeros(1))


def hits(chosen: torch.Tensor, batch: int) -> float:
    model = model_of(Router(chosen))
    with watch_routers(model, TOP_K) as watch:
        run(model)
    return watch.experts_hit(batch)


def test_rows_that_agree_hit_as_many_as_one():
    assert hits(torch.tensor([[3, 7]]).repeat(8, 1), batch=4) == 2


def test_rows_that_differ_hit_the_sum():
    assert hits(torch.arange(16).view(8, 2), batch=4) == 8


def test_a_batch_is_made_of_distinct_rows_and_the_rest_is_left_out():
    """Seven rows, three batches of two; the last, which alone picks expert 9, is in none."""
    chosen = torch.tensor([[1, 2]] * 6 + [[8, 9]])
    assert hits(chosen, batch=2) == 2


def test_the_correction_bias_takes_part():
    router = Router(torch.tensor([[3, 7], [4, 5]]))
    router.e_score_correction_bias[:2] = 1.0
    model = model_of(router)
    with watch_routers(model, TOP_K) as watch:
        run(model)
    assert watch.experts_hit(2) == 2 and watch.picked[0].sort().values.tolist() == [[0, 1], [0, 1]]


def test_the_mean_is_over_layers():
    model = model_of(Router(torch.tensor([[3, 7], [3, 7]])), Router(torch.tensor([[3, 7], [4, 5]])))
    with watch_routers(model, TOP_K) as watch:
        run(model)
    assert watch.experts_hit(2) == 3


def test_nothing_is_watched_outside_the_context():
    model = model_of(Router(torch.tensor([[3, 7]])))
    with watch_routers(model, TOP_K) as watch:
        pass
    run(model)
    with pytest.raises(ValueError, match="no router was called"):
        watch.experts_hit(1)


def test_too_few_tokens_for_a_batch():
    with pytest.raises(ValueError, match="1 tokens were routed, expected at least one batch of 16"):
        hits(torch.tensor([[3, 7]]), batch=16)


def test_uniform_routing_hits_the_expected_number():
    generator = torch.Generator().manual_seed(0)
    chosen = torch.rand(16_000, NUM_EXPERTS, generator=generator).topk(TOP_K, dim=1).indices
    assert uniform_experts_hit(NUM_EXPERTS, TOP_K, 1) == pytest.approx(TOP_K)
    assert uniform_experts_hit(NUM_EXPERTS, TOP_K, 16) == pytest.approx(hits(chosen, 16), rel=0.01)
