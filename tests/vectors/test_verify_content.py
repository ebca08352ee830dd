"""Every kind of damage to a vector's own files is found by the check that is for it, and by no other."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from alignvec.vectors.verify import verify
from tests.conftest import MakeVector
from tests.vectors.damage import change_card, copies, flip, lora, rewrite, sign_again
from tests.vectors.verifying import DENSE, LOW, NEGATIVE, failures, save_all_forms, states

SPARSE, SIGNS = "model.layers.0.mlp.gate_proj.weight", "model.layers.1.mlp.gate_proj.weight"


@pytest.fixture
def folder(make_vector: MakeVector, tiny_folder: Path, tmp_path: Path) -> Path:
    return save_all_forms(make_vector, tiny_folder, tmp_path / "v")


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


def drop(tensors: dict[str, torch.Tensor], name: str) -> None:
    del tensors[name]


def cut(tensors: dict[str, torch.Tensor], name: str) -> None:
    tensors[name] = tensors[name][:-1].contiguous()


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


@pytest.mark.parametrize(("field", "value"), [("lora_alpha", 4), ("r", 8), ("use_rslora", True)])
def test_an_adapter_that_peft_would_scale_is_found(folder: Path, field: str, value: object) -> None:
    path = folder / "negative/adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, field: value}))
    found = failures(folder)
    assert found.keys() == {"adapter settings"}
    assert "negative/adapter_config.json" in found["adapter settings"]


def test_a_scale_of_a_module_that_is_not_there_changes_nothing(folder: Path) -> None:
    path = folder / "negative/adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "alpha_pattern": {"lm_head": [1]}}))
    assert failures(folder) == {}


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
