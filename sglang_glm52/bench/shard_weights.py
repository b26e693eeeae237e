"""Seeded values for every parameter of a shard, the same for each model class.

The host's dummy values lie within 1e-3 of zero: in FP8 nearly all of them are zeros, every row's hidden state is alike
and all rows pick the same experts. Here each projection keeps its input's variance, so that activations stay near one
through all layers, tokens differ from the embedding on, and the router spreads them over all experts. A value depends
on its parameter's name and shape and on the seed alone.
"""

from __future__ import annotations

import re
import zlib

import torch
from torch import nn

from sglang_glm52.errors import ConfigError

FP8 = torch.float8_e4m3fn
FP8_STD = 64.0  # seven deviations reach e4m3's largest value, 448
INT4_MAX = 7  # -8 stays out: a mean below zero adds up along every row, and all tokens become alike within a few layers
INT4_STD = 4.32  # of the integers -7 to 7, all equally likely: sqrt((15^2 - 1) / 12)
ACTIVATION_SCALE = 0.02  # static FP8 scale of an input of variance one: reaches 448 * 0.02 = 9 deviations
NORM_STD = 0.1
POOL_SIZE = 16_777_213  # bytes; a prime, so that no row, block or expert repeats at a power of two

_SCALE = re.compile(r"_scale(_inv)?$")
_KV_SCALE = re.compile(r"(^|\.)[kv]_scale$")
_NORM = re.compile(r"norm\.(weight|bias)$")


@torch.no_grad()
def fill_weights(model: nn.Module, seed: int) -> None:
    """Overwrite all parameters in place; derived tensors (absorbed projections) must be computed again after it.

    Raises:
        ConfigError: a quantisation scale without the weight it belongs to.
    """
    params = dict(model.named_parameters())
    pools: dict[torch.dtype, torch.Tensor] = {}
    for name, param in params.items():
        if name.endswith("_input_scale") or name.endswith(".input_scale"):
            param.fill_(ACTIVATION_SCALE)
        elif _KV_SCALE.search(name):
            param.fill_(1.0)  # of a KV cache with one scale; this model's has one a token
        elif _SCALE.search(name):
            param.fill_(_weight_scale(name, params))
        elif _is_payload(param):
            if param.dtype not in pools:
                pools[param.dtype] = _payload_pool(param.dtype, param.device, seed)
            _tile(param, pools[param.dtype], first=zlib.crc32(name.encode()) % POOL_SIZE)
        else:
            mean, std = _distribution(name, param)
            param.normal_(mean, std, generator=_generator(param.device, seed, name))


def _distribution(name: str, param: torch.Tensor) -> tuple[float, float]:
    """Mean and deviation of an unquantised parameter."""
    if _NORM.search(name):
        return (1.0, NORM_STD) if name.endswith("weight") else (0.0, NORM_STD)
    if name.endswith("e_score_correction_bias"):
        return 0.0, 0.0  # a bias would favour the same experts for every token
    if name.endswith("embed_tokens.weight"):
        return 0.0, 1.0
    if param.dim() < 2:
        return 0.0, NORM_STD
    return 0.0, param.shape[-1] ** -0.5  # the router too: logits of variance one


def _is_payload(param: torch.Tensor) -> bool:
    """Quantised values: FP8, or integers that hold packed ones."""
    return param.dtype == FP8 or not param.is_floating_point()


def _weight_scale(name: str, params: dict[str, nn.Parameter]) -> float:
    """The constant that gives the dequantised weight a deviation of fan_in^-0.5."""
    weight = params.get(_SCALE.sub("", name))
    if weight is None:
        raise ConfigError(
            f"{name}: no parameter {_SCALE.sub('', name)} that it scales; the bench does not know its layout"
        )
    if weight.dtype == FP8:
        return weight.shape[-1] ** -0.5 / FP8_STD
    values_per_element = 2 * weight.element_size()  # int4, two a byte
    return (weight.shape[-1] * values_per_element) ** -0.5 / INT4_STD


def _payload_pool(dtype: torch.dtype, device: torch.device, seed: int) -> torch.Tensor:
    """[POOL_SIZE] uint8: normal values in FP8, or pairs of uniform int4."""
    generator = _generator(device, seed, str(dtype))
    if dtype == FP8:
        values = torch.empty(POOL_SIZE, device=device).normal_(0.0, FP8_STD, generator=generator)
        return values.clamp_(-448.0, 448.0).to(FP8).view(torch.uint8)
    shape = (2, POOL_SIZE)
    low, high = torch.randint(-INT4_MAX, INT4_MAX + 1, shape, dtype=torch.int8, device=device, generator=generator)
    return ((high << 4) | (low & 0xF)).view(torch.uint8)


def _tile(param: torch.Tensor, pool: torch.Tensor, first: int) -> None:
    """Repeat `pool`, from byte `first` on, over the whole parameter."""
    target = param.data.view(torch.uint8).view(-1)
    source = pool.roll(-first)
    whole = target.numel() // pool.numel() * pool.numel()
    target[:whole].view(-1, pool.numel()).copy_(source)
    target[whole:].copy_(source[: target.numel() - whole])


def _generator(device: torch.device, seed: int, name: str) -> torch.Generator:
    # One 32-bit number: torch's CPU generator ignores the upper half of a seed.
    return torch.Generator(device=device).manual_seed(zlib.crc32(f"{seed} {name}".encode()))
