"""The plan of a tiny checkpoint against what SGLang's CPU engine really holds once it has loaded it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from planner.engine_memory import MAX_RUNNING_REQUESTS, measure

from sglang_glm52.planner.constants import GIB
from sglang_glm52.planner.engines import cpu_engine
from sglang_glm52.planner.kv import Pool, kv_bytes, pool_tokens, slots
from sglang_glm52.planner.model import read_model
from sglang_glm52.planner.parallel import Parallel
from sglang_glm52.planner.weights import MTP, weight_bytes
from sglang_glm52.planner.workspaces import EXTRA_POSITIONS, INT32
from sglang_glm52.testing.server import CPU_ENVIRON
from sglang_glm52.tiny import build

ITEM_BYTES = {"bfloat16": 2, "float32": 4}
MEM_FRACTION_STATIC = 0.1  # of the machine's free memory; the pool's pages stay untouched
EXACT = 0.01


def measure_on_cpu(checkpoint: Path, *flags: str) -> dict[str, Any]:
    return measure(checkpoint, "--device", "cpu", *flags, environ=CPU_ENVIRON)


@pytest.mark.parametrize(("fmt", "dtype"), [("w4afp8", "bfloat16"), ("bf16", "float32")])
def test_the_engine_holds_what_was_planned(fmt, dtype, tmp_path):
    checkpoint = build(tmp_path / "model", fmt=fmt, overrides={"max_position_embeddings": 4096})
    seen = measure_on_cpu(checkpoint, "--dtype", dtype, "--mem-fraction-static", str(MEM_FRACTION_STATIC))
    model = read_model(checkpoint)
    weights = weight_bytes(model, Parallel(1), cpu_engine(ITEM_BYTES[dtype]))
    del weights[MTP]
    assert seen["weights"] == pytest.approx(sum(weights.values()), rel=EXACT)

    kv = kv_bytes(model.arch, dtype, Pool.CPU, use_mtp=False)
    assert seen["kv"] == slots(int(seen["tokens"])) * kv.total

    free = seen["free_gib"] * GIB
    taken = int(free * MEM_FRACTION_STATIC - seen["rest_bytes"])  # while loading, by whatever runs on the machine
    assert seen["tokens"] == pytest.approx(pool_tokens(free, taken, MEM_FRACTION_STATIC, kv), abs=64)
    assert seen["request_table"] == (MAX_RUNNING_REQUESTS + 1) * (seen["context"] + EXTRA_POSITIONS) * INT32


def test_a_cap_on_tokens_is_rounded_to_pages(tmp_path):
    checkpoint = build(tmp_path / "model", overrides={"num_hidden_layers": 3, "max_position_embeddings": 4096})
    seen = measure_on_cpu(checkpoint, "--dtype", "bfloat16", "--max-total-tokens", "8250")
    kv = kv_bytes(read_model(checkpoint).arch, "bfloat16", Pool.CPU, use_mtp=False)
    assert seen["tokens"] == 8192 and seen["kv"] == slots(8192) * kv.total
