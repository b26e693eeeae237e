"""Triton kernels are tested on a GPU or, with TRITON_INTERPRET=1 set before Triton is imported, without one."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def triton_device() -> str:
    """Where Triton kernels run, ready to run them."""
    from triton_interpreter import IS_INTERPRETED, repair  # imports Triton

    if not IS_INTERPRETED:
        return "cuda"
    repair()
    return "cpu"
