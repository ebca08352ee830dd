"""The tiny model with an output head of its own."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from alignvec import models
from alignvec.models import BaseModel
from alignvec.tiny_model import write_tiny_model
from tests.vectors.peft_adapters import HEAD


@pytest.fixture(scope="session")
def untied_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with an output head of its own; do not change it."""
    folder = write_tiny_model(tmp_path_factory.mktemp("untied") / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors[HEAD] = 0.2 * torch.randn(258, 32, generator=torch.Generator().manual_seed(1))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    return folder


@pytest.fixture
def untied(untied_folder: Path) -> BaseModel:
    return models.load(str(untied_folder), device="cpu")
