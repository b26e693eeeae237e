"""int4 groups: 4-bit weights with one bf16 scale for each 128 inputs of an output row, `w ~ q * scale`, q in [-8, 7].

Two values share a byte. Nothing is added to q, so zero stays zero. A scale may be negative: the grid reaches 8 steps
one way and 7 the other, and the sign decides which. A group of zeros has scale 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

GROUP = 128
INT4_MIN, INT4_MAX = -8, 7
# Sizes a scale may have. Below the smallest normal number it would lose bits and w / scale could overflow; above an
# eighth of the largest bf16, q = -8 would dequantise to infinity (so weights beyond 3.1e38 may be clipped).
SMALLEST_SCALE = torch.finfo(torch.bfloat16).tiny
LARGEST_SCALE = torch.finfo(torch.bfloat16).max / -INT4_MIN
# Tried by `mse`. `python -m sglang_glm52.formats.int4_error` prints what more of them would gain.
SHRINK = (1.0, 0.96, 0.92, 0.88, 0.84, 0.80)
# Elements worked on at a time. On a CPU the float32 temporaries then stay in its cache, on a GPU they fill it.
_CPU_CHUNK, _GPU_CHUNK = 1 << 19, 1 << 25
NOT_FINITE = "the weight holds NaN or values beyond float32's range; repair the checkpoint"
_NO_REDUCTION = 0  # of `aten::mse_loss`


class Int4Group(NamedTuple):
    """A quantised matrix [out, in]."""

    packed: torch.Tensor  # [out, in / 2] int8, see `pack_int4`
    scale: torch.Tensor  # [out, in / 128] bfloat16


# [rows, groups of a row, 128] float32, finite -> q of that shape, integers in [-8, 7] in any dtype, and float32 scales
# [rows, groups of a row] that bf16 holds exactly. Rows must not influence each other: they come in chunks.
Method = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def quantize_int4_group(weight: torch.Tensor, method: str | Method = "mse") -> Int4Group:
    """Quantise a matrix, computed in float32.

    Args:
        weight: [out, in], any float dtype, any strides, finite, `in` a multiple of 128.
        method: a name in METHODS, or a function like those (one with calibration data bound to it, say).

    Returns:
        New tensors on the device of `weight`. A row's result does not depend on the other rows.

    Raises:
        ValueError: the weight is not as described, or no method has that name.
    """
    check_weight(weight)
    if isinstance(method, str) and method not in METHODS:
        raise ValueError(f"unknown int4 method {method!r}; choose one of {', '.join(METHODS)}")
    quantize = METHODS[method] if isinstance(method, str) else method
    rows, cols = weight.shape
    packed = torch.empty(rows, cols // 2, dtype=torch.int8, device=weight.device)
    scale = torch.empty(rows, cols // GROUP, dtype=torch.bfloat16, device=weight.device)
    for part in row_chunks(weight):
        groups = as_groups(weight[part])
        if not torch.stack((groups.amax(-1), groups.amin(-1))).isfinite().all():  # 4 times faster than on all values
            raise ValueError(NOT_FINITE)
        q, scale[part] = quantize(groups)
        packed[part] = pack_int4(q.flatten(1).to(torch.int8))
    return Int4Group(packed, scale)


class GroupSearch:
    """Tries scales on a chunk of groups, see `Method` for its shape. Two buffers of that size serve all tries."""

    def __init__(self, groups: torch.Tensor) -> None:
        self._groups = groups
        self._above, self._below = groups.amax(-1), -groups.amin(-1)
        self._q, self._rest = torch.empty_like(groups), torch.empty_like(groups)
        self._q_scale: torch.Tensor | None = None  # the one that `_q` was rounded with
        # Smallest scales at which nothing is clipped: the positive one, and that of either sign.
        positive = torch.maximum(self._above / INT4_MAX, self._below / -INT4_MIN)
        negative = torch.minimum(self._below / -INT4_MAX, self._above / INT4_MIN)
        self._tightest = torch.where(self._above > self._below, negative, positive)
        self._positive = _round_scale(positive)

    def is_finite(self) -> torch.Tensor:
        """Whether all values are, a bool of no dimension on their device; 4 times faster than looking at each."""
        return torch.stack((self._above, self._below)).isfinite().all()

    def rtn_scale(self) -> torch.Tensor:
        return self._positive

    def mse_scale(self, shrink: Sequence[float] = SHRINK) -> torch.Tensor:
        first = best = self._positive
        least = self._squared_steps(first)
        for factor in shrink:
            scale = _round_scale(self._tightest * factor)
            # In units of the first scale, whose own square can overflow or vanish.
            error = self._squared_steps(scale) * (scale / first).square()
            better = error < least
            least, best = torch.where(better, error, least), torch.where(better, scale, best)
        return best

    def round(self, scale: torch.Tensor) -> torch.Tensor:
        """q = round(w / scale) within [-8, 7] as float32, good until the next call of a method."""
        if self._q_scale is not scale:
            torch.div(self._groups, scale[..., None], out=self._q).round_().clamp_(INT4_MIN, INT4_MAX)
            self._q_scale = scale
        return self._q

    def squared_error(self, scale: torch.Tensor) -> torch.Tensor:
        """Sum of (w - q * scale)^2, see `squared_sum`; q * scale is exact in float32."""
        q = self.round(scale)
        return squared_sum(torch.addcmul(self._groups, q, scale[..., None], value=-1, out=self._rest))

    def _squared_steps(self, scale: torch.Tensor) -> torch.Tensor:
        """Sum over each group of (w / scale - q)^2."""
        torch.div(self._groups, scale[..., None], out=self._rest)
        if self._q_scale is not scale:
            torch.round(self._rest, out=self._q).clamp_(INT4_MIN, INT4_MAX)
            self._q_scale = scale
        torch.ops.aten.mse_loss.out(self._rest, self._q, _NO_REDUCTION, out=self._rest)  # one pass for two
        return self._rest.sum(-1)


def rtn(groups: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round to nearest: scale = max(max(w) / 7, -min(w) / 8), the smallest positive one at which nothing is clipped.

    Hence |w - q * scale| <= scale / 2, bf16 rounding of the scale included. See `Method` for shapes.
    """
    search = GroupSearch(groups)
    scale = search.rtn_scale()
    return search.round(scale), scale


