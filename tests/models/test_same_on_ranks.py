"""Ranks with different settings are told so, all of them, before they wait for each other."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from sglang_glm52.errors import ConfigError
from sglang_glm52.models.same_on_ranks import check_same_on_ranks

VARIABLE = "SGLANG_GLM52_PREFILL_ROWS"
AGREED = "agreed"


def run_rank(rank: int, values: tuple[str, ...], folder: Path) -> None:
    os.environ[VARIABLE] = values[rank]
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=len(values))
    try:
        with torch.device("meta"):  # as models are built with their GPU for the default
            check_same_on_ranks(dist.group.WORLD)
        said = AGREED
    except ConfigError as error:
        said = str(error)
    (folder / str(rank)).write_text(said)
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("shared", "shared"), AGREED),
        (
            ("shared", "shared", "all"),
            f"{VARIABLE} is shared on rank 0 and all on rank 2; start every node with the same environment",
        ),
    ],
)
def test_every_rank_hears_of_another_value(values: tuple[str, ...], said: str, tmp_path: Path) -> None:
    mp.start_processes(partial(run_rank, values=values, folder=tmp_path), nprocs=len(values), start_method="spawn")
    assert [(tmp_path / str(rank)).read_text() for rank in range(len(values))] == [said] * len(values)
