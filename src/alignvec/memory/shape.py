"""The shape of a model: what its memory depends on, read from its config alone."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignvec.errors import ModelError

_LLAMA_3: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 128256,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}
BUILT_IN: dict[str, dict[str, Any]] = {
    "llama-3-8b": _LLAMA_3
    | {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
    "llama-3-70b": _LLAMA_3
    | {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64},
    "mistral-7b": _LLAMA_3
    | {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32}
    | {"model_type": "mistral", "vocab_size": 32000, "max_position_embeddings": 32768},
}
"""Configs of well-known models, for estimates without their files."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder-only model.

    Attributes:
        parameters: all weights, tied ones once.
        outside: of those, the ones outside decoder layers (embeddings, head, last norm).
        linears: (inputs, outputs) of every linear layer but the head, in all layers.
        layers: decoder layers.
        hidden: width of the residual stream.
        intermediate: width of the feed-forward block.
        heads: query heads.
        kv_heads: key and value heads.
        head_size: width of a head.
        vocabulary: tokens.
        context: longest sequence.
    """

    name: str
    parameters: int
    outside: int
    linears: tuple[tuple[int, int], ...]
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int

    @property
    def layer_parameters(self) -> int:
        """Weights of one decoder layer."""
        return (self.parameters - self.outside) // self.layers

    def factors(self, rank: int) -> int:
        """Numbers in low-rank factors of all linear layers but the head."""
        return sum(rank * (inputs + outputs) for inputs, outputs in self.linears)


def shape_of(model: str) -> Shape:
    """Shape of a model: one of `BUILT_IN`, a folder with a config.json, a hub id or `demo`; no weights are read.

    Raises:
        ModelError: if the model cannot be found, or its config describes no decoder-only model.
    """
    from transformers import AutoConfig

    known = BUILT_IN.get(model.lower())
    try:
        if known is not None:
            config = AutoConfig.for_model(**known)
        else:
            config = AutoConfig.from_pretrained(_config_folder(model))
        return _measured(model, config)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        cause = str(error).strip().split("\n")[0]
        raise ModelError(
            f"cannot tell the shape of {model!r}: {cause}; name a folder with a config.json, or one of "
            f"{', '.join(BUILT_IN)}"
        ) from error


def _config_folder(model: str) -> Path:
    from alignvec.models import resolve

    folder = Path(model).expanduser()
    return folder if (folder / "config.json").is_file() else resolve(model)  # weights need not be there


def _measured(name: str, config: Any) -> Shape:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    with torch.device("meta"):  # tensors with a shape and no memory
        model: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    parameters = {key: weight.numel() for key, weight in model.named_parameters()}  # a tied weight comes once
    head = model.get_output_embeddings()
    linears = [m for m in model.modules() if isinstance(m, torch.nn.Linear | Conv1D) and m is not head]
    gpt2 = hasattr(config, "n_inner")
    return Shape(
        name=name,
        parameters=sum(parameters.values()),
        outside=sum(size for key, size in parameters.items() if not re.search(r"\.\d+\.", key)),
        linears=tuple((m.nx, m.nf) if isinstance(m, Conv1D) else (m.in_features, m.out_features) for m in linears),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=config.n_inner or 4 * config.hidden_size if gpt2 else config.intermediate_size,
        heads=config.num_attention_heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
        head_size=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        vocabulary=config.vocab_size,
        context=config.max_position_embeddings,
    )
