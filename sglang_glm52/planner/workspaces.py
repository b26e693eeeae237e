"""What a server allocates besides weights and KV cache, on one GPU. Sizes from shapes, or constants with a source."""

from __future__ import annotations

from dataclasses import dataclass

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.env import settings
from sglang_glm52.memory.block_size import memory_kept
from sglang_glm52.memory.dequantised_cache import POSITIONS_A_ROW, latent_bytes
from sglang_glm52.memory.score_pieces import key_bytes, score_bytes
from sglang_glm52.planner.constants import (
    FEW_HEADS,
    FUSION_MOST_BYTES,
    FUSION_TOKENS,
    GRAPH_BYTES_PER_ROW,
    INT4_PART_BYTES,
    MARGIN_BYTES,
    METADATA_BYTES,
    MIB,
    PIECEWISE_GRAPH_BYTES,
)
from sglang_glm52.planner.kv import FP8
from sglang_glm52.planner.parallel import Parallel
from sglang_glm52.planner.scenario import Scenario

INT32 = FLOAT32 = 4
BF16 = 2
PADDED_HEADS = 64  # FlashMLA's sparse kernels work on at least as many query heads
MARGIN, PIECEWISE_GRAPHS = "margin", "piecewise CUDA graphs"
EXTRA_POSITIONS = 4  # columns of the request table beyond the context (`get_req_to_token_extra_context_len`)


@dataclass(frozen=True, slots=True)
class Workspace:
    """One kind of memory and where its size is from."""

    name: str
    num_bytes: int
    source: str


def standing_workspaces(arch: Glm52Arch, scenario: Scenario) -> tuple[Workspace, ...]:
    """What is there from the start on, whatever is served."""
    rows, drafts = scenario.running_per_rank, scenario.draft_tokens
    columns = scenario.context + EXTRA_POSITIONS + drafts
    graph_rows = rows * max(1, drafts)
    return (
        Workspace(
            "request table",
            (rows + 1) * columns * INT32,
            "shape: (running requests + 1) x context, int32 (ReqToTokenPool)",
        ),
        Workspace(
            "CUDA graphs: page tables",
            (graph_rows + _step_tables(scenario) * rows) * columns * INT32,
            "shape: rows of the largest graph x context, int32 (DSA backend, init_cuda_graph_state)",
        ),
        Workspace(
            "CUDA graphs: indexer logits",
            graph_rows * scenario.context * FLOAT32,
            "shape: rows of the largest graph x context, float32, one layer after the other",
        ),
        Workspace(
            "all-reduce fusion",
            _fusion_bytes(arch, scenario.parallel),
            "shape: four buffers of GPUs x 2,048 x hidden, bf16, for attention and as many for experts (FlashInfer)",
        ),
        Workspace("CUDA graphs: the rest", int(GRAPH_BYTES_PER_ROW.value * graph_rows), GRAPH_BYTES_PER_ROW.source),
        Workspace(PIECEWISE_GRAPHS, _piecewise_bytes(scenario), PIECEWISE_GRAPH_BYTES.source),
        Workspace("metadata", int(METADATA_BYTES.value), METADATA_BYTES.source),
        Workspace(MARGIN, int(MARGIN_BYTES.value), MARGIN_BYTES.source),
    )


def prefill_workspaces(arch: Glm52Arch, scenario: Scenario) -> tuple[Workspace, ...]:
    """What a chunk of a long prefill takes.

    Added up as if at their peaks together: torch's allocator rarely reuses the memory of one for another.
    """
    rows, context = scenario.chunked_prefill_size // scenario.parallel.dp, scenario.context
    return (
        Workspace(
            "prefill: indexer logits",
            memory_kept(score_bytes(rows, context), settings().logits_mib * MIB),
            "SGLANG_GLM52_LOGITS_MIB, taken whole by the first batch of more than 32 MiB (memory/score_pieces.py)",
        ),
        Workspace(
            "prefill: indexer keys",
            key_bytes(context),
            "shape: one window's keys of one layer, gathered; taken whole beyond 32 MiB (memory/block_pool.py)",
        ),
        Workspace(
            "prefill: dequantised latents",
            _dequantised_bytes(arch, scenario, rows),
            "shape: one layer's, bf16, of one window; taken whole beyond 32 MiB (memory/dequantised_cache.py)",
        ),
        Workspace("prefill: activations", _activation_bytes(arch, scenario), "shapes of one layer, not measured"),
    )


