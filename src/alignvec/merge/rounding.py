"""The one rounding of a merge: from float32 sums to the dtype that is stored."""

from typing import Literal

import torch

Rounding = Literal["nearest", "stochastic"]


def rounded(
    value: torch.Tensor, dtype: torch.dtype, rounding: Rounding, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Float32 values in `dtype`.

    Args:
        value: float32.
        dtype: float64, float32, bfloat16 or float16.
        rounding: `nearest` (ties to even), or `stochastic`: up or down with the chance that makes the mean exact.
        generator: draws of stochastic rounding.
    """
    nearest = value.to(dtype)
    if rounding == "nearest" or dtype.itemsize >= value.dtype.itemsize:
        return nearest
    rest = value - nearest.float()
    bits = nearest.view(torch.int16)
    # whether the value lies beyond `nearest`, seen from zero; a value that is rounded to zero keeps its sign there
    away = (rest > 0) != (bits < 0)
    neighbour = (bits + torch.where(away, 1, -1).to(torch.int16)).view(dtype)
    step = (neighbour.float() - nearest.float()).abs()
    chance = torch.where(rest == 0, 0.0, rest.abs() / step)
    draw = torch.rand(value.shape, generator=generator)
    return torch.where(draw < chance, neighbour, nearest)
