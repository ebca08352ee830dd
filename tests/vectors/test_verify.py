"""Every kind of damage is found by the check that is for it, and by no other; a sound vector passes."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from alignvec import demo_model
from alignvec.errors import ModelError, VectorError
from alignvec.vectors.card import Card
from alignvec.vectors.delta import Delta, DenseDelta
from alignvec.vectors.extract import base_reference
from alignvec.vectors.fingerprint import template_hash, tokenizer_hash
from alignvec.vectors.packed import to_signs, to_sparse
from alignvec.vectors.store import load_card, save_vector
from alignvec.vectors.vector import AlignmentVector
from alignvec.vectors.verify import verify
from tests.conftest import MakeVector, write_tiny_model

LOW, NEGATIVE, DENSE = "adapter_model.safetensors", "negative/adapter_model.safetensors", "deltas.safetensors"
CONTENT = ["card", "files", "other files", "tensor hashes", "finite values", "factors", "adapter settings"]
BASE = ["base", "base fingerprint", "base template", "base tokenizer", "base tensors"]


@pytest.fixture
def folder(make_vector: MakeVector, tiny_folder: Path, tmp_path: Path) -> Path:
    """A hinged vector: low-rank on both sides, on the positive one also dense, sparse and signs."""
    vector = make_vector()
    generator = torch.Generator().manual_seed(3)
    value = torch.randn(64, 32, generator=generator)
    other: dict[str, Delta] = {
        "model.norm.weight": DenseDelta(torch.randn(32, generator=generator)),
        "model.layers.0.mlp.gate_proj.weight": to_sparse(value, value.abs() > 1.0),
        "model.layers.1.mlp.gate_proj.weight": to_signs(value),
    }
    card = vector.card.model_copy(update={"base": base_reference(str(tiny_folder))})
    save_vector(replace(vector, card=card, positive={**vector.positive, **other}), tmp_path / "v")
    return tmp_path / "v"


def states(folder: Path, base: str | None = None) -> dict[str, str]:
    (report,) = verify(folder, base=base).vectors
    return {check.name: check.state for check in report.checks}


def failures(folder: Path, base: str | None = None) -> dict[str, str]:
    (report,) = verify(folder, base=base).vectors
    return {check.name: check.detail for check in report.checks if check.state == "failed"}


def change_card(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    card = json.loads((folder / "card.json").read_text())
    change(card)
    (folder / "card.json").write_text(json.dumps(card))


def sign_again(folder: Path, *, tensors: bool = False) -> None:
    """Put present hashes into the card, as somebody would who alters a vector on purpose."""

    def change(card: dict[str, Any]) -> None:
        card["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in card["files"]}
        if tensors:
            card["tensors"] = {}

    change_card(folder, change)


def copies(path: Path) -> dict[str, torch.Tensor]:
    """A file's tensors, no longer mapped to it."""
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def rewrite(folder: Path, file: str, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change tensors of a file, metadata kept, and sign it again."""
    from safetensors import safe_open

    with safe_open(folder / file, "pt") as stream:
        metadata = stream.metadata()
    tensors = copies(folder / file)
    change(tensors)
    save_file(tensors, folder / file, metadata=metadata)
    sign_again(folder, tensors=True)


def flip(path: Path, place: int = -5) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_sound_vector_passes_every_check(folder: Path) -> None:
    assert load_card(folder).tensors[DENSE].keys() == set(load_file(folder / DENSE))
    assert states(folder) == dict.fromkeys([*CONTENT, *BASE], "ok")
    report = verify(folder)
    assert report.failed == []
    (vector,) = report.vectors
    assert vector.name == "medical"
    layers = 2 * 7  # linear layers of the tiny model; two of them have other forms on the positive side
    assert {c.name: c.detail for c in vector.checks}["factors"] == f"{2 * layers + 1} deltas fit together"


@pytest.mark.parametrize("file", [LOW, NEGATIVE, DENSE])
def test_a_missing_file_and_a_changed_byte_are_found(folder: Path, file: str) -> None:
    flip(folder / file)
    found = failures(folder)
    assert found.keys() == ({"files", "tensor hashes"} if file == DENSE else {"files"})
    assert found["files"] == f"{file} is damaged or was altered (its sha256 is not the card's)"
    (folder / file).unlink()
    assert failures(folder)["files"] == f"{file} is missing"


def test_a_tensor_that_was_signed_again_is_found_by_its_own_hash(folder: Path) -> None:
    tensors = copies(folder / DENSE)
    flip(folder / DENSE)
    changed = [name for name, tensor in copies(folder / DENSE).items() if not torch.equal(tensor, tensors[name])]
    sign_again(folder)
    found = failures(folder)
    assert found.keys() == {"tensor hashes"}
    assert len(changed) == 1
    assert changed[0] in found["tensor hashes"]


@pytest.mark.parametrize("name", ["more.safetensors", "negative/pytorch_model.bin", "old/x.pt"])
def test_tensors_that_the_card_does_not_name_are_found(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"anything")
    (folder / "README.md").write_text("harmless")
    assert failures(folder) == {"other files": f"{name} holds tensors, but card.json does not name it"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("file", [LOW, NEGATIVE, DENSE])
def test_values_that_are_not_finite_are_found(folder: Path, file: str, value: float) -> None:
    names = [name for name, t in load_file(folder / file).items() if t.is_floating_point() and t.ndim]
    rewrite(folder, file, lambda tensors: tensors[names[-1]].view(-1)[-1:].fill_(value))
    found = states(folder)
    assert [name for name, state in found.items() if state == "failed"] == ["finite values"]
    assert found["factors"] == found["adapter settings"] == "skipped"
    assert failures(folder)["finite values"] == f"{file}: tensor {names[-1]} has values that are not finite"


def lora(tensors: dict[str, torch.Tensor], side: str) -> str:
    return next(name for name in sorted(tensors) if f"lora_{side}" in name)


def drop(tensors: dict[str, torch.Tensor], name: str) -> None:
    del tensors[name]


def cut(tensors: dict[str, torch.Tensor], name: str) -> None:
    tensors[name] = tensors[name][:-1].contiguous()


SPARSE, SIGNS = "model.layers.0.mlp.gate_proj.weight", "model.layers.1.mlp.gate_proj.weight"


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        (LOW, lambda t: cut(t, lora(t, "A")), "do not fit together"),
        (NEGATIVE, lambda t: drop(t, lora(t, "B")), "incomplete"),
        (NEGATIVE, lambda t: drop(t, lora(t, "A")), "no LoRA factors"),
        (DENSE, lambda t: drop(t, f"{SPARSE}::counts"), "counts"),
        (DENSE, lambda t: cut(t, f"{SPARSE}::values"), "values, columns and counts"),
        (DENSE, lambda t: cut(t, f"{SPARSE}::counts"), "values, columns and counts"),
        (DENSE, lambda t: t[f"{SPARSE}::columns"].view(torch.int16).fill_(32), "values, columns and counts"),
        (DENSE, lambda t: cut(t, f"{SIGNS}::signs"), "signs"),
        (DENSE, lambda t: drop(t, f"{SIGNS}::scale"), "scale"),
    ],
)
def test_parts_that_do_not_fit_are_found(
    folder: Path, file: str, damage: Callable[[dict[str, torch.Tensor]], None], message: str
) -> None:
    rewrite(folder, file, damage)
    found = failures(folder)
    assert set(found) - {"adapter settings"} == {"factors"}
    assert states(folder)["base tensors"] == "skipped"
    assert message in found["factors"]
    assert str(folder) not in found["factors"]


@pytest.mark.parametrize(
    ("field", "value"), [("lora_alpha", 4), ("r", 8), ("use_rslora", True), ("alpha_pattern", {"lm_head": [1]})]
)
def test_an_adapter_that_peft_would_scale_is_found(folder: Path, field: str, value: object) -> None:
    path = folder / "negative/adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, field: value}))
    found = failures(folder)
    if field == "alpha_pattern":  # of a module that is not there
        assert found == {}
    else:
        assert found.keys() == {"adapter settings"}
        assert "negative/adapter_config.json" in found["adapter settings"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda card: card.update(colour="red"), "colour"),
        (lambda card: card["files"].update({"../secret.safetensors": "0" * 64}), "card.json names ../secret"),
        (lambda card: card["tensors"].update({"/etc/passwd": {}}), "hashes of tensors in /etc/passwd"),
        (lambda card: card.update(form="single"), "names negative/adapter_model.safetensors"),
    ],
)
def test_a_bad_card_stops_everything_else(folder: Path, damage: Callable[[dict[str, Any]], None], message: str) -> None:
    change_card(folder, damage)
    found = verify(folder).vectors[0]
    assert (found.name, [check.name for check in found.checks]) == (None, ["card"])
    assert message in found.checks[0].detail and str(folder) not in found.checks[0].detail
    (folder / "card.json").unlink()
    assert "no vector at" in failures(folder)["card"]


def test_a_side_that_is_not_there_is_found(folder: Path) -> None:
    change_card(folder, lambda card: card["files"].pop(NEGATIVE))
    shutil.rmtree(folder / "negative")
    assert failures(folder).keys() == {"factors"}
    change_card(folder, lambda card: card.update(files={}, tensors={}))
    assert "card.json lists no files" in failures(folder)["files"]


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


def test_cards_from_before_still_load_and_skip_what_they_do_not_state() -> None:
    shipped = Path(__file__).parents[2] / "vectors"
    cards = [load_card(folder) for folder in sorted(shipped.iterdir()) if folder.is_dir()]
    assert [card.name for card in cards] == ["financial", "legal", "medical"]
    old = json.loads(cards[0].model_dump_json())
    for key in ("tokenizer", "licence"):
        del old["base"][key]
    assert Card.model_validate(old).base.tokenizer is None


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


def details(folder: Path, base: str | None = None) -> dict[str, str]:
    (report,) = verify(folder, base=base).vectors
    return {check.name: check.detail for check in report.checks}


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


def test_a_base_that_cannot_be_read_is_one_failure(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    change_card(folder, lambda card: card["base"].update(name=str(tmp_path / "broken")))
    assert states(folder) == {**dict.fromkeys(CONTENT, "ok"), "base": "failed"}
