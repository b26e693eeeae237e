"""Turns the bench's EAGLE rounds on SGLang's CPU engine and prints what it saw as JSON; a process of its own.

`python cpu_rounds.py MODEL_DIR`
"""

import json
import sys
from array import array

import torch
from sglang.srt.plugins import load_plugins

from sglang_glm52.bench.speculation import Speculation

VOCAB, ROUNDS = 512, 6
SETTINGS = ("3-1-4", "1-1-2", "5-1-6", "3-1-4")
FLAGS = (
    *("--load-format", "dummy", "--device", "cpu", "--dtype", "float32", "--random-seed", "1"),
    *("--chunked-prefill-size", "256", "--max-total-tokens", "4096", "--max-running-requests", "8"),
    *("--skip-tokenizer-init", "--disable-shared-experts-fusion", "--disable-radix-cache", "--log-level", "error"),
)


def prompts(count: int) -> list[array]:
    ids = torch.randint(VOCAB, (count, 128), generator=torch.Generator().manual_seed(3))
    return [array("q", row.tolist()) for row in ids]


def rounds(engine, setting: str) -> dict:
    """Greedy tokens of three requests, and the rows a round verifies."""
    engine.configure(Speculation.from_text(setting))
    engine.start(prompts(3), max_new_tokens=100)
    for _ in range(ROUNDS):
        engine.step()
    found = {
        "tokens": [req.output_ids.tolist()[:ROUNDS] for req in engine.scheduler.running_batch.reqs],
        "rows": engine.result.logits_output.next_token_logits.shape[0],
        "accepted": engine.accepted(),
    }
    engine.stop()
    return {**found, "free": engine.scheduler.token_to_kv_pool_allocator.available_size()}


def plain(engine) -> list[list[int]]:
    """The same requests' greedy tokens without speculation."""
    with engine.plain() as runner:
        batch, logits = runner.prefill(prompts(3))
        tokens = [logits.argmax(-1)]
        while len(tokens) < ROUNDS:
            tokens.append(runner.decode(batch, tokens[-1]).argmax(-1))
    return torch.stack(tokens, dim=1).tolist()


def main(model_dir: str) -> None:
    load_plugins()
    from sglang_glm52.bench.round_engine import RoundEngine

    speculation = [
        word for flag, values in Speculation.from_text(SETTINGS[0]).flags().items() for word in (flag, *values)
    ]
    engine = RoundEngine(["--model-path", model_dir, *FLAGS, *speculation], "sglang_glm52.models")
    found = {
        "model_class": engine.model_class,
        "draft_class": engine.draft_class,
        "plain": plain(engine),
        "rounds": [rounds(engine, setting) for setting in SETTINGS],
        "plain_again": plain(engine),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
