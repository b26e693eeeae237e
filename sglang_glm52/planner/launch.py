"""The command that starts the planned server."""

from __future__ import annotations

import shlex

from sglang_glm52.planner.budget import Plan
from sglang_glm52.planner.kv import Pool


def launch_command(plan: Plan) -> str:
    """One line for a shell."""
    scenario, parallel = plan.scenario, plan.scenario.parallel
    words: list[object] = ["SGLANG_GLM52_KV_POOL=host"] if scenario.pool is Pool.HOST else []
    words += ["python", "-m", "sglang.launch_server", "--model-path", plan.model.path, "--tp", parallel.tp]
    if parallel.ep > 1:
        words += ["--ep-size", parallel.ep]
    if parallel.dp > 1:
        words += ["--dp-size", parallel.dp, "--enable-dp-attention"]
    if plan.model.form == "w4afp8":
        words += ["--quantization", "w4afp8", "--disable-shared-experts-fusion"]
    words += ["--kv-cache-dtype", scenario.kv_dtype, "--reasoning-parser", "glm45", "--tool-call-parser", "glm47"]
    words += ["--context-length", scenario.context, "--mem-fraction-static", f"{plan.mem_fraction_static:g}"]
    words += ["--chunked-prefill-size", scenario.chunked_prefill_size]
    words += ["--max-running-requests", scenario.max_running_requests]
    words += ["--cuda-graph-max-bs", scenario.running_per_rank]
    if scenario.use_mtp:
        words += ["--speculative-algorithm", "EAGLE", "--speculative-num-steps", scenario.draft_tokens - 1]
        words += ["--speculative-eagle-topk", 1, "--speculative-num-draft-tokens", scenario.draft_tokens]
    return shlex.join(map(str, words))
