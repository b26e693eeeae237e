"""Turns EAGLE rounds on a checkpoint and writes every pass of the draft model; a process of its own.

`python draft_rounds.py CHECKPOINT SETTING PROMPTS.json OUT.npz`: a pass is its committed lengths, positions and logits.
"""

from __future__ import annotations

import json
import sys
from array import array
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from sglang.srt.plugins import load_plugins

ROUNDS = 8
FLAGS = (
    *("--device", "cpu", "--dtype", "float32", "--skip-tokenizer-init", "--disable-radix-cache"),
    *("--chunked-prefill-size", "128", "--max-total-tokens", "4096", "--max-running-requests", "8"),
    *("--log-level", "error"),
)


def main(checkpoint: str, setting: str, prompts: str, out: str) -> None:
    load_plugins()
    from sglang_glm52.bench import round_engine
    from sglang_glm52.bench.speculation import Speculation

    round_engine._seeded_runners = nullcontext  # the checkpoint's weights, not seeded ones
    flags = [word for flag, values in Speculation.from_text(setting).flags().items() for word in (flag, *values)]
    engine = round_engine.RoundEngine(["--model-path", checkpoint, *FLAGS, *flags], "sglang_glm52.models")
    passes: list[dict[str, np.ndarray]] = []
    forward = engine.draft.forward

    def recorded(batch, *args, **kwargs):
        lengths, positions = batch.seq_lens.numpy().copy(), batch.positions.numpy().copy()
        result = forward(batch, *args, **kwargs)
        logits = result.logits_output.next_token_logits.float().numpy().copy()
        kind = np.array("step" if batch.forward_mode.is_decode() else "extend")
        passes.append({"kind": kind, "lengths": lengths, "positions": positions, "logits": logits})
        return result

    engine.draft.forward = recorded
    engine.start([array("q", prompt) for prompt in json.loads(Path(prompts).read_text())], max_new_tokens=500)
    passes.clear()  # of the prefills; the next is a draft-extend
    for _ in range(ROUNDS):
        engine.step()
    tokens = {req.rid: req.output_ids.tolist() for req in engine.scheduler.running_batch.reqs}
    arrays = {f"{i}.{name}": value for i, one in enumerate(passes) for name, value in one.items()}
    np.savez(out, tokens=np.array(json.dumps([tokens[rid] for rid in sorted(tokens)])), **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
