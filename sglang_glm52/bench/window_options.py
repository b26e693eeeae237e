"""Options of `glm52 bench window`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from sglang_glm52.bench.node_model import has_weights
from sglang_glm52.bench.shard_config import NUM_LAYERS, PUBLISHED
from sglang_glm52.bench.shard_options import positive, positive_list, which_list
from sglang_glm52.bench.shard_spec import Which
from sglang_glm52.bench.window_memory import START
from sglang_glm52.bench.window_spec import SPARE_TOKENS, WindowSpec, all_phases
from sglang_glm52.env import given_variables
from sglang_glm52.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--which", type=which_list, default=("ours", "host"), metavar="CLASS,CLASS")
    parser.add_argument(
        "--phases", metavar="NAME,NAME", help="measure these alone, for instance start or first,second,crowd"
    )
    parser.add_argument("--format", choices=("fp8", "w4afp8"), default="w4afp8", help="quantisation of the experts")
    parser.add_argument("--layers", type=int, default=NUM_LAYERS, help="cut the model to this many layers")
    window = PUBLISHED["max_position_embeddings"]
    parser.add_argument("--context-length", type=positive, default=window, help="as a server's")
    parser.add_argument("--prompt", type=positive, default=1_048_000, help="tokens of the two long prompts")
    parser.add_argument("--decode", type=positive, default=512, help="tokens generated after each timed prompt")
    parser.add_argument("--contexts", type=positive_list, default=(8192, 131_072), metavar="N,N", help="other prompts")
    parser.add_argument("--crowd", type=positive, default=64, help="short requests at the end, sent together")
    parser.add_argument("--chunk", type=positive, default=8192, help="tokens of a prefill chunk")
    parser.add_argument("--kv", choices=("fp8_e4m3", "bf16"), default="fp8_e4m3", help="dtype of the KV cache")
    parser.add_argument("--mem-fraction-static", type=float, default=0.85, help="as a server's")
    parser.add_argument("--max-total-tokens", type=positive, help="as a server's; default: what the fraction leaves")
    parser.add_argument(
        "--set", dest="server_args", type=_field, action="append", default=[], metavar="FIELD=VALUE",
        help="a further field of SGLang's ServerArgs, such as dsa_prefill_backend=flashmla_auto",
    )  # fmt: skip
    parser.add_argument("--sample-seconds", type=float, default=0.5, help="between two samples of the device's memory")
    parser.add_argument("--seed", type=int, default=1, help="of weights and prompts")
    parser.add_argument("--log-level", default="warning", help="of SGLang's own log, which goes to stderr")
    parser.add_argument(
        "--model", type=Path, help="serve this folder, not a rank shard; without weights they are drawn"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--dtype", default="bfloat16", help="of what is not quantised")
    parser.add_argument(
        "--out", type=Path, metavar="JSONL", help="add each phase to this file and measure only what it lacks; samples "
        "of the device's memory go to the file of the same name that ends in .memory.csv",
    )  # fmt: skip
    parser.add_argument("--plot", type=Path, metavar="PNG", help="also draw the device's memory over time")


def make_spec(args: argparse.Namespace, which: Which, model_dir: Path) -> WindowSpec:
    """The worker's settings; ConfigError for prompts that the window has no room for."""
    longest = args.context_length - args.decode - SPARE_TOKENS
    if args.prompt > longest:
        raise ConfigError(
            f"--prompt {args.prompt}: with --decode {args.decode} and {SPARE_TOKENS} spare tokens --context-length "
            f"{args.context_length} leaves room for {longest}"
        )
    is_shard = args.model is None
    return WindowSpec(
        which=which,
        model=f"rank shard, {args.format}, {args.layers} layers" if is_shard else str(args.model),
        model_dir=str(model_dir),
        is_seeded=not has_weights(model_dir),
        quantization="w4afp8" if is_shard and args.format == "w4afp8" else None,
        variables=given_variables(),
        device=args.device,
        dtype=args.dtype,
        context_length=args.context_length,
        prompt=args.prompt,
        decode=args.decode,
        contexts=tuple(n for n in args.contexts if n < args.prompt),
        crowd=args.crowd,
        chunk=args.chunk,
        kv=args.kv,
        mem_fraction_static=args.mem_fraction_static,
        max_total_tokens=args.max_total_tokens,
        server_args=dict(args.server_args),
        sample_seconds=args.sample_seconds,
        seed=args.seed,
        log_level=args.log_level,
    )


def chosen_phases(args: argparse.Namespace, spec: WindowSpec) -> list[str]:
    """Those of --phases, in the order in which they are measured; ConfigError for an unknown name."""
    known = (START, *all_phases(spec))  # an engine is started for any of them
    names = list(known) if args.phases is None else args.phases.split(",")
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ConfigError(f"--phases {', '.join(unknown)}: expected some of {', '.join(known)}")
    return [phase for phase in known if phase in names]


def _field(text: str) -> tuple[str, Any]:
    """NAME=VALUE; the value is JSON, or a word as it stands."""
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals):
        raise argparse.ArgumentTypeError(f"{text!r}: expected FIELD=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
