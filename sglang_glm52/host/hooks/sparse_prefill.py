"""Let `--dsa-prefill-backend flashmla_auto` choose the bf16 kernel for prefills with an FP8 cache.

The host assumes that on Hopper an FP8 cache is always read best by FlashMLA's decode kernel: there `flashmla_auto` is
`flashmla_kv`, and only on Blackwell it weighs the two kernels for each batch. `flashmla_sparse` chooses the other one
for every batch, also where dequantising its contexts takes more time than the kernel saves, or more memory than there
is. Here `flashmla_auto` weighs them on Hopper too, for GLM-5.2; `memory/dequantised_cache.py` has the rule. Where this
package's own kernel attends, nothing is dequantised: `flashmla_kv` means it then (`sparse_mla.py`). The choice is one
method, called before everything that depends on it. Read in 0.5.13.post1 (`layers/attention/dsa_backend.py`,
`set_dsa_prefill_impl`). Without the hook `flashmla_auto` means `flashmla_kv`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sglang.srt.model_executor.forward_batch_info import ForwardMode

from sglang_glm52.attention.few_heads import is_attended_here
from sglang_glm52.host.served_model import serves_glm52
from sglang_glm52.memory.dequantised_cache import is_worth_dequantising


def choose_kernel(original: Callable[..., None], self: Any, forward_batch: Any = None) -> None:
    """AROUND `DeepseekSparseAttnBackend.set_dsa_prefill_impl`; `forward_batch` is None for CUDA graphs."""
    original(self, forward_batch)
    if self.use_mha or not self.enable_auto_select_prefill_impl or not self.dsa_kv_cache_store_fp8:
        return
    if forward_batch is None or forward_batch.forward_mode != ForwardMode.EXTEND:
        return
    if not serves_glm52():
        return
    if is_attended_here(self):
        return
    if is_worth_dequantising(forward_batch.extend_num_tokens, forward_batch.seq_lens_sum, self.max_context_len):
        self.dsa_prefill_impl = "flashmla_sparse"