def mse(groups: torch.Tensor, shrink: Sequence[float] = SHRINK) -> tuple[torch.Tensor, torch.Tensor]:
    """The scale with the least sum of (w - q * scale)^2: that of `rtn`, or one that is smaller or negative.

    The others are the smallest unclipped scale of either sign, times each factor of `shrink`: clipping a few large
    values a little costs less than rounding all others coarsely. See `Method` for shapes.
    """
    search = GroupSearch(groups)
    scale = search.mse_scale(shrink)
    return search.round(scale), scale


METHODS: dict[str, Method] = {"rtn": rtn, "mse": mse}


def dequantize_int4_group(
    packed: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """[out, in / 2] int8 and [out, in / 128] float32 or bf16 -> [out, in] in `dtype`, computed in float32.

    Raises:
        ValueError: the scales are not those of a matrix of this shape, or `packed` is no int8 matrix.
    """
    if packed.dim() != 2 or packed.dtype != torch.int8:
        raise ValueError(f"packed int4 is int8 [out, in / 2], got {packed.dtype} {tuple(packed.shape)}")
    rows, half = packed.shape
    if half * 2 % GROUP or tuple(scale.shape) != (rows, half * 2 // GROUP):
        raise ValueError(
            f"int4 packed as {tuple(packed.shape)} has one scale for {GROUP} inputs, shape "
            f"({rows}, {2 * half / GROUP:g}), got {tuple(scale.shape)}; take both tensors from the same checkpoint"
        )
    groups = unpack_int4(packed).unflatten(1, (half * 2 // GROUP, GROUP))
    return (groups.float() * scale.float()[..., None]).flatten(1).to(dtype)


def pack_int4(q: torch.Tensor) -> torch.Tensor:
    """[..., k] int8 in [-8, 7] -> [..., k / 2] int8: element 2i in the low nibble of byte i, 2i + 1 in the high one.

    Raises:
        ValueError: k is odd or the dtype another; values out of range lose their upper bits.
    """
    if q.dtype != torch.int8 or q.dim() == 0 or q.shape[-1] % 2:
        raise ValueError(f"int4 is packed two by two from int8 [..., even], got {q.dtype} {tuple(q.shape)}; pad it")
    pairs = q.flatten().view(torch.int16)  # little endian: the even element is the low byte
    packed = ((pairs & 0x0F) | ((pairs >> 4) & 0xF0)).to(torch.uint8).view(torch.int8)
    return packed.view(*q.shape[:-1], q.shape[-1] // 2)


def unpack_int4(packed: torch.Tensor) -> torch.Tensor:
    """[..., k / 2] int8 -> [..., k] int8 in [-8, 7], the inverse of `pack_int4`; ValueError for another dtype."""
    if packed.dtype != torch.int8 or packed.dim() == 0:
        raise ValueError(f"packed int4 is int8 [..., k / 2], got {packed.dtype} {tuple(packed.shape)}")
    return torch.stack(((packed << 4) >> 4, packed >> 4), dim=-1).flatten(-2)  # `>>` copies the sign bit


@dataclass(frozen=True, slots=True)
class WeightError:
    """Sums over all elements of one tensor, or by `+` of several."""

    squared_error: float  # of (w - dequantised)^2
    squared_weight: float  # of w^2

    @property
    def relative(self) -> float:
        """sqrt(squared_error / squared_weight); without any weight 0, or infinity if there is an error."""
        if self.squared_weight == 0:
            return math.inf if self.squared_error else 0.0
        return math.sqrt(self.squared_error / self.squared_weight)

    def __add__(self, other: WeightError) -> WeightError:
        return WeightError(self.squared_error + other.squared_error, self.squared_weight + other.squared_weight)


def weight_error(weight: torch.Tensor, packed: torch.Tensor, scale: torch.Tensor) -> WeightError:
    """Hold a matrix [out, in] against its int4 form: differences in float32, sums in float64.

    Raises:
        ValueError: the three shapes do not belong together.
    """
    if (*packed.shape[:-1], packed.shape[-1] * 2) != tuple(weight.shape):
        raise ValueError(f"int4 packed as {tuple(packed.shape)} is not a weight of shape {tuple(weight.shape)}")
    total = WeightError(0.0, 0.0)
    for part in row_chunks(weight):
        exact = weight[part].float()
        error = exact - dequantize_int4_group(packed[part], scale[part])
        total += WeightError(*(values.double().square_().sum().item() for values in (error, exact)))
    return total


def squared_sum(values: torch.Tensor) -> torch.Tensor:
    """Sum of the squares to 1e-15, of no dimension and on their device; half the traffic of squaring first."""
    return torch.linalg.vector_norm(values, dtype=torch.float64).square()


def as_groups(weight: torch.Tensor) -> torch.Tensor:
    """A matrix as a `Method` takes it."""
    return weight.float().contiguous().unflatten(1, (weight.shape[1] // GROUP, GROUP))


def check_weight(weight: torch.Tensor) -> None:
    """ValueError if this is no matrix that int4 groups can be made from; its values are not looked at."""
    if weight.dim() != 2:
        raise ValueError(f"int4 groups need a matrix [out, in], got shape {tuple(weight.shape)}")
    if not weight.is_floating_point():
        raise ValueError(f"int4 groups are made from a float weight, got {weight.dtype}; is it quantised already?")
    if weight.shape[1] % GROUP:
        raise ValueError(
            f"the input dimension must be a multiple of {GROUP}, got {weight.shape[1]}; keep this tensor unquantised"
        )


def row_chunks(weight: torch.Tensor) -> Iterator[slice]:
    """Row ranges of about one chunk each."""
    rows, cols = weight.shape
    step = max(1, (_GPU_CHUNK if weight.is_cuda else _CPU_CHUNK) // max(cols, 1))
    return (slice(first, first + step) for first in range(0, rows, step))


def _round_scale(scale: torch.Tensor) -> torch.Tensor:
    """The nearest usable bf16, as float32; 1 for 0."""
    size = scale.abs().clamp(SMALLEST_SCALE, LARGEST_SCALE)
    return torch.where(scale == 0, 1.0, size.copysign(scale).bfloat16().float())
