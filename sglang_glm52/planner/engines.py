"""What becomes of a checkpoint tensor once it is loaded: the type each engine keeps it in."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.models.weights import SCALE_SUFFIX, is_routed_expert
from sglang_glm52.quantize.shards import TensorInfo

_FLOAT32 = (".e_score_correction_bias", ".indexer.k_norm.weight", ".indexer.k_norm.bias")


@dataclass(frozen=True, slots=True)
class Engine:
    """CUDA keeps quantised weights as they are; the CPU engine dequantises them to the model's type."""

    keeps_quantised: bool
    item_bytes: int  # of what is not quantised
    rope_item_bytes: int  # of the table of sines and cosines

    def loaded_bytes(self, arch: Glm52Arch, info: TensorInfo) -> int:
        """Bytes of the parameter, or part of one, that `info` fills, on one GPU that holds all of it.

        On CUDA the scales of int4 groups become bf16 whatever the checkpoint has (the grouped GEMM reads them
        interleaved), and FP8 block scales are float32. The router's weight follows the model's type, its bias and the
        indexer's LayerNorm are float32.
        """
        count = math.prod(info.shape)
        if info.name.endswith(SCALE_SUFFIX):
            is_int4 = arch.has_int4_experts and is_routed_expert(info.name)
            return count * (2 if is_int4 else 4) if self.keeps_quantised else 0
        if info.dtype in ("I8", "F8_E4M3") and self.keeps_quantised:
            return count
        if info.name.endswith(_FLOAT32):
            return count * 4
        return count * self.item_bytes * (2 if info.dtype == "I8" else 1)  # a byte of I8 holds two int4


CUDA = Engine(keeps_quantised=True, item_bytes=2, rope_item_bytes=4)


def cpu_engine(item_bytes: int) -> Engine:
    """SGLang's CPU engine with --dtype bfloat16 (2 bytes) or float32 (4)."""
    return Engine(keeps_quantised=False, item_bytes=item_bytes, rope_item_bytes=item_bytes)
