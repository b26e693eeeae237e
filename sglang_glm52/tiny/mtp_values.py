"""The numbers in a random checkpoint whose MTP layer is right about a set share of tokens (see `mtp_code.py`).

It is the checkpoint without that, but for CODE_SIZE + 1 channels of the residual stream that no layer writes:

- the code: an embedding holds its token's signs; a row of lm_head holds, times `gain`, the signs of the token before.
  After any token its successor therefore has the largest logit, by as much as the other channels never reach.
- the flag: 1 in the embeddings of misled tokens, else 0. `eh_proj` copies the embedding's code and adds MISLED times
  the decoy's for a flag of 1.

All other channels are what they were, so the probabilities of other tokens still depend on the whole context.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch

from sglang_glm52.arch import Glm52Arch
from sglang_glm52.errors import ConfigError
from sglang_glm52.tiny.mtp_code import CODE_SIZE, MtpCode
from sglang_glm52.tiny.values import GAINS, Values

FLAG = 1  # channel; 0 is the constant
CODE = slice(2, 2 + CODE_SIZE)
MISLED = 2.0
SIGMAS = 6.0
ROUNDING = 1.02  # bf16 rounds the gain by 0.4 % at most, and activations as much
_ACTIVATION_STD = 0.6  # of silu(g) * u, where g and u are standard normal


@dataclass(frozen=True)
class CodedValues:
    """`Values` with the code. `tensor` is all that a checkpoint is made from."""

    plain: Values
    code: MtpCode

    @classmethod
    def make(cls, plain: Values, acceptance: float) -> CodedValues:
        """For a model whose MTP layer predicts the greedy token with probability `acceptance`.

        Raises:
            ConfigError: see `MtpCode.make`; or the model has no MTP layer, or is too narrow.
        """
        arch = plain.arch
        if arch.num_mtp_layers == 0:
            raise ConfigError("num_nextn_predict_layers is 0: a model without an MTP layer has no MTP acceptance")
        if arch.hidden_size < 2 * CODE_SIZE:
            least = 2 * CODE_SIZE  # half of it may be the code
            raise ConfigError(f"with an MTP acceptance hidden_size must be at least {least}, got {arch.hidden_size}")
        on_cpu = replace(plain, device="cpu")  # the code is the same wherever weights are drawn
        return cls(plain, MtpCode.make(on_cpu.noise, arch.vocab_size, acceptance))

    def tensor(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Checkpoint tensor `name`: bf16, the router's correction bias float32."""
        weight = self.plain.tensor(name, shape)
        kind = name.removesuffix(".weight").rsplit(".", 1)[-1]
        if kind in ("norm", "enorm"):
            weight[FLAG] = weight[CODE] = 1.0
        elif kind in ("o_proj", "down_proj"):
            weight[FLAG] = weight[CODE] = 0.0
        elif kind == "embed_tokens":
            weight[:, FLAG] = self._flags()
            weight[:, CODE] = self.code.signs
        elif kind == "eh_proj":
            weight[FLAG] = weight[CODE] = 0.0
            weight[CODE, CODE] = torch.eye(CODE_SIZE)
            weight[CODE, FLAG] = MISLED * self.code.signs[self.code.decoy]
        elif kind == "lm_head":
            weight[:, FLAG] = 0.0
            weight[:, CODE] = self.gain * self._head_signs()
        return weight

    @cached_property
    def gain(self) -> float:
        """The least that lets the code decide every argmax of both models, with ROUNDING to spare.

        In units of the code's channels, the residual stream is the embedding plus noise that the layers add. A logit is
        gain * signal + known + noise: what the code and what the rest of the embedding gives, and the layers' part.
        """
        return ROUNDING * max(self._target_gain(), self._draft_gain())

    def _target_gain(self) -> float:
        embeddings, head = self._embeddings(), self._noise_head("model.norm")  # the head has zeros for code and flag
        signal = self.code.signs @ self._head_signs().T
        return _least_gain(signal, self.code.successor, embeddings @ head.T, head, layers_std(self.plain.arch))

    def _draft_gain(self) -> float:
        embeddings, mtp = self._embeddings(), f"model.layers.{self.plain.arch.num_layers}"
        head = self._noise_head(f"{mtp}.shared_head.norm")
        misleading = MISLED * self._flags().unsqueeze(1) * self.code.signs[self.code.decoy]
        signal = (self.code.signs + misleading) @ self._head_signs().T
        constant = embeddings[:, :1] * self._norm(f"{mtp}.enorm")[0]  # eh_proj's weight for it is 1
        rms = float(embeddings.square().mean(1).max().sqrt())  # enorm divides by it; then eh_proj adds noise of size 1
        std = rms * (1.0 + _moe_std(self.plain.arch) ** 2) ** 0.5
        return _least_gain(signal, self.code.drafted, constant @ head[:, :1].T, head, std)

    def _flags(self) -> torch.Tensor:
        flags = [float(token in self.code.misled) for token in range(len(self.code.successor))]
        return torch.tensor(flags, dtype=torch.float32)

    def _head_signs(self) -> torch.Tensor:
        return self.code.signs[self.code.predecessor]

    def _embeddings(self) -> torch.Tensor:
        shape = (self.plain.arch.vocab_size, self.plain.arch.hidden_size)
        return self.tensor("model.embed_tokens.weight", shape).float().cpu()

    def _norm(self, name: str) -> torch.Tensor:
        return self.tensor(f"{name}.weight", (self.plain.arch.hidden_size,)).float().cpu()

    def _noise_head(self, norm: str) -> torch.Tensor:
        """[vocab_size, hidden_size] from the residual stream to logits, without code and flag."""
        shape = (self.plain.arch.vocab_size, self.plain.arch.hidden_size)
        head = self.plain.tensor("lm_head.weight", shape).float().cpu() * self._norm(norm)
        head[:, FLAG] = head[:, CODE] = 0.0
        return head


def layers_std(arch: Glm52Arch) -> float:
    """Standard deviation of what all layers together add to a channel of the residual stream, at most."""
    num_moe = arch.num_layers - arch.num_dense_layers
    dense = GAINS["o_proj"] ** 2 + (GAINS["down_proj"] * _ACTIVATION_STD) ** 2
    return (arch.num_dense_layers * dense + num_moe * _moe_std(arch) ** 2) ** 0.5


def _moe_std(arch: Glm52Arch) -> float:
    """Of one MoE layer: attention averages values of size 1, and experts, if they all agree, add up to the scale."""
    experts = arch.routed_scaling_factor**2 + arch.num_shared_experts
    return (GAINS["o_proj"] ** 2 + (GAINS["down_proj"] * _ACTIVATION_STD) ** 2 * experts) ** 0.5


def _least_gain(
    signal: torch.Tensor, winners: tuple[int, ...], known: torch.Tensor, noise_head: torch.Tensor, std: float
) -> float:
    """The gain at which every row's winner leads by SIGMAS; signal and known are [rows, vocab_size]."""
    rows, best = torch.arange(len(winners)), torch.tensor(winners)
    lead = signal[rows, best].unsqueeze(1) - signal
    noise = std * torch.cdist(noise_head, noise_head)[best]
    needed = SIGMAS * noise + known - known[rows, best].unsqueeze(1)
    lead[rows, best] = 1.0  # a winner need not beat itself
    assert (lead > 0).all(), f"the code of token {int((lead <= 0).any(dim=1).nonzero()[0])} does not lead"
    return float((needed / lead).max())
