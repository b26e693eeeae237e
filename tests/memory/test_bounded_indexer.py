"""The bounded indexer on the host's own metadata: pieces of any size select what one piece selects.

CUDA kernels are stood in for by torch functions of the same contract: DeepGEMM's scores, with infinities where it
leaves memory undefined, the top-k kernels, and the pool's gather. What is tested is what lies between them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import pytest
import torch
from sglang.srt.environ import envs
from sglang.srt.layers.attention.dsa.dsa_topk_backend import DSATopKBackend, TopkTransformMethod
from sglang.srt.layers.attention.dsa_backend import DSAIndexerMetadata, DSAMetadata

from sglang_glm52.env import Settings
from sglang_glm52.kernels.index_topk import ref
from sglang_glm52.memory import bounded_indexer, index_selection, shared_rows
from sglang_glm52.memory.bounded_indexer import BoundedIndexer

HEADS, DIM, TOPK, PAGE = 32, 128, 16, 64
COUNTS, LENGTHS = (40, 3, 1, 90), (1540, 3, 150, 90)  # new tokens, and the context with them
PADDING = 5


@dataclass(frozen=True)
class Prefill:
    """A batch whose requests lie on shuffled pages, as a server would have it."""

    q: torch.Tensor
    weights: torch.Tensor
    keys: torch.Tensor  # [slots, dim]
    metadata: DSAIndexerMetadata

    def expected(self) -> torch.Tensor:
        """[rows, TOPK] sorted positions within each row's request, -1 first where it has fewer."""
        batch, out, row = self.metadata.attn_metadata, [], 0
        for request, (count, length) in enumerate(zip(COUNTS, LENGTHS, strict=True)):
            keys = self.keys[batch.page_table_1[request, :length].long()]
            scores = score(self.q[row : row + count], keys, self.weights[row : row + count].squeeze(-1))
            for i in range(count):
                limit = length - count + i + 1
                best = scores[i, :limit].topk(min(TOPK, limit)).indices.sort().values
                out.append(torch.cat([best.new_full((TOPK - len(best),), -1), best]))
            row += count
        return torch.stack(out)


