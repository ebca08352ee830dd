"""From names to a model with knobs: places of vectors, their scales from the cards alone, and the model itself."""

from pathlib import Path

import pytest
import torch

from alignvec.errors import KnobError, VectorError
from alignvec.steer.loading import VECTORS, load_knobbed, named_scales, vector_places
from alignvec.tiny_model import write_tiny_model
from alignvec.vectors.store import save_vector
from tests.conftest import MakeVector


@pytest.fixture
def shelf(tmp_path: Path, make_vector: MakeVector) -> Path:
    """A folder with two vectors in it; a third one stands elsewhere."""
    for name, place in (("medical", "shelf/first"), ("legal", "shelf/second"), ("financial", "alone")):
        save_vector(make_vector(name, seed=len(name)), tmp_path / place)
    return tmp_path / "shelf"


def test_vectors_are_found_by_the_names_in_their_cards(shelf: Path) -> None:
    both = {"medical": shelf / "first", "legal": shelf / "second"}
    assert vector_places([shelf]) == both
    assert vector_places([shelf.parent / "alone", shelf]) == {"financial": shelf.parent / "alone", **both}
    assert vector_places([shelf / "second"]) == {"legal": shelf / "second"}


@pytest.mark.parametrize("asked", [None, []])
def test_without_a_folder_the_shipped_vectors_are_taken(asked: list[Path] | None) -> None:
    places = vector_places(asked)
    assert {"medical", "legal", "financial"} <= places.keys()
    assert all(place.is_relative_to(VECTORS) and (place / "card.json").is_file() for place in places.values())
    assert named_scales(asked).keys() == places.keys()


def test_a_folder_without_vectors_is_refused(shelf: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(VectorError, match=f"no vectors in {tmp_path / 'empty'} "):
        vector_places([shelf, tmp_path / "empty"])


def test_two_vectors_of_one_name_are_refused_and_the_first_in_the_alphabet_is_named(shelf: Path) -> None:
    with pytest.raises(VectorError, match="two vectors are named 'legal'"):
        vector_places([shelf, shelf])


def test_scales_are_read_without_the_tensors(shelf: Path) -> None:
    for file in shelf.rglob("*.safetensors"):
        file.unlink()
    scales = named_scales([shelf])
    assert {name: scale.name for name, scale in scales.items()} == {"medical": "medical", "legal": "legal"}
    assert scales["legal"].coefficient("avoidance") == -1.0


def test_a_loaded_model_has_the_vectors_of_the_folders_and_turns_them(
    shelf: Path, tiny_folder: Path, make_vector: MakeVector
) -> None:
    knobbed = load_knobbed(str(tiny_folder), [shelf], device="cpu")
    assert list(knobbed.vectors) == list(vector_places([shelf]))
    assert (knobbed.base.device.type, knobbed.base.model.dtype) == ("cpu", torch.float32)
    for name, made in (("medical", make_vector("medical", seed=7)), ("legal", make_vector("legal", seed=5))):
        positive = knobbed.vectors[name].positive
        assert all(torch.equal(delta.dense(), positive[key].dense()) for key, delta in made.positive.items())
    with pytest.raises(KnobError), knobbed.knobs({"financial": 1.0}):
        pass


def test_dtype_and_device_are_those_that_were_asked_for(
    shelf: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alignvec import models

    assert load_knobbed(str(tiny_folder), [shelf], dtype="bfloat16").base.model.dtype == torch.bfloat16
    asked: list[tuple[str, dict[str, object]]] = []
    load = models.load

    def note(model: str, **options: object) -> models.BaseModel:
        asked.append((model, options))
        return load(model, device="cpu")

    monkeypatch.setattr(models, "load", note)
    load_knobbed(str(tiny_folder), [shelf], dtype="float16", device="cuda:1")
    load_knobbed(str(tiny_folder), [shelf])
    assert asked == [
        (str(tiny_folder), {"dtype": "float16", "device": "cuda:1"}),
        (str(tiny_folder), {"dtype": "float32", "device": None}),
    ]


def test_vectors_are_checked_before_the_model_is_loaded(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    next(iter(shelf.rglob("*.safetensors"))).write_bytes(b"")
    monkeypatch.setattr("alignvec.models.load", lambda *_, **__: pytest.fail("the model was loaded"))
    with pytest.raises(VectorError):
        load_knobbed("no such model", [shelf])


def test_a_vector_of_another_base_is_refused_unless_it_is_allowed(shelf: Path, tmp_path: Path) -> None:
    other = str(write_tiny_model(tmp_path / "other", seed=1))
    with pytest.raises(VectorError, match="--allow-other-base"):
        load_knobbed(other, [shelf], device="cpu")
    assert load_knobbed(other, [shelf], device="cpu", allow_other_base=True).vectors.keys() == {"medical", "legal"}
