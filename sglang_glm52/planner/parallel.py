"""How a server splits the model over GPUs, and which splits this model takes."""

from __future__ import annotations

from dataclasses import dataclass

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.arch_quant import GROUP_SIZE
from sglang_glm52.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Parallel:
    """SGLang's --tp (all GPUs of a server), --ep-size and, with --enable-dp-attention, --dp-size."""

    tp: int
    ep: int = 1
    dp: int = 1

    @property
    def attn_tp(self) -> int:
        """GPUs that share one copy of attention and one KV pool's requests."""
        return self.tp // self.dp

    @property
    def expert_tp(self) -> int:
        """GPUs that share one routed expert."""
        return self.tp // self.ep


def check_split(arch: Glm52Arch, parallel: Parallel, num_gpus: int) -> None:
    """Raise ConfigError, with the option to change, for a split that the model or the host refuses."""
    tp, ep, dp = parallel.tp, parallel.ep, parallel.dp
    for option, value in (("--gpus", num_gpus), ("--tp", tp), ("--ep", ep), ("--dp", dp)):
        if value < 1:
            raise ConfigError(f"{option} {value}: expected at least 1")
    if tp > num_gpus:
        raise ConfigError(f"--tp {tp} needs {tp} GPUs, there are {num_gpus}; lower --tp or raise --gpus")
    for option, value in (("--ep", ep), ("--dp", dp)):
        if tp % value:
            raise ConfigError(f"{option} {value} does not divide --tp {tp}; use a divisor of it")
    if arch.num_heads % parallel.attn_tp:
        raise ConfigError(
            f"--tp {tp} with --dp {dp} splits {arch.num_heads} heads over {parallel.attn_tp} GPUs; use a --tp of which "
            f"--tp / --dp divides {arch.num_heads}"
        )
    if arch.num_experts % ep:
        raise ConfigError(f"--ep {ep} does not divide {arch.num_experts} experts; use a divisor of them")
    inner = arch.moe_intermediate_size
    _check_width(arch, "a routed expert's", inner, parallel.expert_tp, "raise --ep or lower --tp")
    _check_width(arch, "the shared expert's", inner * arch.num_shared_experts, tp, "lower --tp")
    _check_width(arch, "the dense MLP's", arch.intermediate_size, tp, "lower --tp")


def _check_width(arch: Glm52Arch, whose: str, width: int, ranks: int, remedy: str) -> None:
    """Inner channels a GPU holds: whole groups or blocks of 128 where weights are quantised."""
    unit = GROUP_SIZE if arch.quant else 1
    if width % (ranks * unit):
        raise ConfigError(
            f"{ranks} GPUs share {whose} {width} inner channels, {width / ranks:g} each; expected a multiple of "
            f"{unit}: {remedy}"
        )
