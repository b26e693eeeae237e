"""Build the compact KV pool for GLM-5.2.

The host assumes that every layer of a sparse-attention model has an indexer: its pool keeps indexer keys for all 78
layers of GLM-5.2, of which 57 have none, 7,524 of 61,464 bytes a token with an FP8 cache. Its class is told no layers
and is chosen by a method of the model runner, the one place that knows the model, the stage and whether it is a draft.
While that method runs for a GLM-5.2 target model, the name it builds the pool by stands for our subclass, so that no
other runner and no other model ever meets it. Read in 0.5.13.post1 (`model_executor/model_runner_kv_cache_mixin.py`,
`_init_pools`). Without the hook the host's pool is built, for fewer tokens in the same memory.

Where an option keeps the host's pool in place of the default, the log says so, once a server.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from sglang.srt.model_executor import model_runner_kv_cache_mixin as mixin

from sglang_glm52.errors import HostMismatchError
from sglang_glm52.memory.compact_pool import CompactDsaKVPool, compact_pool_class, is_target, layers_with_keys
from sglang_glm52.memory.pool_choice import options_against_compact_pool

logger = logging.getLogger(__name__)


def build_compact_pool(original: Callable[..., None], self: Any) -> None:
    """AROUND `ModelRunnerKVCacheMixin._init_pools`."""
    layers = layers_with_keys(self)
    if layers is None:
        _say_why_not(self)
        return original(self)
    hosts_class, mixin.DSATokenToKVPool = mixin.DSATokenToKVPool, compact_pool_class(layers)
    try:
        original(self)
    finally:
        mixin.DSATokenToKVPool = hosts_class
    if not isinstance(self.token_to_kv_pool, CompactDsaKVPool):
        raise HostMismatchError(
            f"SGLang built a {type(self.token_to_kv_pool).__qualname__} where the compact KV pool was expected; set "
            "SGLANG_GLM52_KV_POOL=host"
        )
    return None


def _say_why_not(runner: Any) -> None:
    """The first process of a server logs the options that keep the host's pool."""
    options = options_against_compact_pool(runner.server_args) if is_target(runner) else []
    if options and runner.tp_rank == runner.pp_rank == 0:
        logger.info(
            "KV pool: SGLang's, as %s copies indexer keys of every layer; without it a compact pool holds more tokens",
            ", ".join(options),
        )
