"""The reference of `mla_prologue` against other ways to say the same: complex numbers, a matrix, the host's reader."""

from __future__ import annotations

import pytest
import torch

from sglang_glm52.kernels.mla_prologue import ref
from sglang_glm52.kernels.mla_prologue.cases import CASES, EPS, PAGE, Case, make_inputs, make_pages, make_pool
from sglang_glm52.kernels.mla_prologue.kernel import INDEX_DIM, ROPE

CASE = CASES[4]
E4M3, BF16 = 2.0**-4, 2.0**-8  # half a step between neighbours, of a number


def test_pairs_are_turned_as_complex_numbers() -> None:
    inputs = make_inputs(CASE, seed=1, device="cpu")
    x = inputs.q[..., -ROPE:]
    cosine, sine = inputs.cos_sin[inputs.positions].double().chunk(2, dim=1)
    want = torch.view_as_complex(x.double().unflatten(-1, (-1, 2))) * torch.complex(cosine, sine).unsqueeze(1)
    got = ref.rotate(x, inputs.positions, inputs.cos_sin).double()
    torch.testing.assert_close(got, torch.view_as_real(want).flatten(-2), rtol=BF16, atol=1e-6)


def test_hadamard_is_a_product_with_the_matrix_of_signs() -> None:
    """Its element (i, j) is -1 to the number of bits that i and j share, over the root of the dimension."""
    x = torch.randn(5, INDEX_DIM, generator=torch.Generator().manual_seed(2)).bfloat16()
    signs = [[(-1.0) ** (i & j).bit_count() for j in range(INDEX_DIM)] for i in range(INDEX_DIM)]
    want = x.double() @ torch.tensor(signs, dtype=torch.double) * INDEX_DIM**-0.5
    torch.testing.assert_close(ref.hadamard(x).double(), want, rtol=BF16, atol=1e-6)


def test_the_host_reads_a_slot_back() -> None:
    """Of normed latents in e4m3 with a scale each 128, and of turned keys in bf16."""
    dequant = pytest.importorskip("sglang.srt.layers.attention.dsa.dequant_k_cache")
    inputs, pool = make_inputs(CASE, seed=3, device="cpu"), make_pool(CASE, "cpu")
    ref.mla_prologue(*inputs.of_prologue(pool))
    slots = pool[inputs.slots].view(torch.float8_e4m3fn).unsqueeze(1)
    latent, rope = dequant._dequantize_k_cache_ref(slots).flatten(1).float().split([CASE.kv_rank, ROPE], dim=1)
    given = inputs.latent.double()
    kv = given[:, CASE.q_rank : -ROPE]
    kv = kv / (kv.square().mean(dim=1, keepdim=True) + EPS).sqrt() * inputs.kv_weight
    error, largest = (latent - kv).abs(), kv.unflatten(1, (-1, 128)).abs().amax(2).repeat_interleave(128, 1)
    assert (error <= 1.1 * (E4M3 + BF16) * kv.abs() + largest * 2.0**-18).all()
    turned = ref.rotate(inputs.latent[:, -ROPE:], inputs.positions, inputs.cos_sin)
    assert torch.equal(rope, turned.float())


def test_keys_and_queries_keep_their_scores() -> None:
    """What is in the pages, times its scales, gives nearly the dot products of the keys before the transform."""
    case = Case(64, "")
    inputs, pages = make_inputs(case, seed=4, device="cpu"), make_pages(case, "cpu")
    q, weights = ref.index_prologue(*inputs.of_index(pages))
    keys, scales = pages.split([PAGE * INDEX_DIM, PAGE * 4], dim=1)
    keys = keys.unflatten(1, (PAGE, INDEX_DIM)).flatten(0, 1)[inputs.slots].view(torch.float8_e4m3fn).double()
    keys *= scales.contiguous().view(torch.float32).flatten()[inputs.slots].unsqueeze(1)
    got = torch.einsum("thd,sd->ths", q.double(), keys) * weights.double()
    k = torch.nn.functional.layer_norm(inputs.index_k.float(), (INDEX_DIM,), inputs.key_weight, inputs.key_bias, 1e-6)

    def turned(x: torch.Tensor) -> torch.Tensor:
        rotary = ref.rotate(x[..., :ROPE].bfloat16(), inputs.positions, inputs.cos_sin)
        return torch.cat([rotary.double(), x[..., ROPE:].double()], dim=-1)

    want = torch.einsum("thd,sd->ths", turned(inputs.index_q), turned(k)) * (case.num_index_heads * INDEX_DIM) ** -0.5
    want *= inputs.gates.unsqueeze(2)
    assert ((got - want).norm(dim=2) / want.norm(dim=2)).mean() < E4M3
