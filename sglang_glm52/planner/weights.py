"""Bytes of weights on one GPU, by kind: what the classes in models/ allocate and what they derive after loading."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.planner.engines import CUDA, Engine
from sglang_glm52.planner.model import Model
from sglang_glm52.planner.parallel import Parallel
from sglang_glm52.quantize.groups import group_of
from sglang_glm52.quantize.published_form import optional_shapes

MTP = "MTP layer"
ABSORBED = "attention, absorbed kv_b"
ROPE = "rotary table"
KINDS = (
    *("routed experts", "shared experts", "dense MLP", "router", "attention, split by heads"),
    *("attention, on every GPU", ABSORBED, "indexer", "norms", "embeddings", "output head", ROPE, MTP),
)

_INPUT_SCALE = ".input_scale"  # one number an expert; the dynamic activation scheme drops it
_BY_HEADS = re.compile(r"\.self_attn\.(q_b_proj|kv_b_proj|o_proj)\.")
_BY_TP = re.compile(r"\.mlp\.(experts\.|shared_experts\.|(gate|up|down)_proj\.)|^lm_head\.")
_VOCAB_UNIT = 64


def weight_bytes(model: Model, parallel: Parallel, engine: Engine = CUDA) -> dict[str, int]:
    """Kind -> bytes on each GPU; the MTP layer's are those of the draft model, which shares embeddings and head."""
    found = dict.fromkeys(KINDS, 0)
    for kind, count in _parts(model, parallel, engine):
        found[kind] += count
    return found


def _parts(model: Model, parallel: Parallel, engine: Engine) -> Iterator[tuple[str, int]]:
    arch = model.arch
    shared_with_draft = optional_shapes(arch)
    for info in model.tensors:
        if info.name in shared_with_draft or info.name.endswith(_INPUT_SCALE):
            continue
        ranks, kind = _ranks(info.name, parallel), _kind(arch, info.name)
        count = engine.loaded_bytes(arch, info)
        if kind in ("embeddings", "output head"):
            count = count // arch.vocab_size * padded_vocab(arch.vocab_size, ranks)
        yield kind, -(-count // ranks)
        if info.name.endswith(".kv_b_proj.weight"):  # absorb_kv_b makes w_kc and w_vc, beside kv_b_proj itself
            yield MTP if kind == MTP else ABSORBED, math.prod(info.shape) * engine.item_bytes // ranks
    # One table for all layers and the indexers: the host caches it by its arguments.
    yield ROPE, arch.max_positions * arch.qk_rope_head_dim * engine.rope_item_bytes


def _kind(arch: Glm52Arch, name: str) -> str:
    group = group_of(arch, name)
    if group.startswith("MTP"):
        return MTP
    if group == "attention":
        return "attention, split by heads" if _BY_HEADS.search(name) else "attention, on every GPU"
    if group == "embeddings and head":
        return "output head" if name.startswith("lm_head.") else "embeddings"
    return group


def _ranks(name: str, parallel: Parallel) -> int:
    """Over how many GPUs a tensor is split; 1 for one that every GPU holds whole.

    Routed experts are split over all, by expert (EP), by inner channel (TP), or both.
    """
    if _BY_TP.search(name):
        return parallel.tp
    if _BY_HEADS.search(name) or name == "model.embed_tokens.weight":
        return parallel.attn_tp
    return 1


def padded_vocab(vocab: int, ranks: int) -> int:
    """Rows of the embeddings, or the output head, on all `ranks` together: a multiple of 64, of 64 a GPU if need be."""
    rows = -(-vocab // _VOCAB_UNIT) * _VOCAB_UNIT
    unit = _VOCAB_UNIT * ranks
    return rows if rows % ranks == 0 else -(-vocab // unit) * unit
