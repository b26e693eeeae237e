"""The numbers in a random checkpoint: seeded noise, arranged so that the model behaves like a trained one.

Plain noise would be useless for comparing implementations: its indexer would pick positions that its attention cares no
more about than others, and a rounding difference that swaps two nearly equal index scores would change every later
token. Three things are therefore arranged:

- The indexer looks for what attention looks for: one "lookup" is the rotary query of all attention heads and of the
  leading index head, and the rotary keys of both are the same. The last selected position then has next to no weight.
- Layers that share a selection use the lookup of the layer that makes it.
- Channel 0 of the residual stream is a constant: embeddings set it, no layer writes it, and two matrices read it. It
  makes the indexer's head weights positive, and printable text more likely than other tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.models.weights import layer_of
from sglang_glm52.tiny.tokenizer import NUM_BYTES

CONSTANT = 4.0  # channel 0, where the other channels have standard deviation 1
LOOKUP_STD, NOPE_STD = 4.0, 0.7  # of the two parts of an attention score: a few positions get most of the weight
OTHER_HEADS = 0.03  # weight of the index heads that do not lead: they keep the scores of unlikely positions apart
LOGIT_STD = 2.0
TEXT_BONUS = 0.7  # times the constant, by then about 3: a printable byte is e^4 times as likely as another token
ROUTER_BIAS = 4.0  # the same for all experts changes no choice, but a bias rounded to bf16 changes many
PRINTABLE = (0x0A, *range(0x20, 0x7F))
# Standard deviation times sqrt(inputs); 1 keeps the size of what comes in.
GAINS = {"gate": 1.5, "o_proj": 0.35, "down_proj": 0.25}


@dataclass(frozen=True, slots=True)
class Values:
    """All tensors of one checkpoint; each depends on its name and the seed alone, not on what else was made before."""

    arch: Glm52Arch
    seed: int
    device: str = "cpu"  # where they are drawn; a GPU draws other numbers

    def tensor(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Checkpoint tensor `name`: bf16, the router's correction bias float32."""
        if name.endswith("e_score_correction_bias"):
            return ROUTER_BIAS + 0.03 * self.noise(name, *shape)
        if len(shape) == 1:  # norms around 1, biases around 0
            return (float(name.endswith("weight")) + 0.1 * self.noise(name, *shape)).bfloat16()
        kind = name.removesuffix(".weight").rsplit(".", 1)[-1]
        return _BY_KIND.get(kind, _linear)(self, name, shape).bfloat16()

    def noise(self, key: str, *shape: int) -> torch.Tensor:
        """Standard normal float32."""
        digest = hashlib.sha256(f"{self.seed}:{key}".encode()).digest()
        generator = torch.Generator(self.device).manual_seed(int.from_bytes(digest[:7], "little"))
        return torch.randn(shape, generator=generator, dtype=torch.float32, device=self.device)

    def matrix(self, key: str, *shape: int) -> torch.Tensor:
        """[..., inputs] with outputs of the size of the inputs."""
        return self.noise(key, *shape) * shape[-1] ** -0.5

    def selecting_layer(self, name: str) -> int:
        """The layer whose selection the layer of tensor `name` uses."""
        layer = layer_of(name)
        if layer < self.arch.num_layers:
            while self.arch.indexer_types[layer] == "shared":
                layer -= 1
        return layer

    def lookup(self, name: str, part: str, inputs: int) -> torch.Tensor:
        """The lookup's rotary "query" or "key" for the layer of tensor `name`, [rope, inputs]."""
        return self.matrix(f"lookup_{part}.{self.selecting_layer(name)}", self.arch.qk_rope_head_dim, inputs)


def _linear(values: Values, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    kind = name.removesuffix(".weight").rsplit(".", 1)[-1]
    weight = values.matrix(name, *shape) * GAINS.get(kind, 1.0)
    if kind in ("o_proj", "down_proj"):
        weight[0] = 0.0  # writes to the residual stream
    elif shape[1] == values.arch.hidden_size:
        weight[:, 0] = 0.0  # reads it
    return weight


def _embed_tokens(values: Values, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    weight = values.noise(name, *shape)
    weight[:, 0] = CONSTANT
    return weight


def _lm_head(values: Values, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    weight = LOGIT_STD * values.matrix(name, *shape)
    weight[:, 0] = -TEXT_BONUS
    weight[[token for token in PRINTABLE if token < NUM_BYTES], 0] = TEXT_BONUS
    return weight


def _eh_proj(values: Values, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    weight = values.matrix(name, *shape)
    weight[0] = weight[:, 0] = weight[:, shape[0]] = 0.0
    weight[0, 0] = 1.0  # the embedding's constant
    return weight


def _q_a_proj(values: Values, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    weight = values.matrix(f"q_a_proj.{values.selecting_layer(name)}", *shape)
    weight[:, 0] = 0.0
    return weight


def _q_b_proj(values: Values, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    arch = values.arch
    nope, rope = arch.qk_nope_head_dim, arch.qk_rope_head_dim
    # A sum of n products has standard deviation sqrt(n), and attention divides by sqrt(nope + rope).
    q_nope = values.matrix(name, arch.num_heads, nope, shape[1]) * NOPE_STD * (arch.qk_head_dim / nope) ** 0.5
    q_rope = values.lookup(name, "query", shape[1]) * LOOKUP_STD * (arch.qk_head_dim / rope) ** 0.5
    return torch.cat([q_nope, q_rope.expand(arch.num_heads, -1, -1)], dim=1).flatten(0, 1)


def _kv_a_proj(values: Values, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    weight = torch.cat([values.matrix(name, values.arch.kv_lora_rank, shape[1]), values.lookup(name, "key", shape[1])])
    weight[:, 0] = 0.0
    return weight


def _wq_b(values: Values, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    arch = values.arch
    weight = values.matrix(name, arch.index_num_heads, arch.index_head_dim, shape[1])
    weight[0] *= 0.3  # what is not rotated adds a little to the lookup
    weight[0, : arch.qk_rope_head_dim] = values.lookup(name, "query", shape[1])
    return weight.flatten(0, 1)


def _wk(values: Values, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    rope = values.arch.qk_rope_head_dim
    weight = torch.cat([values.lookup(name, "key", shape[1]), values.matrix(name, shape[0] - rope, shape[1])])
    weight[:, 0] = 0.0
    return weight


def _weights_proj(values: Values, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    weight = 0.5 * values.matrix(name, *shape)
    weight[:, 0] = 1.0
    weight[1:] *= OTHER_HEADS
    return weight


_BY_KIND: dict[str, Callable[[Values, str, tuple[int, ...]], torch.Tensor]] = {
    "embed_tokens": _embed_tokens,
    "lm_head": _lm_head,
    "eh_proj": _eh_proj,
    "q_a_proj": _q_a_proj,
    "q_b_proj": _q_b_proj,
    "kv_a_proj_with_mqa": _kv_a_proj,
    "wq_b": _wq_b,
    "wk": _wk,
    "weights_proj": _weights_proj,
}
