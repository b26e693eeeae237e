"""`glm52 plan`: how a model fits GPUs, and the command to serve it with."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from sglang_glm52.errors import ConfigError
from sglang_glm52.outputs import check_outputs
from sglang_glm52.planner.constants import CHUNKED_PREFILL_SIZE, DRAFT_TOKENS

if TYPE_CHECKING:
    from sglang_glm52.planner.model import Model
    from sglang_glm52.planner.scenario import Scenario


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Nothing is loaded, and no GPU is needed. Status 1 means that it does not fit."
    what = parser.add_argument_group("the model")
    what.add_argument("checkpoint", nargs="?", type=Path, help="a checkpoint folder, or its config.json")
    what.add_argument(
        "--preset",
        action="append",
        default=[],
        metavar="FORMAT",
        help="instead: the published model in w4afp8, fp8 or bf16; give it again to compare formats side by side",
    )
    gpus = parser.add_argument_group("the GPUs")
    gpus.add_argument("--gpu", default="h200", metavar="NAME", help="h100, h200 (default), h20, h20-141 or b200")
    gpus.add_argument("--gpu-memory-gib", type=float, metavar="X", help="instead: what the driver leaves to programs")
    gpus.add_argument("--gpus", type=int, default=8, metavar="N", help="on the node (default 8)")
    gpus.add_argument("--tp", type=int, metavar="N", help="GPUs of the server (default: all)")
    gpus.add_argument("--ep", type=int, default=1, metavar="N", help="expert-parallel size (default 1)")
    gpus.add_argument("--dp", type=int, default=1, metavar="N", help="DP attention: copies of attention (default 1)")
    use = parser.add_argument_group("the load")
    use.add_argument("--context", type=int, metavar="N", help="tokens of a request (default: the model's window)")
    use.add_argument("--concurrency", type=int, default=1, metavar="N", help="such requests at a time (default 1)")
    use.add_argument("--mtp", action=argparse.BooleanOptionalAction, default=False, help="speculate with the MTP layer")
    use.add_argument(
        "--draft-tokens",
        type=int,
        default=DRAFT_TOKENS,
        metavar="N",
        help="verified a round, with --mtp (default 2)",
    )
    server = parser.add_argument_group("the server")
    server.add_argument("--kv-cache-dtype", default="fp8_e4m3", metavar="TYPE", help="fp8_e4m3 (default) or bfloat16")
    server.add_argument(
        "--pool", default="compact", metavar="POOL", help="compact (default): without unread keys; host: SGLang's"
    )
    server.add_argument("--chunked-prefill-size", type=int, default=CHUNKED_PREFILL_SIZE, metavar="N", help="tokens")
    server.add_argument(
        "--mem-fraction-static", type=float, metavar="F", help="default: the largest that leaves room for the rest"
    )
    out = parser.add_argument_group("the output")
    out.add_argument("--json", action="store_true", help="print JSON: an object, or a list for several presets")
    out.add_argument("--plot", type=Path, metavar="FILE", help="write a picture (PNG)")


def run(args: argparse.Namespace) -> int:
    """Return 0 if everything fits, 1 if something does not."""
    from sglang_glm52.planner.budget import make_plan
    from sglang_glm52.planner.report import as_json, text_lines
    from sglang_glm52.planner.verdict import find_problem

    check_outputs(plot=args.plot)
    plans = [make_plan(model, _scenario(args, model)) for model in _models(args)]
    if args.plot is not None:
        from sglang_glm52.planner.picture import picture

        args.plot.write_bytes(picture(plans))
    if args.json:
        found = [as_json(plan) for plan in plans]
        print(json.dumps(found[0] if len(found) == 1 else found))
    else:
        print("\n".join(text_lines(plans)))
    return 1 if any(find_problem(plan) for plan in plans) else 0


def _models(args: argparse.Namespace) -> list[Model]:
    from sglang_glm52.planner.model import preset_model, read_model

    if (args.checkpoint is None) != bool(args.preset):
        raise ConfigError("name either a checkpoint or --preset w4afp8, fp8 or bf16, and not both")
    return [preset_model(form) for form in args.preset] or [read_model(args.checkpoint)]


def _scenario(args: argparse.Namespace, model: Model) -> Scenario:
    from sglang_glm52.planner.gpus import custom_gpu, find_gpu
    from sglang_glm52.planner.kv import KV_DTYPES, Pool
    from sglang_glm52.planner.parallel import Parallel
    from sglang_glm52.planner.scenario import Scenario

    pools = {pool.value: pool for pool in (Pool.COMPACT, Pool.HOST)}
    for option, value, known in (("--kv-cache-dtype", args.kv_cache_dtype, KV_DTYPES), ("--pool", args.pool, pools)):
        if value not in known:
            raise ConfigError(f"{option} {value}: unknown; expected one of {', '.join(known)}")
    return Scenario(
        gpu=find_gpu(args.gpu) if args.gpu_memory_gib is None else custom_gpu(args.gpu_memory_gib),
        num_gpus=args.gpus,
        parallel=Parallel(args.gpus if args.tp is None else args.tp, args.ep, args.dp),
        context=model.arch.max_positions if args.context is None else args.context,
        concurrency=args.concurrency,
        kv_dtype=args.kv_cache_dtype,
        pool=pools[args.pool],
        draft_tokens=args.draft_tokens if args.mtp else 0,
        chunked_prefill_size=args.chunked_prefill_size,
        mem_fraction_static=args.mem_fraction_static,
    )
