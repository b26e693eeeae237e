"""What one worker of `glm52 bench window` is asked to measure. It travels as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sglang_glm52.bench.shard_spec import KV, Which

Device = Literal["cuda", "cpu"]

FIRST, SECOND, CROWD = "first", "second", "crowd"
SPARE_TOKENS = 64  # of the window, for the requests' last steps
CROWD_PROMPT, CROWD_NEW = 512, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSpec:
    """Settings of one measurement, but for the phases that are still missing."""

    which: Which
    model: str  # what is served, in words that stay: the folder of a shard is another at each call
    model_dir: str
    is_seeded: bool  # the folder has no weights: they are drawn from `seed`
    quantization: str | None  # --quantization
    variables: dict[str, str]  # SGLANG_GLM52_* of the environment
    device: Device
    dtype: str
    context_length: int
    prompt: int  # tokens of the two long prompts
    decode: int  # tokens generated after each timed prompt
    contexts: tuple[int, ...]  # shorter prompts timed before them
    crowd: int  # short requests at the end
    chunk: int
    kv: KV
    mem_fraction_static: float
    max_total_tokens: int | None  # None: what the fraction leaves
    server_args: dict[str, Any]  # further fields of SGLang's ServerArgs
    sample_seconds: float
    seed: int
    log_level: str

    @classmethod
    def from_json(cls, text: str) -> WindowSpec:
        fields = json.loads(text)
        return cls(**{**fields, "contexts": tuple(fields["contexts"])})

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def settings(self) -> dict[str, Any]:
        """What must be equal for two results to belong together."""
        left_out = ("which", "model_dir", "sample_seconds", "log_level")
        return {name: value for name, value in json.loads(self.to_json()).items() if name not in left_out}

    def engine_args(self) -> dict[str, Any]:
        """Fields of SGLang's ServerArgs: what a user of this window would set, radix cache and CUDA graphs on."""
        fields: dict[str, Any] = {
            "model_path": self.model_dir,
            "quantization": self.quantization,
            "context_length": self.context_length,
            "chunked_prefill_size": self.chunk,
            "max_running_requests": self.crowd,
            "max_total_tokens": self.max_total_tokens,
            "random_seed": self.seed,
            "log_level": self.log_level,
            "skip_tokenizer_init": True,  # prompts are random token ids
            "disable_shared_experts_fusion": True,
            "load_format": "dummy" if self.is_seeded else "auto",
            "dtype": self.dtype,
            "device": self.device,
        }
        if self.device == "cuda":
            fields |= {
                "kv_cache_dtype": self.kv,
                "mem_fraction_static": self.mem_fraction_static,
                "cuda_graph_max_bs": self.crowd,
                "disable_piecewise_cuda_graph": True,  # minutes of a short call; they serve no long chunk
            }
        return fields | self.server_args


def context_phase(num_tokens: int) -> str:
    return f"context {num_tokens}"


def profile_phase(num_tokens: int) -> str:
    return f"profile {num_tokens}"


def all_phases(spec: WindowSpec) -> tuple[str, ...]:
    """In the order in which one process runs them; what could go wrong without a loss of measurements comes last."""
    profiles = (profile_phase(n) for n in (spec.prompt, *reversed(spec.contexts)))
    return (*(context_phase(n) for n in spec.contexts), FIRST, SECOND, CROWD, *profiles)
