"""Hides needles in a long prompt and prints which the indexer selects, as JSON; a process, as SGLang keeps globals.

`python needle_engine.py MODEL_DIR DEVICE LENGTH NEEDLES`

The model has one layer, whose weights are set so that a token's query matches the key of the same token and of no
other: with a random G, q_lora = norm(G x), wq_b = C for each head and wk = C G, so q . k is (C G x) . (C G y), which is
large for x = y. The rotary dimensions of q and k are zero, or the match would fade with distance. Every token has the
same first component, which G ignores and from which weights_proj makes the heads' weights. Needles are tokens that
stand in the prompt once, at random depths. Queries are the same tokens: as the last of the prompt, which is a prefill
chunk, and then one by one as decode steps.
"""

import json
import random
import sys
from array import array
from pathlib import Path

import torch
from sglang.srt.plugins import load_plugins

DECODED = 10  # of the needles, asked for in decode steps too


@torch.no_grad()
def match_tokens(model: torch.nn.Module, arch) -> None:
    """Overwrite the first layer's weights, and all embeddings, in place."""
    layer = model.model.layers[0]
    attention, indexer = layer.self_attn, layer.self_attn.indexer
    weight = model.model.embed_tokens.weight
    torch.manual_seed(11)
    embeddings = torch.randn(weight.shape)
    embeddings[:, 0] = 3.0
    project = torch.randn(arch.q_lora_rank, arch.hidden_size) * arch.hidden_size**-0.5
    project[:, 0] = 0.0
    head = torch.randn(arch.index_head_dim, arch.q_lora_rank) * arch.q_lora_rank**-0.5
    head[: arch.qk_rope_head_dim] = 0.0
    first = torch.zeros(arch.index_num_heads, arch.hidden_size)
    first[:, 0] = 1.0
    for param, value in (
        (weight, embeddings),
        (layer.input_layernorm.weight, torch.ones(arch.hidden_size)),
        (attention.q_a_layernorm.weight, torch.ones(arch.q_lora_rank)),
        (attention.fused_qkv_a_proj_with_mqa.weight[: arch.q_lora_rank], project),
        (indexer.wq_b.weight, head.repeat(arch.index_num_heads, 1)),
        (indexer.wk.weight, head @ project),
        (indexer.weights_proj.weight, first),
        (indexer.k_norm.weight, torch.ones(arch.index_head_dim)),
        (indexer.k_norm.bias, torch.zeros(arch.index_head_dim)),
    ):
        assert param.shape == value.shape, f"{tuple(param.shape)} vs {tuple(value.shape)}"
        param.copy_(value)


def make_prompt(vocab_size: int, length: int, num_needles: int) -> tuple[array, list[int], list[int]]:
    """Token ids, the needles among them and their positions, sorted; the needles follow again at the end."""
    rng = random.Random(length)
    needles = list(range(num_needles))  # the first ids, which the haystack leaves out
    ids = [rng.randrange(num_needles, vocab_size) for _ in range(length - num_needles)]
    depths = sorted(rng.sample(range(len(ids)), num_needles))
    for needle, depth in zip(needles, depths, strict=True):
        ids[depth] = needle
    return array("q", ids + needles), needles, depths


def main(model_dir: str, device: str, length: int, num_needles: int) -> None:
    load_plugins()
    from sglang_glm52.bench.shard_engine import ShardEngine

    engine = ShardEngine(server_flags(model_dir, device, length + DECODED), "sglang_glm52.models")
    model = engine.runner.model
    match_tokens(model, model.arch)
    model.post_load_weights()
    last: list[torch.Tensor] = []
    model.model.layers[0].self_attn.indexer.register_forward_hook(lambda *call: last.__setitem__(slice(None), call[2:]))

    prompt, needles, depths = make_prompt(engine.vocab_size, length, num_needles)
    batch, _ = engine.prefill([prompt])
    table = engine.runner.req_to_token_pool.req_to_token[batch.reqs[0].req_pool_idx]
    # SGLang's top-k turns positions into cache slots, this package's torch backend does not.
    wanted = (table[torch.tensor(depths, device=table.device)] if device == "cuda" else torch.tensor(depths)).tolist()
    rows = last[0][-num_needles:].tolist()
    found = {
        "device": str(last[0].device),
        "indexer": type(model.model.layers[0].self_attn.indexer).__name__,
        "topk": len(rows[0]),
        "depths": depths,
        "missed": [depths[i] for i in range(num_needles) if wanted[i] not in rows[i]],
        "seen_by_others": sum(wanted[i] in rows[i - 1] for i in range(num_needles)),
        "missed_in_decode": [],
    }
    for i in range(0, num_needles, num_needles // DECODED):
        engine.decode(batch, torch.tensor([needles[i]], device=last[0].device))
        if wanted[i] not in last[0][0].tolist():
            found["missed_in_decode"].append(depths[i])
    print(json.dumps(found))


def server_flags(model_dir: str, device: str, length: int) -> list[str]:
    flags = ["--model-path", model_dir, "--load-format", "dummy", "--device", device, "--random-seed", "1"]
    flags += ["--max-total-tokens", str(length + 256), "--context-length", str(length + 64), "--log-level", "error"]
    flags += ["--max-running-requests", "2", "--skip-tokenizer-init", "--disable-cuda-graph"]
    if device == "cpu":
        return [*flags, "--dtype", "float32", "--chunked-prefill-size", "512"]
    return [*flags, "--kv-cache-dtype", "fp8_e4m3", "--chunked-prefill-size", "8192", "--disable-piecewise-cuda-graph"]


def write_config(folder: Path, preset: str, **overrides: object) -> Path:
    """The config.json of a model of one layer; its weights are made when it is loaded."""
    from sglang_glm52.tiny.presets import make_config

    one_layer = {"num_hidden_layers": 1, "first_k_dense_replace": 1, "num_nextn_predict_layers": 0}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(make_config(preset, one_layer | overrides)))
    return folder


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
