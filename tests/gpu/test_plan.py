"""The plan of a tiny checkpoint against what SGLang's CUDA engine holds once it has loaded it."""

from __future__ import annotations

from pathlib import Path

import pytest
from planner.engine_memory import MAX_RUNNING_REQUESTS, measure

from sglang_glm52.planner.constants import GIB
from sglang_glm52.planner.kv import FP8, Pool, kv_bytes, pool_tokens, slots
from sglang_glm52.planner.model import read_model
from sglang_glm52.planner.parallel import Parallel
from sglang_glm52.planner.weights import MTP, weight_bytes
from sglang_glm52.planner.workspaces import EXTRA_POSITIONS, INT32
from sglang_glm52.tiny import build

pytestmark = pytest.mark.gpu

EXACT = 0.01
MEM_FRACTION_STATIC = 0.5
FLAGS = (
    *("--device", "cuda", "--dtype", "bfloat16", "--mem-fraction-static", str(MEM_FRACTION_STATIC)),
    *("--disable-cuda-graph", "--disable-piecewise-cuda-graph", "--context-length", "8192"),
)


@pytest.mark.parametrize(
    ("fmt", "kv_dtype"), [("w4afp8", FP8), ("fp8", FP8), ("bf16", "bfloat16")], ids=["w4afp8", "fp8", "bf16"]
)
def test_the_engine_holds_what_was_planned(fmt: str, kv_dtype: str, tmp_path: Path) -> None:
    checkpoint = build(tmp_path / "model", preset="gpu", fmt=fmt)
    seen = measure(checkpoint, *FLAGS, "--kv-cache-dtype", kv_dtype)
    model = read_model(checkpoint)
    weights = weight_bytes(model, Parallel(1))
    del weights[MTP]
    assert seen["weights"] == pytest.approx(sum(weights.values()), rel=EXACT)

    pool = Pool.COMPACT if seen["pool"].startswith("sglang_glm52.") else Pool.HOST
    kv = kv_bytes(model.arch, kv_dtype, pool, use_mtp=False)
    assert seen["kv"] == pytest.approx(slots(seen["tokens"]) * kv.total, rel=EXACT)

    free = seen["free_gib"] * GIB
    assert seen["tokens"] == pytest.approx(pool_tokens(free, sum(weights.values()), MEM_FRACTION_STATIC, kv), rel=EXACT)
    assert seen["request_table"] == (MAX_RUNNING_REQUESTS + 1) * (seen["context"] + EXTRA_POSITIONS) * INT32
