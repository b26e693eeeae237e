"""The order of a round worker's measurements, and that each is written as it comes; the engine is made up."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from bench.rounds_made_up import ENVIRONMENT, phase

from sglang_glm52.bench import round_worker
from sglang_glm52.bench.round_worker import measure
from sglang_glm52.bench.shard_result import ShardResult
from sglang_glm52.bench.shard_spec import ShardSpec
from sglang_glm52.bench.speculation import Speculation

SPEC = ShardSpec(
    which="ours",
    model_dir="/tmp/model",
    fmt="w4afp8",
    batches=(1, 2),
    context=8,
    chunk=16,
    kv="fp8_e4m3",
    fuse_shared_experts=False,
    seed=1,
    log_level="warning",
    speculations=(Speculation(3, 1, 4), Speculation(1, 1, 2)),
)


class FakeEngine:
    model_class, draft_class, vocab_size, stream = "x.Target", "x.Draft", 32, None

    def __init__(self) -> None:
        shared, own = torch.nn.Linear(8, 8), torch.nn.Linear(4, 4)
        draft = torch.nn.ModuleList([shared, own])
        self.target, self.draft = SimpleNamespace(model=shared), SimpleNamespace(model=draft)
        logits = SimpleNamespace(next_token_logits=torch.zeros(4, 32))
        self.result = SimpleNamespace(logits_output=logits, can_run_cuda_graph=True)
        self.said: list[str] = []

    def captured_batches(self) -> list[int]:
        return [1, 2]

    def configure(self, speculation: Speculation) -> None:
        self.said.append(str(speculation))

    def start(self, prompts, max_new_tokens: int) -> None:
        assert {len(prompt) for prompt in prompts} == {SPEC.context} and max_new_tokens == SPEC.new_tokens
        self.said.append(f"start {len(prompts)}")

    def step(self) -> None:
        raise AssertionError("timed by the made-up time_phase")

    def accepted(self) -> float:
        return 0.5

    def stop(self) -> None:
        self.said.append("stop")

    @contextmanager
    def plain(self):
        self.said.append("plain")
        yield self


@pytest.fixture
def engine(monkeypatch) -> FakeEngine:
    engine = FakeEngine()
    monkeypatch.setattr(round_worker, "build_engine", lambda spec: engine)
    monkeypatch.setattr(round_worker, "current_environment", lambda: ENVIRONMENT)
    monkeypatch.setattr(round_worker, "time_phase", lambda *_, **__: phase(20.0, 23.0))
    monkeypatch.setattr(round_worker, "time_decode", lambda *_: phase(10.0, 21.0))
    return engine


def test_the_first_setting_then_plain_decode_then_the_others(engine, tmp_path):
    measure(SPEC, tmp_path / "ours.json")
    rounds = ["start 1", "stop", "start 2", "stop"]
    assert engine.said == ["3-1-4", *rounds, "plain", "1-1-2", *rounds]
    result = ShardResult.read(tmp_path / "ours.json")
    names = ["EAGLE 3-1-4 batch 1", "EAGLE 3-1-4 batch 2", "decode batch 1", "decode batch 2"]
    assert list(result.phases) == [*names, "EAGLE 1-1-2 batch 1", "EAGLE 1-1-2 batch 2"]
    assert result.accepted["EAGLE 1-1-2 batch 2"] == 0.5 and "decode batch 1" not in result.accepted
    assert (result.model_class, result.draft_class) == ("x.Target", "x.Draft")


def test_shared_weights_count_once(engine, tmp_path):
    measure(SPEC, tmp_path / "ours.json")
    assert ShardResult.read(tmp_path / "ours.json").weight_gb == pytest.approx(4 * (8 * 8 + 8 + 4 * 4 + 4) / 1e9)


def test_a_cut_off_worker_leaves_what_it_measured(engine, tmp_path, monkeypatch):
    def cut_off(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(round_worker, "time_decode", cut_off)
    with pytest.raises(KeyboardInterrupt):
        measure(SPEC, tmp_path / "ours.json")
    assert list(ShardResult.read(tmp_path / "ours.json").phases) == ["EAGLE 3-1-4 batch 1", "EAGLE 3-1-4 batch 2"]


def test_rounds_without_a_graph_are_refused(engine, tmp_path):
    engine.result.can_run_cuda_graph = False
    with pytest.raises(RuntimeError, match="the verify step of batch 1 ran without its CUDA graph"):
        measure(SPEC, tmp_path / "ours.json")


def test_values_that_are_not_finite_are_refused(engine, tmp_path):
    engine.result.logits_output.next_token_logits[0, 0] = float("nan")
    with pytest.raises(RuntimeError, match="verify of batch 1: 1 of 128 logits are not finite"):
        measure(SPEC, tmp_path / "ours.json")
