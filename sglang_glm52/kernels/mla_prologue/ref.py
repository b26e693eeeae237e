"""The operations in plain torch, as the formulas stand. Runs on a CPU.

Every step that ends in bf16 here does so in the host's kernels, and in this package's.
"""

from __future__ import annotations

import torch

from sglang_glm52.formats.fp8_block import E4M3_MAX
from sglang_glm52.kernels.mla_prologue.kernel import GROUP, INDEX_DIM, ROPE

LEAST_ABSMAX = 1e-4  # of an indexer's row: zeros have a scale


def mla_prologue(
    latent: torch.Tensor,
    q_weight: torch.Tensor,
    kv_weight: torch.Tensor,
    eps: float,
    positions: torch.Tensor,
    cos_sin: torch.Tensor,
    slots: torch.Tensor,
    pool: torch.Tensor,
) -> torch.Tensor:
    """See `kernel.py`."""
    q, kv, k_rope = latent.split([q_weight.numel(), kv_weight.numel(), ROPE], dim=1)
    values, scales = quantize_groups(rms_norm(kv, kv_weight, eps))
    rope = rotate(k_rope, positions, cos_sin)
    pool[slots, 0] = torch.cat([_bytes(values), _bytes(scales), _bytes(rope)], dim=1)
    return rms_norm(q, q_weight, eps)


def mla_query(q: torch.Tensor, positions: torch.Tensor, cos_sin: torch.Tensor, out: torch.Tensor) -> None:
    """See `kernel.py`."""
    num_heads = q.shape[1]
    out[:, :num_heads, -ROPE:] = rotate(q[..., -ROPE:], positions, cos_sin)
    out[:, num_heads:] = 0


def absorbed_query(
    q: torch.Tensor, w_kc: torch.Tensor, positions: torch.Tensor, cos_sin: torch.Tensor, num_padded_heads: int
) -> torch.Tensor:
    """See `kernel.py`."""
    num_tokens, num_heads, _ = q.shape
    out = q.new_empty(num_tokens, num_padded_heads, w_kc.shape[2] + ROPE)
    mla_query(q, positions, cos_sin, out)
    product = torch.einsum("thk,hkl->thl", q[..., :-ROPE].float(), w_kc.float())
    out[:, :num_heads, :-ROPE] = product.bfloat16()
    return out


def index_prologue(
    q: torch.Tensor,
    k: torch.Tensor,
    gates: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    eps: float,
    positions: torch.Tensor,
    cos_sin: torch.Tensor,
    slots: torch.Tensor,
    pages: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `kernel.py`."""
    k = torch.nn.functional.layer_norm(k.float(), (INDEX_DIM,), norm_weight, norm_bias, eps).bfloat16()
    q, k = (hadamard(_turn_first(x, positions, cos_sin)).float() for x in (q, k))
    k_scale = _absmax(k) / E4M3_MAX
    store_keys(pages, slots, _e4m3(k / k_scale), k_scale)
    q_scale = torch.exp2(torch.ceil(torch.log2(_absmax(q) / E4M3_MAX)))
    weights = gates.unsqueeze(2) * gates.shape[1] ** -0.5 * q_scale * INDEX_DIM**-0.5
    return _e4m3(q / q_scale), weights


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    x = x.float()
    return (x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + eps) * weight.float()).bfloat16()


def rotate(x: torch.Tensor, positions: torch.Tensor, cos_sin: torch.Tensor) -> torch.Tensor:
    """Turn each pair of neighbours of [num_tokens, (heads,) 64]."""
    cosine, sine = cos_sin[positions].view(-1, *[1] * (x.dim() - 2), ROPE).chunk(2, dim=-1)
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([_fma(a, cosine, -(b * sine)), _fma(b, cosine, a * sine)], dim=-1).flatten(-2).bfloat16()


def quantize_groups(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[num_tokens, width] -> e4m3 [num_tokens, width] and float32 scales [num_tokens, width / 128].

    A group of zeros has scale zero, and its numbers, which are then multiplied by zero, are the largest.
    """
    groups = x.float().unflatten(1, (-1, GROUP))
    scale = groups.abs().amax(dim=2, keepdim=True) / E4M3_MAX
    return _e4m3((groups / scale).nan_to_num(nan=E4M3_MAX)).flatten(1), scale.squeeze(2)


def hadamard(x: torch.Tensor) -> torch.Tensor:
    """The Hadamard transform of the last dimension, over its root: sums and differences at distances 1, 2, 4, ..."""
    width = x.shape[-1]
    out, distance = x.float(), 1
    while distance < width:
        a, b = out.unflatten(-1, (-1, 2, distance)).unbind(-2)
        out, distance = torch.stack([a + b, a - b], dim=-2).flatten(-3), 2 * distance
    return (out * width**-0.5).bfloat16()


def store_keys(pages: torch.Tensor, slots: torch.Tensor, keys: torch.Tensor, scales: torch.Tensor) -> None:
    """Write e4m3 keys [num_tokens, 128] and scales [num_tokens, 1] to their places in pages."""
    page_size = pages.shape[1] // (INDEX_DIM + 4)
    of_keys, of_scales = pages.split([page_size * INDEX_DIM, page_size * 4], dim=1)
    place = slots // page_size, slots % page_size
    of_keys.unflatten(1, (page_size, INDEX_DIM))[place] = _bytes(keys)
    of_scales.unflatten(1, (page_size, 4))[place] = _bytes(scales)


def _fma(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """a * b + c in float32, rounded once: where both nearly cancel, a rounded product would leave other digits."""
    return (a.double() * b.double() + c.double()).float()


def _turn_first(x: torch.Tensor, positions: torch.Tensor, cos_sin: torch.Tensor) -> torch.Tensor:
    return torch.cat([rotate(x[..., :ROPE], positions, cos_sin), x[..., ROPE:]], dim=-1)


def _bytes(x: torch.Tensor) -> torch.Tensor:
    return x.clone(memory_format=torch.contiguous_format).view(torch.uint8)


def _absmax(x: torch.Tensor) -> torch.Tensor:
    return x.abs().amax(dim=-1, keepdim=True).clamp_min(LEAST_ABSMAX)


def _e4m3(x: torch.Tensor) -> torch.Tensor:
    return x.clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn)
