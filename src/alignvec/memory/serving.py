"""Memory that a model with knobs takes at inference: weights, vectors, and keys and values of each token."""

from pydantic import BaseModel, ConfigDict, computed_field

from alignvec.memory.shape import Shape
from alignvec.memory.training import GIB, SIZE


class ServingMemory(BaseModel):
    """Bytes that a model takes, without what Python and its libraries take by themselves.

    Attributes:
        weights: of the base model.
        vectors: low-rank factors of all sides, as loaded.
        stacked: the same once more, stacked in the layers' dtype, while all are turned.
        token: keys and values of one token.
        tokens: how many tokens' keys and values are held.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    weights: int
    vectors: int
    stacked: int
    token: int
    tokens: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.weights + self.vectors + self.stacked + self.token * self.tokens

    def told(self) -> str:
        """One line of text."""
        return (
            f"serving: {self.total / GIB:.2f} GiB: weights {self.weights / GIB:.2f}, vectors {self.vectors / GIB:.2f} "
            f"and once more {self.stacked / GIB:.2f} while turned, keys and values {self.token:,} bytes a token, "
            f"{self.token * self.tokens / GIB:.2f} for {self.tokens:,}"
        )


def serving_memory(
    shape: Shape, *, vectors: int = 0, rank: int = 8, sides: int = 2, dtype: str = "float32", tokens: int = 0
) -> ServingMemory:
    """What serving takes.

    Args:
        vectors: number of vectors.
        rank: of each side.
        sides: 2 of hinged vectors, else 1.
        dtype: of weights, stacked factors, keys and values; vectors as loaded are float32.
        tokens: that are in the cache at once, over all requests.
    """
    factors = vectors * sides * shape.factors(rank)
    return ServingMemory(
        model=shape.name,
        weights=shape.parameters * SIZE[dtype],
        vectors=factors * 4,
        stacked=factors * SIZE[dtype],
        token=2 * shape.layers * shape.kv_heads * shape.head_size * SIZE[dtype],
        tokens=tokens,
    )
