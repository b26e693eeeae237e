"""What this model does not do, refused at start with the option to change."""

from __future__ import annotations

import torch
from sglang.srt.distributed.parallel_state import GroupCoordinator
from sglang.srt.distributed.utils import get_pp_indices
from sglang.srt.server_args import ServerArgs
from sglang.srt.utils import is_cuda

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.arch_quant import GROUP_SIZE
from sglang_glm52.env import settings
from sglang_glm52.errors import ConfigError
from sglang_glm52.memory.pool_choice import options_that_copy_keys
from sglang_glm52.models.support_speculation import check_speculation

HOPPER = (9, 0)  # compute capability


def check_supported(arch: Glm52Arch, args: ServerArgs, pp_group: GroupCoordinator) -> None:
    """Raise ConfigError for a GPU, server option or split of layers that would give wrong results."""
    if is_cuda():
        check_gpu(torch.cuda.current_device())
    refused = {
        "--enable-two-batch-overlap": args.enable_two_batch_overlap,
        "--enable-lora": args.enable_lora,
        "--enforce-shared-experts-fusion": args.enforce_shared_experts_fusion,
        "--enable-dsa-prefill-context-parallel": args.enable_dsa_prefill_context_parallel,
        "--enable-prefill-context-parallel": args.enable_prefill_context_parallel,
        "--enable-return-indexer-topk": args.enable_return_indexer_topk,  # layers that share a selection have none
        "--enable-eplb": args.enable_eplb,
        "--expert-distribution-recorder-mode": args.expert_distribution_recorder_mode is not None,
        "--ep-num-redundant-experts": args.ep_num_redundant_experts > 0,
        "--enable-lmcache": args.enable_lmcache,  # it keeps latents and no indexer keys
    }
    given = [flag for flag, is_set in refused.items() if is_set]
    if given:
        raise ConfigError(f"GLM-5.2 does not support {', '.join(given)}; start the server without it")
    check_speculation(arch, args)
    _check_pool(args)
    _check_bf16_kernel(args)
    _check_experts_split(arch, args.tp_size, args.ep_size)
    _check_stage(arch, pp_group.rank_in_group, pp_group.world_size)


def check_gpu(device: int) -> None:
    """Raise ConfigError for a GPU that the kernels are not made for."""
    if (capability := torch.cuda.get_device_capability(device)) != HOPPER:
        raise ConfigError(
            f"{torch.cuda.get_device_name(device)} has compute capability {capability}; GLM-5.2 is served on Hopper "
            f"GPUs (H100, H200, H20: {HOPPER}), or without a GPU with SGLANG_USE_CPU_ENGINE=1"
        )


def _check_pool(args: ServerArgs) -> None:
    """A compact pool that the user insists on cannot serve options that copy indexer keys of all layers."""
    if settings().kv_pool == "compact" and (given := options_that_copy_keys(args)):
        raise ConfigError(
            f"{', '.join(given)} would copy indexer keys of every layer, and with SGLANG_GLM52_KV_POOL=compact the KV "
            "pool has none for layers without an indexer; unset it, or start the server without the option"
        )


def _check_bf16_kernel(args: ServerArgs) -> None:
    """The host dequantises an FP8 cache for `flashmla_sparse` in prefills, if no decode steps are mixed into them."""
    if args.kv_cache_dtype != "fp8_e4m3":
        return
    if args.dsa_decode_backend == "flashmla_sparse":
        raise ConfigError(
            "--dsa-decode-backend flashmla_sparse reads bf16, and the KV cache is FP8; use flashmla_kv, or "
            "--kv-cache-dtype bfloat16"
        )
    if args.enable_mixed_chunk and args.dsa_prefill_backend == "flashmla_sparse":
        raise ConfigError(
            "--enable-mixed-chunk with --dsa-prefill-backend flashmla_sparse and an FP8 KV cache would hand rows of "
            "FP8 to a kernel that reads bf16; use --dsa-prefill-backend flashmla_auto, or leave out "
            "--enable-mixed-chunk"
        )


def _check_experts_split(arch: Glm52Arch, tp_size: int, ep_size: int) -> None:
    """A rank's share of an expert must hold whole groups or blocks of 128 inputs."""
    ranks = tp_size // ep_size  # that share one expert
    if arch.quant is None or arch.moe_intermediate_size % (ranks * GROUP_SIZE) == 0:
        return
    raise ConfigError(
        f"--tp {tp_size} --ep-size {ep_size} leaves each rank {arch.moe_intermediate_size / ranks:g} of an expert's "
        f"{arch.moe_intermediate_size} inner channels, expected a multiple of {GROUP_SIZE}; raise --ep-size or lower "
        "--tp"
    )


def _check_stage(arch: Glm52Arch, rank: int, world_size: int) -> None:
    start, _ = get_pp_indices(arch.num_layers, rank, world_size)
    if arch.indexer_types[start] == "full":
        return
    full = [i for i, kind in enumerate(arch.indexer_types) if kind == "full"]
    raise ConfigError(
        f"pipeline stage {rank} starts at layer {start}, which shares an earlier layer's selection; start every stage "
        f"at one of {full} by setting SGLANG_PP_LAYER_PARTITION to the layers per stage"
    )
