"""Repairs of Triton's interpreter: it rounds to bf16 and FP8 wrongly, multiplies bf16 as integers, and fuses no fma."""

from __future__ import annotations

import os

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter

IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
TORCH = {
    tl.float8e4nv: torch.float8_e4m3fn,
    tl.bfloat16: torch.bfloat16,
    tl.float16: torch.float16,
    tl.float32: torch.float32,
}
BITS = {1: torch.uint8, 2: torch.uint16, 4: torch.uint32}  # an array holds such bits


def repair() -> None:
    interpreter._convert_float = convert
    interpreter.InterpreterBuilder.create_dot = dot
    interpreter.InterpreterBuilder.create_fma = fma


def convert(array: np.ndarray, source: tl.dtype, target: tl.dtype, rounding: object) -> np.ndarray:
    """Bits of one float type -> those of another, to the nearest, ties to even; FP8 saturates."""
    source, target = TORCH[source], TORCH[target]
    bits = np.ascontiguousarray(array).view(f"uint{8 * source.itemsize}").copy()
    values = torch.from_numpy(bits).view(source)
    if target == torch.float8_e4m3fn:
        values = values.clamp(-448, 448)
    return values.to(target).view(BITS[target.itemsize]).numpy()


def dot(builder: object, a: object, b: object, c: object, precision: object, max_imprecise: object) -> object:
    product = np.matmul(as_float32(a), as_float32(b))
    return interpreter.TensorHandle(product + c.data, c.dtype.scalar)


def as_float32(operand: object) -> np.ndarray:
    return convert(operand.data, operand.dtype.scalar, tl.float32, None).view(np.float32)


def fma(builder: object, x: object, y: object, z: object) -> object:
    """x * y is exact in float64."""
    exact = x.data.astype(np.float64) * y.data + z.data
    return interpreter.TensorHandle(exact.astype(x.data.dtype), x.dtype.scalar)
