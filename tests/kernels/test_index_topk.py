"""index_topk: exact, so every comparison is of equal integers; and what its kernels need of a GPU, read from cubins."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import torch
import triton

from sglang_glm52.kernels.cuda_source import compile_cubin
from sglang_glm52.kernels.index_topk import index_topk, ref
from sglang_glm52.kernels.index_topk.cases import CASES, Case, Inputs, make_inputs
from sglang_glm52.kernels.index_topk.clusters import NAME, SOURCE, run
from sglang_glm52.kernels.index_topk.tuning import MAX_CLUSTER, Tuning, choose_tuning

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
REGISTERS, SHARED_BYTES, MULTIPROCESSORS = 65536, 228 * 1024, 132  # of a multiprocessor; of an H200
RESERVED_BYTES = 1024  # of each block's shared memory
CLUSTERS = (1, 2, 4, 8, 16)
COLUMNS = (1, 8192, 16_384, 65_536, 131_072, 520_000, 1_048_576)
RAGGED = Case(6, 131_072, "eight-values", "rows that take 0 to all blocks of a cluster")


def call(case: Case, inputs: Inputs) -> torch.Tensor:
    return index_topk(inputs.scores, inputs.lengths, case.topk, **inputs.options())


def want(case: Case, inputs: Inputs) -> torch.Tensor:
    return ref.index_topk(inputs.scores, inputs.lengths, case.topk, **inputs.options())


@pytest.mark.parametrize("values", ["normal", "eight-values", "signed-zeros", "infinite", "equal"])
def test_the_reference_is_a_sort_by_score_and_position(values: str) -> None:
    case = Case(5, 301, values, "", topk=40, starts=True, encoding="table-rows")
    inputs = make_inputs(case, seed=1, device="cpu")
    for row, got in enumerate(want(case, inputs).tolist()):
        start, length = int(inputs.starts[row]), int(inputs.lengths[row])
        own = inputs.scores[row, start : start + length].tolist()
        best = sorted(sorted(range(length), key=lambda position, own=own: (-own[position], position))[:40])
        slots = inputs.table[inputs.table_rows[row]].tolist()
        assert got == [slots[position] for position in best] + [-1] * (40 - len(best))


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_blocks_fit_on_a_multiprocessor_and_keep_values_in_registers(cluster: int, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tuning, path = Tuning(cluster), tmp_path / "kernel.cubin"
    path.write_bytes(compile_cubin(SOURCE, tuple(tuning.macros().items()), "sm_90a"))
    command = [CUOBJDUMP, "--dump-resource-usage", path]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    [(name, line)] = re.findall(r"Function (\w+):\s+(.*)", text)
    used = {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", line)}
    assert name == NAME and used["STACK"] == used["LOCAL"] == 0, used
    assert tuning.blocks * tuning.threads * used["REG"] <= REGISTERS
    for columns in COLUMNS:
        if choose_tuning(1, columns, MULTIPROCESSORS).cluster == cluster:
            assert tuning.blocks * (tuning.shared_bytes(columns) + RESERVED_BYTES) <= SHARED_BYTES


@pytest.mark.parametrize("rows", [1, 2, 4, 16, 64, 528, 8192])
@pytest.mark.parametrize("columns", COLUMNS)
def test_a_cluster_is_a_power_of_two_and_larger_for_longer_rows(rows: int, columns: int) -> None:
    cluster = choose_tuning(rows, columns, MULTIPROCESSORS).cluster
    assert cluster in CLUSTERS and cluster <= MAX_CLUSTER
    assert cluster <= choose_tuning(rows, 2 * columns, MULTIPROCESSORS).cluster


def test_refuses_rows_that_are_too_long_for_shared_memory() -> None:
    with pytest.raises(ValueError, match="scores has 16777216 columns, for which a block needs"):
        choose_tuning(1, 1 << 24, MULTIPROCESSORS)


def test_refuses_inputs_on_a_cpu() -> None:
    with pytest.raises(ValueError, match="scores is on cpu; expected a GPU"):
        index_topk(torch.zeros(2, 8), torch.zeros(2, dtype=torch.int32), 4)


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_reference(case: Case) -> None:
    inputs = make_inputs(case, seed=1, device="cuda")
    got = call(case, inputs)
    assert torch.equal(got, want(case, inputs))


@pytest.mark.gpu
@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("loads", [4, 16])
def test_every_cluster_gives_the_same(cluster: int, loads: int) -> None:
    """Also where a warp has room for few keys and goes through its part of the row again and again."""
    tuning = Tuning(cluster, loads=loads)
    for case in (case for case in CASES if case.columns in (20_011, 131_072) and not case.timed):
        inputs = make_inputs(case, seed=1, device="cuda")
        got = run(tuning, inputs.scores, inputs.lengths, case.topk, **inputs.options())
        assert torch.equal(got, want(case, inputs)), case


@pytest.mark.gpu
def test_rows_may_lie_beyond_what_32_bits_count() -> None:
    stride, columns = 1_200_000_000, 30_000
    scores = torch.empty(2 * stride + columns, device="cuda").as_strided((3, columns), (stride, 1))
    scores.normal_(generator=torch.Generator("cuda").manual_seed(1))
    lengths = torch.full((3,), columns, dtype=torch.int32, device="cuda")
    got = index_topk(scores, lengths, 2048)
    assert torch.equal(got, ref.index_topk(scores, lengths, 2048))


@pytest.mark.gpu
def test_nan_is_below_all_else() -> None:
    inputs = make_inputs(RAGGED, seed=1, device="cuda")
    inputs.scores[:, ::2] = float("nan")
    inputs.scores[:, 1::512] = -float("nan")
    got = call(RAGGED, inputs)
    lowest = inputs.scores.nan_to_num(nan=float("-inf"))
    assert torch.equal(got, ref.index_topk(lowest, inputs.lengths, RAGGED.topk))
    inputs.scores.fill_(float("nan"))
    assert torch.equal(call(RAGGED, inputs), want(RAGGED, inputs))  # the first ones, as of all that are equal


@pytest.mark.gpu
def test_equal_arguments_give_equal_bits() -> None:
    """Also where one call starts while the one before it, of other scores, still runs."""
    inputs = [make_inputs(RAGGED, seed=seed, device="cuda") for seed in (1, 2)]
    first = []
    for each in inputs:
        first.append(call(RAGGED, each))
        torch.cuda.synchronize()
    again = [[call(RAGGED, each) for each in inputs] for _ in range(20)]
    assert all(torch.equal(a, b) for results in again for a, b in zip(results, first, strict=True))


@pytest.mark.gpu
def test_calls_on_two_streams_do_not_meet() -> None:
    inputs = [make_inputs(RAGGED, seed=seed, device="cuda") for seed in (1, 2)]
    expected = [call(RAGGED, each) for each in inputs]
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    torch.cuda.synchronize()
    results = []
    for _ in range(20):
        for stream, each in zip(streams, inputs, strict=True):
            with torch.cuda.stream(stream):
                results.append(call(RAGGED, each))
    torch.cuda.synchronize()
    assert all(torch.equal(got, expected[i % 2]) for i, got in enumerate(results))


@pytest.mark.gpu
def test_a_cuda_graph_replays_with_other_data() -> None:
    case = Case(4, 131_072, "normal", "", starts=True, encoding="table-rows")
    inputs, others = make_inputs(case, seed=1, device="cuda"), make_inputs(case, seed=2, device="cuda")
    call(case, inputs)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = call(case, inputs)
    for lengths in ([131_000, 0, 2048, 1], [1, 1, 1, 1], [2049, 100_000, 8192, 65_000], [20_000, 9000, 0, 131_000]):
        lengths = torch.tensor(lengths, dtype=torch.int32, device="cuda")
        inputs.lengths.copy_(torch.minimum(lengths, case.columns - others.starts))
        for name in ("scores", "starts", "table", "table_rows"):
            getattr(inputs, name).copy_(getattr(others, name))
        graph.replay()
        assert torch.equal(out, want(case, inputs))
        inputs.scores.copy_(inputs.scores.flip(1))
        graph.replay()
        assert torch.equal(out, want(case, inputs))


@pytest.mark.gpu
def test_refuses_inputs_of_another_form_by_name() -> None:
    case = Case(4, 100, "normal", "", topk=8, starts=True, encoding="table-rows")
    inputs = make_inputs(case, seed=1, device="cuda")
    given = {"scores": inputs.scores, "lengths": inputs.lengths, "topk": case.topk, **inputs.options()}
    for changed, words in (
        ({"topk": 0}, "topk is 0; expected 1 to 4096"),
        ({"topk": 4097}, "topk is 4097; expected 1 to 4096"),
        ({"scores": inputs.scores.half()}, "scores is torch.float16"),
        ({"scores": inputs.scores.T.contiguous().T}, "scores has strides"),
        ({"lengths": inputs.lengths.long()}, "lengths is torch.int64"),
        ({"lengths": inputs.lengths[:3]}, r"lengths is torch.int32 \(3,\); expected torch.int32 \(4,\)"),
        ({"starts": inputs.starts[:, None]}, r"starts is torch.int32 \(4, 1\)"),
        ({"starts": inputs.starts.repeat_interleave(2)[::2]}, "starts has strides"),
        ({"table": inputs.table.float()}, "table is torch.float32"),
        ({"table": inputs.table[:3], "table_rows": None}, "table has 3 rows for 4 of scores"),
        ({"table": None}, "table_rows is given without table"),
        ({"offsets": inputs.starts}, "offsets are given beside table"),
        ({"table": inputs.table.cpu()}, "table is on cpu; expected cuda:0"),
    ):
        with pytest.raises(ValueError, match=words):
            index_topk(**(given | changed))
