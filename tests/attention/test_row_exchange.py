"""Attention by rows on several processes gives each rank its own heads' outputs for all rows."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from sglang_glm52.attention.row_exchange import own_rows, to_heads, to_rows
from sglang_glm52.host.hooks import sparse_mla

HEADS, DIM, VALUES, POSITIONS, TOPK = 12, 24, 16, 50, 7


def attend(q: torch.Tensor, kv: torch.Tensor, selected: torch.Tensor) -> torch.Tensor:
    """[rows, heads, VALUES] from q [rows, heads, DIM], kv [POSITIONS, DIM] and positions [rows, TOPK], -1 for none."""
    keys = kv[selected.clamp(min=0).long()]  # [rows, TOPK, DIM]
    scores = torch.einsum("rhd,rkd->rhk", q, keys).masked_fill((selected < 0)[:, None], float("-inf"))
    return torch.einsum("rhk,rkd->rhd", scores.softmax(-1).nan_to_num(), keys[..., :VALUES])


def inputs(num_rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(num_rows)
    selected = torch.randint(-1, POSITIONS, (num_rows, TOPK), dtype=torch.int32)
    return torch.randn(num_rows, HEADS, DIM), torch.randn(POSITIONS, DIM), selected


def flashmla(self, q_all, kv_cache, v_head_dim, sm_scale, layer, metadata, page_table_1) -> torch.Tensor:
    """The host's method: as many lengths and plans as rows, and one query position in a row of its result."""
    assert len(metadata.dsa_cache_seqlens_int32) == metadata.flashmla_metadata == len(q_all) == len(page_table_1)
    assert q_all.shape[1:] == (layer.tp_q_head_num, layer.head_dim)
    return attend(q_all * sm_scale, kv_cache, page_table_1).unsqueeze(1)


def attend_with_hook(q: torch.Tensor, kv: torch.Tensor, selected: torch.Tensor) -> torch.Tensor:
    """[rows, heads of a rank, VALUES] for q [rows, heads of a rank, DIM], which is longer than the hook's limit."""
    sparse_mla.get_attention_tp_group = lambda: SimpleNamespace(device_group=dist.group.WORLD)
    sparse_mla.is_shared_out = lambda query: True
    backend = SimpleNamespace(_compute_flashmla_metadata=lambda lengths, seq_len_q: len(lengths))
    layer = SimpleNamespace(tp_q_head_num=q.shape[1], head_dim=DIM)
    metadata = SimpleNamespace(dsa_cache_seqlens_int32=torch.full((len(q) + 3,), TOPK))  # a padded batch's
    return sparse_mla.attend(flashmla, backend, q.flatten(1), kv, VALUES, 1.0, layer, metadata, selected)


def run_rank(rank: int, size: int, address: str, out: Path) -> None:
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=size)
    group = dist.group.WORLD
    found, hooked = {}, {}
    for num_rows in (1, size, 25):
        q, kv, selected = inputs(num_rows)
        mine = slice(rank * HEADS // size, (rank + 1) * HEADS // size)
        rows = to_rows(q[:, mine].contiguous(), group)
        assert rows.shape == (-(-num_rows // size), HEADS, DIM)
        found[num_rows] = to_heads(attend(rows, kv, own_rows(selected, group, fill=-1)), num_rows, group)
        hooked[num_rows] = attend_with_hook(q[:, mine].contiguous(), kv, selected)
    torch.save((found, hooked), out / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("size", [2, 3])
def test_each_rank_gets_what_its_heads_attend_to(size: int, tmp_path: Path) -> None:
    address = f"file://{tmp_path}/meet"
    mp.start_processes(partial(run_rank, size=size, address=address, out=tmp_path), nprocs=size, start_method="spawn")
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(size)]
    for num_rows in (1, size, 25):
        want = attend(*inputs(num_rows))
        for way in (0, 1):
            got = torch.cat([found[way][num_rows] for found in ranks], 1)
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6, msg=f"{num_rows} rows")
