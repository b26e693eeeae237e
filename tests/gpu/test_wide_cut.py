"""Two GPUs against one with 12 layers of GLM-5.2's own width, drawn on the GPUs when they are loaded.

As test_two_gpus.py, whose vocabulary it has: every token has a fixed successor by a margin that no rounding bridges, so
tokens are equal, and log-probabilities are those of two runs that round independently. How far such runs are apart in a
model of this width and depth is measured: SGLang's own class on the two GPUs against the same run of one. Experts are
as many as fit one GPU of 80 GB: 64 of the 256 in bf16, 128 in FP8, all in W4AFP8.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from gpu.test_two_gpus import ACCEPTANCE, CASES, SEED, TP, Case, difference, generate, require_equal

from sglang_glm52.bench.shard_config import PUBLISHED
from sglang_glm52.testing.drawn_model import write_drawn

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs in one machine"),
]

NUM_LAYERS = 12
SPREAD = 1.5  # of a mean difference between pairs of runs that round independently
EXPERTS = {"bf16": 64, "fp8": 128, "w4afp8": 256}
OF_WIDTH = (
    "first_k_dense_replace",
    "hidden_size",
    "index_n_heads",
    "intermediate_size",
    "kv_lora_rank",
    "moe_intermediate_size",
    "num_attention_heads",
    "num_experts_per_tok",
    "num_key_value_heads",
    "q_lora_rank",
    "qk_head_dim",
    "qk_nope_head_dim",
    "v_head_dim",
)


def wide(fmt: str) -> dict[str, int]:
    """Fields of config.json that differ from those of the preset."""
    return {
        **{name: PUBLISHED[name] for name in OF_WIDTH},
        "num_hidden_layers": NUM_LAYERS,
        "n_routed_experts": EXPERTS[fmt],
    }


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("wide")
    return cache(lambda fmt: write_drawn(folder / fmt, "gpu", fmt, SEED, wide(fmt), ACCEPTANCE))


@pytest.fixture(scope="module")
def one_gpu(checkpoint):
    """Runs on one GPU without speculation."""
    return cache(lambda fmt: generate(checkpoint(fmt)))


@pytest.fixture(scope="module")
def bounds(checkpoint, one_gpu):
    """One a prompt: SPREAD times the difference of SGLang's own class on two GPUs, which gives equal tokens."""

    def measure(fmt: str) -> list[float]:
        apart = []
        host = generate(checkpoint(fmt), environ={"SGLANG_PLUGINS": "none"}, **TP)
        for run, one in zip(host, one_gpu(fmt), strict=True):
            assert run.output_ids == one.output_ids
            apart.append(difference(run, one))
        print(f"{fmt}: SGLang's class differs by {', '.join(f'{each:.4f}' for each in apart)}")
        return [SPREAD * each for each in apart]

    return cache(measure)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_gpus_give_the_output_of_one(case: Case, checkpoint, one_gpu, bounds) -> None:
    require_equal(case, checkpoint(case.fmt), one_gpu(case.fmt), bounds(case.fmt))
