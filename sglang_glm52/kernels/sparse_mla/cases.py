"""Shapes and made-up tensors that the tests and the bench share."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sglang_glm52.kernels.sparse_mla import ref

TOPK = 2048  # GLM-5.2's
SCALE = 256**-0.5  # of its scores: 192 + 64 numbers of a head before `kv_b_proj` is absorbed
SELECTIONS = ("full", "ragged", "holes", "ascending", "alike")


@dataclass(frozen=True, slots=True)
class Case:
    """One call of the op."""

    num_tokens: int
    num_slots: int
    why: str
    heads: int = 8
    selection: str = "full"  # one of SELECTIONS
    topk: int = TOPK
    timed: bool = False

    def __str__(self) -> str:
        parts = [f"{self.num_tokens}x{self.heads}", f"of{self.num_slots}", self.selection]
        return "-".join([*parts, f"top{self.topk}"] if self.topk != TOPK else parts)


SMALL = (
    Case(0, 64, "no token"),
    Case(1, 1, "one slot"),
    Case(7, 300, "fewer slots than are selected", selection="ragged"),
    *(Case(num_tokens, 5000, "each size of cluster", selection="ragged") for num_tokens in (1, 2, 5, 16, 29, 61, 67)),
    *(Case(6, 4001, "places without a slot", heads=heads, selection="holes") for heads in (4, 8, 16)),
    *(Case(num_tokens, 3000, "other heads", heads=heads) for heads in (4, 16) for num_tokens in (1, 9, 40, 70)),
    *(Case(num_tokens, 3000, "another topk", topk=topk) for topk in (128, 1024, 1152) for num_tokens in (1, 9, 70)),
    Case(3, 200_000, "far apart", selection="ascending"),
    Case(135, 20_000, "tokens that select much the same", selection="alike"),
)
LARGE = (
    *(Case(num_tokens, 1_000_000, "a decode step", timed=True) for num_tokens in (1, 2, 4, 8, 16)),
    *(Case(num_tokens, 8192, "a prefill chunk", selection="alike", timed=True) for num_tokens in (1024, 8192)),
    Case(8192, 131_072, "a chunk of a long prefill", selection="alike", timed=True),
    Case(8192, 131_072, "the same, no two tokens alike", timed=True),
)
CASES = (*SMALL, *LARGE)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Arguments of one call."""

    q_nope: torch.Tensor  # [num_tokens, heads, 512] bf16, and
    q_rope: torch.Tensor  # [num_tokens, heads, 64] bf16: views of one tensor
    cache: torch.Tensor  # [num_slots, 656] float8_e4m3fn
    slots: torch.Tensor  # [num_tokens, topk] int32

    def tensors(self) -> tuple[torch.Tensor, ...]:
        return self.q_nope, self.q_rope, self.cache, self.slots


def make_inputs(case: Case, *, seed: int, device: str | torch.device, spread: float = 3.0) -> Inputs:
    """Normal queries and keys.

    Groups of latents differ in size, and slots by 2^(`spread` * normal); some groups are zero. Heads differ by powers
    of ten. Scores of a usual head have a standard deviation of about two.
    """
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device)

    query = normal(case.num_tokens, case.heads, 576) * 1.5
    query[:, ::3] *= 0.1
    query[:, 1::5] *= 4.0
    latents = normal(case.num_slots, 4, 128) * torch.tensor([1.0, 0.3, 2.0, 0.02], device=device).view(1, 4, 1)
    latents *= torch.exp2(spread * normal(case.num_slots, 4, 1)).clamp(2.0**-100, 4.0)
    latents[::17, 1] = 0.0
    cache = ref.quantize(latents.flatten(1), normal(case.num_slots, 64))
    query = query.bfloat16()
    return Inputs(query[..., :512], query[..., 512:], cache.view(torch.float8_e4m3fn), select(case, generator, device))


PRIMES = (7919, 104_729, 1_299_709, 15_485_863)


def select(case: Case, generator: torch.Generator, device: str | torch.device) -> torch.Tensor:
    """[num_tokens, topk] int32, no slot twice where there are enough.

    `alike` tokens keep most slots of the token before; `ragged` rows end early, the second has none; `holes` are
    anywhere.
    """
    shape = (case.num_tokens, case.topk)
    places = torch.arange(case.topk, device=device)
    if case.selection == "alike":
        epochs = (torch.rand(shape, generator=generator, device=device) < 0.2).long().cumsum(dim=0)
        choices = case.num_slots // case.topk  # of a place, which are no other place's
        return (places + case.topk * ((epochs + places) * PRIMES[0] % PRIMES[1] % choices)).int()
    draws = torch.randint(case.num_slots, (case.num_tokens, 2), generator=generator, device=device)
    steps = torch.tensor([prime for prime in PRIMES if case.num_slots % prime], device=device)
    slots = (draws[:, :1] + places * steps[draws[:, 1:] % len(steps)]).remainder(case.num_slots).int()
    if case.selection == "ascending":
        slots = slots.sort(dim=1).values
    if case.selection == "ragged":
        shares = torch.tensor([0.7, 0.0, 1.0, 0.15, 1 / case.topk, 0.4], device=device)
        lengths = shares.repeat(-(-case.num_tokens // 6))[: case.num_tokens] * case.topk
        slots = slots.where(places < lengths.ceil().unsqueeze(1), -1)
    if case.selection == "holes":
        kept = torch.rand(shape, generator=generator, device=device) < 0.5
        nothing = torch.tensor([-1, case.num_slots, 2**31 - 1, -(2**31)], dtype=torch.int32, device=device)
        slots = slots.where(kept, nothing[places % 4])
    return slots
