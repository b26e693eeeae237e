"""SGLang's model runner without a server, with seeded weights."""

from __future__ import annotations

from collections.abc import Sequence

from sglang.srt.configs.model_config import ModelConfig
from sglang.srt.entrypoints.engine import _set_envs_and_config  # what a server's first process sets, PDL among it
from sglang.srt.layers.moe import initialize_moe_config
from sglang.srt.layers.quantization.fp4_utils import initialize_fp4_gemm_config
from sglang.srt.layers.quantization.fp8_utils import initialize_fp8_gemm_config
from sglang.srt.model_executor.model_runner import ModelRunner
from sglang.srt.model_loader.utils import get_model_architecture
from sglang.srt.server_args import prepare_server_args
from sglang.srt.utils.network import get_free_port

from sglang_glm52.bench.batch_runner import BatchRunner
from sglang_glm52.bench.shard_weights import fill_weights
from sglang_glm52.errors import HostMismatchError


class SeededModelRunner(ModelRunner):
    """Fills the weights between the dummy load and the capture of the CUDA graphs."""

    def load_model(self) -> None:
        super().load_model()
        fill_weights(self.model, self.server_args.random_seed)
        self.model.post_load_weights()  # absorbs kv_b_proj again


class ShardEngine(BatchRunner):
    """One loaded model with its KV pool. Call load_plugins() before building one, as every host process does.

    Args:
        argv: server flags; `--load-format dummy` and one GPU are assumed.
        package: where the model class must come from, such as "sglang.srt.models".

    Raises:
        HostMismatchError: SGLang would serve the model with a class from elsewhere.
    """

    def __init__(self, argv: Sequence[str], package: str) -> None:
        args = prepare_server_args(list(argv))
        _set_envs_and_config(args)
        initialize_moe_config(args)
        initialize_fp8_gemm_config(args)
        initialize_fp4_gemm_config(args)
        model_config = ModelConfig.from_server_args(args)
        self.model_class = model_class(model_config, package)
        runner = SeededModelRunner(
            model_config=model_config,
            mem_fraction_static=args.mem_fraction_static,
            gpu_id=0,
            tp_rank=0,
            tp_size=1,
            moe_ep_rank=0,
            moe_ep_size=1,
            pp_rank=0,
            pp_size=1,
            nccl_port=get_free_port(),
            server_args=args,
        )
        super().__init__(runner, args.chunked_prefill_size)


def model_class(model_config: ModelConfig, package: str) -> str:
    """Dotted path of the class the host picks; HostMismatchError if it is not one of `package`."""
    found, architecture = get_model_architecture(model_config)
    path = f"{found.__module__}.{found.__qualname__}"
    if not found.__module__.startswith(f"{package}."):
        raise HostMismatchError(
            f"SGLang serves {architecture} with {path}, expected a class of {package}; if the plugin's is missing, "
            "install it with pip, so that SGLang finds its entry point, and see `glm52 doctor`"
        )
    return path
