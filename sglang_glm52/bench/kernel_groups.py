"""Kernels by the part of the model they serve, so that two implementations of a part can be held against each other."""

from __future__ import annotations

import re

OTHER = "everything else"

# First match wins, so the narrower patterns stand first. Names are demangled and include template arguments. Bare words
# are this package's kernels.
_PATTERNS: tuple[tuple[str, str], ...] = (
    ("copies, fills, casts", r"^Mem(cpy|set)|FillFunctor|copy_kernel|CatArrayBatchedCopy"),
    (
        "indexer",
        r"mqa_logits|hadamard|act_quant_kernel|fused_store_indexer|set_k_and_s|index_kernel_indexer|^index_prologue\b",
    ),
    ("index top-k (2048)", r"topk_transform|fast_topk|transform_index_page_table|RadixTopK|FilteredTopK|^index_topk\b"),
    (
        "sparse attention",
        r"^sparse_mla\b|splitkv_mla|flash_fwd_mla|mla_combine|sparse_(attn|attention)?_?fwd|sparse_fp8|get_mla_metadata|FlashAttnFwd",
    ),
    (
        "routed experts, sorting and reordering",
        r"moe_align|count_and_sort_expert|moe_sum|(pre|post)_reorder|src2dst|problem_sizes|expert_offsets"
        r"|get_group_gemm_starts|RadixSort|radix_sort|seg_indptr|fused_align_scatter"
        r"|^(prepare|round_all_h|_order|_count|_start|_place|_quantize_rows|_combine)\b",
    ),
    (
        "routed experts, GEMMs",
        r"fused_moe_kernel|GroupProblemShape|w4a8|m_grouped|grouped_gemm|moe_gemm|^(grouped_)?(gate_up|down)\b",
    ),
    ("activation, SiLU x up", r"act_and_mul|silu_and_mul|silu_mul"),
    ("router top-k (8)", r"grouped_topk|fused_gate|topkGating|biased_topk|^choose_experts\b"),
    ("FP8 quantisation of activations", r"per_token_group_quant|per_token_quant|quant_8bit|per_tensor_quant"),
    ("FP8 dense GEMMs", r"fp8_gemm|w8a8_block|block_fp8|^fp8_linear\b"),
    ("norms", r"rms_?norm|layer_?norm|LayerNorm|RMSNorm"),
    (
        "rope, KV quantise and store",
        r"rope|rotary|mla_kv|kv_buffer|quantize_k_cache|concat_mla|store_kvcache|^mla_prologue\b",
    ),
    (
        "cuBLAS GEMMs (absorb, router, head)",
        r"nvjet|cublas|gemv|splitKreduce|cutlass.*[Gg]emm|sm90_xmma|gemm|^(absorbed_query|head_linear|router_logits)\b",
    ),
    (
        "speculation, trees and slots",
        r"build_tree|[vV]erify_?[tT]ree|tree_speculative|assign_(draft|extend)_cache_locs|assign_req_to_token_pool"
        r"|fill_bonus_tokens|gather_rows_kernel|^_tables\b|seqlens_expand",
    ),
    ("elementwise, reductions", r"at::native|at_cuda|triton_(poi|red|per)_fused"),
)
_COMPILED = tuple((group, re.compile(pattern)) for group, pattern in _PATTERNS)


def group_of(name: str) -> str:
    """The group of a demangled kernel name; OTHER if no pattern knows it."""
    return next((group for group, pattern in _COMPILED if pattern.search(name)), OTHER)
