"""A vector beside its base, another base, or one that is not here; and the tokenizer that its card records."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from alignvec import demo_model
from alignvec.errors import ModelError
from alignvec.vectors.card import Card
from alignvec.vectors.delta import DenseDelta
from alignvec.vectors.extract import base_reference
from alignvec.vectors.fingerprint import template_hash, tokenizer_hash
from alignvec.vectors.store import load_card, save_vector
from alignvec.vectors.vector import AlignmentVector
from alignvec.vectors.verify import verify
from tests.conftest import MakeVector, write_tiny_model
from tests.vectors.damage import change_card
from tests.vectors.verifying import CONTENT, failures, save_all_forms, states


@pytest.fixture
def folder(make_vector: MakeVector, tiny_folder: Path, tmp_path: Path) -> Path:
    return save_all_forms(make_vector, tiny_folder, tmp_path / "v")


def test_another_base_is_found(folder: Path, tmp_path: Path) -> None:
    trained = write_tiny_model(tmp_path / "trained", seed=1)
    assert failures(folder, str(trained)).keys() == {"base fingerprint"}
    wider = write_tiny_model(tmp_path / "wider", hidden=64)
    found = failures(folder, str(wider))
    assert found.keys() == {"base fingerprint", "base tensors"}
    assert "in the base" in found["base tensors"]
    with pytest.raises(ModelError):
        verify(folder, base=str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="config.json"):
        verify(folder, base=str(tmp_path / "empty"))


def test_a_tensor_that_the_base_lacks_is_found(make_vector: MakeVector, tmp_path: Path) -> None:
    low = make_vector(hinged=False)
    save_vector(AlignmentVector(low.card, {**low.positive, "extra.weight": DenseDelta(torch.ones(3))}), tmp_path / "v")
    assert failures(tmp_path / "v") == {"base tensors": "the base has no tensor extra.weight"}
    assert states(tmp_path / "v")["base tokenizer"] == "skipped"  # the fixture's card does not record it


def test_exchanged_token_ids_are_found_where_the_template_hash_sees_nothing(
    folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    content = json.loads((other / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (other / "tokenizer.json").write_text(json.dumps(content))
    tokenizers = [AutoTokenizer.from_pretrained(place) for place in (tiny_folder, other)]
    assert len({template_hash(tokenizer) for tokenizer in tokenizers}) == 1
    assert len({tokenizer_hash(tokenizer) for tokenizer in tokenizers}) == 2
    assert failures(folder, str(other)).keys() == {"base tokenizer"}


def test_an_added_token_changes_the_tokenizer_hash_and_loading_again_does_not(tiny_folder: Path) -> None:
    first, second = (AutoTokenizer.from_pretrained(tiny_folder) for _ in range(2))
    before = tokenizer_hash(first)
    assert before == tokenizer_hash(second)
    second.add_tokens(["<more>"])
    assert before != tokenizer_hash(second)


def test_the_base_reference_holds_licence_and_tokenizer(tiny_folder: Path, tmp_path: Path) -> None:
    stated = shutil.copytree(tiny_folder, tmp_path / "stated")
    (stated / "README.md").write_text("---\nlicense: mit\n---\n")
    found = base_reference(str(stated))
    assert (found.licence, base_reference(str(tiny_folder)).licence) == ("mit", None)
    assert found.tokenizer == tokenizer_hash(AutoTokenizer.from_pretrained(tiny_folder))


@pytest.mark.parametrize("name", ["demo", "owner/somewhere", "/nowhere"])
def test_a_base_that_is_not_here_is_skipped_and_not_fetched(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("ALIGNVEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(demo_model, "_ensure_gguf", lambda _: pytest.fail("the demo model was asked for"))
    change_card(folder, lambda card: card["base"].update(name=name))
    found = states(folder)
    assert found == {**dict.fromkeys(CONTENT, "ok"), "base": "skipped"}
    assert not (tmp_path / "cache").exists()


def test_a_base_that_cannot_be_read_is_one_failure(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    change_card(folder, lambda card: card["base"].update(name=str(tmp_path / "broken")))
    assert states(folder) == {**dict.fromkeys(CONTENT, "ok"), "base": "failed"}


def test_cards_from_before_still_load_and_leave_open_what_they_do_not_state() -> None:
    shipped = Path(__file__).parents[2] / "vectors"
    cards = [load_card(folder) for folder in sorted(shipped.iterdir()) if folder.is_dir()]
    assert [card.name for card in cards] == ["financial", "legal", "medical"]
    old = json.loads(cards[0].model_dump_json())
    for key in ("tokenizer", "licence"):
        del old["base"][key]
    base = Card.model_validate(old).base
    assert (base.tokenizer, base.licence) == (None, None)
