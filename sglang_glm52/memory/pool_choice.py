"""Which KV pool a GLM-5.2 server on CUDA builds: SGLang's, or the compact one of `compact_pool.py`.

The choice depends on server args and on the environment alone, which all processes of a server share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sglang_glm52.env import settings

if TYPE_CHECKING:
    from sglang.srt.server_args import ServerArgs


def options_that_copy_keys(args: ServerArgs) -> list[str]:
    """Options in effect by which indexer keys of all layers are copied, to another server or to the CPU's memory."""
    is_given = {
        "--disaggregation-mode": args.disaggregation_mode != "null",
        "--enable-hierarchical-cache": args.enable_hierarchical_cache,
        "--enable-hisparse": args.enable_hisparse,
    }
    return [option for option, given in is_given.items() if given]


def chooses_compact_pool(args: ServerArgs) -> bool:
    """Whether the target model's pool is to be the compact one."""
    pool = settings().kv_pool
    return pool == "compact" or (pool == "auto" and not options_that_copy_keys(args))


def options_against_compact_pool(args: ServerArgs) -> list[str]:
    """The options for which SGLang's pool was chosen in place of the default; none where the user named a pool."""
    return options_that_copy_keys(args) if settings().kv_pool == "auto" else []
