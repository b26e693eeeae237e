"""Options of `glm52 bench node`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.bench.node_load import LONG_NEW
from sglang_glm52.bench.node_model import has_weights
from sglang_glm52.bench.node_spec import LONG, MANY, NO_SPECULATION, PHASES, SINGLE, NodeSpec
from sglang_glm52.bench.shard_config import NUM_LAYERS, PUBLISHED
from sglang_glm52.bench.shard_options import positive, which_list
from sglang_glm52.bench.speculation import Speculation
from sglang_glm52.bench.window_spec import SPARE_TOKENS
from sglang_glm52.env import given_variables
from sglang_glm52.errors import ConfigError
from sglang_glm52.outputs import check_outputs
from sglang_glm52.planner.constants import CHUNKED_PREFILL_SIZE
from sglang_glm52.planner.parallel import check_split

DRAWN_ACCEPTANCE = 0.8  # of drawn weights, whose draft model guesses nothing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--which", type=which_list, default=("ours", "host"), metavar="CLASS,CLASS")
    parser.add_argument(
        "--speculative", type=_speculations, default=_speculations("none,1-1-2,3-1-4"), metavar="none,N-1-D",
        help="one server each: without speculation, or EAGLE with N steps and D = N + 1 draft tokens "
        "(default none,1-1-2,3-1-4)",
    )  # fmt: skip
    parser.add_argument("--phases", type=_phases, default=PHASES, metavar="NAME,NAME", help=f"of {','.join(PHASES)}")
    parser.add_argument(
        "--acceptance", type=_probability, metavar="P",
        help="simulate that a draft token is accepted with this probability, given those before it (default: "
        f"{DRAWN_ACCEPTANCE} for drawn weights, the model's own for a checkpoint)",
    )  # fmt: skip
    parser.add_argument("--tp", type=positive, default=8, metavar="N", help="GPUs of the server (default 8)")
    parser.add_argument("--ep", type=positive, default=1, metavar="N", help="expert-parallel size (default 1)")
    parser.add_argument("--dp", type=positive, default=1, metavar="N", help="DP attention: copies of attention")
    window = PUBLISHED["max_position_embeddings"]
    parser.add_argument("--context-length", type=positive, default=window, metavar="N", help="as a server's")
    parser.add_argument("--mem-fraction-static", type=float, default=0.85, metavar="F", help="as a server's")
    parser.add_argument("--chunk", type=positive, default=CHUNKED_PREFILL_SIZE, metavar="N", help="of a prefill")
    parser.add_argument("--long", type=positive, default=1_000_000, metavar="N", help="tokens of the long prompt")
    parser.add_argument("--input", type=positive, default=8192, metavar="N", help="tokens of the other prompts")
    parser.add_argument("--output", type=positive, default=1024, metavar="N", help="new tokens of each of them")
    parser.add_argument("--concurrency", type=positive, default=16, metavar="N", help="streams of the phase `many`")
    parser.add_argument("--repeats", type=positive, default=4, metavar="N", help="requests on each stream, in turn")
    parser.add_argument("--layers", type=positive, default=NUM_LAYERS, metavar="N", help="cut the drawn model to N")
    parser.add_argument("--seed", type=int, default=1, help="of drawn weights and prompts")
    parser.add_argument("--model", type=Path, help="serve this checkpoint; without weights in it they are drawn")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--server-args", type=shlex.split, default=[], metavar="'--FLAG VALUE'", help="further flags of the server"
    )
    parser.add_argument("--start-timeout", type=positive, default=3600, metavar="S", help="seconds a start may take")
    parser.add_argument("--phase-timeout", type=positive, default=3600, metavar="S", help="seconds a phase may take")
    parser.add_argument(
        "--out", type=Path, metavar="JSONL", help="add each phase to this file as soon as it is over and measure only "
        "what it lacks; the servers' logs go beside it",
    )  # fmt: skip


def check(args: argparse.Namespace) -> None:
    """Raise ConfigError for what would fail after the servers' start."""
    check_outputs(out=args.out)
    if args.model is None and args.device == "cpu":
        raise ConfigError("--device cpu cannot hold the published model; name a tiny one with --model")
    if args.model is not None and not (args.model / "config.json").exists():
        raise ConfigError(f"--model {args.model}: there is no config.json in it")
    if args.acceptance is not None and args.device == "cpu":
        raise ConfigError("--acceptance: the CPU engine accepts what its model accepts; leave the option out")
    if not 0 < args.mem_fraction_static < 1:
        raise ConfigError(f"--mem-fraction-static {args.mem_fraction_static:g}: expected a number between 0 and 1")
    lengths = {LONG: ("--long", args.long, LONG_NEW), SINGLE: ("--input", args.input, args.output)}
    lengths[MANY] = lengths[SINGLE]
    for option, prompt, new in (lengths[phase] for phase in args.phases if phase in lengths):
        longest = args.context_length - new - SPARE_TOKENS
        if prompt > longest:
            raise ConfigError(
                f"{option} {prompt}: with {new} new and {SPARE_TOKENS} spare tokens --context-length "
                f"{args.context_length} leaves room for {longest}"
            )


def make_spec(args: argparse.Namespace, model_dir: Path) -> NodeSpec:
    """The settings of all servers; ConfigError for a split that the model does not take."""
    arch = Glm52Arch.from_checkpoint(model_dir)
    is_seeded = not has_weights(model_dir)
    is_drawn_on_cuda = is_seeded and args.device == "cuda"
    spec = NodeSpec(
        model=f"GLM-5.2, {args.layers} layers" if args.model is None else str(args.model),
        model_dir=str(model_dir),
        form=arch.quant.method if arch.quant else "bf16",
        is_seeded=is_seeded,
        device=args.device,
        tp=args.tp,
        ep=args.ep,
        dp=args.dp,
        context_length=args.context_length,
        mem_fraction_static=args.mem_fraction_static,
        chunk=args.chunk,
        long=args.long,
        input=args.input,
        output=args.output,
        concurrency=args.concurrency,
        repeats=args.repeats,
        acceptance=DRAWN_ACCEPTANCE if args.acceptance is None and is_drawn_on_cuda else args.acceptance,
        seed=args.seed,
        server_args=tuple(args.server_args),
        variables=given_variables(),
    )
    check_split(arch, spec.parallel, args.tp)
    return spec


def _speculations(text: str) -> tuple[Speculation | None, ...]:
    try:
        return tuple(None if part == NO_SPECULATION else Speculation.from_text(part) for part in _distinct(text))
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _phases(text: str) -> tuple[str, ...]:
    """In the order in which they are measured."""
    names = _distinct(text)
    if unknown := set(names) - set(PHASES):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: expected some of {', '.join(PHASES)}")
    return tuple(phase for phase in PHASES if phase in names)


def _probability(text: str) -> float:
    if not 0 <= (value := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 0 to 1")
    return value


def _distinct(text: str) -> list[str]:
    parts = text.split(",")
    if len(set(parts)) != len(parts):
        raise argparse.ArgumentTypeError(f"{text}: a value stands twice")
    return parts
