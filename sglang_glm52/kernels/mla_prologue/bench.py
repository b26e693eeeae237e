"""`glm52 bench prologue`: what a layer does between projections and attention, beside the host's kernels for it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import torch

from sglang_glm52.bench.kernel_bench import add_replays, check_timing, graph_us, print_record
from sglang_glm52.bench.record import table
from sglang_glm52.kernels.mla_prologue.cases import (
    CASES,
    EPS,
    KEY_EPS,
    PAGE,
    Case,
    Inputs,
    make_inputs,
    make_pages,
    make_pool,
)
from sglang_glm52.kernels.mla_prologue.kernel import (
    INDEX_DIM,
    ROPE,
    absorbed_query,
    index_prologue,
    mla_prologue,
    mla_query,
)

TIMED = tuple(case for case in CASES if case.timed)
CALLS = 40  # layers in a CUDA graph, each with tensors of its own

Attention = Callable[[Inputs, torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]
Index = Callable[[Inputs, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


add_arguments = add_replays


def run(args: argparse.Namespace) -> int:
    """Print a table and one JSON line. ConfigError: no CUDA GPU, or an option out of range."""
    check_timing("--replays", args.replays)
    results = {str(case): measure(case, args.replays) for case in TIMED}
    names = list(next(iter(results.values())))
    rows = [(str(case), case.why, *results[str(case)].values()) for case in TIMED]
    print(table(("case", "", *(f"{name} us" for name in names)), rows), end="\n\n")
    print_record("prologue", args.replays, results)
    return 0


def measure(case: Case, replays: int) -> dict[str, float]:
    """Median microseconds of a layer in a CUDA graph of layers that share their tokens' positions and slots alone."""
    layers = [make_inputs(case, seed=seed, device="cuda") for seed in range(CALLS)]
    shared = {name: getattr(layers[0], name) for name in ("positions", "slots", "cos_sin")}
    layers = [replace(each, **shared) for each in layers]
    pools = [make_pool(case, "cuda") for _ in layers]
    pages = [make_pages(case, "cuda") for _ in layers]
    times = {}
    ways = {"cuBLAS": own_attention, "absorbed": absorbed_attention, "host's": host_attention}
    for name, attention in ways.items():
        times[name] = graph_us(
            [lambda i=i, p=p, a=attention: a(i, p, case.num_padded_heads) for i, p in zip(layers, pools, strict=True)],
            replays,
        )
    for name, index in {"indexer": own_index, "host's indexer": host_index}.items():
        times[name] = graph_us([lambda i=i, p=p, a=index: a(i, p) for i, p in zip(layers, pages, strict=True)], replays)
    return times


def own_attention(inputs: Inputs, pool: torch.Tensor, num_padded_heads: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The normed query latent, and queries [num_tokens, num_padded_heads, kv_rank + 64]: three launches."""
    q_latent = mla_prologue(*inputs.of_prologue(pool))
    num_tokens, num_heads, _ = inputs.q.shape
    kv_rank = inputs.kv_weight.numel()
    out = inputs.q.new_empty(num_tokens, num_padded_heads, kv_rank + ROPE)
    mla_query(*inputs.of_query(out))
    place = out[:, :num_heads, :kv_rank].transpose(0, 1)
    torch.bmm(inputs.q[..., :-ROPE].transpose(0, 1), inputs.w_kc, out=place)
    return q_latent, out


def absorbed_attention(inputs: Inputs, pool: torch.Tensor, num_padded_heads: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The same in two launches, the product in an order of its own."""
    return mla_prologue(*inputs.of_prologue(pool)), absorbed_query(*inputs.of_absorbed(num_padded_heads))


def host_attention(inputs: Inputs, pool: torch.Tensor, num_padded_heads: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by the host's kernels, in its order; rotary parts of `inputs` are turned in place."""
    from sgl_kernel import rmsnorm
    from sglang.jit_kernel.concat_mla import concat_mla_absorb_q
    from sglang.jit_kernel.rope import apply_rope_with_cos_sin_cache_inplace
    from sglang.srt.layers.attention.dsa.quant_k_cache import quantize_k_cache_separate
    from sglang.srt.mem_cache.triton_ops.mla_buffer import set_mla_kv_buffer_triton

    num_heads, kv_rank = inputs.q.shape[1], inputs.kv_weight.numel()
    q_latent, kv, k_rope = inputs.latent.split([inputs.q_weight.numel(), kv_rank, ROPE], dim=1)
    q_latent, kv = rmsnorm(q_latent, inputs.q_weight, EPS), rmsnorm(kv, inputs.kv_weight, EPS)
    q_nope, q_rope = inputs.q.split([inputs.q.shape[2] - ROPE, ROPE], dim=2)
    absorbed = torch.bmm(q_nope.transpose(0, 1), inputs.w_kc).transpose(0, 1)
    apply_rope_with_cos_sin_cache_inplace(
        q=q_rope, k=k_rope.unsqueeze(1), cos_sin_cache=inputs.cos_sin, positions=inputs.positions, is_neox=False
    )
    set_mla_kv_buffer_triton(pool, inputs.slots, *quantize_k_cache_separate(kv.unsqueeze(1), k_rope.unsqueeze(1)))
    q = concat_mla_absorb_q(absorbed, q_rope)
    if num_padded_heads == num_heads:
        return q_latent, q
    out = q.new_zeros(q.shape[0], num_padded_heads, q.shape[2])
    out[:, :num_heads] = q
    return q_latent, out


def own_index(inputs: Inputs, pages: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """FP8 queries and head weights: one launch."""
    return index_prologue(*inputs.of_index(pages))


def host_index(inputs: Inputs, pages: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by the host's kernels, in its order; `inputs.index_q` is turned in place.

    The host compiles the products of head weights into two kernels; here they are three of torch.
    """
    from flashinfer.norm import layernorm
    from sglang.jit_kernel.fused_store_index_cache import fused_store_index_k_cache
    from sglang.jit_kernel.hadamard import hadamard_transform
    from sglang.jit_kernel.rope import apply_rope_with_cos_sin_cache_inplace
    from sglang.srt.layers.attention.dsa.triton_kernel import act_quant

    scale = INDEX_DIM**-0.5
    weights = inputs.gates * inputs.gates.shape[1] ** -0.5
    q, k = inputs.index_q, layernorm(inputs.index_k, inputs.key_weight, inputs.key_bias, KEY_EPS)
    apply_rope_with_cos_sin_cache_inplace(
        q=q[..., :ROPE],
        k=k[:, :ROPE].unsqueeze(1),
        cos_sin_cache=inputs.cos_sin,
        positions=inputs.positions,
        is_neox=False,
    )
    q, k = hadamard_transform(q, scale=scale), hadamard_transform(k, scale=scale)
    q, q_scale = act_quant(q, INDEX_DIM, "ue8m0")
    fused_store_index_k_cache(k, pages, inputs.slots, PAGE)
    return q, weights.unsqueeze(2) * q_scale * scale


def turned_in_place(inputs: Inputs) -> Inputs:
    """A copy that the host's kernels may change."""
    copies = {name: getattr(inputs, name).clone() for name in ("q", "index_q")}
    latent = torch.empty_strided(inputs.latent.shape, inputs.latent.stride(), dtype=torch.bfloat16, device="cuda")
    return replace(inputs, latent=latent.copy_(inputs.latent), **copies)
