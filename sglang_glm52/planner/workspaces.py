"""What a server allocates besides weights and KV cache, on one GPU. Sizes from shapes, or constants with a source."""

from __future__ import annotations

from dataclasses import dataclass

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.planner.constants import (
    DRAFT_TOKENS,
    GRAPH_BYTES_PER_ROW,
    LOGITS_FRACTION,
    LOGITS_FRACTION_OF_ALL,
    MARGIN_BYTES,
    METADATA_BYTES,
    PIECEWISE_GRAPH_BYTES,
)
from sglang_glm52.planner.kv import Pool, index_key_bytes
from sglang_glm52.planner.scenario import Scenario

INT32 = FLOAT32 = 4
BF16 = 2
PADDED_HEADS = 64  # FlashMLA's sparse kernels work on at least as many query heads
EXTRA_POSITIONS = 4  # columns of the request table beyond the context (`get_req_to_token_extra_context_len`)


@dataclass(frozen=True, slots=True)
class Workspace:
    """One kind of memory and where its size is from."""

    name: str
    num_bytes: int
    source: str


def standing_workspaces(scenario: Scenario) -> tuple[Workspace, ...]:
    """What is there from the start on, whatever is served."""
    rows, drafts = scenario.running_per_rank, DRAFT_TOKENS if scenario.use_mtp else 0
    columns = scenario.context + EXTRA_POSITIONS + drafts
    graph_rows = rows * max(1, drafts)
    num_graph_tables = 2 if scenario.use_mtp else 1  # verification and the draft's own pass
    return (
        Workspace(
            "request table",
            (rows + 1) * columns * INT32,
            "shape: (running requests + 1) x context, int32 (ReqToTokenPool)",
        ),
        Workspace(
            "CUDA graphs: page tables",
            num_graph_tables * graph_rows * columns * INT32,
            "shape: rows of the largest graph x context, int32 (DSA backend, init_cuda_graph_state)",
        ),
        Workspace(
            "CUDA graphs: indexer logits",
            graph_rows * scenario.context * FLOAT32,
            "shape: rows of the largest graph x context, float32, one layer after the other",
        ),
        Workspace("CUDA graphs: the rest", int(GRAPH_BYTES_PER_ROW.value * graph_rows), GRAPH_BYTES_PER_ROW.source),
        Workspace("piecewise CUDA graphs", int(PIECEWISE_GRAPH_BYTES.value), PIECEWISE_GRAPH_BYTES.source),
        Workspace("metadata", int(METADATA_BYTES.value), METADATA_BYTES.source),
        Workspace("margin", int(MARGIN_BYTES.value), MARGIN_BYTES.source),
    )


def prefill_workspaces(
    arch: Glm52Arch, scenario: Scenario, mem_fraction_static: float, free_bytes: int
) -> tuple[Workspace, ...]:
    """What a chunk of a long prefill takes; `free_bytes`: what all else leaves.

    Added up as if at their peaks together: torch's allocator rarely reuses the memory of one for another.
    """
    return (
        Workspace(
            "prefill: indexer logits",
            _logits_bytes(scenario, mem_fraction_static, free_bytes),
            f"shape: chunk x context, float32, but at most {LOGITS_FRACTION.value:.0%} of what is free and of what "
            f"--mem-fraction-static leaves ({LOGITS_FRACTION.source})",
        ),
        Workspace(
            "prefill: indexer keys",
            scenario.context * index_key_bytes(arch, Pool.HOST, scenario.kv_dtype),
            "shape: one request's keys of one layer, gathered",
        ),
        Workspace("prefill: activations", _activation_bytes(arch, scenario), "shapes of one layer, not measured"),
    )


def _logits_bytes(scenario: Scenario, mem_fraction_static: float, free_bytes: int) -> int:
    """The host computes them in pieces that keep to a budget (`Indexer._get_mqa_logits_budget_bytes`)."""
    total = scenario.gpu.total_bytes
    wanted = scenario.chunked_prefill_size // scenario.parallel.dp * scenario.context * FLOAT32
    budget = LOGITS_FRACTION.value * min(total * (1 - mem_fraction_static), max(0, free_bytes))
    return int(min(wanted, budget, total * LOGITS_FRACTION_OF_ALL.value))


def _activation_bytes(arch: Glm52Arch, scenario: Scenario) -> int:
    """Peak of one layer, attention or experts, whichever is larger, above the rows that live through the layer.

    Under DP attention a rank attends to its share of the chunk, and its experts see the whole chunk.
    """
    chunk, dp = scenario.chunked_prefill_size, scenario.parallel.dp
    stream = 5 * arch.hidden_size * BF16  # residual, normed input, gathered input, shared expert's output, result
    attention = _attention_bytes(arch, scenario.parallel.attn_tp) * (chunk // dp)
    experts = _experts_bytes(arch, scenario.parallel.expert_tp) * chunk
    return stream * chunk + max(attention, experts)


def _attention_bytes(arch: Glm52Arch, attn_tp: int) -> int:
    """A token's queries by head, the same absorbed and padded, and the attended latents, padded and not; bf16."""
    heads = arch.num_heads // attn_tp
    padded = max(heads, PADDED_HEADS)
    latent = arch.kv_lora_rank
    return BF16 * (
        heads * (arch.qk_head_dim + arch.v_head_dim + latent) + padded * (2 * latent + arch.qk_rope_head_dim)
    )


def _experts_bytes(arch: Glm52Arch, expert_tp: int) -> int:
    """A token's copies in expert order.

    W4AFP8 (quant/dynamic_experts.py): at the end each copy exists as bf16, times its scale in float32, and bf16 again.
    Otherwise (the host's fused kernels): gate and up, the inner activation, and the output, bf16.
    """
    hidden, inner = arch.hidden_size, arch.moe_intermediate_size // expert_tp
    if arch.has_int4_experts:
        copy = hidden * (BF16 + FLOAT32 + BF16) + 2 * inner * (BF16 + FLOAT32) + inner
    else:
        copy = (hidden + 3 * inner) * BF16
    return arch.num_experts_per_token * copy
