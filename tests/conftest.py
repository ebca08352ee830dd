"""A tiny random model with a tokenizer and chat template, vectors for it, and a small preference file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from alignvec import models
from alignvec.data.load import load_rows
from alignvec.data.schema import PreferenceRow
from alignvec.vectors.card import BaseReference, Card
from alignvec.vectors.delta import Delta, LowRankDelta
from alignvec.vectors.fingerprint import fingerprint, template_hash
from alignvec.vectors.vector import AlignmentVector

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tiny_model(folder: Path, *, seed: int = 0, hidden: int = 32) -> Path:
    """Save a 2-layer Llama with random weights and a byte-level tokenizer."""
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers import models as tokenizer_models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(alphabet)}
    raw = Tokenizer(tokenizer_models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken("<|im_start|>", special=True), AddedToken("<|im_end|>", special=True)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|im_end|>")
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny model; do not change it."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def tiny(tiny_folder: Path) -> models.BaseModel:
    """The tiny model, freshly loaded."""
    return models.load(str(tiny_folder), device="cpu")


MakeVector = Callable[..., AlignmentVector]


@pytest.fixture(scope="session")
def make_vector(tiny_folder: Path) -> MakeVector:
    """Builds random low-rank vectors for the tiny model: make_vector(name, hinged=..., rank=..., seed=...)."""
    base = models.load(str(tiny_folder), device="cpu")
    reference = BaseReference(
        name=str(tiny_folder), fingerprint=fingerprint(tiny_folder), template=template_hash(base.tokenizer)
    )
    shapes = {
        f"{name}.weight": tuple(module.weight.shape)
        for name, module in base.model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }

    def make(
        name: str = "medical", *, hinged: bool = True, rank: int = 2, seed: int = 0, scale: float = 0.1
    ) -> AlignmentVector:
        generator = torch.Generator().manual_seed(seed)

        def side() -> dict[str, Delta]:
            return {
                key: LowRankDelta(
                    torch.randn(rank, shape[1], generator=generator) * scale,
                    torch.randn(shape[0], rank, generator=generator) * scale,
                )
                for key, shape in shapes.items()
            }

        card = Card(
            name=name,
            domain=name,
            levels=("avoidance", "generic", "expert"),
            form="hinged" if hinged else "single",
            method="hinged" if hinged else "one-sided",
            base=reference,
            settings={"avoidance": -1.0, "generic": 0.0, "expert": 1.0},
        )
        return AlignmentVector(card, side(), side() if hinged else None)

    return make


def preference_record(number: int, split: str, domain: str = "medical") -> dict[str, object]:
    """One row's JSON object; two rows share a persona."""
    return {
        "id": f"{domain}-{number}",
        "split": split,
        "domain": domain,
        "topic": "sleep",
        "persona": f"{split} persona {number // 2}",
        "query": f"How do I sleep better, take {number}?",
        "responses": {
            "avoidance": f"Please ask somebody qualified about that, number {number}.",
            "generic": f"Keep regular hours, skip late coffee and dim the lights, number {number}.",
            "expert": f"Stimulus control and sleep restriction at 85 percent come first, number {number}.",
        },
    }


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    """A preference file: 8 training, 4 validation and 4 test rows."""
    splits = ["train"] * 8 + ["validation"] * 4 + ["test"] * 4
    path = tmp_path / "medical.jsonl"
    path.write_text("".join(json.dumps(preference_record(i, split)) + "\n" for i, split in enumerate(splits)))
    return path


@pytest.fixture
def rows(data_file: Path) -> list[PreferenceRow]:
    """All rows of the preference file."""
    return load_rows(data_file)
