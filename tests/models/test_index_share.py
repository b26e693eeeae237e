"""Which selection the steps of a draft round use: what the same request kept at the same length, else their own."""

from __future__ import annotations

import pytest
import torch

from sglang_glm52.models.index_share import DraftSelections, shares_selection

POOL_ROWS, TOPK = 6, 4


def selection(*rows: int) -> torch.Tensor:
    """A row of TOPK equal numbers for each of `rows`."""
    return torch.tensor(rows, dtype=torch.int32).unsqueeze(1).repeat(1, TOPK)


def rows(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def extend(selections: DraftSelections, made: torch.Tensor, pool: torch.Tensor, last: torch.Tensor, lengths) -> None:
    """A draft-extend pass that selects `made`, of which rows `last` are the last accepted ones."""
    selections.begin_extend()
    assert selections.extend(made) is made
    selections.keep(pool, last, lengths, POOL_ROWS)


def first_step(selections: DraftSelections, own: torch.Tensor, pool: torch.Tensor, lengths: torch.Tensor) -> list[int]:
    return selections.step(0, lambda: own, pool, lengths, POOL_ROWS)[:, 0].tolist()


def test_the_last_accepted_rows_selection_serves_all_steps():
    selections = DraftSelections()
    # Two requests with four rows each; the first accepted two drafts, the second none.
    extend(selections, selection(10, 11, 12, 13, 20, 21, 22, 23), rows(3, 1), rows(2, 4), rows(103, 51))
    assert first_step(selections, selection(98, 99), rows(1, 3), rows(51, 103)) == [
        20,
        12,
    ]  # another order of the batch

    def must_not_select() -> torch.Tensor:
        raise AssertionError("a later step selected for itself")

    assert selections.step(1, must_not_select, rows(1, 3), rows(51, 103), POOL_ROWS)[:, 0].tolist() == [20, 12]


@pytest.mark.parametrize("length", [50, 52])
def test_a_selection_of_another_length_is_never_used(length):
    selections = DraftSelections()
    extend(selections, selection(20), rows(1), rows(0), rows(51))
    assert first_step(selections, selection(99), rows(1), rows(length)) == [99]


def test_a_reused_pool_row_that_was_forgotten_is_never_read():
    selections = DraftSelections()
    extend(selections, selection(20, 30), rows(1, 2), rows(0, 1), rows(51, 51))
    selections.forget(rows(1))  # a new request of the same length was prefilled there
    assert first_step(selections, selection(98, 99), rows(1, 2), rows(51, 51)) == [98, 30]


def test_what_a_forgotten_prefill_selected_is_let_go():
    selections = DraftSelections()
    selections.extend(torch.zeros(5, 3))
    selections.forget(rows(1))
    assert selections.extended is None


def test_an_extend_without_a_selection_keeps_none():
    """Dense attention of a short prompt selects nothing, and what a pass before it selected must not take its place."""
    selections = DraftSelections()
    extend(selections, selection(20), rows(1), rows(0), rows(51))
    selections.extend(selection(77))
    selections.begin_extend()
    selections.keep(rows(1), rows(0), rows(51), POOL_ROWS)
    assert first_step(selections, selection(99), rows(1), rows(51)) == [99]


def test_padding_rows_of_a_cuda_graph_select_for_themselves():
    selections = DraftSelections()
    extend(selections, selection(20), rows(1), rows(0), rows(51))
    assert first_step(selections, selection(97, 98, 99), rows(1, 0, 0), rows(51, 1, 1)) == [20, 98, 99]


def test_what_is_kept_stays_at_its_address():
    """A CUDA graph reads it at the address it had when the graph was captured."""
    selections = DraftSelections()
    first_step(selections, selection(99), rows(1), rows(51))  # the capture comes before any request
    before = selections.kept.selections.data_ptr(), selections.kept.lengths.data_ptr()
    extend(selections, selection(20), rows(1), rows(0), rows(51))
    assert (selections.kept.selections.data_ptr(), selections.kept.lengths.data_ptr()) == before
    assert first_step(selections, selection(99), rows(1), rows(51)) == [20]


def test_the_switch():
    assert shares_selection("auto", True) and not shares_selection("auto", False)
    assert shares_selection("on", False) and not shares_selection("off", True)
