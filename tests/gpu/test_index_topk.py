"""The selection of the best 2,048 positions on a GPU, as prefills, decode steps and CUDA graphs call for it.

Two are held to torch: this package's, which must be right everywhere, and the host's default, that of sgl_kernel. It
sorts a row's scores into bins by the upper eight bits of their half precision, and of the bin that has the 2,048th best
it keeps 4,096 scores and drops the others (https://github.com/sgl-project/sglang/issues/36807). So it must be right
where that bin is no larger; where it is, as in long contexts, the number of wrong rows is printed.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from memory.selections import SCORES, SGL_KERNEL_CANDIDATES, threshold_bin_sizes, wrong_rows

pytestmark = pytest.mark.gpu

TOPK = 2048
CONTEXTS = (1, 2047, 2048, 2049, 4001, 131_072, 1_048_576)
BACKENDS = ("sgl-kernel", "ours")
BEYOND = 320  # columns after the longest row, full of what must not be read


def make_scores(name: str, rows: int, columns: int) -> torch.Tensor:
    return in_wider_rows(SCORES[name]((rows, columns), torch.Generator("cuda").manual_seed(7)))


def in_wider_rows(scores: torch.Tensor) -> torch.Tensor:
    """The same [rows, columns] in a wider buffer, as DeepGEMM returns them."""
    wide = torch.full((scores.shape[0], scores.shape[1] + BEYOND), float("inf"), device="cuda")
    wide[:, : scores.shape[1]] = scores
    return wide[:, : scores.shape[1]]


def descending_slots(rows: int, columns: int) -> torch.Tensor:
    """A page table: position p of row r lies in slot (r + 1) * columns - p."""
    first = (torch.arange(rows, device="cuda") + 1) * columns
    return (first[:, None] - torch.arange(columns, device="cuda")).int()


def back_to_positions(slots: torch.Tensor, requests: torch.Tensor, columns: int) -> torch.Tensor:
    return torch.where(slots < 0, -1, (requests[:, None] + 1) * columns - slots)


def require_right(
    backend: str, label: str, positions: torch.Tensor, scores: torch.Tensor, lengths: torch.Tensor, starts=None
) -> None:
    problems = wrong_rows(positions, scores, lengths, TOPK, starts)
    if backend == "sgl-kernel" and problems:
        own = (
            scores
            if starts is None
            else torch.stack([row.roll(-int(s)) for row, s in zip(scores, starts, strict=True)])
        )
        crowded = threshold_bin_sizes(own, lengths, TOPK) > SGL_KERNEL_CANDIDATES
        print(f"{label}: {len(problems)} of {len(lengths)} rows are wrong, {int(crowded.sum())} have a crowded bin")
        problems = {row: problem for row, problem in problems.items() if not crowded[row]}
    assert problems == {}, f"{label}: {problems}"


def lengths_of(context: int) -> torch.Tensor:
    """The context, shorter rows beside it, and a row of none."""
    ragged = [context, max(1, context - 1), max(1, context // 2), min(context, TOPK + 1), 1, 0]
    return torch.tensor(ragged, dtype=torch.int32, device="cuda")


def decode_slots(backend: str, scores: torch.Tensor, lengths: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """What the host's metadata calls in a decode step: one row a request; `ours` as it is hooked."""
    from sglang.srt.layers.attention.dsa.dsa_topk_backend import DSATopKBackend, TopkTransformMethod

    from sglang_glm52.memory.index_selection import select

    if backend == "ours":
        return select(scores, lengths, TOPK, SimpleNamespace(page_table_1=table), TopkTransformMethod.PAGED)
    return DSATopKBackend(backend).topk_transform(
        logits=scores,
        lengths=lengths,
        topk=TOPK,
        topk_transform_method=TopkTransformMethod.PAGED,
        attn_metadata=SimpleNamespace(page_table_1=table),
        cu_seqlens_q_topk=torch.arange(len(lengths) + 1, dtype=torch.int32, device="cuda"),
    )


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_decode_steps(backend: str, name: str, context: int) -> None:
    lengths = lengths_of(context)
    scores, table = make_scores(name, len(lengths), context), descending_slots(len(lengths), context)
    slots = decode_slots(backend, scores, lengths, table)
    assert slots.shape == (len(lengths), TOPK) and slots.dtype == torch.int32
    positions = back_to_positions(slots, torch.arange(len(lengths), device="cuda"), context)
    require_right(backend, f"decode, {name}, {context}", positions, scores, lengths)


