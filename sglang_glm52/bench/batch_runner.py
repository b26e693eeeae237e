"""Prefill and decode on a model runner, without a scheduler, as `sglang.bench_one_batch` does."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

import torch
from sglang.bench_one_batch import decode, extend, prepare_synthetic_inputs_for_latency_test
from sglang.srt.managers.schedule_batch import Req, ScheduleBatch
from sglang.srt.model_executor.model_runner import ModelRunner


class BatchRunner:
    """A model with its KV pool, and batches of equally long requests on it."""

    def __init__(self, runner: ModelRunner, chunk: int) -> None:
        self.runner, self.chunk = runner, chunk

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
