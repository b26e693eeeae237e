"""What the operations take, read from shapes, dtypes, strides and devices alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sglang_glm52.kernels.mla_prologue.kernel import INDEX_DIM, ROPE, slot_bytes

ROUND = 256  # bf16 numbers that a warp loads at once
HEADS_OF_A_BLOCK = 4
ALIGNMENT = 16  # bytes that a lane loads at once

Wanted = tuple[torch.dtype, tuple[int | None, ...]]  # None: any size


def check_prologue(
    latent: torch.Tensor,
    q_weight: torch.Tensor,
    kv_weight: torch.Tensor,
    positions: torch.Tensor,
    cos_sin: torch.Tensor,
    slots: torch.Tensor,
    pool: torch.Tensor,
) -> None:
    """Raise ValueError, naming the tensor, unless all are as `mla_prologue` describes them."""
    q_rank, kv_rank = q_weight.numel(), kv_weight.numel()
    if q_rank % ROUND or kv_rank % ROUND or not q_rank or not kv_rank:
        raise ValueError(f"weights of {q_rank} and {kv_rank} numbers; expected multiples of {ROUND}")
    num_tokens = latent.shape[0]
    given = {"q_weight": q_weight, "kv_weight": kv_weight, "latent": latent, "pool": pool}
    wanted = {
        "q_weight": (torch.bfloat16, (q_rank,)),
        "kv_weight": (torch.bfloat16, (kv_rank,)),
        "latent": (torch.bfloat16, (num_tokens, q_rank + kv_rank + ROPE)),
        "pool": (torch.uint8, (None, 1, slot_bytes(kv_rank))),
    }
    _check(given | _of_tokens(positions, cos_sin, slots), wanted | _wanted_of_tokens(num_tokens), rows={"latent"})


def check_query(q: torch.Tensor, positions: torch.Tensor, cos_sin: torch.Tensor, out: torch.Tensor) -> None:
    """Raise ValueError, naming the tensor, unless all are as `mla_query` describes them."""
    num_tokens = q.shape[0]
    given = {"q": q, "out": out} | _of_tokens(positions, cos_sin)
    wanted = {"q": (torch.bfloat16, (num_tokens, None, None)), "out": (torch.bfloat16, (num_tokens, None, None))}
    _check(given, wanted | _wanted_of_tokens(num_tokens))
    if q.shape[2] < ROPE or q.shape[2] % 2 or out.shape[2] <= ROPE or out.shape[2] % 8:
        raise ValueError(
            f"heads of {q.shape[2]} and {out.shape[2]} numbers; expected even ones, {ROPE} of them to turn"
        )
    if out.shape[1] < q.shape[1] or out.shape[1] % HEADS_OF_A_BLOCK:
        raise ValueError(
            f"out has {out.shape[1]} heads for {q.shape[1]}; expected a multiple of {HEADS_OF_A_BLOCK}, not fewer"
        )


def check_absorbed(q: torch.Tensor, w_kc: torch.Tensor) -> None:
    """Raise ValueError, naming the tensor, unless weights are as `absorbed_query` describes them for a `q` that is."""
    nope, latent = q.shape[2] - ROPE, w_kc.shape[2]
    wanted = {"q": (torch.bfloat16, (None, None, None)), "w_kc": (torch.bfloat16, (q.shape[1], latent, nope))}
    _check({"q": q, "w_kc": w_kc.transpose(1, 2)}, wanted)
    if nope % 32 or latent % 32 or not nope:
        raise ValueError(f"w_kc has {nope} x {latent} numbers a head; expected multiples of 32")


def check_index(
    q: torch.Tensor,
    k: torch.Tensor,
    gates: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    positions: torch.Tensor,
    cos_sin: torch.Tensor,
    slots: torch.Tensor,
    pages: torch.Tensor,
) -> None:
    """Raise ValueError, naming the tensor, unless all are as `index_prologue` describes them."""
    num_tokens, num_heads = gates.shape
    given = {"q": q, "k": k, "gates": gates, "norm_weight": norm_weight, "norm_bias": norm_bias, "pages": pages}
    wanted = {
        "q": (torch.bfloat16, (num_tokens, num_heads, INDEX_DIM)),
        "k": (torch.bfloat16, (num_tokens, INDEX_DIM)),
        "gates": (torch.float32, (num_tokens, num_heads)),
        "norm_weight": (torch.float32, (INDEX_DIM,)),
        "norm_bias": (torch.float32, (INDEX_DIM,)),
        "pages": (torch.uint8, (None, None)),
    }
    _check(given | _of_tokens(positions, cos_sin, slots), wanted | _wanted_of_tokens(num_tokens))
    if pages.shape[1] % (INDEX_DIM + 4):
        raise ValueError(f"pages has {pages.shape[1]} bytes a page; expected a multiple of {INDEX_DIM + 4}")


def _of_tokens(
    positions: torch.Tensor, cos_sin: torch.Tensor, slots: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    given = {"positions": positions, "cos_sin": cos_sin}
    return given if slots is None else given | {"slots": slots}


def _wanted_of_tokens(num_tokens: int) -> dict[str, Wanted]:
    return {
        "positions": (torch.int64, (num_tokens,)),
        "cos_sin": (torch.float32, (None, ROPE)),
        "slots": (torch.int64, (num_tokens,)),
    }


def _check(
    given: Mapping[str, torch.Tensor], wanted: Mapping[str, Wanted], rows: frozenset[str] | set[str] = frozenset()
) -> None:
    """`rows`: tensors whose rows are contiguous but may lie apart."""
    device = next(iter(given.values())).device
    if device.type != "cuda":
        raise ValueError(f"{next(iter(given))} is on {device}; expected a GPU (ref.py runs on a CPU)")
    for name, tensor in given.items():
        dtype, sizes = wanted[name]
        fits = tensor.dim() == len(sizes) and all(s in (None, got) for s, got in zip(sizes, tensor.shape, strict=True))
        if tensor.dtype != dtype or not fits:
            text = ", ".join("any" if size is None else str(size) for size in sizes)
            raise ValueError(f"{name} is {tensor.dtype} {tuple(tensor.shape)}; expected {dtype} [{text}]")
        if tensor.device != device:
            raise ValueError(f"{name} is on {tensor.device}; expected {device}, where the others are")
        if name in rows:
            is_laid_out = tensor.stride(-1) == 1 and tensor.stride(0) * tensor.element_size() % ALIGNMENT == 0
        else:
            is_laid_out = tensor.is_contiguous()
        if not is_laid_out:
            raise ValueError(f"{name} has strides {tensor.stride()}; expected a contiguous tensor")
        if tensor.dtype != torch.int64 and tensor.data_ptr() % ALIGNMENT:
            raise ValueError(
                f"{name} does not start at a multiple of {ALIGNMENT} bytes; copy it into a tensor of its own"
            )
