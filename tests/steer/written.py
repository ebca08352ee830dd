"""Tiny models of several kinds, vectors that change their norms, biases and embeddings, and both written together."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from alignvec import models
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import GREEDY
from alignvec.vectors.card import BaseReference, Card
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta
from alignvec.vectors.fingerprint import fingerprint, template_hash
from alignvec.vectors.vector import AlignmentVector

ROWS: list[dict[str, float]] = [{"tone": 1.0}, {}, {"tone": -0.7}, {"tone": 0.0}, {"tone": 2.0}]
IDS = torch.randint(0, 250, (5, 12), generator=torch.Generator().manual_seed(0))
SHORT = GREEDY.model_copy(update={"max_new_tokens": 10})
SIZES = {"vocab_size": 258, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
MORE = {"intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 128, "initializer_range": 0.2}
WriteModel: TypeAlias = Callable[[str], Path]
KINDS = ["tied", "untied", "qwen2", "qwen3", "gpt2", "gemma"]


def config(kind: str) -> Any:
    from transformers import GemmaConfig, GPT2Config, LlamaConfig, Qwen2Config, Qwen3Config

    common = {**SIZES, **MORE, "eos_token_id": 257, "pad_token_id": 257, "bos_token_id": 257}
    if kind == "gpt2":
        return GPT2Config(
            vocab_size=258, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.2, eos_token_id=257
        )
    if kind == "gemma":
        return GemmaConfig(**{**common, "head_dim": 8})
    if kind == "qwen3":
        return Qwen3Config(**{**common, "head_dim": 8, "tie_word_embeddings": True})
    if kind == "qwen2":
        return Qwen2Config(**{**common, "tie_word_embeddings": False})
    return LlamaConfig(**{**common, "tie_word_embeddings": kind == "tied"})


def write_kind(root: Path, tokenizer: Path, kind: str) -> Path:
    """Save a tiny model of a kind in `root`, once, whose norms and biases are not at their defaults."""
    from transformers import AutoModelForCausalLM

    if not (root / kind).exists():
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(config(kind))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(torch.randn(parameter.shape) * 0.2)
        model.save_pretrained(root / kind)
        for path in tokenizer.iterdir():
            if "token" in path.name or path.suffix == ".jinja":
                shutil.copy(path, root / kind)
    return root / kind


def load(folder: Path, dtype: str = "float32") -> models.BaseModel:
    return models.load(str(folder), device="cpu", dtype=dtype)


def vector_of(base: models.BaseModel, deltas: Sequence[Mapping[str, Delta]], name: str = "tone") -> AlignmentVector:
    reference = BaseReference(name="tiny", fingerprint=fingerprint(base.folder), template=template_hash(base.tokenizer))
    form: Any = "single" if len(deltas) == 1 else "hinged"
    return AlignmentVector(Card(name=name, form=form, method="m", base=reference), *deltas)


def changes(base: models.BaseModel, seed: int = 0, only: Sequence[str] = ("",)) -> dict[str, Delta]:
    """Low-rank on linear layers' weights, dense on everything else that is carried per row."""
    draw = torch.Generator().manual_seed(seed)
    owners = dict(base.model.named_modules())
    found: dict[str, Delta] = {}
    for name, weight in base.model.named_parameters():
        owner = owners[name.rpartition(".")[0]]
        low = isinstance(owner, nn.Linear) and weight.ndim == 2
        rows = weight.shape[0]
        if not any(part in name for part in only):
            continue
        if low:
            a, b = torch.randn(2, weight.shape[1], generator=draw), torch.randn(rows, 2, generator=draw)
            found[name] = LowRankDelta(a * 0.15, b * 0.15)
        elif weight.ndim == 1 or type(owner) is nn.Embedding:
            found[name] = DenseDelta(torch.randn(weight.shape, generator=draw) * 0.1)
    return found


def written(base: Any, vectors: Sequence[AlignmentVector], setting: Mapping[str, float]) -> Any:
    """A copy of the model with λΔ added to its weights in float64."""
    model = deepcopy(base)
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for vector in vectors:
            for part in vector.parts:
                value = setting.get(vector.name, 0.0)
                gate = value if part.sign == 0 else max(part.sign * value, 0.0)
                for name, delta in part.deltas.items():
                    step = delta.b.double() @ delta.a.double() if isinstance(delta, LowRankDelta) else delta.dense()
                    weights[name].copy_(weights[name].double() + gate * step.double())
    return model


def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        return torch.as_tensor(model(ids).logits)


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def check_rows_against_written(
    base: models.BaseModel, vectors: Sequence[AlignmentVector], rows: Sequence[dict[str, float]] = ROWS
) -> None:
    """Mixed rows are the written models', rows at zero the base's bit for bit, and nothing is left behind."""
    before, weights = logits(base.model), {n: w.clone() for n, w in base.model.state_dict().items()}
    knobbed = KnobbedModel(base, vectors)
    with knobbed.knobs(rows) as model:
        found = logits(model)
    assert hooks(base.model) == 0
    assert torch.equal(logits(base.model), before)
    assert all(torch.equal(w, weights[n]) for n, w in base.model.state_dict().items())
    for i, row in enumerate(rows):
        expected = logits(written(base.model, vectors, row), IDS[i : i + 1])[0]
        torch.testing.assert_close(found[i], expected, rtol=1e-4, atol=2e-4)
        if any(row.values()):
            assert (expected - before[i]).abs().max() > 0.05
        else:
            assert torch.equal(found[i], before[i])


def rowwise_deltas(kind: str, base: models.BaseModel, seed: int = 0) -> dict[str, Delta]:
    """What of a kind of model can differ by row: not GPT-2's transposed layers, not a scaled embedding."""
    parts = {"gpt2": ("ln_", "wte", "wpe"), "gemma": ("norm", "proj")}.get(kind, ("",))
    return changes(base, seed, parts)
