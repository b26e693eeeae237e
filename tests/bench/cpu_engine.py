"""Runs the bench's engine on SGLang's CPU engine and prints what it saw as JSON; a process, as SGLang keeps globals.

`python cpu_engine.py MODEL_DIR`
"""

import json
import sys
from array import array

import torch
from sglang.srt.plugins import load_plugins

from sglang_glm52.bench.routing import watch_routers
from sglang_glm52.errors import HostMismatchError

VOCAB, TOP_K = 512, 4
FLAGS = (
    *("--load-format", "dummy", "--device", "cpu", "--dtype", "float32", "--random-seed", "1"),
    *("--chunked-prefill-size", "256", "--max-total-tokens", "4096", "--max-running-requests", "8"),
    *("--skip-tokenizer-init", "--disable-shared-experts-fusion", "--log-level", "error"),
)


def prompts(count: int, length: int) -> list[array]:
    ids = torch.randint(VOCAB, (count, length), generator=torch.Generator().manual_seed(3))
    return [array("q", row.tolist()) for row in ids]


def last_logits(engine, count: int, length: int, steps: int) -> torch.Tensor:
    """Logits [1 + steps, count, vocab] after the prompts and after each decode step."""
    batch, logits = engine.prefill(prompts(count, length))
    tokens = torch.arange(steps * count).view(steps, count)
    return torch.stack([logits.clone(), *(engine.decode(batch, row).clone() for row in tokens)])


def refusal(flags: list[str]) -> str:
    """What building the host's class says in a process that has loaded the plugin."""
    from sglang_glm52.bench.shard_engine import ShardEngine

    try:
        ShardEngine(flags, "sglang.srt.models")
    except HostMismatchError as error:
        return str(error)
    return ""


def main(model_dir: str) -> None:
    load_plugins()
    from sglang_glm52.bench.shard_engine import ShardEngine

    flags = ["--model-path", model_dir, *FLAGS]
    refused = refusal(flags)
    engine = ShardEngine(flags, "sglang_glm52.models")
    with watch_routers(engine.runner.model, TOP_K) as watch:
        engine.prefill(prompts(1, 256))
    together = last_logits(engine, 4, 128, steps=3)  # two prompts a chunk
    engine.chunk = 48
    alone = last_logits(engine, 4, 128, steps=3)  # one prompt at a time, in three chunks
    found = {
        "refusal": refused,
        "model_class": engine.model_class,
        "experts_hit": {batch: watch.experts_hit(batch) for batch in (1, 4)},
        "routed_layers": len(watch.picked),
        "shape": list(together.shape),
        "is_finite": bool(together.isfinite().all()),
        "logit_std": together.std().item(),
        "worst": (together - alone).abs().max().item(),
        "nearest_rows": torch.pdist(together[-1]).min().item(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
