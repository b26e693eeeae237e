"""A prefill's scores in pieces on a GPU: bit for bit those of one piece, and memory that the context does not move.

DeepGEMM, the host's KV pool and its top-k are the real ones; the batch is laid out as the host's backend would.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from memory.selections import SGL_KERNEL_CANDIDATES, threshold_bin_sizes, wrong_rows

from sglang_glm52.memory.score_pieces import TILE_ROWS, cut_batch

pytestmark = pytest.mark.gpu

HEADS, DIM, TOPK, PAGE = 32, 128, 2048, 64
WINDOW = 1_048_576
MIB = 1 << 20


class Batch:
    """Requests with `counts` new tokens at the end of contexts of `lengths`, their keys in a KV pool of one layer."""

    def __init__(self, counts: list[int], lengths: list[int], backend: str = "sgl-kernel") -> None:
        from sglang.srt.layers.attention.dsa.dsa_topk_backend import DSATopKBackend, TopkTransformMethod
        from sglang.srt.layers.attention.dsa_backend import DSAIndexerMetadata, DSAMetadata
        from sglang.srt.mem_cache.memory_pool import DSATokenToKVPool

        torch.manual_seed(3)
        self.counts, self.lengths = counts, lengths
        pages_of = [-(-length // PAGE) for length in lengths]
        pages = torch.randperm(sum(pages_of)) + 1
        table = torch.zeros(len(lengths), max(pages_of) * PAGE, dtype=torch.int32)
        for request, own in enumerate(pages.split(pages_of)):
            table[request, : len(own) * PAGE] = (own[:, None] * PAGE + torch.arange(PAGE)).flatten()
        self.pool = DSATokenToKVPool(
            (sum(pages_of) + 1) * PAGE, page_size=PAGE, dtype=torch.float8_e4m3fn, kv_lora_rank=512,
            qk_rope_head_dim=64, layer_num=1, device="cuda", kv_cache_dim=656, enable_memory_saver=False,
            index_head_dim=DIM, start_layer=0, end_layer=1,
        )  # fmt: skip
        self.table = table.cuda()
        for request, length in enumerate(lengths):
            slots = self.table[request, :length].long()
            keys = torch.randn(length, DIM, device="cuda").to(torch.float8_e4m3fn)
            self.pool.set_index_k_scale_buffer(0, slots, keys, torch.rand(length, 1, device="cuda") + 0.5)
        ends = torch.tensor([0, *lengths]).cumsum(0).int().cuda()
        count, length = torch.tensor(counts, device="cuda"), torch.tensor(lengths)
        self.starts = ends[:-1].repeat_interleave(count)
        limits = [torch.arange(n - c + 1, n + 1) for c, n in zip(counts, lengths, strict=True)]
        self.limits = torch.cat(limits).int().cuda()
        rows = torch.arange(sum(counts) + 1, dtype=torch.int32, device="cuda")
        attn = DSAMetadata(
            page_size=PAGE,
            cache_seqlens_int32=length.int().cuda(),
            max_seq_len_q=max(counts),
            max_seq_len_k=max(lengths),
            cu_seqlens_q=torch.tensor([0, *counts]).cumsum(0).int().cuda(),
            cu_seqlens_k=ends,
            page_table_1=self.table,
            real_page_table=(self.table[:, ::PAGE] // PAGE).contiguous(),
            dsa_cache_seqlens_int32=self.limits.clamp(max=TOPK),
            dsa_cu_seqlens_q=rows,
            dsa_cu_seqlens_k=rows,
            dsa_extend_seq_lens_list=counts,
            dsa_seqlens_expanded=self.limits,
            indexer_k_start_end=(self.starts, self.starts + self.limits),
            indexer_seq_lens_cpu=length,
            indexer_seq_lens=length.cuda(),
            token_to_batch_idx=torch.arange(len(counts), device="cuda").repeat_interleave(count).int(),
        )
        self.metadata = DSAIndexerMetadata(attn, TopkTransformMethod.PAGED, DSATopKBackend(backend))
        self.q = torch.randn(sum(counts), HEADS, DIM, device="cuda").to(torch.float8_e4m3fn)
        self.weights = torch.rand(sum(counts), HEADS, 1, device="cuda")

    def positions(self, slots: torch.Tensor) -> torch.Tensor:
        """[rows, TOPK] positions within each row's request."""
        out = torch.full_like(slots, -1)
        for row, request in enumerate(self.metadata.attn_metadata.token_to_batch_idx.tolist()):
            position_of = torch.full((int(self.table.max()) + 1,), -1, dtype=torch.int32, device="cuda")
            position_of[self.table[request, : self.lengths[request]].long()] = torch.arange(
                self.lengths[request], dtype=torch.int32, device="cuda"
            )
            out[row] = torch.where(slots[row] < 0, -1, position_of[slots[row].clamp(min=0).long()])
        return out


@pytest.fixture
def indexer(monkeypatch):
    """The indexer without its projections, and its workspace in MiB to be set."""
    import deep_gemm

    from sglang_glm52.memory import bounded_indexer

    made = bounded_indexer.BoundedIndexer.__new__(bounded_indexer.BoundedIndexer)
    torch.nn.Module.__init__(made)
    made.n_heads, made.index_topk, made.sm_count, made.logits_with_pp_recv = HEADS, TOPK, deep_gemm.get_num_sms(), False

    def select(batch: Batch, workspace_mib: int) -> torch.Tensor:
        monkeypatch.setattr(bounded_indexer, "get_token_to_kv_pool", lambda: batch.pool)
        monkeypatch.setattr(bounded_indexer, "_workspace_bytes", lambda: workspace_mib * MIB)
        monkeypatch.setattr(bounded_indexer, "_window", lambda: WINDOW)
        return made._get_topk_ragged(False, SimpleNamespace(), 0, batch.q, batch.weights, batch.metadata)

    return SimpleNamespace(module=bounded_indexer, made=made, select=select)


