"""A journal of forms belongs to the vectors whose sides it was measured with."""

from pathlib import Path
from typing import Any

import pytest

from alignvec.errors import DataError
from alignvec.evaluate.journal import Journal
from alignvec.models import BaseModel
from alignvec.reproduce.stages.forms import forms_scope, side_vectors
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling
from alignvec.vectors.store import load_vector, save_vector
from alignvec.vectors.vector import AlignmentVector
from tests.conftest import MakeVector


def scope(base: BaseModel, *vectors: AlignmentVector) -> dict[str, Any]:
    return forms_scope(KnobbedModel(base, side_vectors(vectors)), vectors, Sampling(), [])


def test_saved_vectors_are_known_by_their_files(tiny: BaseModel, make_vector: MakeVector, tmp_path: Path) -> None:
    save_vector(make_vector("medical"), tmp_path / "medical")
    vector = load_vector(tmp_path / "medical")
    found = scope(tiny, vector)
    assert found["vectors"] == {"medical": vector.card.files} and len(vector.card.files) == 2
    assert set(found) == {"vectors", "sampling", "data", "rows", "base", "dtype"}


def test_unsaved_vectors_are_known_by_their_tensors(tiny: BaseModel, make_vector: MakeVector, tmp_path: Path) -> None:
    one, same, other = (make_vector("medical", seed=seed) for seed in (0, 0, 1))
    path = tmp_path / "journal.jsonl"
    Journal(path, scope(tiny, one)).add("key", 1)
    assert "key" in Journal(path, scope(tiny, same))
    with pytest.raises(DataError, match="other vectors"):
        Journal(path, scope(tiny, other))