def prefill(context: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two requests in one batch, three rows and two: (length of each row, its request, its first column)."""
    lengths = torch.tensor([max(1, context - 2), max(1, context - 1), context, 1, min(2, context)], device="cuda")
    requests = torch.tensor([0, 0, 0, 1, 1], device="cuda")
    return lengths.int(), requests, (requests * context).int()


@pytest.mark.parametrize("method", ["paged", "ragged"])
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_prefill_chunks(backend: str, name: str, context: int, method: str) -> None:
    from sglang.srt.layers.attention.dsa.dsa_topk_backend import DSATopKBackend, TopkTransformMethod

    from sglang_glm52.memory.index_selection import select

    lengths, requests, starts = prefill(context)
    scores, table = make_scores(name, len(lengths), context + 2), descending_slots(2, context)
    is_paged = method == "paged"
    batch = SimpleNamespace(
        page_table_1=table,
        dsa_seqlens_expanded=lengths,
        token_to_batch_idx=requests.int(),
        topk_indices_offset=starts,
        indexer_k_start_end=(starts, starts + lengths),
    )
    transform = TopkTransformMethod.PAGED if is_paged else TopkTransformMethod.RAGGED
    if backend == "ours":
        found = select(scores, lengths, TOPK, batch, transform, starts)
    else:
        found = DSATopKBackend.SGL_KERNEL.topk_transform(
            logits=scores,
            lengths=lengths,
            topk=TOPK,
            topk_transform_method=transform,
            attn_metadata=batch,
            cu_seqlens_q_topk=torch.tensor([0, 3, 5], dtype=torch.int32, device="cuda"),
            topk_indices_offset=starts,
            row_starts=starts,
        )
    if is_paged:
        positions = back_to_positions(found, requests, context)
    else:
        positions = torch.where(found < 0, -1, found - starts[:, None])
    require_right(backend, f"prefill, {method}, {name}, {context}", positions, scores, lengths, starts)


@pytest.mark.parametrize("context", [131_072, 1_048_576])
@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_context_in_parts(backend: str, name: str, context: int) -> None:
    """As prefill scores come where the workspace holds no wave of whole rows; some rows end before the last part."""
    from sglang.srt.layers.attention.dsa.dsa_topk_backend import DSATopKBackend

    from sglang_glm52.memory.index_selection import BestSoFar

    lengths = torch.tensor([context, context - 1, context // 2 + 5, context // 2 - 5], dtype=torch.int32, device="cuda")
    scores, part = make_scores(name, len(lengths), context), context // 2
    best = BestSoFar(TOPK, DSATopKBackend("sgl-kernel" if backend == "sgl-kernel" else "flashinfer"))
    crowded = torch.zeros(len(lengths), dtype=torch.bool)
    for first in range(0, context, part):
        own = (lengths - first).clamp(0, part)
        best.add(in_wider_rows(scores[:, first : first + part]), own, first)
        crowded |= threshold_bin_sizes(scores[:, first:], own, TOPK) > SGL_KERNEL_CANDIDATES
    problems = wrong_rows(best.positions, scores, lengths, TOPK)
    if backend == "sgl-kernel":
        problems = {row: problem for row, problem in problems.items() if not crowded[row]}
    assert problems == {}, f"parts, {name}, {context}: {problems}"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cuda_graph_with_padded_rows(backend: str) -> None:
    """Captured with rows of one position, replayed with two requests and padding, as the host fills graphs up."""
    context = 8192
    scores, table = make_scores("normal", 4, context), descending_slots(4, context)
    lengths = torch.ones(4, dtype=torch.int32, device="cuda")
    decode_slots(backend, scores, lengths, table)  # compiles and loads
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        slots = decode_slots(backend, scores, lengths, table)
    for lens in ([8192, 3000, 1, 1], [1, 2049, 1, 1], [5000, 8192, 8191, 1]):
        lengths.copy_(torch.tensor(lens))
        scores.copy_(torch.randn_like(scores))
        graph.replay()
        positions = back_to_positions(slots, torch.arange(4, device="cuda"), context)
        require_right(backend, f"graph, {lens}", positions, scores, lengths)


@pytest.mark.parametrize("context", CONTEXTS)
def test_positions_become_slots(context: int) -> None:
    """The host's unfused transforms, which speculation and some options use, and this package's own."""
    from sglang.srt.layers.attention.dsa.transform_index import (
        transform_index_page_table_decode,
        transform_index_page_table_prefill,
    )

    from sglang_glm52.memory.index_selection import positions_to_slots

    counts = [1, 3, 2]
    requests = torch.repeat_interleave(torch.arange(3), torch.tensor(counts)).cuda()
    table = descending_slots(3, context)
    positions = torch.randint(context, (sum(counts), TOPK), dtype=torch.int32, device="cuda")
    positions[:, context:] = -1  # fewer positions than the row has room for
    want = torch.where(positions < 0, -1, (requests[:, None] + 1) * context - positions)
    decoded = transform_index_page_table_decode(page_table=table[requests], topk_indices=positions, page_size=1)
    assert torch.equal(decoded, want.int())
    prefilled = transform_index_page_table_prefill(
        page_table=table, topk_indices=positions, extend_lens_cpu=counts, page_size=1
    )
    assert torch.equal(prefilled, want.int())
    assert torch.equal(positions_to_slots(positions, table, requests.int()), want.int())
