"""Shapes and made-up tensors that the tests and the bench share."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sglang_glm52.kernels.mla_prologue.kernel import INDEX_DIM, ROPE, slot_bytes

THETA, EPS, KEY_EPS = 8e6, 1e-5, 1e-6  # GLM-5.2's; the last is its indexer's
PAGE = 64
UNWRITTEN = 0xA5  # every byte of what an operation is to write, and of what it is not


@dataclass(frozen=True, slots=True)
class Case:
    """One layer's calls on one rank."""

    num_tokens: int
    why: str
    num_heads: int = 8
    num_padded_heads: int = 64
    q_rank: int = 2048
    kv_rank: int = 512
    nope_dim: int = 192
    num_index_heads: int = 32
    num_positions: int = 4096
    row_gap: int = 0  # numbers between rows of the latent
    timed: bool = False

    def __str__(self) -> str:
        shape = f"-q{self.q_rank}-kv{self.kv_rank}" if (self.q_rank, self.kv_rank) != (2048, 512) else ""
        window = f"-of{self.num_positions}" if self.num_positions != 4096 else ""
        return f"m{self.num_tokens}-h{self.num_heads}of{self.num_padded_heads}{shape}{window}"

    @property
    def num_slots(self) -> int:
        return PAGE * (self.num_tokens // PAGE + 3)


TP_8 = tuple(
    Case(num_tokens, "GLM-5.2, a rank of TP 8", timed=num_tokens in (1, 2, 4, 8, 16))
    for num_tokens in (1, 2, 3, 4, 7, 8, 16)
)
CASES = (
    *TP_8,
    Case(0, "no token"),
    Case(129, "more tokens than a decode step has, an odd number"),
    Case(4001, "a prefill"),
    Case(5, "TP 1: no heads to fill up", num_heads=64),
    Case(6, "TP 4, rows of the latent apart", num_heads=16, row_gap=64),
    Case(9, "other ranks", q_rank=256, kv_rank=1024, nope_dim=64, num_heads=3, num_padded_heads=4, num_index_heads=5),
    Case(4, "the window's last positions", num_positions=1 << 20),
)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Arguments of one layer's calls; what they write is made with `outputs`."""

    latent: torch.Tensor  # [num_tokens, q_rank + kv_rank + 64] bf16
    q_weight: torch.Tensor  # [q_rank] bf16
    kv_weight: torch.Tensor  # [kv_rank] bf16
    positions: torch.Tensor  # [num_tokens] int64
    cos_sin: torch.Tensor  # [num_positions, 64] float32
    slots: torch.Tensor  # [num_tokens] int64, all different
    q: torch.Tensor  # [num_tokens, num_heads, nope_dim + 64] bf16
    w_kc: torch.Tensor  # [num_heads, nope_dim, kv_rank] bf16, laid out as [num_heads, kv_rank, nope_dim]
    index_q: torch.Tensor  # [num_tokens, num_index_heads, 128] bf16
    index_k: torch.Tensor  # [num_tokens, 128] bf16
    gates: torch.Tensor  # [num_tokens, num_index_heads] float32
    key_weight: torch.Tensor  # [128] float32
    key_bias: torch.Tensor  # [128] float32

    def of_prologue(self, pool: torch.Tensor) -> tuple:
        return (
            *(self.latent, self.q_weight, self.kv_weight, EPS),
            *(self.positions, self.cos_sin, self.slots, pool),
        )

    def of_query(self, out: torch.Tensor) -> tuple:
        return self.q, self.positions, self.cos_sin, out

    def of_absorbed(self, num_padded_heads: int) -> tuple:
        return self.q, self.w_kc, self.positions, self.cos_sin, num_padded_heads

    def of_index(self, pages: torch.Tensor) -> tuple:
        return (
            *(self.index_q, self.index_k, self.gates, self.key_weight, self.key_bias, KEY_EPS),
            *(self.positions, self.cos_sin, self.slots, pages),
        )


def make_inputs(case: Case, *, seed: int, device: str | torch.device) -> Inputs:
    """Normal values. Sizes of tokens lie far apart; the second has zeros for a group of its latent and for its key."""
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device)

    num_tokens, width = case.num_tokens, case.q_rank + case.kv_rank + ROPE
    size = 10.0 ** (torch.arange(num_tokens, device=device) % 7 - 3).unsqueeze(1)
    latent = (normal(num_tokens, width + case.row_gap) * size).bfloat16()[:, :width]
    latent[1:2, case.q_rank : case.q_rank + 128] = 0
    index_k = (normal(num_tokens, INDEX_DIM) * size).bfloat16()
    index_k[1:2] = 0
    last = case.num_positions - 1
    positions = torch.randint(last, (num_tokens,), generator=generator, device=device)
    positions[-1:] = last
    w_kc = (normal(case.num_heads, case.kv_rank, case.nope_dim) * case.nope_dim**-0.5).bfloat16().transpose(1, 2)
    return Inputs(
        latent=latent,
        q_weight=(1 + 0.3 * normal(case.q_rank)).bfloat16(),
        kv_weight=(1 + 0.3 * normal(case.kv_rank)).bfloat16(),
        positions=positions,
        cos_sin=make_cos_sin(case.num_positions, device),
        slots=torch.randperm(case.num_slots, generator=generator, device=device)[:num_tokens],
        q=normal(num_tokens, case.num_heads, case.nope_dim + ROPE).bfloat16(),
        w_kc=w_kc,
        index_q=(normal(num_tokens, case.num_index_heads, INDEX_DIM) * size.unsqueeze(2)).bfloat16(),
        index_k=index_k,
        gates=normal(num_tokens, case.num_index_heads),
        key_weight=1 + 0.3 * normal(INDEX_DIM),
        key_bias=0.1 * normal(INDEX_DIM),
    )


def make_cos_sin(num_positions: int, device: str | torch.device) -> torch.Tensor:
    inv_freq = 1.0 / THETA ** (torch.arange(0, ROPE, 2, dtype=torch.float, device=device) / ROPE)
    angles = torch.arange(num_positions, dtype=torch.float, device=device).unsqueeze(1) * inv_freq
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def make_pool(case: Case, device: str | torch.device) -> torch.Tensor:
    """Latents of one layer, unwritten."""
    return torch.full((case.num_slots, 1, slot_bytes(case.kv_rank)), UNWRITTEN, dtype=torch.uint8, device=device)


def make_pages(case: Case, device: str | torch.device) -> torch.Tensor:
    """An indexer's keys, unwritten."""
    shape = case.num_slots // PAGE, PAGE * (INDEX_DIM + 4)
    return torch.full(shape, UNWRITTEN, dtype=torch.uint8, device=device)


def make_out(case: Case, device: str | torch.device) -> torch.Tensor:
    """Queries for the attention, unwritten."""
    shape = case.num_tokens, case.num_padded_heads, 2 * (case.kv_rank + ROPE)
    return torch.full(shape, UNWRITTEN, dtype=torch.uint8, device=device).view(torch.bfloat16)
