import pytest

from sglang_glm52.bench.kernel_table import KernelRow
from sglang_glm52.bench.record import Environment
from sglang_glm52.bench.shard_result import Phase, ShardResult
from sglang_glm52.bench.spread import Spread


def table(ms: float) -> tuple[KernelRow, ...]:
    return (KernelRow("a", 2.0, ms - 1.0), KernelRow("b", 1.0, 1.0))


def test_a_phase_shows_the_median_profile_and_the_range_of_all():
    phase = Phase.of([5.0, 7.0, 6.0], [table(4.0), table(9.0), table(5.0)])
    assert phase.wall_ms == Spread(6.0, 5.0, 7.0)
    assert phase.kernel_ms == Spread(5.0, 4.0, 9.0)
    assert phase.kernels == table(5.0) and phase.launches == 3


def test_a_result_survives_its_file(tmp_path):
    result = ShardResult(
        model_class="sglang.srt.models.glm4_moe.GlmMoeDsaForCausalLM",
        environment=Environment(gpu="NVIDIA H200", driver="580", torch="2.11.0", sglang="0.5.13.post1", commit="abc"),
        weight_gb=95.5,
        experts_hit={1: 8.0, 16: 101.5},
        phases={"prefill 8192": Phase.of([900.0], [table(800.0)])},
        draft_class="sglang.srt.models.deepseek_nextn.DeepseekV3ForCausalLMNextN",
        accepted={"EAGLE 3-1-4 batch 1": 0.25},
    )
    result.write(tmp_path / "host.json")
    assert ShardResult.read(tmp_path / "host.json") == result


def test_a_result_that_is_not_a_number_is_not_written(tmp_path):
    phase = Phase.of([float("nan")], [table(1.0)])
    environment = Environment(gpu="", driver="", torch="", sglang="", commit=None)
    result = ShardResult(model_class="", environment=environment, weight_gb=0.0, experts_hit={}, phases={"p": phase})
    with pytest.raises(ValueError):
        result.write(tmp_path / "host.json")
