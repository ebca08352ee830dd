"""What it takes to hold many different settings at once, by how they are held."""

import math
from collections.abc import Sequence
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from alignvec.memory.shape import Shape
from alignvec.memory.training import GIB, SIZE

GPU: Final = 80 * GIB
PROMPT: Final = 256
"""Tokens of a system prompt with examples; with three replies as examples it was 300 to 600 on the demo data."""


Way = Literal["gate", "adapters", "merged", "prompt"]


class Held(BaseModel):
    """Some settings held in one way, beside or instead of the base's weights.

    Attributes:
        way: `gate`: one stacked adapter and a gate for every token; `adapters`: an adapter of its own for each
            setting; `merged`: a copy of the weights for each; `prompt`: words in front of every request.
        settings: how many.
        stored: bytes on disk.
        resident: bytes of accelerator memory if all are ready to be used at once, the base's weights included.
        gpus: accelerators of `GPU` bytes that hold it, without room for keys and values; a copy never shares one.
        fresh: bytes written for one more setting.
        read: bytes of weights read in a decode step in which every row has another setting, over the base's.
        products: multiplications of a token in linear layers, over the base's.
        tokens: prompt tokens more in every request.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    way: Way
    settings: int
    stored: int
    resident: int
    gpus: int
    fresh: int
    read: float
    products: float
    tokens: int

    def told(self) -> tuple[str, ...]:
        """Cells of a table."""
        return (
            f"{self.settings:,}",
            self.way,
            _bytes(self.resident),
            f"{self.gpus:,}",
            f"{self.tokens} tokens" if self.tokens else _bytes(self.fresh),
            f"{self.read:.3g}x",
            f"{self.products:.3f}x",
        )


COLUMNS: Final = ("settings", "way", "memory", "GPUs", "one more", "read", "work")


def held_settings(
    shape: Shape,
    settings: Sequence[int] = (1, 10, 10_000),
    *,
    vectors: int = 3,
    rank: int = 16,
    dtype: str = "bfloat16",
    prompt: int = PROMPT,
    rows: int = 64,
) -> list[Held]:
    """What numbers of settings take in every way.

    Args:
        shape: of the base.
        settings: numbers of settings.
        vectors: hinged vectors, all of which every setting turns.
        rank: of each side.
        dtype: of weights and factors.
        prompt: tokens that ask for a setting in words.
        rows: requests in a decode step; at most so many settings are read in it.
    """
    size = SIZE[dtype]
    weights = shape.parameters * size
    stack, one = (shape.factors(vectors * sides * rank) * size for sides in (2, 1))  # a setting has one side of each
    linear = size * (sum(inputs * outputs for inputs, outputs in shape.linears) + shape.vocabulary * shape.hidden)
    gate = 4 * 2 * vectors * rank
    found = []
    for count in settings:
        active = min(count, rows)
        ways: dict[Way, tuple[int, int, int, float, float, int]] = {
            "gate": (stack, weights + stack, gate, 1 + stack / weights, 1 + stack / linear, 0),
            "adapters": (count * one, weights + count * one, one, 1 + active * one / weights, 1 + one / linear, 0),
            "merged": (count * weights, count * weights, weights, float(active), 1.0, 0),
            "prompt": (0, weights, 0, 1.0, 1.0, prompt),
        }
        for way, (stored, resident, fresh, read, products, tokens) in ways.items():
            found.append(
                Held(
                    way=way,
                    settings=count,
                    stored=stored,
                    resident=resident,
                    gpus=count * math.ceil(weights / GPU) if way == "merged" else math.ceil(resident / GPU),
                    fresh=fresh,
                    read=read,
                    products=products,
                    tokens=tokens,
                )
            )
    return found


def _bytes(count: int) -> str:
    for unit, size in (("TiB", GIB * 1024), ("GiB", GIB), ("MiB", GIB // 1024), ("KiB", 1024)):
        if count >= size:
            return f"{count / size:,.0f} {unit}" if count >= 100 * size else f"{count / size:.1f} {unit}"
    return f"{count} B"