def _step_tables(scenario: Scenario) -> int:
    """Draft steps after the first, which have page tables of their own: one for all, if rounds are prepared ahead."""
    steps = max(0, scenario.draft_tokens - 2)
    is_ahead = settings().spec_rounds == "ahead" and scenario.parallel.dp == 1
    return min(steps, 1) if is_ahead else steps


def _piecewise_bytes(scenario: Scenario) -> int:
    """SGLang captures none with DP attention, and this package none with speculation (hook `spec_piecewise`)."""
    return 0 if scenario.use_mtp or scenario.parallel.dp > 1 else int(PIECEWISE_GRAPH_BYTES.value)


def _fusion_bytes(arch: Glm52Arch, parallel: Parallel) -> int:
    """What SGLang has FlashInfer allocate, once the KV pool is there, to add, norm and all-reduce in one kernel.

    It does so for one node without DP attention, and for experts within a group of those that share one or, with
    expert parallelism, of those that have different ones (`pre_initialize_workspaces`).
    """
    if parallel.dp > 1:
        return 0
    groups = parallel.attn_tp, parallel.ep if parallel.ep > 1 else parallel.expert_tp
    sizes = [group * FUSION_TOKENS * arch.hidden_size * BF16 for group in groups if group > 1]
    # A buffer for two-shot all-reduces, and three that one-shot ones take in turn.
    return sum(size + 3 * min(size, FUSION_MOST_BYTES) for size in sizes)


def _dequantised_bytes(arch: Glm52Arch, scenario: Scenario, rows: int) -> int:
    """An FP8 cache is dequantised for the bf16 kernel where `--dsa-prefill-backend flashmla_auto` chooses that.

    It does not where this package's own kernel attends (`attention/few_heads.py`).
    """
    is_ours = settings().sparse_attention == "fused" and arch.num_heads // scenario.parallel.attn_tp in FEW_HEADS
    if scenario.kv_dtype != FP8 or is_ours:
        return 0
    return memory_kept(latent_bytes(min(scenario.context, rows * POSITIONS_A_ROW)), latent_bytes(scenario.context))


def _activation_bytes(arch: Glm52Arch, scenario: Scenario) -> int:
    """Peak of one layer, attention or experts, whichever is larger, above the rows that live through the layer.

    Under DP attention a rank attends to its share of the chunk, and its experts see the whole chunk.
    """
    chunk, dp = scenario.chunked_prefill_size, scenario.parallel.dp
    stream = 5 * arch.hidden_size * BF16  # residual, normed input, gathered input, shared expert's output, result
    attention = _attention_bytes(arch, scenario.parallel.attn_tp) * (chunk // dp)
    experts = _experts_bytes(arch, scenario.parallel.expert_tp, chunk)
    return stream * chunk + max(attention, experts)


def _attention_bytes(arch: Glm52Arch, attn_tp: int) -> int:
    """A token's queries by head, the same absorbed and padded, and the attended latents, padded and not; bf16."""
    heads = arch.num_heads // attn_tp
    padded = max(heads, PADDED_HEADS)
    latent = arch.kv_lora_rank
    return BF16 * (
        heads * (arch.qk_head_dim + arch.v_head_dim + latent) + padded * (2 * latent + arch.qk_rope_head_dim)
    )


def _experts_bytes(arch: Glm52Arch, expert_tp: int, num_tokens: int) -> int:
    """What the routed experts make of `num_tokens`, in the order of the experts.

    W4AFP8 (kernels/int4_experts/grouped.py): tokens in FP8, each copy's inner activation in bf16 and FP8, and a part of
    the columns of its output in bf16. Otherwise (the host's fused kernels): gate and up, the inner activation, and the
    output, bf16.
    """
    hidden, inner = arch.hidden_size, arch.moe_intermediate_size // expert_tp
    copies = num_tokens * arch.num_experts_per_token
    if not arch.has_int4_experts:
        return copies * (hidden + 3 * inner) * BF16
    part = min(INT4_PART_BYTES, copies * hidden * BF16)
    return num_tokens * hidden + copies * inner * (BF16 + 1) + part
