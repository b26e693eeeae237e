"""What the experts' products read: int4 weights in the checkpoint's order, scales group by group."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sglang_glm52.formats.int4_group import GROUP


@dataclass(frozen=True, slots=True)
class ExpertWeights:
    """The experts of one layer on one rank. hidden and inner are multiples of 128; ValueError for other shapes."""

    w13: torch.Tensor  # [num_experts, 2 * inner, hidden / 2] int8, gate rows then up rows, packed by `pack_int4`
    scale13: torch.Tensor  # [num_experts, hidden / 128, 2 * inner] bf16, may be negative; multiplies
    w2: torch.Tensor  # [num_experts, hidden, inner / 2] int8
    scale2: torch.Tensor  # [num_experts, inner / 128, hidden] bf16

    def __post_init__(self) -> None:
        if self.w2.dim() != 3 or self.hidden % GROUP or self.inner % GROUP or not self.inner:
            raise ValueError(
                f"w2 has shape {tuple(self.w2.shape)}; expected [experts, hidden, inner / 2] with hidden and inner "
                f"multiples of {GROUP}"
            )
        experts, hidden, inner = self.num_experts, self.hidden, self.inner
        expected = {
            "w13": ((experts, 2 * inner, hidden // 2), torch.int8),
            "scale13": ((experts, hidden // GROUP, 2 * inner), torch.bfloat16),
            "w2": ((experts, hidden, inner // 2), torch.int8),
            "scale2": ((experts, inner // GROUP, hidden), torch.bfloat16),
        }
        for name, (shape, dtype) in expected.items():
            _check(name, getattr(self, name), shape, dtype, self.w2.device)

    @property
    def num_experts(self) -> int:
        return self.w2.shape[0]

    @property
    def hidden(self) -> int:
        return self.w2.shape[1]

    @property
    def inner(self) -> int:
        return self.w2.shape[2] * 2


@dataclass(frozen=True, slots=True)
class StaticScales:
    """Activation scales that are the same for all tokens: float32 tensors of one element on the weights' device."""

    x: torch.Tensor  # of the op's input
    h: torch.Tensor  # of silu(gate) * up

    def __post_init__(self) -> None:
        for name in ("x", "h"):
            scale = getattr(self, name)
            if scale.numel() != 1 or scale.dtype != torch.float32:
                raise ValueError(f"static scale {name} is one float32, got {scale.dtype} {tuple(scale.shape)}")


def _check(name: str, tensor: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    if tuple(tensor.shape) != shape or tensor.dtype != dtype or tensor.device != device:
        raise ValueError(
            f"{name} is {tensor.dtype} {tuple(tensor.shape)} on {tensor.device}; expected {dtype} {shape} on {device}"
        )
    if not tensor.is_contiguous():
        raise ValueError(f"{name} has strides {tensor.stride()}; expected a contiguous tensor of shape {shape}")
