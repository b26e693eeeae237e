"""Who is timed by `glm52 bench moe`: one small module each, with a `prepare` that turns a layer into a call."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sglang_glm52.bench.moe_layer import Call, Layer


@dataclass(frozen=True, slots=True)
class Contender:
    """`prepare`: module:function below sglang_glm52.bench, Layer -> Call."""

    name: str
    prepare: str
    what: str


OURS, HOST = "ours", "host"
_LIST = (
    Contender(OURS, "moe_ours:prepare", "this package's op, whichever path the table picks"),
    Contender("decode", "moe_ours:prepare_decode", "its path for few tokens"),
    Contender("grouped", "moe_ours:prepare_grouped", "its path for many tokens"),
    Contender(HOST, "moe_host:prepare", "SGLang's W4AFP8 method as served: CUTLASS, static activation scales"),
    Contender("humming-w4a8", "moe_humming:prepare_w4a8", "humming-kernels, int4 weights, FP8 activations a token"),
    Contender("humming-w4a16", "moe_humming:prepare_w4a16", "humming-kernels, int4 weights, bf16 activations"),
    Contender("fp8-triton", "moe_fp8_triton:prepare", "SGLang's fused Triton MoE on the same weights in FP8 blocks"),
    Contender("marlin", "moe_marlin:prepare", "SGLang's Marlin MoE, int4 weights, bf16 activations"),
)
CONTENDERS = {each.name: each for each in _LIST}
# What --which takes -> contenders.
CHOICES = {
    OURS: (OURS,),
    HOST: (HOST,),
    "humming": ("humming-w4a8", "humming-w4a16"),
    "fp8-triton": ("fp8-triton",),
    "marlin": ("marlin",),
}
TUNED = ("decode", "grouped")  # the paths between which the table of the op decides; --tune times each alone


def prepare(contender: Contender, layer: Layer) -> Call:
    """Bring the weights into the contender's form. Raises whatever its library raises; ImportError without it."""
    module, function = contender.prepare.split(":")
    return getattr(import_module(f"sglang_glm52.bench.{module}"), function)(layer)
