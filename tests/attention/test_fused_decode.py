"""Which batches take the fused kernels between projections and attention, and that they are put together rightly.

Kernels are stood in for by their references; what is tested is what lies between them: slots, pool, weights, scale.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import served
import torch
from sglang.srt.model_executor.forward_batch_info import ForwardMode

from sglang_glm52.attention import few_heads, fused_decode
from sglang_glm52.env import Settings
from sglang_glm52.kernels.head_linear import ref as heads
from sglang_glm52.kernels.mla_prologue import ref as prologue
from sglang_glm52.kernels.mla_prologue.kernel import ROPE
from sglang_glm52.kernels.sparse_mla import ref as sparse

HEADS, NOPE, RANK, Q_RANK, VALUES = 8, 192, 512, 256, 48
ROWS, POSITIONS, NUM_SLOTS, TOPK, EPS, LAYER = 3, 40, 64, 128, 1e-5, 6


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The attention backend of a decode step on a rank of 8 heads."""
    made = SimpleNamespace(
        num_q_heads=HEADS, dsa_kv_cache_store_fp8=True, dsa_decode_impl="flashmla_kv", hisparse_coordinator=None
    )
    made._pad_topk_indices = lambda selection, rows: selection[:rows]
    monkeypatch.setattr(fused_decode, "get_attn_backend", lambda: made)
    served.serve(monkeypatch)
    for module in (fused_decode, few_heads):
        monkeypatch.setattr(module, "settings", Settings)
    return made


def batch(mode: ForwardMode = ForwardMode.DECODE, rows: int = ROWS) -> SimpleNamespace:
    return SimpleNamespace(forward_mode=mode, out_cache_loc=torch.tensor([9, 33, 2])[:rows])


@pytest.mark.parametrize(
    "mode, is_fused",
    [
        (ForwardMode.DECODE, True),
        (ForwardMode.TARGET_VERIFY, True),
        (ForwardMode.DRAFT_EXTEND, True),
        (ForwardMode.DRAFT_EXTEND_V2, True),
        (ForwardMode.EXTEND, False),
        (ForwardMode.MIXED, False),
        (ForwardMode.IDLE, False),
    ],
    ids=lambda value: str(value),
)
def test_decode_steps_alone(backend, mode, is_fused) -> None:
    assert fused_decode.is_fused(batch(mode), ROWS) == is_fused


@pytest.mark.parametrize(
    "name, value",
    [("num_q_heads", 64), ("dsa_kv_cache_store_fp8", False), ("dsa_decode_impl", "fa3"), ("hisparse_coordinator", 1)],
)
def test_other_backends_are_left_alone(backend, name, value) -> None:
    setattr(backend, name, value)
    assert not fused_decode.is_fused(batch(), ROWS)


def test_the_torch_backend_is_left_alone(backend) -> None:
    """It has none of the attributes of the host's."""
    for name in ("dsa_decode_impl", "dsa_kv_cache_store_fp8", "hisparse_coordinator"):
        delattr(backend, name)
    assert not fused_decode.is_fused(batch(), ROWS)


def test_rows_without_a_slot_are_left_alone(backend) -> None:
    assert not fused_decode.is_fused(batch(rows=2), ROWS)


@pytest.mark.parametrize(
    "choices", [{"decode_prologue": "host"}, {"sparse_attention": "host"}], ids=["not asked for", "FlashMLA attends"]
)
def test_other_choices(backend, choices, monkeypatch) -> None:
    for module in (fused_decode, few_heads):
        monkeypatch.setattr(module, "settings", lambda: Settings(**choices))
    assert not fused_decode.is_fused(batch(), ROWS)


def test_a_piecewise_graph_asks_for_nothing(monkeypatch) -> None:
    monkeypatch.setattr(fused_decode, "is_in_piecewise_cuda_graph", lambda: True)
    monkeypatch.setattr(fused_decode, "settings", lambda: pytest.fail("the environment was read"))
    assert not fused_decode.is_fused(batch(), ROWS)


