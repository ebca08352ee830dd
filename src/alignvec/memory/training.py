"""Memory that training takes in each process, by formula, before anything is loaded.

Weights, gradients and optimiser states as in ZeRO (Rajbhandari et al., arXiv 1910.02054, section 3), activations as in
Korthikanti et al. (arXiv 2205.05198, section 4), counted anew for gated feed-forward blocks, grouped key and value
heads and attention that keeps no square of the length.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, computed_field

from alignvec.memory.shape import Shape

Strategy = Literal["single", "ddp", "fsdp", "zero3"]
"""Who holds what: one process; all hold everything and add up gradients; weights, gradients and states are sharded."""
SIZE = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a number."""
GIB = 2**30


class TrainingMemory(BaseModel):
    """Bytes that training takes in one process, without what Python and its libraries take by themselves.

    Attributes:
        parameters: of the model.
        trained: numbers that are trained.
        weights: the model's own, and the factors that are trained beside it.
        gradients: of what is trained.
        optimizer: AdamW's two moments.
        communication: buckets in which DDP adds up gradients, or the layers that sharded training has gathered.
        activations: what one micro-batch keeps for its backward pass.
        logits: of the head, at reply tokens, with their softmax and gradient.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    strategy: Strategy
    processes: int
    parameters: int
    trained: int
    weights: int
    gradients: int
    optimizer: int
    communication: int
    activations: int
    logits: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        """Bytes in one process."""
        return self.weights + self.gradients + self.optimizer + self.communication + self.activations + self.logits

    def told(self) -> str:
        """Two lines of text."""
        parts = ("weights", "gradients", "optimizer", "communication", "activations", "logits")
        held = ", ".join(f"{part} {getattr(self, part) / GIB:.2f}" for part in parts)
        each = f" in each of {self.processes} processes ({self.strategy})" if self.processes > 1 else ""
        return (
            f"training, estimated: {self.total / GIB:.2f} GiB{each}; {self.trained:,} numbers are trained, "
            f"the model has {self.parameters:,}\n  {held}"
        )


def training_memory(
    shape: Shape,
    *,
    strategy: Strategy = "single",
    processes: int = 1,
    rank: int | None = 8,
    dtype: str = "float32",
    batch_size: int = 1,
    length: int = 512,
    replied: int | None = None,
    checkpointing: bool = False,
) -> TrainingMemory:
    """What training takes in each process.

    Args:
        shape: of the model.
        strategy: how processes share the model.
        processes: number of them.
        rank: of the factors; None if all weights are trained.
        dtype: of the weights that are not trained, and of activations.
        batch_size: packed rows in a micro-batch.
        length: tokens in a packed row.
        replied: of those, reply tokens; default all.
        checkpointing: keep only the inputs of decoder layers, and compute a layer again in the backward pass.
    """
    trained = shape.parameters if rank is None else shape.factors(rank)
    size = SIZE[dtype]
    frozen = 0 if rank is None else shape.parameters * size
    shards = processes if strategy in ("fsdp", "zero3") else 1
    activations = shape.layers * (per_layer := _layer_activations(shape, rank, size))
    if checkpointing:  # the layer that is computed again lives beside the inputs of all
        activations = shape.layers * shape.hidden * size + per_layer
    communication = 4 * trained if processes > 1 else 0
    if strategy in ("fsdp", "zero3"):
        # Two layers at a time, the second fetched while the first computes, and what is outside all layers.
        communication = (2 * shape.layer_parameters + shape.outside) * (4 if rank is None else size)
    positions = batch_size * (length if replied is None else replied)
    return TrainingMemory(
        model=shape.name,
        strategy=strategy,
        processes=processes,
        parameters=shape.parameters,
        trained=trained,
        weights=(frozen + 4 * trained) // shards,
        gradients=4 * trained // shards,
        optimizer=8 * trained // shards,
        communication=communication,
        activations=batch_size * length * activations,
        logits=3 * 4 * positions * shape.vocabulary,
    )


def _layer_activations(shape: Shape, rank: int | None, size: int) -> int:
    """Bytes that one decoder layer keeps of a token: what its backward pass reads.

    Each norm keeps its input in float32, and if its weight is trained the normed one too; attention its queries, keys
    and values (repeated for all heads) and its output; the feed-forward block the gate, its SiLU and the other branch.
    Linear layers keep their inputs, which those that read one share: the norms' outputs, the attention's, and the
    block's product. Low-rank factors are float32 and keep inner vectors, and under a smaller dtype each a float32 copy
    of its input; the weights beside them are not trained and keep nothing.
    """
    heads, wide = shape.heads * shape.head_size, shape.intermediate
    kept = 2 * shape.hidden * 4 + (4 * heads + 3 * wide) * size
    if rank is None:
        return kept + 2 * shape.hidden * 4 + (2 * shape.hidden + wide) * size
    inner = 4 * rank * (len(shape.linears) // shape.layers)
    inputs = 4 * sum(inputs for inputs, _ in shape.linears) // shape.layers
    return kept + inner + (inputs if size < 4 else (2 * shape.hidden + wide) * size)
