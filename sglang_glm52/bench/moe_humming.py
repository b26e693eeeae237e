"""humming-kernels (PyPI), which compiles its kernels when they are first used: int4 weights, bf16 or FP8 activations.

Two GEMMs that gather rows by index, its own kernels to quantise and for SiLU, and from SGLang the sort by expert and
the sum by router weight, for which it has none. Block shapes are its own choice for the number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch

from sglang_glm52.bench.moe_layer import Call, Layer
from sglang_glm52.bench.moe_marlin import offset_words
from sglang_glm52.formats.int4_group import GROUP
from sglang_glm52.kernels.int4_experts.cases import Inputs
from sglang_glm52.quant.layout import row_major

GEMM = {"use_f16_accum": False, "gemm_type": "indexed"}
SILU_TIMES_UP = "a / (1.0f + __expf(-a)) * b"  # C++, in the kernel's own names


def prepare_w4a16(layer: Layer) -> Call:
    return _prepare(layer, "bfloat16")


def prepare_w4a8(layer: Layer) -> Call:
    return _prepare(layer, "float8e4m3")


@dataclass(frozen=True, slots=True)
class Projection:
    """One of the two GEMMs of all experts."""

    module: Any  # humming.layer.HummingLayer

    @classmethod
    def of(cls, packed: torch.Tensor, scale: torch.Tensor, activation: str) -> Projection:
        """From [experts, out, in / 2] int8 and [experts, in / 128, out] bf16."""
        from humming.layer import HummingLayer

        experts, rows, half = packed.shape
        with packed.device:
            module = HummingLayer(
                shape_n=rows,
                shape_k=2 * half,
                weight_config={"dtype": "uint4", "group_size": GROUP},
                input_config={"dtype": activation},
                num_experts=experts,
                torch_dtype=torch.bfloat16,
            )
        module.load_from_tensors({"weight": offset_words(packed), "weight_scale": row_major(scale)})
        module.transform()
        return cls(module)

    def tuning(self, rows: int) -> dict[str, Any]:
        """Humming's choice of tiles for `rows` rows over all experts."""
        from humming.tune import get_heuristics_config

        return get_heuristics_config(self.module.humming_config, shape_m=rows, **GEMM)

    def process(self, x: torch.Tensor, **activation: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Apply the activation function, if any is given, and quantise as the GEMM wants: values, scale a row."""
        from humming.forward import may_process_input

        values, _, row_scale = may_process_input(self.module.humming_config, x, **activation)
        return values, row_scale

    def multiply(
        self, x: torch.Tensor, scale: torch.Tensor | None, order: tuple[torch.Tensor, ...], rows: int, top_k: int
    ) -> torch.Tensor:
        """[rows / top_k, in] -> [rows, out]: slot i takes row i / top_k, in `order` (see `_sort`)."""
        sorted_ids, expert_ids, num_padded = order
        return self.module(
            x,
            outputs=torch.empty(rows, self.module.shape_n, dtype=torch.bfloat16, device=x.device),
            input_scale=scale,
            sorted_ids=sorted_ids,
            expert_ids=expert_ids,
            num_tokens_padded=num_padded,
            top_k=top_k,
            valid_shape_m=rows,
            compute_config=GEMM,
            tuning_config=self.tuning(rows),
        )


def _prepare(layer: Layer, activation: str) -> Call:
    weights = layer.weights
    w13 = Projection.of(weights.w13, weights.scale13, activation)
    w2 = Projection.of(weights.w2, weights.scale2, activation)
    return partial(_call, w13, w2, weights.num_experts)


def _call(w13: Projection, w2: Projection, num_experts: int, inputs: Inputs) -> torch.Tensor:
    ids = inputs.topk_ids
    blocks = [each.tuning(ids.numel())["block_shape"][0] for each in (w13, w2)]
    orders = {block: _sort(ids, block, num_experts) for block in set(blocks)}
    gate_up = w13.multiply(*w13.process(inputs.x), orders[blocks[0]], ids.numel(), ids.shape[1])
    h = w2.process(gate_up, activation_type="binary_split", activation_impl=SILU_TIMES_UP)
    down = w2.multiply(*h, orders[blocks[1]], ids.numel(), 1)
    return _sum_by_weight(down, inputs, num_experts)


def _sort(ids: torch.Tensor, block: int, num_experts: int) -> tuple[torch.Tensor, ...]:
    """Slots by expert, each expert's padded to whole blocks; the blocks' experts; how many slots that is."""
    from sglang.srt.layers.moe.fused_moe_triton import moe_align_block_size

    return moe_align_block_size(ids, block, num_experts)


def _sum_by_weight(down: torch.Tensor, inputs: Inputs, num_experts: int) -> torch.Tensor:
    from sglang.srt.layers.moe.ep_moe.kernels import post_reorder_for_cutlass_moe

    num_tokens, topk = inputs.topk_ids.shape
    out = torch.empty_like(inputs.x)
    post_reorder_for_cutlass_moe(
        down,
        out,
        _as_they_lie(down.shape[0], down.device),
        inputs.topk_ids,
        inputs.topk_weights,
        num_experts,
        topk,
        num_tokens,
        down.shape[1],
        inputs.factor,
    )
    return out


@cache
def _as_they_lie(rows: int, device: torch.device) -> torch.Tensor:
    """Slot -> its row, [rows] int32: Humming leaves them in the tokens' order. Made once, as a server would."""
    return torch.arange(rows, dtype=torch.int32, device=device)
