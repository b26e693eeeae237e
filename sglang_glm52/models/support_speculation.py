"""What speculative decoding does not do with this model, refused at start with the option to change."""

from __future__ import annotations

from sglang.srt.environ import envs
from sglang.srt.server_args import ServerArgs

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.env import settings
from sglang_glm52.errors import ConfigError
from sglang_glm52.models.index_share import shares_selection

EAGLE = "EAGLE"  # the host turns NEXTN into it


def check_speculation(arch: Glm52Arch, args: ServerArgs) -> None:
    """Raise ConfigError for an option that together with --speculative-algorithm gives wrong results or fails late."""
    if args.speculative_algorithm is None:
        return
    if args.speculative_algorithm != EAGLE:
        raise ConfigError(
            f"--speculative-algorithm {args.speculative_algorithm}: this model drafts with its own MTP layer; use "
            "EAGLE (or NEXTN, the same). The host's other ways verify trees of drafts, and it moves kept indexer keys "
            "by pages as if they were tokens"
        )
    if arch.num_mtp_layers == 0:
        raise ConfigError(
            "--speculative-algorithm EAGLE drafts with the checkpoint's MTP layer, and this one has none "
            "(num_nextn_predict_layers is 0); start the server without --speculative-algorithm, or use a checkpoint "
            "that has the layer"
        )
    if (args.speculative_eagle_topk or 1) > 1:
        raise ConfigError(
            f"--speculative-eagle-topk {args.speculative_eagle_topk} drafts trees: the host moves kept indexer keys "
            "by pages as if they were tokens, and sparse attention has no mask for branches; use "
            "--speculative-eagle-topk 1"
        )
    _refuse(
        "with --speculative-algorithm",
        {
            "--enable-hierarchical-cache": (
                args.enable_hierarchical_cache,
                "the host's second cache keeps no indexer keys of the draft layer, which then drafts from garbage",
            ),
            "--enable-custom-logit-processor": (
                args.enable_custom_logit_processor,
                "the host does not call processors on drafted tokens",
            ),
            "--enable-return-hidden-states": (
                args.enable_return_hidden_states,
                "the host takes hidden states of other requests' rows",
            ),
            "--speculative-adaptive": (
                args.speculative_adaptive,
                "the host's attention backends keep the number of draft tokens that they were built with",
            ),
        },
    )
    is_shared = shares_selection(settings().mtp_index_share, arch.index_share_for_mtp)
    if is_shared and args.disaggregation_mode == "decode" and args.speculative_num_steps > 1:
        raise ConfigError(
            "--disaggregation-mode decode with more than one draft step: the selection that a round's steps share is "
            "kept by the place of a request, and nothing forgets that of the place's last one where no prompts are "
            "computed; set SGLANG_GLM52_MTP_INDEX_SHARE=off or --speculative-num-steps 1"
        )
    if args.device == "cpu":
        _check_cpu(args)


def _check_cpu(args: ServerArgs) -> None:
    is_lossy = min(args.speculative_accept_threshold_single, args.speculative_accept_threshold_acc) < 1.0
    _refuse(
        "with --speculative-algorithm on the CPU engine",
        {
            "--speculative-accept-threshold-single or --speculative-accept-threshold-acc below 1": (
                is_lossy,
                "drafts are kept only where the output stays distributed as without them",
            ),
            "--enable-dp-attention": (args.enable_dp_attention, "the host puts what idle ranks draft on a GPU"),
            "SGLANG_ENABLE_OVERLAP_PLAN_STREAM": (
                envs.SGLANG_ENABLE_OVERLAP_PLAN_STREAM.get(),
                "the engine has one stream",
            ),
            "SGLANG_SIMULATE_ACC_LEN": (
                envs.SGLANG_SIMULATE_ACC_LEN.get() > 0,
                "acceptance is not simulated there",
            ),
        },
    )


def _refuse(where: str, options: dict[str, tuple[bool, str]]) -> None:
    """`options`: {name: (is it given, why it is refused)}."""
    given = {name: why for name, (is_given, why) in options.items() if is_given}
    if given:
        reasons = "; ".join(f"{name} ({why})" for name, why in given.items())
        raise ConfigError(f"GLM-5.2 does not support {where}: {reasons}. Start the server without it")
