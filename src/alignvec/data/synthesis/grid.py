"""Cells of a grid, drawn so that every value of every attribute comes up equally often."""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import count


def cycles(values: Sequence[str], seed: str) -> Iterator[str]:
    """The values for ever, each once in a shuffled round before any comes again."""
    return (cycled(values, seed, index) for index in count())


def cycled(values: Sequence[str], seed: str, index: int) -> str:
    """The value at one place of such a cycle, without those before it."""
    turn, place = divmod(index, len(values))
    return random.Random(f"{seed}/{turn}").sample(values, len(values))[place]


def cells(grid: Mapping[str, Sequence[str]], seed: int) -> Iterator[dict[str, str]]:
    """Cells for ever; after n of them, no two values of one attribute differ by more than 1 in how often they came."""
    streams = {name: cycles(values, f"{seed}/{name}") for name, values in grid.items()}
    while True:
        yield {name: next(stream) for name, stream in streams.items()}
