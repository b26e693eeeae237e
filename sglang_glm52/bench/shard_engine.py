"""SGLang's model runner without a server, driven as `sglang.bench_one_batch` does, with seeded weights."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

import torch
from sglang.bench_one_batch import decode, extend, prepare_synthetic_inputs_for_latency_test
from sglang.srt.configs.model_config import ModelConfig
from sglang.srt.entrypoints.engine import _set_envs_and_config  # what a server's first process sets, PDL among it
from sglang.srt.layers.moe import initialize_moe_config
from sglang.srt.layers.quantization.fp4_utils import initialize_fp4_gemm_config
from sglang.srt.layers.quantization.fp8_utils import initialize_fp8_gemm_config
from sglang.srt.managers.schedule_batch import Req, ScheduleBatch
from sglang.srt.model_executor.model_runner import ModelRunner
from sglang.srt.model_loader.utils import get_model_architecture
from sglang.srt.server_args import prepare_server_args
from sglang.srt.utils.network import get_free_port

from sglang_glm52.bench.shard_weights import fill_weights
from sglang_glm52.errors import HostMismatchError


class SeededModelRunner(ModelRunner):
    """Fills the weights between the dummy load and the capture of the CUDA graphs."""

    def load_model(self) -> None:
        super().load_model()
        fill_weights(self.model, self.server_args.random_seed)
        self.model.post_load_weights()  # absorbs kv_b_proj again


class ShardEngine:
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
        self.chunk = args.chunked_prefill_size
        model_config = ModelConfig.from_server_args(args)
        self.model_class = _model_class(model_config, package)
        self.runner = SeededModelRunner(
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

    @property
    def vocab_size(self) -> int:
        return self.runner.model_config.vocab_size

    def captured_batches(self) -> list[int]:
        """Batch sizes that have a CUDA graph."""
        return list(self.runner.graph_runner.capture_bs) if self.runner.graph_runner else []

    def prefill(self, prompts: Sequence[array]) -> tuple[ScheduleBatch, torch.Tensor]:
        """Empty the KV pool, then run equally long prompts through it, `chunk` tokens at a time.

        Returns:
            The batch, ready to decode, and the last tokens' logits [len(prompts), vocab_size].
        """
        self.runner.req_to_token_pool.clear()
        self.runner.token_to_kv_pool_allocator.clear()
        batch, logits = None, []
        for group in self._groups(prompts):
            extended, last = self._extend_by_chunks(group)
            logits.append(last)
            if batch is None:
                batch = extended
            else:
                batch.merge_batch(extended)
        return batch, torch.cat(logits)

    def decode(self, batch: ScheduleBatch, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token [len(batch)] int64 to each request; logits [len(batch), vocab_size]."""
        return decode(tokens, batch, self.runner)[1]

    def _groups(self, prompts: Sequence[array]) -> Iterator[list[Req]]:
        """Requests that fit one chunk together, or one at a time if none does."""
        size = max(1, self.chunk // len(prompts[0]))
        for first in range(0, len(prompts), size):
            yield prepare_synthetic_inputs_for_latency_test(0, 0, list(prompts[first : first + size]))

    def _extend_by_chunks(self, reqs: list[Req]) -> tuple[ScheduleBatch, torch.Tensor]:
        length = len(reqs[0].origin_input_ids)
        ends = [*range(self.chunk, length, self.chunk), length] if len(reqs) == 1 else [length]
        for end in ends:
            for req in reqs:
                self._select_tokens(req, end)
            _, logits, batch = extend(reqs, self.runner)
        return batch, logits

    def _select_tokens(self, req: Req, end: int) -> None:
        """Let the next extend run tokens [what is in the KV pool, end)."""
        done = req.kv_committed_len
        if done:
            slots = self.runner.req_to_token_pool.req_to_token[req.req_pool_idx, :done]
            req.prefix_indices = slots.to(req.prefix_indices.dtype)
        req.fill_len = end
        req.set_extend_input_len(end - done)


def _model_class(model_config: ModelConfig, package: str) -> str:
    """Dotted path of the class the host picks."""
    found, architecture = get_model_architecture(model_config)
    path = f"{found.__module__}.{found.__qualname__}"
    if not found.__module__.startswith(f"{package}."):
        raise HostMismatchError(
            f"SGLang serves {architecture} with {path}, expected a class of {package}; if the plugin's is missing, "
            "install it with pip, so that SGLang finds its entry point, and see `glm52 doctor`"
        )
    return path
