"""What one worker is asked to measure. It travels as JSON, the same for the host's class and for this package's."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from sglang_glm52.bench.shard_config import Format
from sglang_glm52.bench.speculation import Speculation

Which = Literal["host", "ours"]
KV = Literal["fp8_e4m3", "bf16"]

PACKAGES: dict[Which, str] = {"host": "sglang.srt.models", "ours": "sglang_glm52.models"}  # of the model class
PLUGINS: dict[Which, str] = {"host": "none", "ours": "glm52"}  # SGLANG_PLUGINS: the plugins a process loads

DECODE_WARMUP, DECODE_STEPS = 5, 50
PREFILL_WARMUP, PREFILL_STEPS = 1, 5
PROFILES = 3  # separate profiles of each phase; the median one is shown
PROFILED_DECODE_STEPS = 5
MAX_NEW_TOKENS = DECODE_WARMUP + DECODE_STEPS + PROFILES * PROFILED_DECODE_STEPS  # of plain decode
ROUNDS_IN_FLIGHT = 3  # before the first counted round and while the last one's result is on its way
PAGE = 64  # tokens a page of the DSA pool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSpec:
    """Settings of one measurement."""

    which: Which
    model_dir: str
    fmt: Format
    batches: tuple[int, ...]
    context: int  # tokens in the KV cache of each request before the first decode step
    chunk: int  # tokens of one prefill chunk
    kv: KV
    fuse_shared_experts: bool
    seed: int
    log_level: str
    speculations: tuple[Speculation, ...] = ()  # none: plain decode and prefill

    @classmethod
    def from_json(cls, text: str) -> ShardSpec:
        fields = json.loads(text)
        speculations = tuple(Speculation(**speculation) for speculation in fields["speculations"])
        return cls(**{**fields, "batches": tuple(fields["batches"]), "speculations": speculations})

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def server_args(self) -> list[str]:
        """The flags of `python -m sglang.launch_server` that this measurement stands for."""
        flags = {
            "--model-path": [self.model_dir],
            "--load-format": ["dummy"],
            "--kv-cache-dtype": [self.kv],
            "--chunked-prefill-size": [str(self.chunk)],
            "--mem-fraction-static": ["0.9"],
            "--max-running-requests": [str(max(self.batches))],
            "--max-total-tokens": [str(self.max_total_tokens())],
            "--cuda-graph-bs": [str(batch) for batch in self.batches],
            "--random-seed": [str(self.seed)],
            "--log-level": [self.log_level],
            "--disable-piecewise-cuda-graph": [],  # they would be captured for minutes and serve no decode step
            "--skip-tokenizer-init": [],
        }
        if self.fmt == "w4afp8":
            flags["--quantization"] = ["w4afp8"]
        if not self.fuse_shared_experts:
            flags["--disable-shared-experts-fusion"] = []
        if self.speculations:
            flags["--disable-radix-cache"] = []  # every batch prefills the same prompts
            flags |= self.speculations[0].flags()
        return [word for flag, values in flags.items() for word in (flag, *values)]

    def max_total_tokens(self) -> int:
        """KV slots: every request's context and new tokens, and two pages each that the host reserves ahead."""
        per_request = -(-(self.context + self.new_tokens) // PAGE) * PAGE + 2 * PAGE
        return max(max(self.batches) * per_request, self.chunk) + 2 * PAGE

    @property
    def new_tokens(self) -> int:
        """Room for what one request may generate."""
        return new_tokens(self.speculations)


def new_tokens(speculations: Iterable[Speculation]) -> int:
    """Plain steps bring one token each, rounds up to all their draft tokens."""
    longest = max((speculation.draft_tokens for speculation in speculations), default=0)
    return max(MAX_NEW_TOKENS, (MAX_NEW_TOKENS + ROUNDS_IN_FLIGHT) * longest)
