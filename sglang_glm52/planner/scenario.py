"""What is asked: which GPUs, how they are used, and how long requests get."""

from __future__ import annotations

from dataclasses import dataclass

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.errors import ConfigError
from sglang_glm52.planner.constants import RUNNING_REQUESTS
from sglang_glm52.planner.gpus import Gpu
from sglang_glm52.planner.kv import Pool
from sglang_glm52.planner.parallel import Parallel, check_split


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One deployment. `concurrency` requests of `context` tokens each are to be in the KV cache at a time."""

    gpu: Gpu
    num_gpus: int
    parallel: Parallel
    context: int
    concurrency: int
    kv_dtype: str
    pool: Pool
    draft_tokens: int  # verified in a round of EAGLE, --speculative-num-draft-tokens; 0: no speculation
    chunked_prefill_size: int
    mem_fraction_static: float | None  # None: the largest that leaves room for everything else

    @property
    def use_mtp(self) -> bool:
        return self.draft_tokens > 0

    @property
    def max_running_requests(self) -> int:
        """Of the whole server."""
        return max(self.concurrency, RUNNING_REQUESTS)

    @property
    def running_per_rank(self) -> int:
        """Requests that one DP rank may run at a time, which is also the largest batch that gets a CUDA graph."""
        return -(-self.max_running_requests // self.parallel.dp)

    @property
    def concurrency_per_rank(self) -> int:
        return -(-self.concurrency // self.parallel.dp)


def check_scenario(arch: Glm52Arch, scenario: Scenario) -> None:
    """Raise ConfigError, with the option to change, for what no server would start with."""
    check_split(arch, scenario.parallel, scenario.num_gpus)
    if not 1 <= scenario.context <= arch.max_positions:
        raise ConfigError(
            f"--context {scenario.context}: expected 1 to {arch.max_positions}, the window the model was trained for"
        )
    for option, value in (
        ("--concurrency", scenario.concurrency),
        ("--chunked-prefill-size", scenario.chunked_prefill_size),
    ):
        if value < 1:
            raise ConfigError(f"{option} {value}: expected at least 1")
    fraction = scenario.mem_fraction_static
    if fraction is not None and not 0 < fraction < 1:
        raise ConfigError(f"--mem-fraction-static {fraction:g}: expected a number between 0 and 1")
    if scenario.draft_tokens == 1 or scenario.draft_tokens < 0:
        raise ConfigError(f"--draft-tokens {scenario.draft_tokens}: expected 2 or more, the first is no draft")
    if scenario.use_mtp and not arch.num_mtp_layers:
        raise ConfigError("--mtp: the checkpoint has no MTP layer (num_nextn_predict_layers is 0); use --no-mtp")
