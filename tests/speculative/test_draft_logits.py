"""Every draft step's logits in a real engine are those of the plain torch reference, with and without IndexShare."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sglang_glm52.testing.server import CPU_ENVIRON
from sglang_glm52.testing.torch_model import TorchGlm52
from sglang_glm52.tiny import build
from sglang_glm52.tiny.values import PRINTABLE

SCRIPT = Path(__file__).with_name("draft_rounds.py")
LENGTHS = (30, 61, 200)  # index_topk is 64: within, growing past it, beyond
BOUND = 1e-3  # of a logit; they reach 20


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drafts are right six times in ten, so rounds accept none, some and all of them."""
    folder = tmp_path_factory.mktemp("drafts") / "model"
    return build(folder, overrides={"num_hidden_layers": 4}, mtp_acceptance=0.6)


@pytest.mark.parametrize(("setting", "share"), [("3-1-4", "on"), ("3-1-4", "off"), ("5-1-6", "on")])
def test_draft_logits_are_the_references(setting: str, share: str, checkpoint: Path, tmp_path: Path) -> None:
    rng = random.Random(2)
    prompts = [rng.choices(PRINTABLE, k=length) for length in LENGTHS]
    rounds = run_rounds(checkpoint, setting, share, prompts, tmp_path)
    model, num_steps = TorchGlm52.from_checkpoint(checkpoint), int(setting[0])
    worst, lengths = 0.0, set()
    for prompt, tokens, found in zip(prompts, *rounds, strict=True):
        for length, logits in found:
            ids = torch.tensor((prompt + tokens)[:length])
            want = model.draft_round(ids, num_steps, share == "on").numpy()
            assert logits.shape == want.shape
            worst = max(worst, float(np.abs(logits - want).max()))
            lengths.add(length)
    assert min(lengths) < 64 < max(lengths) and len(lengths) > 12
    assert worst < BOUND, f"{setting}, sharing {share}: a logit differs by {worst:.2e}"


def run_rounds(
    checkpoint: Path, setting: str, share: str, prompts: list[list[int]], folder: Path
) -> tuple[list[list[int]], list[list[tuple[int, np.ndarray]]]]:
    """Each request's output tokens and its rounds: (committed length, logits [num_steps, vocab])."""
    (folder / "prompts.json").write_text(json.dumps(prompts))
    command = [
        sys.executable,
        str(SCRIPT),
        str(checkpoint),
        setting,
        *map(str, (folder / "prompts.json", folder / "o")),
    ]
    environ = {**os.environ, **CPU_ENVIRON, "SGLANG_GLM52_MTP_INDEX_SHARE": share}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(folder / "o.npz") as arrays:
        tokens = json.loads(str(arrays["tokens"]))
        count = 1 + max(int(name.split(".")[0]) for name in arrays if name != "tokens")
        passes = [{k: arrays[f"{i}.{k}"] for k in ("kind", "lengths", "positions", "logits")} for i in range(count)]
    return tokens, [list(rounds_of(passes, request, len(prompts), int(setting[0]))) for request in range(len(prompts))]


def rounds_of(passes: list[dict[str, np.ndarray]], request: int, num_requests: int, num_steps: int):
    """A round: the row of the last accepted token in a draft-extend, then the steps after it."""
    for i, extend in enumerate(passes):
        steps = passes[i + 1 : i + num_steps]
        if extend["kind"] != "extend" or len(steps) < num_steps - 1:
            continue
        assert all(step["kind"] == "step" for step in steps)
        length = int(steps[0]["lengths"][request])
        positions, logits = (extend[name].reshape(num_requests, num_steps + 1, -1) for name in ("positions", "logits"))
        row = positions[request, :, 0].tolist().index(length - 1)
        yield length, np.stack([logits[request, row], *(step["logits"][request] for step in steps)])
