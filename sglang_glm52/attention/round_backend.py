"""The host's sparse attention for rounds of speculation, planned on the device.

The host (0.5.13.post1, `layers/attention/dsa_backend.py`) plans a pass that a CUDA graph runs by some twenty small
operations before it, cut to the batch's longest context, which the CPU must know: it waits for the verify pass that
determines it, and once more for a list that it copies to the device. Here the graph itself begins with the plan, made
from the lengths on the device, so nothing is launched for it and the CPU prepares a round while the one before it runs.
What is planned is the same; passes without a graph are planned by the host.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import deep_gemm
from sglang.srt.layers.attention.dsa_backend import DeepseekSparseAttnBackend, DSAMetadata
from sglang.srt.model_executor.forward_batch_info import ForwardMode
from sglang.srt.model_executor.input_buffers import share_input_buffer

from sglang_glm52.kernels.request_tables.kernel import request_tables
from sglang_glm52.kernels.request_tables.tables import RequestTables

if TYPE_CHECKING:
    from sglang.srt.model_executor.forward_batch_info import ForwardBatch
    from sglang.srt.model_executor.model_runner import ModelRunner

DEEP_GEMM_BLOCK = 64  # positions, in DeepGEMM's schedule; independent of the page size


class RoundBackend(DeepseekSparseAttnBackend):
    """For verify, draft-extend and draft steps, in CUDA graphs or without."""

    def __init__(self, model_runner: ModelRunner, **kwargs: Any) -> None:
        super().__init__(model_runner, **kwargs)
        args = model_runner.server_args
        self.needs_cpu_seq_lens = args.disable_cuda_graph or args.enable_forward_pass_metrics  # those add lengths up

    def init_cuda_graph_state(self, max_bs: int, max_num_tokens: int) -> None:
        """Tables that all graphs share, whatever their batch size: each writes its own rows before it reads them.

        They are as wide as the longest request with the tokens of two rounds: a round is begun before the one that
        reaches the end of the context is known to have done so.
        """
        context = self.max_context_len
        self.max_context_len += self.speculative_num_draft_tokens
        super().init_cuda_graph_state(max_bs, max_num_tokens)
        self.max_context_len = context
        state = self.decode_cuda_graph_metadata
        slots = state["page_table"] = share_input_buffer("dsa_page_table", state["page_table"])
        pages = slots.new_zeros(len(slots), -(-slots.shape[1] // self.real_page_size))
        state["real_page_table"] = share_input_buffer("dsa_real_page_table", pages)

    def _build_forward_metadata_cuda_graph(self, bs: int, *args: Any, **kwargs: Any) -> None:
        """As the host's, but for pages, of which the host makes a table for each batch size."""
        super()._build_forward_metadata_cuda_graph(bs, *args, **kwargs)
        state = self.decode_cuda_graph_metadata
        num_rows = len(state[bs].page_table_1)
        self.forward_metadata = state[bs] = replace(state[bs], real_page_table=state["real_page_table"][:num_rows])

    def init_forward_metadata_out_graph(self, forward_batch: ForwardBatch, in_capture: bool = False) -> None:
        """Before a graph's capture the tensors it will read; before a replay nothing."""
        if in_capture:
            super().init_forward_metadata_out_graph(forward_batch, in_capture=True)
        self.forward_metadata = self.decode_cuda_graph_metadata[forward_batch.batch_size]

    def init_forward_metadata_in_graph(self, forward_batch: ForwardBatch) -> None:
        """Plan the pass. `forward_batch` holds the graph's static inputs, `forward_metadata` is of its batch size."""
        plan = self.forward_metadata
        request_tables(
            _tables(plan),
            self.req_to_token,
            forward_batch.req_pool_indices,
            forward_batch.seq_lens,
            first=self._first_length(forward_batch.forward_mode),
            index_topk=self.dsa_index_topk,
            page_size=self.real_page_size,
        )
        lengths = self._build_paged_mqa_schedule_2d_ctx_lens(
            forward_batch.forward_mode,
            plan.cache_seqlens_int32,
            plan.dsa_seqlens_expanded,
            len(plan.cache_seqlens_int32),
        )
        if lengths.data_ptr() != plan.paged_mqa_ctx_lens_2d.data_ptr():  # on Hopper it is a view of the same lengths
            plan.paged_mqa_ctx_lens_2d.copy_(lengths)
        plan.paged_mqa_schedule_metadata.copy_(
            deep_gemm.get_paged_mqa_logits_metadata(lengths, DEEP_GEMM_BLOCK, deep_gemm.get_num_sms())
        )
        if self.dsa_decode_impl == "flashmla_kv":
            plan.flashmla_metadata.copy_(self._compute_flashmla_metadata(plan.dsa_cache_seqlens_int32, seq_len_q=1))

    def init_forward_metadata(self, forward_batch: ForwardBatch) -> None:
        """Plan a pass without a graph. The host's way needs lengths on the CPU, so a round then waits for them."""
        if forward_batch.seq_lens_cpu is None:
            forward_batch.seq_lens_cpu = forward_batch.seq_lens.cpu()
        if forward_batch.forward_mode.is_draft_extend_v2() and forward_batch.extend_prefix_lens_cpu is None:
            forward_batch.extend_prefix_lens_cpu = forward_batch.extend_prefix_lens.tolist()
        super().init_forward_metadata(forward_batch)

    def _first_length(self, mode: ForwardMode) -> int:
        """Keys of a request's first row beyond its `seq_lens`, which count no, all, or the one token of the pass."""
        if mode.is_target_verify():
            return 1
        return 1 - self.speculative_num_draft_tokens if mode.is_draft_extend_v2() else 0


def _tables(plan: DSAMetadata) -> RequestTables:
    return RequestTables(
        lengths=plan.cache_seqlens_int32,
        ends=plan.cu_seqlens_k,
        row_lengths=plan.dsa_seqlens_expanded,
        kept_lengths=plan.dsa_cache_seqlens_int32,
        kept_ends=plan.dsa_cu_seqlens_k,
        slots=plan.page_table_1,
        pages=plan.real_page_table,
    )
