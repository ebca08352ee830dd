"""What a report on vectors says: every check with what it looked at, or why it was skipped."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from alignvec.errors import VectorError
from alignvec.vectors.delta import DenseDelta
from alignvec.vectors.extract import base_reference
from alignvec.vectors.store import load_card, save_vector
from alignvec.vectors.vector import AlignmentVector
from alignvec.vectors.verify import verify
from tests.conftest import MakeVector
from tests.vectors.damage import flip, lora, rewrite
from tests.vectors.verifying import CONTENT, DENSE, LOW, NEGATIVE, details, save_all_forms, states

BASE = ["base", "base fingerprint", "base template", "base tokenizer", "base tensors"]


@pytest.fixture
def folder(make_vector: MakeVector, tiny_folder: Path, tmp_path: Path) -> Path:
    return save_all_forms(make_vector, tiny_folder, tmp_path / "v")


def test_a_sound_vector_passes_every_check(folder: Path) -> None:
    assert load_card(folder).tensors[DENSE].keys() == set(load_file(folder / DENSE))
    assert states(folder) == dict.fromkeys([*CONTENT, *BASE], "ok")
    report = verify(folder)
    assert report.failed == []
    (vector,) = report.vectors
    assert vector.name == "medical"
    layers = 2 * 7  # linear layers of the tiny model; two of them have other forms on the positive side
    assert {c.name: c.detail for c in vector.checks}["factors"] == f"{2 * layers + 1} deltas fit together"


def test_a_sound_vectors_checks_say_what_they_looked_at(folder: Path, tiny_folder: Path) -> None:
    base, layers = base_reference(str(tiny_folder)), 2 * 7
    low, other = 2 * 2 * layers, 1 + 3 + 2  # factors of both sides; a norm, components of a sparse and of a sign delta
    assert details(folder) == {
        "card": "format 1, hinged",
        "files": "3 with the card's sha256",
        "other files": "no other tensor file",
        "tensor hashes": f"{other} tensors with the card's xxh3",
        "finite values": f"{low - 2 * 2 + other} tensors",
        "factors": f"{2 * layers + 1} deltas fit together",
        "adapter settings": "rank and scale are those of the factors",
        "base": str(tiny_folder),
        "base fingerprint": base.fingerprint[:12],
        "base template": base.template[:12],
        "base tokenizer": (base.tokenizer or "")[:12],
        "base tensors": f"{2 * layers + 1} deltas, each with its tensor in the base",
    }


def test_a_check_that_is_skipped_says_why(folder: Path, make_vector: MakeVector, tmp_path: Path) -> None:
    low, dense = make_vector(hinged=False), {"model.norm.weight": DenseDelta(torch.ones(32))}
    card = low.card.model_copy(update={"base": low.card.base.model_copy(update={"name": "owner/away"})})
    save_vector(AlignmentVector(card, low.positive), tmp_path / "low")
    save_vector(AlignmentVector(low.card, dense), tmp_path / "dense")
    rewrite(folder, NEGATIVE, lambda tensors: tensors[lora(tensors, "A")].fill_(torch.nan))
    for place, check, detail in (
        (tmp_path / "low", "tensor hashes", "the card has none; they are kept for deltas.safetensors"),
        (tmp_path / "low", "base", "base 'owner/away' is not on this machine; name it with --base"),
        (tmp_path / "dense", "adapter settings", "it has no low-rank adapter"),
        (tmp_path / "dense", "base tokenizer", "the card was written before it was recorded"),
        (folder, "factors", "the values are not all finite, or cannot be read"),
        (folder, "adapter settings", "the values are not all finite, or cannot be read"),
        (folder, "base tensors", "the factors could not be read"),
    ):
        assert (states(place)[check], details(place)[check]) == ("skipped", detail)


def test_a_folder_of_vectors_is_checked_one_by_one(make_vector: MakeVector, tmp_path: Path) -> None:
    for name in ("medical", "legal", "financial"):
        save_vector(make_vector(name, hinged=False), tmp_path / name)
    flip(tmp_path / "legal" / LOW)
    (tmp_path / "medical/card.json").unlink()
    (tmp_path / "notes").mkdir()
    report = verify(tmp_path)
    assert [vector.name for vector in report.vectors] == ["financial", "legal", None]
    assert [(vector.folder.name, check.name) for vector, check in report.failed] == [
        ("legal", "files"),
        ("medical", "card"),
    ]


def test_no_vector_at_all_is_an_error(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(VectorError, match=f"no vectors in {place}"):
            verify(place)
