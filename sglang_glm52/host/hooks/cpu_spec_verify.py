"""Verify drafts on the CPU engine so that the output is distributed as without speculation.

The host assumes CUDA's kernels: on the CPU its greedy verify returns uninitialised counts and its sampled one fails.
Nor would its method do with kernels in torch: it applies top-p after renormalising by top-k where its sampler applies
both to the same probabilities, leaves out min-p and sampling seeds, and penalises every row of a round alike, for the
last token of each round only. So the whole method is replaced: each row is adjusted as if the drafts before it were
output, and its token chosen by the host's own sampler; drafts are kept as long as they are what was chosen. Other
models reach it on the CPU engine only with speculation, which fails there without this plugin. Read in 0.5.13.post1
(`speculative/eagle_info_v2.py`, `EagleVerifyInputV2Mixin.sample`; `layers/sampler.py`; `sampling/penaltylib`). Without
the hook accepted lengths are arbitrary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from sglang.srt.distributed import get_tp_group
from sglang.srt.layers.sampler import top_k_top_p_min_p_sampling_from_probs_torch

from sglang_glm52.speculative.chain import accept, require_chain
from sglang_glm52.speculative.penalties import Penalties


def verify_chains(
    original: Callable[..., Any], self: Any, batch: Any, logits_output: Any, vocab_mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """AROUND `EagleVerifyInputV2Mixin.sample`: tokens, how many each request gains, their rows; as `accept`."""
    if batch.forward_mode.is_idle():
        return original(self, batch, logits_output, vocab_mask)
    require_chain(self.topk)
    logits, candidates = logits_output.next_token_logits, self.draft_token.view(-1, self.draft_token_num)
    _penalise(logits.view(*candidates.shape, -1), candidates, batch.reqs)
    if batch.sampling_info.logit_bias is not None:
        logits.add_(batch.sampling_info.logit_bias.repeat_interleave(self.draft_token_num, dim=0))
    if vocab_mask is not None:
        self.grammar.apply_vocab_mask(logits=logits, vocab_mask=vocab_mask)
    return accept(candidates, _choose(logits, batch.sampling_info, self.positions).view_as(candidates))


def _penalise(logits: torch.Tensor, candidates: torch.Tensor, requests: list[Any]) -> None:
    """Change [num_requests, D, vocab] in place."""
    for rows, chain, request in zip(logits, candidates, requests, strict=True):
        params = request.sampling_params
        penalties = Penalties(
            frequency=params.frequency_penalty,
            presence=params.presence_penalty,
            repetition=params.repetition_penalty,
            min_new_tokens=params.min_new_tokens,
        )
        if penalties.are_any:
            stop_ids = _stop_ids(request) if params.min_new_tokens else ()
            penalties.apply(rows, request.output_ids, chain[1:], stop_ids)


def _stop_ids(request: Any) -> set[int]:
    """As the host's penaliser collects them."""
    tokenizer = request.tokenizer
    given = request.sampling_params.stop_token_ids or set()
    return given | (tokenizer.additional_stop_token_ids or set()) | {tokenizer.eos_token_id}


def _choose(logits: torch.Tensor, sampling_info: Any, positions: torch.Tensor) -> torch.Tensor:
    """The token after each row, [num_requests * D] int64."""
    if sampling_info.is_all_greedy:
        return logits.argmax(dim=-1)
    num_rows = len(logits) // len(sampling_info.temperatures)

    def by_row(values: torch.Tensor | None) -> torch.Tensor | None:
        return None if values is None else values.repeat_interleave(num_rows, dim=0)

    chosen = top_k_top_p_min_p_sampling_from_probs_torch(
        (logits / by_row(sampling_info.temperatures)).softmax(dim=-1),
        by_row(sampling_info.top_ks),
        by_row(sampling_info.top_ps),
        by_row(sampling_info.min_ps),
        sampling_info.need_min_p_sampling,
        by_row(sampling_info.sampling_seed),
        positions,
    ).long()
    if get_tp_group().world_size > 1:  # ranks draw for themselves
        get_tp_group().broadcast(chosen, src=0)
    return chosen
