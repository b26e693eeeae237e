"""Made-up results of `glm52 bench shard --speculative`, for tests."""

from sglang_glm52.bench.kernel_table import KernelRow
from sglang_glm52.bench.record import Environment
from sglang_glm52.bench.shard_result import Phase, ShardResult

ENVIRONMENT = Environment(gpu="NVIDIA H200", driver="580", torch="2.11.0", sglang="0.5.13.post1", commit="abc")
SETTINGS = {"format": "w4afp8", "which": ["ours", "host"], "speculative": ["3-1-4", "1-1-2"]}


def phase(wall_ms: float, indexer_runs: float) -> Phase:
    kernels = (
        KernelRow("void deep_gemm::sm90_fp8_paged_mqa_logits<1u>(unsigned int)", indexer_runs, 0.1),
        KernelRow("void deep_gemm::sched::smxx_paged_mqa_logits_metadata<32u>(unsigned int)", 3.0, 0.01),
        KernelRow("rmsnorm", 312.0, 1.0),
    )
    return Phase.of([wall_ms], [kernels])


def result(model_class: str, phases: dict[str, Phase], accepted: dict[str, float]) -> ShardResult:
    return ShardResult(
        model_class=model_class,
        environment=ENVIRONMENT,
        weight_gb=50.0,
        experts_hit={},
        phases=phases,
        draft_class="x.NextN",
        accepted=accepted,
    )


RESULTS = {
    "ours": result(
        "sglang_glm52.X",
        {
            "EAGLE 3-1-4 batch 1": phase(20.0, 23.0),
            "EAGLE 3-1-4 batch 16": phase(40.0, 23.0),
            "decode batch 1": phase(10.0, 21.0),
            "EAGLE 1-1-2 batch 1": phase(16.0, 22.0),
        },
        {"EAGLE 3-1-4 batch 1": 0.0, "EAGLE 3-1-4 batch 16": 0.0125, "EAGLE 1-1-2 batch 1": 0.0},
    ),
    "host": result("sglang.X", {"EAGLE 3-1-4 batch 1": phase(25.0, 24.0)}, {"EAGLE 3-1-4 batch 1": 0.0}),
}
