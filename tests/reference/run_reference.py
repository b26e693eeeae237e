"""Log-probabilities of the transformers implementation, for an interpreter that has it (made by `make test`).

    python run_reference.py CHECKPOINT PROMPTS.json OUT.npz

PROMPTS.json is a list of lists of token ids. OUT.npz gets one float32 array [len(prompt), vocab_size] a prompt, named by
its index: row i holds the log-probabilities of what follows token i. Everything is computed in float32.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from transformers import GlmMoeDsaConfig, GlmMoeDsaForCausalLM


def load(checkpoint: str) -> GlmMoeDsaForCausalLM:
    config = GlmMoeDsaConfig.from_pretrained(checkpoint)
    assert config.qk_rope_head_dim == 64, f"rotary dimension {config.qk_rope_head_dim}: overwritten by head_dim"
    model = GlmMoeDsaForCausalLM.from_pretrained(
        checkpoint, config=config, dtype=torch.float32, attn_implementation="eager"
    )
    for layer in model.model.layers:
        # This release leaves the latent norms at their default epsilon; the model was trained with the config's
        # (https://github.com/huggingface/transformers/issues/48762).
        for norm in (layer.self_attn.q_a_layernorm, layer.self_attn.kv_a_layernorm):
            norm.variance_epsilon = config.rms_norm_eps
    return model.eval()


def main(checkpoint: str, prompts_file: str, out: str) -> None:
    model = load(checkpoint)
    with open(prompts_file) as file:
        prompts = json.load(file)
    with torch.no_grad():
        logits = [model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0] for prompt in prompts]
    np.savez(out, **{str(i): row.log_softmax(-1).numpy() for i, row in enumerate(logits)})


if __name__ == "__main__":
    main(*sys.argv[1:])
