"""`glm52 bench WHAT`: one measurement a module."""

from __future__ import annotations

import argparse

from sglang_glm52.bench import moe, node, shard, window
from sglang_glm52.bench import parser as parser_bench
from sglang_glm52.kernels.fp8_linear import bench as linear_bench
from sglang_glm52.kernels.head_linear import bench as values_bench
from sglang_glm52.kernels.index_topk import bench as topk_bench
from sglang_glm52.kernels.int4_quantize import bench as quantize_bench
from sglang_glm52.kernels.mla_prologue import bench as prologue_bench
from sglang_glm52.kernels.request_tables import bench as tables_bench
from sglang_glm52.kernels.router import bench as router_bench
from sglang_glm52.kernels.sparse_mla import bench as attention_bench

BENCHES = {
    "attention": (attention_bench, "sparse attention of one rank: this package's kernel and FlashMLA's"),
    "linear": (linear_bench, "FP8 linear layers of a few tokens: this package's kernel and SGLang's two"),
    "moe": (moe, "routed experts of one layer: this package's op, SGLang's and other libraries', over the roofline"),
    "node": (node, "a whole node served: one prompt of a million tokens, one stream, many streams, and memory"),
    "parser": (parser_bench, "tool-call parser: one long streamed argument, the host's parser against this one"),
    "prologue": (prologue_bench, "what lies between projections and attention: this package's kernels and SGLang's"),
    "quantize": (quantize_bench, "the quantiser's GPU kernel beside the same in plain torch"),
    "router": (router_bench, "router logits and the choice of experts: this package's kernels and SGLang's"),
    "shard": (shard, "one rank of 8: decode step, prefill or EAGLE round, the host's model class against this one's"),
    "tables": (tables_bench, "the GPU kernel that plans a pass of a round of speculation"),
    "topk": (topk_bench, "the indexer's top-k: this package's, FlashInfer's, sgl_kernel's and torch's"),
    "values": (values_bench, "attended latents to values, a matrix a head: this package's kernel and cuBLAS"),
    "window": (window, "prompts of a million tokens on one rank of 8: first token, decode step and memory over time"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    subparsers = parser.add_subparsers(dest="bench", required=True, metavar="WHAT")
    for name, (module, summary) in BENCHES.items():
        subparser = subparsers.add_parser(name, help=summary, description=summary)
        module.add_arguments(subparser)
        subparser.set_defaults(run_bench=module.run)


def run(args: argparse.Namespace) -> int:
    return args.run_bench(args)
