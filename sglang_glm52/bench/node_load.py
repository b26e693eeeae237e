"""The loads of `glm52 bench node`, sent by SGLang's own client, `python -m sglang.bench_serving`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sglang_glm52.bench.node_spec import LONG, MANY, SINGLE, NodeSpec
from sglang_glm52.bench.shard_spec import PLUGINS

LONG_NEW = 64  # new tokens after the long prompt: the time of a decode step there
HOST = "127.0.0.1"
_TAIL_LINES = 20


class LoadError(RuntimeError):
    """The client failed, or not all of its requests were answered; the message ends with its output."""


@dataclass(frozen=True, slots=True)
class Load:
    """`requests` prompts of random token ids, `concurrency` of them at a time."""

    requests: int
    concurrency: int
    input_tokens: int
    output_tokens: int
    warm_up: int  # requests before, which repeat the first prompt with up to 32 new tokens


def load_of(spec: NodeSpec, phase: str) -> Load:
    loads = {
        LONG: Load(1, 1, spec.long, LONG_NEW, 0),
        SINGLE: Load(spec.repeats, 1, spec.input, spec.output, 1),
        MANY: Load(spec.repeats * spec.concurrency, spec.concurrency, spec.input, spec.output, 1),
    }
    return loads[phase]


def client_command(spec: NodeSpec, load: Load, port: int, result: Path) -> list[str]:
    """Greedy and to the last token (`ignore_eos`); prompts go as ids, so that none is tokenised on the way."""
    flags = {
        "--backend": "sglang",
        "--host": HOST,
        "--port": port,
        "--model": spec.model_dir,
        "--dataset-name": "random-ids",
        "--random-input-len": load.input_tokens,
        "--random-output-len": load.output_tokens,
        "--random-range-ratio": 1,
        "--num-prompts": load.requests,
        "--max-concurrency": load.concurrency,
        "--warmup-requests": load.warm_up,
        "--seed": spec.seed,
        "--output-file": result,
    }
    words = [str(word) for pair in flags.items() for word in pair]
    return [
        sys.executable,
        "-m",
        "sglang.bench_serving",
        *words,
        "--tokenize-prompt",
        "--flush-cache",
        "--disable-tqdm",
    ]


def send(spec: NodeSpec, load: Load, port: int, folder: Path, timeout_seconds: float) -> dict[str, Any]:
    """Run the client and return what it measured; LoadError if it fails, lacks answers or takes too long."""
    result, log = folder / "client.jsonl", folder / "client.log"
    result.unlink(missing_ok=True)
    environ = {**os.environ, **spec.server_environ(None), **_OFFLINE}
    try:
        with log.open("w") as output:
            done = subprocess.run(
                client_command(spec, load, port, result),
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=timeout_seconds,
            )
    except subprocess.TimeoutExpired:
        raise LoadError(f"the client was not done after {timeout_seconds:.0f} s") from None
    if done.returncode != 0 or not result.exists():
        raise LoadError(f"the client ended with status {done.returncode}; its output ends:\n{_tail(log)}")
    found = json.loads(result.read_text().splitlines()[-1])
    problem = problem_of(load, found)
    if problem is not None:
        raise LoadError(f"{problem}; the client's output ends:\n{_tail(log)}")
    return load_values(load, found)


def problem_of(load: Load, found: dict[str, Any]) -> str | None:
    """Why a line of the client's --output-file is no measurement; None if it is one.

    The client takes for an answer what ended early too, such as the refusal of a prompt that the KV cache cannot hold.
    """
    if found["completed"] != load.requests:
        return f"{found['completed']} of {load.requests} requests were answered"
    wanted = load.requests * load.output_tokens
    if found["total_output_tokens"] < wanted:
        return f"{found['total_output_tokens']} of {wanted} tokens were generated"
    if not found["median_ttft_ms"]:
        return "no request brought text"
    return None


def load_values(load: Load, found: dict[str, Any]) -> dict[str, Any]:
    """The numbers we report of a line of the client's --output-file."""
    ttft_ms, tpot_ms = found["median_ttft_ms"], found["median_tpot_ms"]
    return {
        "requests": load.requests,
        "concurrency": load.concurrency,
        "input_tokens": load.input_tokens,
        "output_tokens": load.output_tokens,
        "duration_s": found["duration"],
        "ttft_ms": ttft_ms,
        "tpot_ms": tpot_ms,
        "output_tok_s": found["output_throughput"],
        "prefill_tok_s": load.input_tokens / (ttft_ms / 1000) if load.concurrency == 1 else None,
        "decode_tok_s": 1000 / tpot_ms if load.concurrency == 1 and tpot_ms else None,
        "accept_length": found["accept_length"],  # since the flush after the warm-up; None without speculation
    }


# The client has no part in the model, asks no hub for the tokenizer's folder, and goes through no proxy.
_OFFLINE = {"SGLANG_PLUGINS": PLUGINS["host"], "HF_HUB_OFFLINE": "1", "NO_PROXY": HOST, "no_proxy": HOST}


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
