"""The plan that a graph makes on the device against the one that the host's own code makes from lengths on the CPU.

CUDA kernels are stood in for by torch functions of the same contract: ours by its reference (tests/kernels compares
both), the expansion of lengths, and what DeepGEMM and FlashMLA make of lengths, which here tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import pytest
import torch
from sglang.srt.layers.attention import dsa_backend
from sglang.srt.layers.attention.dsa_backend import DeepseekSparseAttnBackend, DSAFlashMLAMetadata, DSAMetadata
from sglang.srt.model_executor.forward_batch_info import ForwardMode

from sglang_glm52.attention import round_backend
from sglang_glm52.attention.round_backend import RoundBackend
from sglang_glm52.attention.round_steps import RoundSteps
from sglang_glm52.kernels.request_tables import ref

D, PAGE, TOPK, WINDOW, POOL_ROWS = 4, 64, 128, 1000, 6
LENGTHS = ((700,), (124, 63, 996), (1, 64, 128, 129))
MODES = (ForwardMode.TARGET_VERIFY, ForwardMode.DECODE, ForwardMode.DRAFT_EXTEND_V2)


def expand(extend_lens: torch.Tensor, lengths: torch.Tensor, total: int, longest: int) -> torch.Tensor:
    counts = zip(extend_lens.tolist(), lengths.tolist(), strict=True)
    return torch.cat([torch.arange(n - count + 1, n + 1, dtype=torch.int32) for count, n in counts])


def flashmla(cache_seqlens: torch.Tensor, seq_len_q: int) -> DSAFlashMLAMetadata:
    ends = torch.nn.functional.pad(cache_seqlens.cumsum(0, dtype=torch.int32), (1, 0))
    return DSAFlashMLAMetadata(flashmla_metadata=cache_seqlens.sum().view(1).clone(), num_splits=ends)


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    deep_gemm = ModuleType("deep_gemm")
    deep_gemm.get_num_sms = lambda: 132
    deep_gemm.get_paged_mqa_logits_metadata = lambda lengths, block, num_sms: lengths.flatten() * block + num_sms
    for module in (dsa_backend, round_backend):
        monkeypatch.setattr(module, "deep_gemm", deep_gemm, raising=False)
    monkeypatch.setattr(dsa_backend, "is_cuda", lambda: True)
    monkeypatch.setattr(dsa_backend, "is_sm100_supported", lambda: False)
    monkeypatch.setattr(dsa_backend, "seqlens_expand_triton", expand)
    monkeypatch.setattr(dsa_backend, "pad_dsa_cache_seqlens", lambda batch, lengths: lengths)
    monkeypatch.setattr(round_backend, "request_tables", ref.request_tables)


def pool_table() -> torch.Tensor:
    pages = torch.randperm(POOL_ROWS * 17, generator=torch.Generator().manual_seed(1)).view(POOL_ROWS, 17)
    return (pages.unsqueeze(2) * PAGE + torch.arange(PAGE)).flatten(1).int()


def backend(kind: type[DeepseekSparseAttnBackend]) -> DeepseekSparseAttnBackend:
    """One whose constructor, which asks the GPU, has not run."""
    made, table = object.__new__(kind), pool_table()
    made.device, made.real_page_size, made.max_context_len, made.dsa_index_topk = "cpu", PAGE, WINDOW, TOPK
    made.speculative_num_draft_tokens, made.enable_auto_select_prefill_impl, made.use_mha = D, False, False
    made.dsa_decode_impl = made.dsa_prefill_impl = "flashmla_kv"
    made.dsa_kv_cache_store_fp8, made.token_to_kv_pool, made.hisparse_coordinator = True, None, None
    made.req_to_token, made.req_to_token_pool = table, SimpleNamespace(req_to_token=table)
    made._arange_buf = torch.arange(64, dtype=torch.int32)
    made._compute_flashmla_metadata = flashmla
    return made


def batch(mode: ForwardMode, lengths: torch.Tensor, **more: object) -> SimpleNamespace:
    """`lengths` as the passes of this mode have them: draft-extend counts its own tokens."""
    return SimpleNamespace(
        forward_mode=mode,
        batch_size=len(lengths),
        req_pool_indices=torch.arange(POOL_ROWS - 1, POOL_ROWS - 1 - len(lengths), -1),
        seq_lens=lengths,
        seq_lens_sum=None,
        spec_info=None,
        input_ids=None,
        positions=None,
        out_cache_loc=None,
        **more,
    )


def without_graph(mode: ForwardMode, lengths: torch.Tensor) -> SimpleNamespace:
    return batch(
        mode,
        lengths,
        seq_lens_cpu=lengths.clone(),
        extend_seq_lens=torch.full((len(lengths),), D, dtype=torch.int32),
        extend_seq_lens_cpu=[D] * len(lengths),
        extend_prefix_lens=(lengths - D).int(),
        extend_prefix_lens_cpu=(lengths - D).tolist(),
        extend_num_tokens=D * len(lengths),
    )


def lengths_of(mode: ForwardMode, committed: tuple[int, ...]) -> torch.Tensor:
    return torch.tensor(committed) + (D if mode.is_draft_extend_v2() else 0)


@dataclass(frozen=True)
class Plan:
    """What kernels may read of a plan."""

    lengths: dict[str, list[int]]
    slots: list[list[int]]
    pages: list[list[int]]

    @classmethod
    def of(cls, plan: DSAMetadata) -> Plan:
        tensors = {
            "lengths": plan.cache_seqlens_int32,
            "ends": plan.cu_seqlens_k,
            "row lengths": plan.dsa_seqlens_expanded,
            "kept": plan.dsa_cache_seqlens_int32,
            "kept ends": plan.dsa_cu_seqlens_k,
            "rows": plan.dsa_cu_seqlens_q,
            "schedule": plan.paged_mqa_schedule_metadata,
            "scheduled": plan.paged_mqa_ctx_lens_2d.flatten(),
            "flashmla": plan.flashmla_metadata.flashmla_metadata,
            "splits": plan.flashmla_metadata.num_splits,
        }
        row_lengths = plan.dsa_seqlens_expanded.tolist()
        num_pages = [-(-length // PAGE) for length in row_lengths]
        return cls(
            {name: tensor.tolist() for name, tensor in tensors.items()},
            [row[:count].tolist() for row, count in zip(plan.page_table_1, row_lengths, strict=True)],
            [row[:count].tolist() for row, count in zip(plan.real_page_table, num_pages, strict=True)],
        )


def planned_in_graph(made: RoundBackend | RoundSteps, mode: ForwardMode, *rounds: tuple[int, ...]) -> None:
    """Capture with lengths of 1, then replay each of `rounds`."""
    static = batch(mode, torch.ones(len(rounds[0]), dtype=torch.int32), seq_lens_cpu=None)
    made.init_cuda_graph_state(8, 8 * D)
    made.init_forward_metadata_out_graph(static, in_capture=True)
    for committed in rounds:
        static.seq_lens.copy_(lengths_of(mode, committed))
        made.init_forward_metadata_out_graph(static)
        made.init_forward_metadata_in_graph(static)


@pytest.mark.parametrize("committed", LENGTHS, ids=str)
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_the_plan_is_that_of_a_pass_without_a_graph(mode: ForwardMode, committed: tuple[int, ...]) -> None:
    """And what an earlier, longer round left in the tables shows nowhere."""
    ours, host = backend(RoundBackend), backend(DeepseekSparseAttnBackend)
    planned_in_graph(ours, mode, tuple(min(length + 200, WINDOW - D) for length in committed), committed)
    host.init_forward_metadata(without_graph(mode, lengths_of(mode, committed)))
    assert Plan.of(ours.forward_metadata) == Plan.of(host.forward_metadata)


@pytest.mark.parametrize("committed", LENGTHS, ids=str)
@pytest.mark.parametrize("mode", MODES[:2], ids=lambda mode: mode.name)
def test_the_plan_is_that_of_the_host_s_graphs(mode: ForwardMode, committed: tuple[int, ...]) -> None:
    """But that tables are wider by a round. The host has no graph for draft-extend."""
    ours, host = backend(RoundBackend), backend(DeepseekSparseAttnBackend)
    planned_in_graph(ours, mode, committed)
    static = batch(mode, torch.ones(len(committed), dtype=torch.int32), seq_lens_cpu=None)
    host.init_cuda_graph_state(8, 8 * D)
    host.init_forward_metadata_out_graph(static, in_capture=True)
    static.seq_lens.copy_(lengths_of(mode, committed))
    static.seq_lens_cpu = static.seq_lens.clone()
    host.init_forward_metadata_out_graph(static)
    assert Plan.of(ours.forward_metadata) == Plan.of(host.forward_metadata)
    width = host.forward_metadata.max_seq_len_k + D
    assert len(ours.forward_metadata.real_page_table[0]) == -(-width // PAGE)
    assert ours.forward_metadata.max_seq_len_k == width
    assert ours.forward_metadata.dsa_extend_seq_lens_list == host.forward_metadata.dsa_extend_seq_lens_list


def test_a_row_holds_the_round_that_is_begun_before_the_last_one_is_known_to_be_the_last() -> None:
    """A request ends at WINDOW - 3 tokens; the round before and the one begun after it can add 6 tokens each."""
    made, drafts = backend(RoundBackend), 6
    made.speculative_num_draft_tokens = drafts
    made.init_cuda_graph_state(8, 8 * drafts)
    assert made.decode_cuda_graph_metadata["page_table"].shape[1] >= WINDOW - 4 + 2 * drafts
    assert made.max_context_len == WINDOW


@pytest.mark.parametrize("option", ["disable_cuda_graph", "enable_forward_pass_metrics"])
def test_lengths_are_fetched_where_the_cpu_needs_them(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeepseekSparseAttnBackend, "__init__", lambda self, model_runner: None)
    args = {"disable_cuda_graph": False, "enable_forward_pass_metrics": False}
    made = [
        RoundBackend(SimpleNamespace(server_args=SimpleNamespace(**each))) for each in (args, args | {option: True})
    ]
    assert [backend.needs_cpu_seq_lens for backend in made] == [False, True]


def test_all_steps_of_a_round_have_one_plan() -> None:
    steps, host = object.__new__(RoundSteps), backend(DeepseekSparseAttnBackend)
    steps.attn_backends = [backend(RoundBackend) for _ in range(3)]
    planned_in_graph(steps, ForwardMode.DECODE, (900,), (700,))
    host.init_forward_metadata(without_graph(ForwardMode.DECODE, torch.tensor([700])))
    for step in steps.attn_backends:
        assert Plan.of(step.forward_metadata) == Plan.of(host.forward_metadata)


def test_batch_sizes_share_their_tables() -> None:
    """Else every captured batch size has pages for the whole window."""
    made = backend(RoundBackend)
    made.init_cuda_graph_state(8, 8 * D)
    plans = []
    for num_requests in (4, 1):
        static = batch(ForwardMode.TARGET_VERIFY, torch.ones(num_requests, dtype=torch.int32), seq_lens_cpu=None)
        made.init_forward_metadata_out_graph(static, in_capture=True)
        plans.append(made.forward_metadata)
    for place in ("page_table_1", "real_page_table"):
        assert len({getattr(plan, place).data_ptr() for plan in plans}) == 1


def forget(given: SimpleNamespace) -> SimpleNamespace:
    given.seq_lens_cpu = given.extend_prefix_lens_cpu = None
    return given


@pytest.mark.parametrize("prepare", [forget, lambda given: given], ids=["unknown", "known"])
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_without_a_graph_the_host_plans(mode: ForwardMode, prepare: Callable) -> None:
    """Whether the CPU knows the lengths or has to fetch them first."""
    ours, host = backend(RoundBackend), backend(DeepseekSparseAttnBackend)
    lengths = lengths_of(mode, (124, 63, 996))
    ours.init_forward_metadata(prepare(without_graph(mode, lengths)))
    host.init_forward_metadata(without_graph(mode, lengths))
    assert Plan.of(ours.forward_metadata) == Plan.of(host.forward_metadata)
