"""A tiny random model with a tokenizer and chat template, vectors for it, and a small preference file."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from alignvec import models
from alignvec.data.load import load_rows
from alignvec.data.schema import PreferenceRow
from alignvec.tiny_model import write_tiny_model
from alignvec.vectors.card import BaseReference, Card
from alignvec.vectors.delta import Delta, LowRankDelta
from alignvec.vectors.fingerprint import fingerprint, template_hash
from alignvec.vectors.vector import AlignmentVector

if find_spec("hypothesis"):  # the environment of the tests on vLLM has none
    from hypothesis import settings

    settings.register_profile("alignvec", deadline=None)  # a busy machine is no failure
    settings.load_profile("alignvec")


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
    return vector_maker(tiny_folder)


def vector_maker(folder: Path) -> MakeVector:
    """See `make_vector`, for the model in a folder."""
    base = models.load(str(folder), device="cpu")
    reference = BaseReference(name=str(folder), fingerprint=fingerprint(folder), template=template_hash(base.tokenizer))
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