def test_a_step_is_attention_over_what_it_has_stored(backend, monkeypatch) -> None:
    """By hand, in float32 and without any pool: norms, rotary parts, absorbed products, softmax."""
    normal = torch.Generator().manual_seed(4)

    def draw(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return (torch.randn(shape, generator=normal) * scale).bfloat16()

    angles = torch.rand(POSITIONS, ROPE // 2, generator=normal) * 6.28
    pool = torch.zeros(NUM_SLOTS, 1, 656, dtype=torch.uint8)
    monkeypatch.setattr(
        fused_decode, "get_token_to_kv_pool", lambda: SimpleNamespace(get_key_buffer={LAYER: pool}.__getitem__)
    )
    monkeypatch.setattr(fused_decode, "mla_prologue", prologue.mla_prologue)
    monkeypatch.setattr(fused_decode, "absorbed_query", prologue.absorbed_query)
    monkeypatch.setattr(fused_decode, "sparse_mla", sparse.sparse_mla)
    monkeypatch.setattr(fused_decode, "head_linear", heads.head_linear)
    attention = SimpleNamespace(
        arch=SimpleNamespace(rms_norm_eps=EPS, kv_lora_rank=RANK),
        q_a_layernorm=SimpleNamespace(weight=1 + draw(Q_RANK, scale=0.1)),
        kv_a_layernorm=SimpleNamespace(weight=1 + draw(RANK, scale=0.1)),
        rotary_emb=SimpleNamespace(cos_sin_cache=torch.cat([angles.cos(), angles.sin()], dim=1)),
        attn_mqa=SimpleNamespace(scaling=0.05),
        num_local_heads=HEADS,
        layer_id=LAYER,
        w_kc=draw(HEADS, RANK, NOPE, scale=NOPE**-0.5).transpose(1, 2),
        w_vc=draw(HEADS, VALUES, RANK, scale=RANK**-0.5).transpose(1, 2),
    )
    latent, q = draw(ROWS, Q_RANK + RANK + ROPE), draw(ROWS, HEADS, NOPE + ROPE)
    positions, slots = torch.tensor([5, 17, 39]), batch().out_cache_loc
    selection = torch.full((ROWS, TOPK), -1, dtype=torch.int32)
    selection[:, 3:6] = slots.int()
    q_latent = fused_decode.norm_and_store(attention, latent, positions, batch())
    got = fused_decode.attend(attention, q, positions, selection)

    def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return x.float() * (x.float().square().mean(1, keepdim=True) + EPS).rsqrt() * weight.float()

    def turn(x: torch.Tensor) -> torch.Tensor:
        pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
        turns = torch.polar(torch.ones_like(angles), angles)[positions]
        return torch.view_as_real(pairs * turns.view(ROWS, *[1] * (x.dim() - 2), -1)).flatten(-2)

    q_a, kv, k_rope = latent.split([Q_RANK, RANK, ROPE], dim=1)
    torch.testing.assert_close(q_latent.float(), norm(q_a, attention.q_a_layernorm.weight), rtol=1e-2, atol=1e-2)
    keys = torch.cat([norm(kv, attention.kv_a_layernorm.weight), turn(k_rope)], dim=1)
    absorbed = torch.einsum("thn,hnl->thl", q[..., :NOPE].float(), attention.w_kc.float())
    scores = torch.cat([absorbed, turn(q[..., NOPE:])], dim=2) @ keys.T * 0.05
    want = scores.softmax(dim=2) @ keys[:, :RANK]
    assert ((got.float() - want).norm(dim=2) <= 0.05 * want.norm(dim=2)).all()
    values = fused_decode.values(attention, got)
    want = torch.einsum("thl,hlv->thv", got.float(), attention.w_vc.float()).flatten(1)
    assert values.shape == (ROWS, HEADS * VALUES)
    torch.testing.assert_close(values.float(), want, rtol=1e-2, atol=1e-3)
