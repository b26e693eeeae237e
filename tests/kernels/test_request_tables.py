"""The device's tables against plain torch, and that nothing else is written."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from sglang_glm52.kernels.request_tables import ref
from sglang_glm52.kernels.request_tables.cases import CASES, PAGE, TOPK, Case, make_inputs, make_tables
from sglang_glm52.kernels.request_tables.kernel import request_tables

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_tables_are_the_reference_s(case: Case, triton_device: str) -> None:
    inputs = make_inputs(case, 5, triton_device)
    got, want = make_tables(case, triton_device), make_tables(case, triton_device)
    request_tables(got, *inputs, first=case.first, index_topk=TOPK, page_size=PAGE)
    ref.request_tables(want, *inputs, first=case.first, index_topk=TOPK, page_size=PAGE)
    for field in fields(got):
        torch.testing.assert_close(getattr(got, field.name), getattr(want, field.name), rtol=0, atol=0, msg=field.name)


def test_a_table_of_another_shape_is_refused(triton_device: str) -> None:
    case = CASES[0]
    tables = make_tables(case, triton_device)
    inputs = make_inputs(case, 5, triton_device)
    for wrong in (
        replace(tables, kept_ends=tables.kept_ends[1:]),
        replace(tables, pages=tables.pages.long()),
        replace(tables, row_lengths=tables.row_lengths[:0]),
    ):
        with pytest.raises(ValueError, match=r"expected|requests"):
            request_tables(wrong, *inputs, first=case.first, index_topk=TOPK, page_size=PAGE)
