"""What the int4 methods lose on weights of known shape: `python -m sglang_glm52.formats.int4_error`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from sglang_glm52.formats.int4_group import GROUP, SHRINK, Method, mse, quantize_int4_group, rtn, weight_error

SHAPE = (64, 6144)
COUNTS = (1, 2, 3, 4, 6, 8, 12, 24)  # shrink factors of `mse`; 6 is what quantising uses


def _normal(generator: torch.Generator) -> torch.Tensor:
    return torch.randn(SHAPE, generator=generator)


def _student(degrees: int, generator: torch.Generator) -> torch.Tensor:
    chi_squared = torch.randn(degrees, *SHAPE, generator=generator).square().sum(0)
    return _normal(generator) * (degrees / chi_squared).sqrt()


def _outlier_columns(generator: torch.Generator) -> torch.Tensor:
    weight = _normal(generator)
    weight[:, ::GROUP] *= 8  # one input of each group
    return weight


WEIGHTS: dict[str, Callable[[torch.Generator], torch.Tensor]] = {
    "normal": _normal,
    "Student t, 4 degrees": partial(_student, 4),
    "Student t, 3 degrees": partial(_student, 3),
    "one column in 128 x 8": _outlier_columns,
}


def error_percent(weight: torch.Tensor, method: Method) -> float:
    """100 * sqrt(sum (w - q * scale)^2 / sum w^2)."""
    return 100 * weight_error(weight, *quantize_int4_group(weight, method)).relative


def main() -> None:
    """Print one row for each kind of weight, one column for each method."""
    methods = [rtn, *(partial(mse, shrink=torch.linspace(1, SHRINK[-1], count).tolist()) for count in COUNTS)]
    print(f"relative error in percent, {SHAPE[0]} x {SHAPE[1]} values, mse with n factors from 1 to {SHRINK[-1]}")
    print(f"{'weights':22}{'rtn':>7}" + "".join(f"{f'n={count}':>7}" for count in COUNTS))
    for name, draw in WEIGHTS.items():
        weight = draw(torch.Generator().manual_seed(0))
        print(f"{name:22}" + "".join(f"{error_percent(weight, method):7.2f}" for method in methods))


if __name__ == "__main__":
    main()
