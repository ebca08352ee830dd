"""Models of real shapes with random weights, made on the device, and random vectors for them.

What is timed here depends on shapes and dtypes alone. The tokenizer is the tiny model's (bytes).
"""

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from alignvec.logprobs import EncodedReplies
from alignvec.models import DTYPES, BaseModel
from alignvec.models import load as load_model
from alignvec.tiny_model import write_tiny_model
from alignvec.vectors.card import BaseReference, Card
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta
from alignvec.vectors.vector import AlignmentVector

LLAMA = {"model_type": "llama", "rms_norm_eps": 1e-5, "max_position_embeddings": 8192}
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": LLAMA | {
        "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
    "demo": LLAMA | {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
    },
    "1b": LLAMA | {
        "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": True,
    },
    "8b": LLAMA | {
        "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False,
    },
    "mistral-7b": LLAMA | {
        "model_type": "mistral", "sliding_window": None,
        "vocab_size": 32768, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False,
    },
}  # fmt: skip
"""Configs of the tiny model, SmolLM2-135M, Llama 3.2 1B, Llama 3 8B and Mistral 7B."""


def build(shape: str, *, device: str, dtype: str = "bfloat16", seed: int = 0) -> BaseModel:
    """A model of a shape with random weights, made on the device in its dtype: an 8B never visits the host."""
    from transformers import AutoConfig, AutoModelForCausalLM

    assert dtype in DTYPES
    folder = write_tiny_model(Path(tempfile.mkdtemp(prefix="alignvec-gpu-")), context=8192)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tokenizer = load_model(str(folder), device="cpu").tokenizer
    torch.manual_seed(seed)
    config = AutoConfig.for_model(**SHAPES[shape])
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, None
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), attn_implementation="sdpa")
    assert model.dtype == getattr(torch, dtype) and model.device.type == torch.device(device).type
    return BaseModel(shape, folder, model.train(False), tokenizer)


def low_rank_vectors(base: BaseModel, names: Sequence[str], rank: int, *, seed: int = 0) -> list[AlignmentVector]:
    """Random vectors over all linear layers but the head, `rank` factors in all, spread evenly over the vectors."""
    layers = {
        f"{name}.weight": module
        for name, module in base.model.named_modules()
        if isinstance(module, nn.Linear) and name != "lm_head"
    }
    generator = torch.Generator(base.device).manual_seed(seed)
    assert rank % len(names) == 0

    def delta(weight: torch.Tensor) -> Delta:
        a, b = (
            torch.randn(shape, generator=generator, device=weight.device, dtype=weight.dtype) * 0.02
            for shape in ((rank // len(names), weight.shape[1]), (weight.shape[0], rank // len(names)))
        )
        return LowRankDelta(a, b)

    return [AlignmentVector(_card(name), {k: delta(m.weight) for k, m in layers.items()}) for name in names]


def dense_vector(base: BaseModel, name: str, dtype: torch.dtype, *, seed: int = 0) -> AlignmentVector:
    """A random dense vector over all matrices."""
    generator = torch.Generator(base.device).manual_seed(seed)
    deltas: dict[str, Delta] = {
        key: DenseDelta(
            torch.randn(weight.shape, generator=generator, device=weight.device, dtype=torch.bfloat16).to(dtype) * 1e-3
        )
        for key, weight in base.model.named_parameters()
        if weight.ndim == 2
    }
    return AlignmentVector(_card(name), deltas)


def random_rows(count: int, vocabulary: int, *, seed: int = 0) -> list[EncodedReplies]:
    """Queries with three replies as long as the shipped ones in the demo model's tokens: 60, and 30, 110 and 160."""
    generator = torch.Generator().manual_seed(seed)

    def tokens(length: int) -> tuple[int, ...]:
        return tuple(torch.randint(vocabulary, (length,), generator=generator).tolist())

    return [EncodedReplies(tokens(60), (tokens(30), tokens(110), tokens(160))) for _ in range(count)]


def many_settings(names: Sequence[str], rows: int) -> list[dict[str, float]]:
    """A setting for each row, no two alike, with every knob turned."""
    return [
        {name: round(1 - (row + 1) / (rows + 1) + 0.1 * index, 6) for index, name in enumerate(names)}
        for row in range(rows)
    ]


def _card(name: str) -> Card:
    reference = BaseReference(name="random", fingerprint="0" * 64, template="")
    return Card(name=name, form="single", method="random", base=reference)
