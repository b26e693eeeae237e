"""The process behind `testing/engine.py`: python -m sglang_glm52.testing.engine_worker SPEC.json OUT.npz"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from sglang_glm52.testing.drawn_model import is_drawn

NEVER_RAN = {"cached_tokens": 0, "num_retractions": 0, "output_token_logprobs": []}  # of one aborted in the queue
NO_DRAFTS = {"spec_verify_ct": 0, "spec_num_correct_drafts": 0}


def main(spec_file: str, out_file: str) -> None:
    spec = json.loads(Path(spec_file).read_text())
    settings = {"skip_tokenizer_init": True, "log_level": "warning", "random_seed": 0} | spec["engine"]
    engine = make_engine(settings)
    arrays = {}
    try:
        for j, job in enumerate(spec["jobs"]):
            for p, result in enumerate(generate(engine, job)):
                arrays |= {f"{j}.{p}.{name}": value for name, value in result.items()}
    finally:
        engine.shutdown()
    np.savez(out_file, **arrays)


def make_engine(settings: dict[str, Any]) -> Any:
    """SGLang's engine, which draws the weights of a folder that has none."""
    from sglang.srt.entrypoints.engine import Engine

    if not is_drawn(Path(settings["model_path"])):
        return Engine(**settings)

    class DrawnEngine(Engine):
        run_scheduler_process_func = staticmethod(run_drawn_scheduler)

    return DrawnEngine(**settings)


def run_drawn_scheduler(*args: Any, **kwargs: Any) -> None:
    """In a process of its own: SGLang is to be imported there first."""
    from sglang_glm52.testing.drawing_loader import run_scheduler

    run_scheduler(*args, **kwargs)


def generate(engine: Any, job: dict[str, Any]) -> list[dict[str, np.ndarray]]:
    """One job's results, a dict of arrays a prompt."""
    scored = job["score_from"] >= 0
    options = {"logprob_start_len": job["score_from"]} if scored else {}
    if job["vocab_size"]:
        options["token_ids_logprob"] = [list(range(job["vocab_size"]))] * len(job["prompts"])
    sampling = {"max_new_tokens": job["max_new_tokens"], "temperature": 0.0, "ignore_eos": True} | job["sampling"]
    names = [f"{place:06}" for place in range(len(job["prompts"]))]  # the host aborts all that begin alike
    abort = engine.tokenizer_manager.abort_request
    timers = [engine.loop.call_later(after, abort, names[int(place)]) for place, after in job["abort_seconds"].items()]
    outputs = engine.generate(
        input_ids=job["prompts"], sampling_params=sampling, return_logprob=True, rid=names, **options
    )
    for timer in timers:
        timer.cancel()
    return [_arrays(output, scored and job["vocab_size"] > 0, job["vocab_size"]) for output in outputs]


def _arrays(output: dict[str, Any], has_prompt: bool, width: int) -> dict[str, np.ndarray]:
    meta = NEVER_RAN | NO_DRAFTS | output["meta_info"]
    rows = _rows(meta.get("output_token_ids_logprobs") or [], width)
    prompt = _rows(meta["input_token_ids_logprobs"][1:], width) if has_prompt else rows[:0]
    return {
        "ids": np.array(output["output_ids"] or [], dtype=np.int64),
        "cached": np.array(meta["cached_tokens"]),
        "retractions": np.array(meta["num_retractions"]),
        "draft_rounds": np.array(meta["spec_verify_ct"]),
        "correct_drafts": np.array(meta["spec_num_correct_drafts"]),
        "is_aborted": np.array(meta["finish_reason"]["type"] == "abort"),
        "chosen": np.array([entry[0] for entry in meta["output_token_logprobs"]], dtype=np.float32),
        "prompt": np.concatenate([prompt, rows[:1]]) if has_prompt else rows[:0],
        "output": rows,
    }


def _rows(logprobs: list[list[tuple[float, int, None]]], width: int) -> np.ndarray:
    """SGLang's (log-probability, id, text) entries, one list a position, as an array [positions, ids]."""
    values = [[entry[0] for entry in row] for row in logprobs]
    return np.array(values, dtype=np.float32).reshape(len(values), width)


if __name__ == "__main__":
    main(*sys.argv[1:])
