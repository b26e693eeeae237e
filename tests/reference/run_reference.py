"""Log-probabilities of the transformers implementation, for an interpreter that has it (made by `make test`).

    python run_reference.py CHECKPOINT PROMPTS.json OUT.npz DTYPE

PROMPTS.json is a list of lists of token ids. OUT.npz gets one float32 array [len(prompt), vocab_size] a prompt, named
by its index: row i holds the log-probabilities of what follows token i, computed in DTYPE (float32, bfloat16).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import GlmMoeDsaConfig, GlmMoeDsaForCausalLM


def load(checkpoint: str, dtype: str) -> GlmMoeDsaForCausalLM:
    """The model in `dtype`; RuntimeError if it is not the one that the checkpoint describes."""
    config = GlmMoeDsaConfig.from_pretrained(checkpoint)
    model, info = GlmMoeDsaForCausalLM.from_pretrained(
        checkpoint, config=config, dtype=getattr(torch, dtype), attn_implementation="eager", output_loading_info=True
    )
    _check(model, json.loads(Path(checkpoint, "config.json").read_text()), info)
    for layer in model.model.layers:
        # This release leaves the latent norms at their default epsilon; the model was trained with the config's
        # (https://github.com/huggingface/transformers/issues/48762).
        for norm in (layer.self_attn.q_a_layernorm, layer.self_attn.kv_a_layernorm):
            norm.variance_epsilon = config.rms_norm_eps
    return model.eval()


def _check(model: GlmMoeDsaForCausalLM, raw: dict, info: dict) -> None:
    """transformers only warns where it fills a tensor at random or drops one, and reads `head_dim` in some releases."""
    mtp = f"model.layers.{raw['num_hidden_layers']}."  # it has no MTP layer
    unread = [name for name in info["unexpected_keys"] if not name.startswith(mtp)]
    if info["missing_keys"] or info["mismatched_keys"] or unread:
        raise RuntimeError(f"tensors do not fit the model: {info}")
    rotated = 2 * model.model.rotary_emb.inv_freq.numel()
    if rotated != raw["qk_rope_head_dim"]:
        raise RuntimeError(f"{rotated} dimensions are rotated, config.json says {raw['qk_rope_head_dim']}")
    types = ["shared" if layer.self_attn.indexer is None else "full" for layer in model.model.layers]
    if types != raw["indexer_types"]:
        raise RuntimeError(f"indexers are {types}, config.json says {raw['indexer_types']}")


def main(checkpoint: str, prompts_file: str, out: str, dtype: str) -> None:
    model = load(checkpoint, dtype)
    with open(prompts_file) as file:
        prompts = json.load(file)
    with torch.no_grad():
        logits = [model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0] for prompt in prompts]
    np.savez(out, **{str(i): row.float().log_softmax(-1).numpy() for i, row in enumerate(logits)})


if __name__ == "__main__":
    main(*sys.argv[1:])
