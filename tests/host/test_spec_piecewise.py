"""Piecewise CUDA graphs of a server that speculates, through the host's own methods."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from models.test_support import server_args
from sglang.srt.managers.overlap_utils import decide_needs_cpu_seq_lens
from sglang.srt.plugins.hook_registry import HookType, _wrap_fn
from sglang.srt.server_args import ServerArgs

from sglang_glm52.host.hooks.spec_piecewise import leave_out


@pytest.fixture(autouse=True)
def _hooked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrapped as the host's registry wraps it, on a machine that could capture such graphs."""
    hooked = _wrap_fn(ServerArgs._handle_piecewise_cuda_graph, leave_out, HookType.AROUND)
    monkeypatch.setattr(ServerArgs, "_handle_piecewise_cuda_graph", hooked)
    monkeypatch.setattr("sglang.srt.server_args.is_cpu", lambda: False)


def handle(model_type: str = "glm_moe_dsa", **given: object) -> ServerArgs:
    args = server_args(model_path="GLM-5.2", disable_piecewise_cuda_graph=False, **given)
    config = SimpleNamespace(model_type=model_type)
    args.get_model_config = lambda: SimpleNamespace(
        hf_config=config, is_piecewise_cuda_graph_disabled_model=False, is_multimodal=False
    )
    args._handle_piecewise_cuda_graph()
    return args


def test_a_server_that_speculates_captures_none_and_fetches_no_lengths() -> None:
    args = handle(speculative_algorithm="EAGLE")
    assert args.disable_piecewise_cuda_graph
    assert not decide_needs_cpu_seq_lens(args, [SimpleNamespace(needs_cpu_seq_lens=False)])


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"speculative_algorithm": "EAGLE", "model_type": "deepseek_v32"},
        {"speculative_algorithm": "EAGLE", "enforce_piecewise_cuda_graph": True},
    ],
    ids=["no speculation", "another model", "asked for"],
)
def test_others_keep_theirs(given: dict[str, object]) -> None:
    assert not handle(**given).disable_piecewise_cuda_graph
