"""What lets the CPU prepare a round of speculation while the GPU computes the one before it. A part of the ledger.

All of it keeps still with SGLANG_GLM52_SPEC_ROUNDS=host and with DP attention.
"""

from __future__ import annotations

from sglang_glm52.host.registries import Registration
from sglang_glm52.host.spec import HookSpec

ROUND_REGISTRATIONS: tuple[Registration, ...] = (
    Registration(
        name="cuda_attention",
        registry="sglang.srt.layers.attention.attention_registry:ATTENTION_BACKENDS",
        key="dsa",
        provider="sglang_glm52.attention.cuda_backend:create_sparse_backend",
        when="cuda",
        reason="The host plans a verify pass from lengths that the CPU has to wait for. Other models still get its own "
        "dsa backend, and so does GLM-5.2 with SGLANG_GLM52_SPEC_ROUNDS=host or DP attention.",
    ),
)

ROUND_HOOKS: tuple[HookSpec, ...] = (
    HookSpec(
        name="spec_step_backends",
        target="sglang.srt.speculative.draft_utils.DraftBackendFactory._create_dsa_decode_backend",
        kind="around",
        impl="sglang_glm52.host.hooks.spec_step_backends:create_round_steps",
        needs=("self",),
        when="cuda",
        reason="Draft steps are planned from lengths that the CPU has to wait for, and once more for each step.",
        upstream="none: not reported",
        hosts="==0.5.13.post1",
        drop_when="the host's dsa backend plans without lengths on the CPU",
    ),
    HookSpec(
        name="spec_extend_backend",
        target="sglang.srt.speculative.draft_utils.DraftBackendFactory._create_dsa_prefill_backend",
        kind="around",
        impl="sglang_glm52.host.hooks.spec_extend_backend:create_extend_backend",
        needs=("self",),
        when="cuda",
        reason="The host's dsa backend cannot plan a draft-extend pass for a CUDA graph.",
        upstream="none: not reported",
        hosts="==0.5.13.post1",
        drop_when="the host captures draft-extend with its dsa backend",
    ),
    HookSpec(
        name="spec_extend_graph",
        target="sglang.srt.speculative.eagle_worker_v2.EagleDraftWorker.init_cuda_graphs",
        kind="around",
        impl="sglang_glm52.host.hooks.spec_extend_graph:capture_extend",
        needs=("self",),
        when="cuda",
        reason="With sparse attention the kernels of every draft-extend pass are launched one by one.",
        upstream="none: not reported",
        hosts="==0.5.13.post1",
        drop_when="the host captures draft-extend with its dsa backend",
    ),
    HookSpec(
        name="spec_piecewise",
        target="sglang.srt.server_args.ServerArgs._handle_piecewise_cuda_graph",
        kind="around",
        impl="sglang_glm52.host.hooks.spec_piecewise:leave_out",
        needs=("self",),
        when="cuda",
        reason="Piecewise CUDA graphs, which no speculating server ever runs, are captured, and make rounds wait.",
        upstream="none: not reported",
        hosts="==0.5.13.post1",
        drop_when="the host captures none with speculation, or runs them",
    ),
    HookSpec(
        name="spec_chain",
        target="sglang.srt.speculative.eagle_utils.build_tree_kernel_efficient",
        kind="around",
        impl="sglang_glm52.host.hooks.spec_chain:build_chain",
        needs=("bonus_tokens", "draft_tokens", "seq_lens", "topk"),
        when="cuda",
        reason="Without lengths on the CPU the drafts get a mask as large as the longest context, which sparse "
        "attention does not read.",
        upstream="none: not reported",
        hosts="==0.5.13.post1",
        drop_when="the host makes no mask for attention backends that read none",
    ),
)
