"""Constrained output on the CPU engine.

The host assumes an accelerator wherever a grammar masks logits: it has Triton's kernel and an NPU's, and raises for any
other device, although XGrammar brings a kernel for CPU tensors. Wrapped here because everything before it (compiling
the grammar, filling the mask) runs on the CPU anyway. Read in 0.5.13.post1 (`constrained/xgrammar_backend.py`,
`XGrammarGrammar.apply_vocab_mask`). Without the hook the first request with `tool_choice`, `response_format`, `regex`
or `ebnf` ends the scheduler with "Unsupported device: cpu".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from xgrammar import apply_token_bitmask_inplace

if TYPE_CHECKING:
    import torch
    from sglang.srt.constrained.xgrammar_backend import XGrammarGrammar


def mask_on_cpu(
    original: Callable[..., None], self: XGrammarGrammar, logits: torch.Tensor, vocab_mask: torch.Tensor
) -> None:
    """AROUND `XGrammarGrammar.apply_vocab_mask`; [num_seqs, vocab] logits, [num_seqs, vocab / 32] int32 mask."""
    if logits.device.type != "cpu":
        return original(self, logits, vocab_mask)
    return apply_token_bitmask_inplace(logits, vocab_mask)
