"""Hooks for rounds that are prepared ahead: what they change, and that they keep still for everything else."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from sglang_glm52.arch import MODEL_TYPE
from sglang_glm52.env import settings
from sglang_glm52.host.hooks import (
    spec_chain,
    spec_extend_backend,
    spec_extend_graph,
    spec_step_backends,
)
from sglang_glm52.speculative.chain import lay_out

QUIET = {
    "host's asked for": ("host", MODEL_TYPE, False),
    "another model": ("ahead", "deepseek_v3", False),
    "DP attention": ("ahead", MODEL_TYPE, True),
}
quiet = pytest.mark.parametrize(("rounds", "model_type", "has_dp"), QUIET.values(), ids=QUIET)


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """configure(rounds, model_type, has_dp) -> server arguments of such a process."""

    def make(rounds: str, model_type: str, has_dp: bool = False) -> SimpleNamespace:
        monkeypatch.setenv("SGLANG_GLM52_SPEC_ROUNDS", rounds)
        settings.cache_clear()
        config = SimpleNamespace(hf_config=SimpleNamespace(model_type=model_type))
        args = SimpleNamespace(
            get_model_config=lambda: config,
            enable_dp_attention=has_dp,
            disable_cuda_graph=False,
        )
        monkeypatch.setattr(spec_chain, "get_global_server_args", lambda: args)
        return args

    yield make
    settings.cache_clear()


def build(*args: torch.Tensor | int) -> tuple:
    return spec_chain.build_chain(lambda *given: ("the host's", *given), *args)


def test_a_chain_has_no_mask(configure) -> None:
    configure("ahead", MODEL_TYPE)
    bonus, drafts, lengths = torch.tensor([5, 6]), torch.tensor([[1, 2], [3, 4]]), torch.tensor([70, 9])
    mask, *tree, tokens = build(bonus, None, None, drafts, lengths, 0, 1, 2, 3)
    want_tokens, *want = lay_out(bonus, drafts, lengths)
    assert mask is None and torch.equal(tokens, want_tokens)
    assert all(torch.equal(one, other) for one, other in zip(tree, want, strict=True))


@quiet
def test_else_the_host_builds_its_tree(configure, rounds: str, model_type: str, has_dp: bool) -> None:
    configure(rounds, model_type, has_dp)
    assert build(1, 2, 3, 4, 5, 6, 1, 8, 9) == ("the host's", 1, 2, 3, 4, 5, 6, 1, 8, 9)


@quiet
def test_else_the_host_makes_backends_and_graphs(configure, rounds: str, model_type: str, has_dp: bool) -> None:
    args = configure(rounds, model_type, has_dp)
    runner = SimpleNamespace(server_args=args)
    factory = SimpleNamespace(draft_model_runner=runner)
    for create in (spec_step_backends.create_round_steps, spec_extend_backend.create_extend_backend):
        assert create(lambda self: ("the host's", self), factory) == ("the host's", factory)
    made = []
    worker = SimpleNamespace(draft_runner=runner, server_args=args)
    spec_extend_graph.capture_extend(made.append, worker)
    assert made == [worker] and not hasattr(worker, "cuda_graph_runner_for_draft_extend")
