"""Every change this plugin makes to the host, as data. docs/hooks.md is generated from here."""

from __future__ import annotations

from sglang_glm52.host.registries import MODEL_REGISTRY, Registration
from sglang_glm52.host.spec import HookSpec

REGISTRATIONS: tuple[Registration, ...] = (
    Registration(
        name="model",
        registry=MODEL_REGISTRY,
        key="GlmMoeDsaForCausalLM",
        provider="sglang_glm52.models.glm52:GlmMoeDsaForCausalLM",
        when="always",
        reason="The host serves GLM-5.2 with its DeepSeek class: router logits in bfloat16, an indexer built on every "
        "layer, and no way to run without a GPU.",
    ),
    Registration(
        name="cpu_attention",
        registry="sglang.srt.layers.attention.attention_registry:ATTENTION_BACKENDS",
        key="torch_native",
        provider="sglang_glm52.attention.cpu_backend:create_torch_backend",
        when="cpu",
        reason="The host has no sparse attention for the CPU engine; other models still get its torch_native backend.",
    ),
)

HOOKS: tuple[HookSpec, ...] = (
    HookSpec(
        name="cpu_server_args",
        target="sglang.srt.server_args.ServerArgs._handle_model_specific_adjustments",
        kind="around",
        impl="sglang_glm52.host.hooks.cpu_server_args:use_cpu_defaults",
        needs=("self",),
        when="cpu",
        reason="The server asks CUDA for its capability and fails where there is no GPU.",
        upstream="none: the host does not offer sparse-attention models on its CPU engine",
        hosts="==0.5.13.post1",
        drop_when="the host picks defaults for sparse-attention models by --device",
    ),
    HookSpec(
        name="cpu_kv_pool",
        target="sglang.srt.mem_cache.memory_pool.DSATokenToKVPool",
        kind="replace",
        impl="sglang_glm52.host.hooks.cpu_kv_pool:TorchDsaKVPool",
        needs=(
            *("size", "page_size", "kv_lora_rank", "dtype", "qk_rope_head_dim"),
            *("layer_num", "device", "index_head_dim"),
        ),
        when="cpu",
        reason="The KV pool of sparse-attention models writes through Triton kernels.",
        upstream="none: the host does not offer sparse-attention models on its CPU engine",
        hosts="==0.5.13.post1",
        drop_when="the host's pool has a torch path for CPU tensors",
    ),
    HookSpec(
        name="cpu_paged_allocator",
        target="sglang.srt.mem_cache.allocator.paged.PagedTokenToKVPoolAllocator",
        kind="replace",
        impl="sglang_glm52.host.hooks.cpu_paged_allocator:TorchPagedAllocator",
        needs=("size", "page_size", "dtype", "device", "kvcache", "need_sort"),
        when="cpu",
        reason="Pages of more than one token are allocated by Triton kernels.",
        upstream="none: the CPU engine runs with pages of one token upstream",
        hosts="==0.5.13.post1",
        drop_when="the host allocates pages on the CPU engine without Triton",
    ),
    HookSpec(
        name="cpu_quant_config",
        target="sglang.srt.model_loader.loader._get_quantization_config",
        kind="around",
        impl="sglang_glm52.host.hooks.cpu_quant_config:dequantise_on_cpu",
        needs=("model_config",),
        when="cpu",
        reason="A quantised checkpoint gets quantised layers, for which the CPU engine has no kernels.",
        upstream="none: FP8 on the host's CPU engine is computed by AMX kernels that its PyPI wheels do not carry",
        hosts="==0.5.13.post1",
        drop_when="the host dequantises FP8 checkpoints for CPUs without AMX",
    ),
    HookSpec(
        name="cpu_pynccl",
        target="sglang.srt.distributed.parallel_state.GroupCoordinator.__init__",
        kind="before",
        impl="sglang_glm52.host.hooks.cpu_pynccl:without_pynccl",
        needs=("use_pynccl",),
        when="cpu",
        reason="With more than one rank an NCCL communicator is built for CPU tensors, which raises.",
        upstream="none: seen only where the NCCL library is installed and the CPU engine is used",
        hosts="==0.5.13.post1",
        drop_when="the host asks for the device before it builds an NCCL communicator",
    ),
)
