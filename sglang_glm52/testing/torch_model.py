"""GLM-5.2 and its MTP layer in plain float32 torch: what an engine's numbers are held to.

A whole sequence at a time, without a cache: a layer reads all rows and returns those from `first_row` on. Selections
are masks, [rows, positions] bool. No code is shared with `models/` and `attention/`, which this is to check.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.testing.torch_weights import read_weights

INDEX_KEY_NORM_EPS = 1e-6
CHUNK = 256  # query rows attended at a time


@dataclass(frozen=True, slots=True)
class TorchGlm52:
    """The target model (`target`) and its draft model (`mtp`, `draft_round`)."""

    arch: Glm52Arch
    weights: dict[str, torch.Tensor]  # float32, by checkpoint name

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> TorchGlm52:
        """Read a small BF16, FP8 or W4AFP8 checkpoint folder into memory."""
        return cls(Glm52Arch.from_checkpoint(path), read_weights(path))

    @torch.no_grad()
    def target(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids [n] -> logits [n, vocab_size], and the hidden states [n, hidden] after the final norm."""
        x, selection = self._embed(ids), None
        for layer in range(self.arch.num_layers):
            is_shared = self.arch.indexer_types[layer] == "shared"
            x, selection = self._layer(layer, x, selection if is_shared else None, 0)
        hidden = self._rms(x, "model.norm")
        return self._linear(hidden, "lm_head"), hidden

    @torch.no_grad()
    def mtp(
        self,
        next_ids: torch.Tensor,
        hidden: torch.Tensor,
        first_row: int = 0,
        selection: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The MTP layer over rows 0 to n - 1; row p stands at position p and predicts token p + 2.

        Args:
            next_ids: [n], token p + 1 in row p.
            hidden: [n, hidden], the target's hidden state of row p (or the MTP layer's own, in a round's later steps).
            first_row: only rows from here on are returned; all of them have keys.
            selection: [n - first_row, n] bool, what those rows attend to; None: what the layer's indexer selects.

        Returns:
            Logits [rows, vocab_size], the hidden states [rows, hidden] after `shared_head.norm`, and the selection.
        """
        layer = self.arch.num_layers
        prefix = f"model.layers.{layer}"
        embedded = self._rms(self._embed(next_ids), f"{prefix}.enorm")
        x = torch.cat([embedded, self._rms(hidden, f"{prefix}.hnorm")], dim=1)
        x, selection = self._layer(layer, self._linear(x, f"{prefix}.eh_proj"), selection, first_row)
        out = self._rms(x, f"{prefix}.shared_head.norm")
        return self._linear(out, "lm_head"), out, selection

    @torch.no_grad()
    def draft_round(self, ids: torch.Tensor, num_steps: int, shares_selection: bool) -> torch.Tensor:
        """What a draft round computes after the committed tokens `ids` and the target's greedy next one.

        The first draft token comes from the MTP layer's row n - 1, each further one from a row more, whose token is the
        previous draft token and whose hidden state is the MTP layer's own of the row before.

        Args:
            ids: [n].
            shares_selection: whether the further rows attend to what row n - 1 selected, else each selects for itself.

        Returns:
            Logits [num_steps, vocab_size]; the draft tokens are their argmax.
        """
        logits, hidden = self.target(ids)
        next_ids = torch.cat([ids[1:], logits[-1:].argmax(dim=1)])
        out, own, selection = self.mtp(next_ids, hidden)
        steps, own, selection = [out[-1]], own[-1:], selection[-1:]
        while len(steps) < num_steps:
            next_ids = torch.cat([next_ids, steps[-1].argmax().view(1)])
            hidden = torch.cat([hidden, own])
            selection = F.pad(selection, (0, 1))  # the new row's position is not in the shared selection
            out, own, _ = self.mtp(next_ids, hidden, len(next_ids) - 1, selection if shares_selection else None)
            steps.append(out[0])
        return torch.stack(steps)

    def _layer(
        self, layer: int, x: torch.Tensor, selection: torch.Tensor | None, first_row: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows [n, hidden] -> rows from `first_row` on, and what they attended to: `selection`, or the indexer's."""
        prefix = f"model.layers.{layer}"
        normed = self._rms(x, f"{prefix}.input_layernorm")
        attended, selection = self._attention(layer, normed, selection, first_row)
        x = x[first_row:] + attended
        normed = self._rms(x, f"{prefix}.post_attention_layernorm")
        feed_forward = self._experts if self.arch.is_moe_layer(layer) else self._mlp
        return x + feed_forward(normed, f"{prefix}.mlp"), selection

    def _attention(
        self, layer: int, x: torch.Tensor, selection: torch.Tensor | None, first_row: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        arch, prefix = self.arch, f"model.layers.{layer}.self_attn"
        positions = torch.arange(len(x))
        q_latent = self._rms(self._linear(x[first_row:], f"{prefix}.q_a_proj"), f"{prefix}.q_a_layernorm")
        if selection is None:
            selection = self._select(f"{prefix}.indexer", x, q_latent, first_row)
        q = self._linear(q_latent, f"{prefix}.q_b_proj").unflatten(1, (arch.num_heads, arch.qk_head_dim))
        q_nope, q_rope = q.split([arch.qk_nope_head_dim, arch.qk_rope_head_dim], dim=-1)
        q_rope = self._rotate(q_rope, positions[first_row:], arch.rope_interleave)
        latent, k_rope = self._linear(x, f"{prefix}.kv_a_proj_with_mqa").split(
            [arch.kv_lora_rank, arch.qk_rope_head_dim], dim=-1
        )
        k_rope = self._rotate(k_rope.unsqueeze(1), positions, arch.rope_interleave)
        kv = self._linear(self._rms(latent, f"{prefix}.kv_a_layernorm"), f"{prefix}.kv_b_proj")
        k_nope, v = kv.unflatten(1, (arch.num_heads, -1)).split([arch.qk_nope_head_dim, arch.v_head_dim], dim=-1)
        q, k = torch.cat([q_nope, q_rope], dim=-1), torch.cat([k_nope, k_rope.expand(-1, arch.num_heads, -1)], dim=-1)
        parts = zip(q.split(CHUNK), selection.split(CHUNK), strict=True)
        out = torch.cat([_attend(rows, k, v, mask) for rows, mask in parts])
        return self._linear(out.flatten(1), f"{prefix}.o_proj"), selection

    def _select(self, prefix: str, x: torch.Tensor, q_latent: torch.Tensor, first_row: int) -> torch.Tensor:
        """The best `index_topk` positions up to each row's own, of equal ones the earliest: [rows, n] bool."""
        arch, rope, positions = self.arch, self.arch.qk_rope_head_dim, torch.arange(len(x))
        q = self._linear(q_latent, f"{prefix}.wq_b").unflatten(1, (arch.index_num_heads, arch.index_head_dim))
        weight, bias = (self.weights[f"{prefix}.k_norm.{part}"] for part in ("weight", "bias"))
        k = F.layer_norm(self._linear(x, f"{prefix}.wk"), (arch.index_head_dim,), weight, bias, INDEX_KEY_NORM_EPS)
        interleave = arch.indexer_rope_interleave
        q = torch.cat([self._rotate(q[..., :rope], positions[first_row:], interleave), q[..., rope:]], dim=-1)
        k_rope = self._rotate(k[:, :rope].unsqueeze(1), positions, interleave).squeeze(1)
        k = torch.cat([k_rope, k[:, rope:]], dim=-1)
        head_weights = self._linear(x[first_row:], f"{prefix}.weights_proj")
        head_weights = head_weights * arch.index_num_heads**-0.5 * arch.index_head_dim**-0.5
        rows = zip(q.split(CHUNK), head_weights.split(CHUNK), positions[first_row:].split(CHUNK), strict=True)
        return torch.cat([self._best(_index_scores(queries, k, part), last) for queries, part, last in rows])

    def _best(self, scores: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        is_visible = torch.arange(scores.shape[1]) <= last.unsqueeze(1)
        order = scores.masked_fill(~is_visible, float("-inf")).argsort(dim=1, descending=True, stable=True)
        chosen = torch.zeros_like(is_visible).scatter_(1, order[:, : self.arch.index_topk], True)
        return chosen & is_visible

    def _experts(self, x: torch.Tensor, prefix: str) -> torch.Tensor:
        scores = self._linear(x, f"{prefix}.gate").sigmoid()
        biased = scores + self.weights[f"{prefix}.gate.e_score_correction_bias"]
        chosen = biased.topk(self.arch.num_experts_per_token, dim=1).indices
        share = torch.zeros_like(scores).scatter_(1, chosen, scores.gather(1, chosen))
        if self.arch.norm_topk_prob:
            share = share / share.sum(dim=1, keepdim=True)
        routed = torch.zeros_like(x)
        for expert in range(self.arch.num_experts):
            rows = share[:, expert].nonzero().squeeze(1)
            routed[rows] += share[rows, expert].unsqueeze(1) * self._mlp(x[rows], f"{prefix}.experts.{expert}")
        return routed * self.arch.routed_scaling_factor + self._mlp(x, f"{prefix}.shared_experts")

    def _mlp(self, x: torch.Tensor, prefix: str) -> torch.Tensor:
        gate, up = (self._linear(x, f"{prefix}.{name}_proj") for name in ("gate", "up"))
        return self._linear(F.silu(gate) * up, f"{prefix}.down_proj")

    def _embed(self, ids: torch.Tensor) -> torch.Tensor:
        return self.weights["model.embed_tokens.weight"][ids]

    def _linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ self.weights[f"{name}.weight"].T

    def _rms(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.arch.rms_norm_eps)

    def _rotate(self, x: torch.Tensor, positions: torch.Tensor, interleave: bool) -> torch.Tensor:
        """Rotary embedding of [rows, heads, rope]; a pair is two neighbours, or one number of each half."""
        dim = x.shape[-1]
        angles = positions.double().unsqueeze(1) * self.arch.rope_theta ** (-torch.arange(0, dim, 2).double() / dim)
        cos, sin = angles.cos().float().unsqueeze(1), angles.sin().float().unsqueeze(1)
        a, b = (x[..., 0::2], x[..., 1::2]) if interleave else x.chunk(2, dim=-1)
        pair = (a * cos - b * sin, b * cos + a * sin)
        return torch.stack(pair, dim=-1).flatten(-2) if interleave else torch.cat(pair, dim=-1)


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """[rows, heads, dim], [n, heads, dim], [n, heads, v], [rows, n] bool -> [rows, heads, v]."""
    scores = torch.einsum("rhd,nhd->hrn", q, k) * q.shape[-1] ** -0.5
    return torch.einsum("hrn,nhv->rhv", scores.masked_fill(~mask, float("-inf")).softmax(dim=-1), v)


def _index_scores(q: torch.Tensor, k: torch.Tensor, head_weights: torch.Tensor) -> torch.Tensor:
    """[rows, heads, dim], [n, dim], [rows, heads] -> [rows, n]."""
    return torch.einsum("rhn,rh->rn", torch.einsum("rhd,nd->rhn", q, k).relu(), head_weights)