def scores_in_one_piece(batch: Batch) -> torch.Tensor:
    import deep_gemm

    attn = batch.metadata.attn_metadata
    keys, scales = batch.pool.get_index_k_scale_buffer(
        0, attn.indexer_seq_lens, attn.real_page_table, sum(batch.lengths), max(batch.lengths)
    )
    kv = keys.view(torch.float8_e4m3fn), scales.view(torch.float32).squeeze(-1)
    return deep_gemm.fp8_mqa_logits(
        batch.q, kv, batch.weights.squeeze(-1), *attn.indexer_k_start_end, clean_logits=False
    )


BATCHES = {
    "one request": ([700], [50_003]),
    "no prefix": ([3000], [3000]),
    "several requests": ([300, 1, 77, 500], [20_001, 9000, 77, 30_000]),
}


@pytest.mark.parametrize("workspace_mib", [4, 16, 64])
@pytest.mark.parametrize("case", BATCHES)
def test_scores_are_bit_equal_whatever_the_pieces(case, workspace_mib, indexer, monkeypatch) -> None:
    batch = Batch(*BATCHES[case])
    whole = scores_in_one_piece(batch)
    original, compared = indexer.module.BoundedIndexer._score, []

    def compare(self, q, weights, keys, starts, ends):
        scores = original(self, q, weights, keys, starts, ends)
        first_row = (q.data_ptr() - batch.q.data_ptr()) // (HEADS * DIM)
        skipped = keys[0].storage_offset() // DIM  # positions of the context before these
        for i, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            column = int(batch.starts[first_row + i]) + skipped
            same = torch.equal(scores[i, start:end], whole[first_row + i, column : column + end - start])
            assert same, f"{case}: row {first_row + i}, from position {skipped} on"
            compared.append(end - start)
        return scores

    monkeypatch.setattr(indexer.module.BoundedIndexer, "_score", compare)
    indexer.select(batch, workspace_mib)
    assert sum(compared) == int(batch.limits.sum()) and len(compared) >= sum(batch.counts)


@pytest.mark.parametrize("workspace_mib", [4, 16, 64, 1024])
@pytest.mark.parametrize("case", BATCHES)
@pytest.mark.parametrize("backend", ["sgl-kernel", "flashinfer"])
def test_pieces_select_the_best(backend, case, workspace_mib, indexer) -> None:
    """sgl_kernel's top-k is held to it only where it does not drop scores, see test_index_topk.py."""
    batch = Batch(*BATCHES[case], backend)
    positions = batch.positions(indexer.select(batch, workspace_mib))
    whole = scores_in_one_piece(batch)
    problems = wrong_rows(positions, whole, batch.limits, TOPK, batch.starts)
    own = torch.stack([row.roll(-int(start)) for row, start in zip(whole, batch.starts, strict=True)])
    crowded = threshold_bin_sizes(own, batch.limits, TOPK) > SGL_KERNEL_CANDIDATES
    if backend == "sgl-kernel":
        problems = {row: problem for row, problem in problems.items() if not crowded[row]}
    assert problems == {}


def test_memory_does_not_grow_with_the_context(indexer) -> None:
    """Contexts that grow by a chunk at a time, as a long prompt's do, up to the whole window."""
    workspace_mib, rows = 256, 512
    batch = Batch([rows], [WINDOW])
    indexer.select(shorten(batch, 300_000), workspace_mib)  # scores and keys of more than 32 MiB: both blocks are taken
    reserved = [torch.cuda.memory_reserved()]
    for length in range(308_192, WINDOW + 1, 8192):
        indexer.select(shorten(batch, length), workspace_mib)
        reserved.append(torch.cuda.memory_reserved())
    assert max(reserved) - reserved[0] <= 64 * MIB, [number / MIB for number in reserved]
    [piece] = cut_batch([rows], [WINDOW], workspace_mib * MIB, TILE_ROWS * indexer.made.sm_count, WINDOW)
    assert piece.positions < 131_072, "the context was not cut, so nothing was tested"


def shorten(batch: Batch, length: int) -> Batch:
    """The same request as it was when its context was `length` positions long."""
    from dataclasses import replace

    attn = batch.metadata.attn_metadata
    rows = batch.counts[0]
    limits = torch.arange(length - rows + 1, length + 1, dtype=torch.int32, device="cuda")
    lengths = torch.tensor([length])
    cut = replace(
        attn,
        page_table_1=attn.page_table_1[:, :length],
        real_page_table=attn.real_page_table[:, : -(-length // PAGE)].contiguous(),
        dsa_seqlens_expanded=limits,
        indexer_k_start_end=(torch.zeros_like(limits), limits),
        indexer_seq_lens_cpu=lengths,
        indexer_seq_lens=lengths.cuda(),
    )
    shorter = Batch.__new__(Batch)
    shorter.__dict__ |= batch.__dict__ | {"lengths": [length], "metadata": replace(batch.metadata, attn_metadata=cut)}
    return shorter
