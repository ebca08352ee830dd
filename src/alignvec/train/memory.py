"""The memory a recipe will take, in each of the processes that are there, before its model is loaded."""

import os

from transformers import AutoTokenizer

from alignvec import processes
from alignvec.logprobs import encode_replies
from alignvec.memory.shape import shape_of
from alignvec.memory.training import Strategy, TrainingMemory, training_memory
from alignvec.models import resolve
from alignvec.train.config import TrainConfig
from alignvec.train.rows import ordered_rows


def launched_strategy() -> Strategy:
    """How the processes of this launch share the model, as the launcher tells them."""
    if "RANK" not in os.environ:
        return "single"
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        return "fsdp"
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true":
        return "zero3"
    return "ddp" if processes.count() > 1 else "single"


def recipe_memory(config: TrainConfig) -> TrainingMemory:
    """What training a recipe takes in each process, by its longest row.

    Raises:
        AlignvecError: if its data or its base cannot be used.
    """
    folder = resolve(config.base)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    side = next(iter(config.orders()))
    texts = [
        (row.query, [row.responses[level] for level in group.replies(config.loss)[0]])
        for group in ordered_rows(config, side)
        for row in group.rows
    ]
    query, replies = max(texts, key=lambda text: len(text[0]) + sum(map(len, text[1])))
    longest = encode_replies(tokenizer, query, replies, max_length=config.max_length)
    return training_memory(
        shape_of(str(folder)),
        strategy=launched_strategy(),
        processes=processes.count(),
        rank=None if config.full else config.rank,
        dtype=config.dtype,
        batch_size=config.batch_size,
        length=longest.packed_length,
        replied=sum(map(len, longest.replies)),
        checkpointing=os.environ.get("FSDP_ACTIVATION_CHECKPOINTING", "").lower() == "true",
    )
