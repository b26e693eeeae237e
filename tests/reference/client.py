"""Runs `run_reference.py` in the reference environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-reference" / "bin" / "python"
SCRIPT = Path(__file__).with_name("run_reference.py")


def reference_logprobs(
    checkpoint: Path, prompts: list[list[int]], scratch: Path, dtype: str = "float32"
) -> list[np.ndarray]:
    """Log-probabilities [len(prompt), vocab_size] of what follows each token of each prompt, computed in `dtype`.

    Raises:
        RuntimeError: the environment is missing, or the script failed; its error output is the message.
    """
    if not PYTHON.exists():
        raise RuntimeError(f"{PYTHON} does not exist; `make test` makes it")
    prompts_file, out = scratch / "prompts.json", scratch / "reference.npz"
    prompts_file.write_text(json.dumps(prompts))
    command = [PYTHON, SCRIPT, checkpoint, prompts_file, out, dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    with np.load(out) as arrays:
        return [arrays[str(index)] for index in range(len(prompts))]