def score(q: torch.Tensor, keys: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return torch.einsum("rhs,rh->rs", torch.einsum("rhd,sd->rhs", q.float(), keys.float()).relu(), weights)


def make_prefill(backend: DSATopKBackend, method: TopkTransformMethod) -> Prefill:
    torch.manual_seed(5)
    counts, lengths = torch.tensor(COUNTS), torch.tensor(LENGTHS)
    pages_of = [-(-length // PAGE) for length in LENGTHS]
    pages = torch.randperm(sum(pages_of)) + 1
    table = torch.zeros(len(COUNTS), max(LENGTHS), dtype=torch.int32)
    for request, own in enumerate(pages.split(pages_of)):
        slots = (own[:, None] * PAGE + torch.arange(PAGE)).flatten()
        table[request, : LENGTHS[request]] = slots[: LENGTHS[request]]
    ends_k = torch.cat([torch.zeros(1), lengths.cumsum(0)]).int()
    starts = ends_k[:-1].repeat_interleave(counts)
    expanded = torch.cat(
        [torch.arange(n - c + 1, n + 1) for c, n in zip(COUNTS, LENGTHS, strict=True)],
    ).int()
    attn = DSAMetadata(
        page_size=PAGE,
        cache_seqlens_int32=lengths.int(),
        max_seq_len_q=max(COUNTS),
        max_seq_len_k=max(LENGTHS),
        cu_seqlens_q=torch.cat([torch.zeros(1), counts.cumsum(0)]).int(),
        cu_seqlens_k=ends_k,
        page_table_1=table,
        real_page_table=table[:, ::PAGE] // PAGE,
        dsa_cache_seqlens_int32=expanded.clamp(max=TOPK),
        dsa_cu_seqlens_q=torch.arange(sum(COUNTS) + 1),
        dsa_cu_seqlens_k=torch.arange(sum(COUNTS) + 1),
        dsa_extend_seq_lens_list=list(COUNTS),
        dsa_seqlens_expanded=expanded,
        topk_indices_offset=starts if method == TopkTransformMethod.RAGGED else None,
        indexer_k_start_end=(starts, starts + expanded),
        indexer_seq_lens_cpu=lengths,
        indexer_seq_lens=lengths,
        token_to_batch_idx=torch.arange(len(COUNTS)).repeat_interleave(counts).int(),
    )
    rows, slots = sum(COUNTS) + PADDING, (len(pages) + 1) * PAGE
    return Prefill(
        q=torch.randn(rows, HEADS, DIM),
        weights=torch.randn(rows, HEADS, 1),
        keys=torch.randn(slots, DIM).to(torch.float8_e4m3fn),
        metadata=DSAIndexerMetadata(attn_metadata=attn, topk_transform_method=method, topk_backend=backend),
    )


def ragged_topk(scores: torch.Tensor, offsets: torch.Tensor, lengths: torch.Tensor, starts: torch.Tensor | None):
    """Positions + offsets of each row's best among [start, start + length), -1 beyond; columns outside are not read."""
    out = torch.full((len(scores), TOPK), -1, dtype=torch.int32)
    for row in range(len(scores)):
        start, length = int(starts[row]) if starts is not None else 0, int(lengths[row])
        best = scores[row, start : start + length].topk(min(TOPK, length)).indices
        out[row, : len(best)] = best.int() + offsets[row]
    return out


def stand_in_kernels() -> ModuleType:
    """sgl_kernel's three top-k functions."""
    module = ModuleType("sgl_kernel")

    def plain(score, lengths, topk, row_starts):
        return ragged_topk(score, torch.zeros(len(score), dtype=torch.int32), lengths, row_starts)

    def paged(score, lengths, page_table_size_1, cu_seqlens_q, topk, row_starts):
        assert len(page_table_size_1) == len(cu_seqlens_q) - 1 and cu_seqlens_q[-1] == len(score)
        request = torch.searchsorted(cu_seqlens_q, torch.arange(len(score)), right=True) - 1
        found = plain(score, lengths, topk, row_starts)
        slots = page_table_size_1[request.unsqueeze(1), found.clamp(min=0).long()]
        return slots.masked_fill(found < 0, -1)

    def ragged(score, lengths, topk_indices_offset, topk, row_starts):
        return ragged_topk(score, topk_indices_offset, lengths, row_starts)

    module.fast_topk_transform_fused, module.fast_topk_transform_ragged_fused = paged, ragged
    module.fast_topk_v2 = plain
    return module


class PagesPool:
    """The pool's gather of one batch's keys, requests one after the other; scales are ones."""

    def __init__(self, keys: torch.Tensor) -> None:
        self.keys = keys
        self.widest = 0

    def get_index_k_scale_buffer(self, layer_id, seq_lens, pages, seq_len_sum, max_seq_len):
        assert (seq_len_sum, max_seq_len) == (int(seq_lens.sum()), int(seq_lens.max()))
        self.widest = max(self.widest, seq_len_sum)
        slots = (pages.long()[:, :, None] * PAGE + torch.arange(PAGE)).flatten(1)
        rows = torch.cat([row[:length] for row, length in zip(slots, seq_lens.tolist(), strict=True)])
        return self.keys[rows].view(torch.uint8), torch.ones(len(rows), 1).view(torch.uint8)


@pytest.fixture
def largest(monkeypatch) -> list[int]:
    """Stands in for the kernels; a list of what each scoring call took."""
    taken: list[int] = []

    def fp8_mqa_logits(q, kv, weights, starts, ends, clean_logits):
        keys, scales = kv
        assert keys.dtype == torch.float8_e4m3fn and scales.shape == (len(keys),) and not clean_logits
        taken.append(bounded_indexer.score_bytes(len(q), len(keys)))
        wide = torch.full((len(q), len(keys) + 256), float("inf"))
        column = torch.arange(len(keys))
        inside = (column >= starts[:, None]) & (column < ends[:, None])
        wide[:, : len(keys)] = torch.where(inside, score(q, keys, weights), float("inf"))
        return wide[:, : len(keys)]

    monkeypatch.setattr(bounded_indexer.deep_gemm, "fp8_mqa_logits", fp8_mqa_logits)
    monkeypatch.setattr(index_selection, "index_topk", ref.index_topk)
    monkeypatch.setitem(sys.modules, "sgl_kernel", stand_in_kernels())
    return taken


@pytest.fixture(autouse=True)
def _all_rows(monkeypatch):
    """Each rank selects for all rows, whatever this process's environment says."""
    monkeypatch.setattr(shared_rows, "settings", lambda: Settings(prefill_rows="all"))


def make_indexer() -> BoundedIndexer:
    indexer = BoundedIndexer.__new__(BoundedIndexer)
    torch.nn.Module.__init__(indexer)
    indexer.n_heads, indexer.index_topk, indexer.sm_count, indexer.logits_with_pp_recv = HEADS, TOPK, 2, False
    return indexer


def select(prefill: Prefill, monkeypatch, workspace: int) -> tuple[torch.Tensor, PagesPool]:
    pool = PagesPool(prefill.keys)
    monkeypatch.setattr(bounded_indexer, "get_token_to_kv_pool", lambda: pool)
    monkeypatch.setattr(bounded_indexer, "_workspace_bytes", lambda: workspace)
    monkeypatch.setattr(bounded_indexer, "_window", lambda: 1_048_576)
    found = make_indexer()._get_topk_ragged(False, SimpleNamespace(), 0, prefill.q, prefill.weights, prefill.metadata)
    assert found.dtype == torch.int32 and (found[sum(COUNTS) :] == -1).all(), "padding selects nothing"
    return found[: sum(COUNTS)], pool


WORKSPACES = {"one piece": 1 << 30, "several requests or some rows": 200_000, "parts of the context": 24_000}


@pytest.mark.parametrize("workspace", WORKSPACES.values(), ids=WORKSPACES)
@pytest.mark.parametrize("method", TopkTransformMethod, ids=lambda method: method.name.lower())
@pytest.mark.parametrize(
    "backend", [DSATopKBackend.SGL_KERNEL, DSATopKBackend.FLASHINFER], ids=lambda b: b.name.lower()
)
def test_pieces_select_what_one_piece_selects(backend, method, workspace, monkeypatch, largest):
    prefill = make_prefill(backend, method)
    found, pool = select(prefill, monkeypatch, workspace)
    assert max(largest) <= workspace
    # 24 and 16 rows of the first and all of the others; or 5 x 7 parts of the first, 1 + 12 of the others.
    assert len(largest) == {1 << 30: 1, 200_000: 3, 24_000: 48}[workspace]
    assert pool.widest == (sum(LENGTHS) if workspace == 1 << 30 else 1540)
    assert torch.equal(as_positions(found, prefill), prefill.expected())


def as_positions(found: torch.Tensor, prefill: Prefill) -> torch.Tensor:
    """Sorted positions within each row's request, from slots or from rows of the ragged cache."""
    batch = prefill.metadata.attn_metadata
    out = torch.full(found.shape, -1, dtype=torch.int64)
    for row, request in enumerate(batch.token_to_batch_idx.tolist()):
        if prefill.metadata.topk_transform_method == TopkTransformMethod.RAGGED:
            at = {int(batch.cu_seqlens_k[request]) + i: i for i in range(LENGTHS[request])}
        else:
            at = {slot: i for i, slot in enumerate(batch.page_table_1[request, : LENGTHS[request]].tolist())}
        own = [at[value] for value in found[row].tolist() if value >= 0]
        out[row, TOPK - len(own) :] = torch.tensor(sorted(own))
    return out


@pytest.mark.parametrize("workspace", WORKSPACES.values(), ids=WORKSPACES)
def test_the_unfused_top_k_too(workspace, monkeypatch, largest):
    """The host's own torch code, whose result is positions within the request."""
    prefill = make_prefill(DSATopKBackend.TORCH, TopkTransformMethod.PAGED)
    with envs.SGLANG_DSA_FUSE_TOPK.override(False):
        found, _ = select(prefill, monkeypatch, workspace)
    assert torch.equal(found.long().sort(dim=-1).values, prefill.expected())


def test_a_piecewise_graphs_result_is_written_in_place(monkeypatch, largest):
    prefill = make_prefill(DSATopKBackend.SGL_KERNEL, TopkTransformMethod.PAGED)
    pool = PagesPool(prefill.keys)
    monkeypatch.setattr(bounded_indexer, "get_token_to_kv_pool", lambda: pool)
    monkeypatch.setattr(bounded_indexer, "_window", lambda: 1_048_576)
    rows, out = sum(COUNTS), torch.full((sum(COUNTS) + 50, TOPK), -1, dtype=torch.int32)
    given = (False, SimpleNamespace(), 0, prefill.q[:rows], prefill.weights, prefill.metadata, out)
    assert make_indexer()._get_topk_ragged(*given) is out
    assert torch.equal(as_positions(out[:rows], prefill), prefill.expected()) and (out[rows:] == -1).all()


@pytest.mark.parametrize("num_ranks", [2, 3, 8])
@pytest.mark.parametrize("workspace", WORKSPACES.values(), ids=WORKSPACES)
def test_shares_of_the_ranks_are_what_one_rank_selects(num_ranks, workspace, monkeypatch, largest):
    """Each rank in turn; what it would hand to the others is kept, and the last one gets it."""
    prefill = make_prefill(DSATopKBackend.SGL_KERNEL, TopkTransformMethod.PAGED)
    handed: list[torch.Tensor] = []
    rank = 0

    def gather(everyones: torch.Tensor, own: torch.Tensor) -> None:
        handed.append(own.clone())
        everyones.copy_(torch.cat([*handed, *[torch.full_like(own, -1)] * (num_ranks - len(handed))]))

    monkeypatch.setattr(shared_rows, "settings", lambda: Settings(prefill_rows="shared"))
    monkeypatch.setattr(shared_rows, "MIN_SCORES", 1)
    monkeypatch.setattr(shared_rows, "get_attention_tp_size", lambda: num_ranks)
    monkeypatch.setattr(shared_rows, "get_attention_tp_rank", lambda: rank)
    monkeypatch.setattr(shared_rows, "attn_tp_all_gather_into_tensor", gather)
    for rank in range(num_ranks):  # noqa: B007 - read by get_attention_tp_rank
        found, _ = select(prefill, monkeypatch, workspace)
    assert len(handed) == num_ranks and {len(own) for own in handed} == {-(-sum(COUNTS) // num_ranks)}
    assert max(largest) <= workspace
    assert torch.equal(as_positions(found, prefill), prefill.expected())


def test_a_short_prefill_is_not_shared_out(monkeypatch):
    monkeypatch.setattr(shared_rows, "settings", lambda: Settings(prefill_rows="shared"))
    monkeypatch.setattr(shared_rows, "get_attention_tp_size", lambda: 8)
    assert shared_rows.is_shared_out([8192], [8192]) and not shared_rows.is_shared_out([64] * 64, [4096] * 64)
    monkeypatch.setattr(shared_rows, "get_attention_tp_size", lambda: 1)
    assert not shared_rows.is_shared_out([8192], [1_048_576])


def test_the_model_gets_the_bounded_indexer_on_cuda(monkeypatch):
    from sglang_glm52.models import indexer as module

    built = []
    monkeypatch.setattr(module, "is_cuda", lambda: True)
    monkeypatch.setattr(BoundedIndexer, "__init__", lambda self, **given: built.append(given))
    arch = SimpleNamespace(
        hidden_size=6144, index_num_heads=32, index_head_dim=128, qk_rope_head_dim=64, index_topk=2048,
        q_lora_rank=2048, max_positions=1 << 20, rope_theta=8e6, indexer_rope_interleave=True,
    )  # fmt: skip
    assert isinstance(module.build_indexer(arch, 6, None, "model.layers.6.self_attn", None), BoundedIndexer)
    assert built[0]["layer_id"] == 6 and built[0]["is_neox_style"] is False
