"""What the memory of SGLang's engine holds once it has loaded a checkpoint, measured in a process of its own.

`python engine_memory.py CHECKPOINT [SERVER FLAG...]` prints it as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

PROMPT_TOKENS = 100
MAX_RUNNING_REQUESTS = 8
FLAGS = (
    *("--max-running-requests", str(MAX_RUNNING_REQUESTS), "--chunked-prefill-size", "256"),
    *("--skip-tokenizer-init", "--disable-shared-experts-fusion", "--log-level", "error"),
)


def measure(checkpoint: Path, *flags: str, environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run this file; `environ` is added to this process's."""
    merged = {**os.environ, "SGLANG_PLUGINS": "glm52", **(environ or {})}
    command = [sys.executable, __file__, str(checkpoint), *flags]
    done = subprocess.run(command, env=merged, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def model_bytes(model: nn.Module) -> int:
    """Parameters and buffers, each storage once."""
    tensors = [*model.parameters(), *model.buffers()]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def watch_profiling() -> dict[str, float]:
    """What the host finds free when it sizes the KV pool: GiB before loading, and bytes it gives to the pool."""
    from sglang.srt.model_executor.model_runner import ModelRunner

    original, seen = ModelRunner._profile_available_bytes, {}

    def profile(self: ModelRunner, pre_model_load_memory: float) -> int:
        seen["free_gib"] = pre_model_load_memory
        seen["rest_bytes"] = original(self, pre_model_load_memory)
        return seen["rest_bytes"]

    ModelRunner._profile_available_bytes = profile
    return seen


def main(checkpoint: str, *flags: str) -> None:
    from sglang.srt.plugins import load_plugins

    load_plugins()
    from sglang_glm52.bench.shard_engine import ShardEngine

    seen = watch_profiling()
    engine = ShardEngine(["--model-path", checkpoint, *FLAGS, *flags], "sglang_glm52.models")
    engine.prefill([array("q", range(PROMPT_TOKENS))])  # the pool makes room for indexer keys at their first write
    runner = engine.runner
    found = {
        "weights": model_bytes(runner.model),
        "pool": type(runner.token_to_kv_pool).__module__,
        "kv": runner.token_to_kv_pool.get_kv_size_bytes(),
        "tokens": runner.max_total_num_tokens,
        "request_table": runner.req_to_token_pool.req_to_token.nbytes,
        "context": runner.model_config.context_len,
        **seen,
    }
    print(json.dumps(found, default=int))


if __name__ == "__main__":
    main(*sys.argv[1:])
