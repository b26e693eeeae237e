"""Choose the kernels that select and attend for GLM-5.2 where the user has not.

The host assumes that its own top-k is exact and that an FP8 cache is read best by FlashMLA's decode kernel, also in a
prefill. The top-k of sgl_kernel drops scores unseen in contexts of more than 4,096 positions (docs/memory.md), so
`--dsa-topk-backend sgl-kernel`, its default, means `flashinfer` here, which is exact, and in whose place this package's
kernel selects (`index_topk.py`); SGLANG_GLM52_INDEX_TOPK=host takes it literally, as a flag cannot be told from the
default. And where `--dsa-prefill-backend` is not given, it is `flashmla_auto`, which `sparse_prefill.py` makes choose.
Hooked where the host sets its own defaults for a GPU. Read in 0.5.13.post1 (`server_args.py`,
`_set_default_dsa_backends`). Without the hook selections are wrong in long contexts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from sglang_glm52.arch import is_glm52
from sglang_glm52.env import settings

if TYPE_CHECKING:
    from sglang.srt.server_args import ServerArgs

logger = logging.getLogger(__name__)
HOPPER = 9  # compute capability, major


def choose_kernels(original: Callable[..., None], self: ServerArgs, kv_cache_dtype: str, major: int) -> None:
    """AROUND `ServerArgs._set_default_dsa_backends`."""
    if is_glm52(self.get_model_config().hf_config) and not self.enable_hisparse:
        if self.dsa_topk_backend == "sgl-kernel" and settings().index_topk != "host":
            self.dsa_topk_backend = "flashinfer"
            logger.info("Indexer top-k: an exact one; SGLANG_GLM52_INDEX_TOPK=host for sgl_kernel's")
        if self.dsa_prefill_backend is None and kv_cache_dtype == "fp8_e4m3" and major == HOPPER:
            self.dsa_prefill_backend = "flashmla_auto"
    original(self, kv_cache_dtype, major)
