"""Load checkpoints as a server process does, one after the other, and print what came of each as JSON.

    python load_checkpoints.py FOLDER ... INT4_FOLDER   prints {FOLDER: "" or "ErrorClass: message"}

and what came of updating the first, and of loading the last with static activation scales.

Run as a program by test_broken_checkpoints.py: SGLang keeps its settings in globals.
"""

from __future__ import annotations

import json
import os
import sys

import torch
from sglang.srt.plugins import load_plugins

load_plugins()  # before the modules below are imported: they bind what plugins replace

from sglang.srt.configs.device_config import DeviceConfig  # noqa: E402
from sglang.srt.configs.load_config import LoadConfig  # noqa: E402
from sglang.srt.configs.model_config import ModelConfig  # noqa: E402
from sglang.srt.distributed.parallel_state import (  # noqa: E402
    init_distributed_environment,
    initialize_model_parallel,
    model_parallel_is_initialized,
)
from sglang.srt.layers.dp_attention import initialize_dp_attention  # noqa: E402
from sglang.srt.layers.moe import initialize_moe_config  # noqa: E402
from sglang.srt.model_loader import get_model  # noqa: E402
from sglang.srt.server_args import ServerArgs, set_global_server_args_for_scheduler  # noqa: E402
from sglang.srt.utils.network import get_free_port  # noqa: E402

from sglang_glm52.env import settings  # noqa: E402


def load(folder: str) -> torch.nn.Module:
    args = ServerArgs(model_path=folder, device="cpu", dtype="float32")
    set_global_server_args_for_scheduler(args)
    config = ModelConfig.from_server_args(args)
    if not model_parallel_is_initialized():
        init_distributed_environment(
            backend="gloo",
            world_size=1,
            rank=0,
            local_rank=0,
            distributed_init_method=f"tcp://127.0.0.1:{get_free_port()}",
        )
        initialize_model_parallel()
        initialize_dp_attention(server_args=args, model_config=config)
        initialize_moe_config(args)
    return get_model(model_config=config, load_config=LoadConfig(), device_config=DeviceConfig("cpu"))


def outcome(folder: str) -> str:
    try:
        load(folder)
    except Exception as error:  # reported, and judged by the test
        return f"{type(error).__name__}: {error}"
    return ""


def update(folder: str) -> dict[str, object]:
    """Load, then bring one layer's kv_b_proj doubled, as the host's weight updates do."""
    model = load(folder)
    layer = model.model.layers[1].self_attn
    before = layer.w_kc.clone(), layer.w_vc.clone()
    weight = layer.kv_b_proj.weight.data.clone()
    model.load_weights([("model.layers.1.self_attn.kv_b_proj.weight", 2 * weight)])
    after = layer.w_kc, layer.w_vc
    return {"doubled": all(torch.equal(2 * b, a) for b, a in zip(before, after, strict=True))}


def load_static(folder: str) -> str:
    os.environ["SGLANG_GLM52_ACTIVATION"] = "static"
    settings.cache_clear()
    return outcome(folder)


def main(folders: list[str]) -> None:
    results: dict[str, object] = {folder: outcome(folder) for folder in folders}
    print(json.dumps(results | {"update": update(folders[0]), "static": load_static(folders[-1])}))


if __name__ == "__main__":
    main(sys.argv[1:])
