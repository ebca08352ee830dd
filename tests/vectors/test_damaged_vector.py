"""Damage of every kind to a stored vector is named when it is loaded."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from alignvec.errors import VectorError
from alignvec.vectors.delta import DenseDelta
from alignvec.vectors.store import load_vector, save_vector
from alignvec.vectors.vector import AlignmentVector
from tests.conftest import MakeVector
from tests.vectors.damage import sign_again
from tests.vectors.stored import ADAPTERS


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("file", ADAPTERS)
def test_a_truncated_file_is_named(make_vector: MakeVector, tmp_path: Path, file: str, signed: bool) -> None:
    save_vector(make_vector(), tmp_path / "v")
    path = tmp_path / "v" / file
    path.write_bytes(path.read_bytes()[:-10])
    if signed:
        sign_again(tmp_path / "v")
    with pytest.raises(VectorError, match=str(path)):
        load_vector(tmp_path / "v")


@pytest.mark.parametrize("file", ADAPTERS)
def test_one_tampered_byte_is_found(make_vector: MakeVector, tmp_path: Path, file: str) -> None:
    save_vector(make_vector(), tmp_path / "v")
    path = tmp_path / "v" / file
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(VectorError, match=rf"{path} is damaged or was altered"):
        load_vector(tmp_path / "v")


@pytest.mark.parametrize("file", [*ADAPTERS, "adapter_config.json", "negative/adapter_config.json", "card.json"])
def test_a_missing_file_is_named(make_vector: MakeVector, tmp_path: Path, file: str) -> None:
    save_vector(make_vector(), tmp_path / "v")
    (tmp_path / "v" / file).unlink()
    named = (
        f"no vector at {tmp_path / 'v'} (it has no card.json)" if file == "card.json" else str(tmp_path / "v" / file)
    )
    with pytest.raises(VectorError, match=re.escape(named)):
        load_vector(tmp_path / "v")


def test_a_tensor_that_is_not_finite_is_named(make_vector: MakeVector, tmp_path: Path) -> None:
    save_vector(make_vector(), tmp_path / "v")
    path = tmp_path / "v" / ADAPTERS[0]
    tensors = load_file(path)
    name = sorted(tensors)[3]
    tensors[name][0, 0] = float("nan")
    save_file(tensors, path)
    sign_again(tmp_path / "v")
    with pytest.raises(VectorError, match=rf"{path}: tensor {name}"):
        load_vector(tmp_path / "v")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace('"name"', '"nmae"', 1), "(nmae|name): "),
        (lambda text: text.replace("{", '{"colour": 1,', 1), "colour"),
        (lambda text: text[: len(text) // 2], "Invalid JSON"),
        (lambda text: text.replace('"format_version": 1', '"format_version": 2'), "format_version"),
        (lambda text: text.replace('"form": "hinged"', '"form": "bent"'), "form: Input should be 'single'"),
        (lambda _: "[]", "the file"),
    ],
)
def test_a_bad_card_is_named(
    make_vector: MakeVector, tmp_path: Path, damage: Callable[[str], str], message: str
) -> None:
    save_vector(make_vector(), tmp_path / "v")
    path = tmp_path / "v/card.json"
    text = path.read_text().replace('":', '": ').replace('":  ', '": ')
    path.write_text(damage(text))
    assert path.read_text() != text
    with pytest.raises(VectorError, match=rf"{path}: .*({message})"):
        load_vector(tmp_path / "v")


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("file", ["deltas.safetensors", "negative/deltas.safetensors"])
def test_deltas_that_the_card_does_not_name_are_refused(
    make_vector: MakeVector, tmp_path: Path, file: str, lazy: bool
) -> None:
    save_vector(make_vector(), tmp_path / "v")
    save_file({"model.norm.weight": torch.ones(32)}, tmp_path / "v" / file)
    with pytest.raises(VectorError, match=f"{tmp_path / 'v' / file} is not in card.json.*remove it$"):
        load_vector(tmp_path / "v", lazy=lazy)


def test_an_adapter_that_the_card_does_not_name_is_refused(make_vector: MakeVector, tmp_path: Path) -> None:
    low = make_vector(hinged=False)
    save_vector(low, tmp_path / "low")
    save_vector(AlignmentVector(low.card, {"model.norm.weight": DenseDelta(torch.ones(32))}), tmp_path / "v")
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        (tmp_path / "low" / file).rename(tmp_path / "v" / file)
    with pytest.raises(VectorError, match="adapter_model.safetensors is not in card.json"):
        load_vector(tmp_path / "v")


@pytest.mark.parametrize("lazy", [False, True])
def test_a_tensor_in_both_files_is_refused(make_vector: MakeVector, tmp_path: Path, lazy: bool) -> None:
    low = make_vector(hinged=False)
    save_vector(AlignmentVector(low.card, {**low.positive, "x.weight": DenseDelta(torch.ones(2))}), tmp_path / "v")
    twice = sorted(low.positive)[0]
    save_file({twice: low.positive[twice].dense()}, tmp_path / "v/deltas.safetensors")
    sign_again(tmp_path / "v")
    card = json.loads((tmp_path / "v/card.json").read_text())
    (tmp_path / "v/card.json").write_text(json.dumps({**card, "tensors": {}}))
    with pytest.raises(VectorError, match=f"both change {twice}"):
        load_vector(tmp_path / "v", lazy=lazy)


@pytest.mark.parametrize("side", ["", "negative/"])
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("lora_alpha", 400, "rank 2 and alpha 400, but a vector's factors have scale 1"),
        ("lora_alpha", 0, "alpha 0"),
        ("use_rslora", True, "scale 1"),
        ("alpha_pattern", {"up_proj": 8}, "up_proj rank 2 and alpha 8"),  # PEFT reads the end of a name
        ("r", 4, "rank 4 and alpha 2, .* these rank 2"),
        ("r", None, "no usable rank"),
        ("rank_pattern", {"[": 2}, "no usable rank"),
    ],
)
def test_settings_that_scale_the_factors_are_refused(
    make_vector: MakeVector, tmp_path: Path, side: str, field: str, value: object, message: str
) -> None:
    save_vector(make_vector(rank=2), tmp_path / "v")
    path = tmp_path / "v" / f"{side}adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(VectorError, match=f"{path} gives .*{message}") as caught:
        load_vector(tmp_path / "v")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["altered", "not finite"])
def test_what_stays_on_disk_is_checked_by_its_own_hash_when_it_is_read(
    make_vector: MakeVector, tmp_path: Path, damage: str
) -> None:
    low = make_vector(hinged=False)
    save_vector(AlignmentVector(low.card, {"model.norm.weight": DenseDelta(torch.ones(32))}), tmp_path / "v")
    path = tmp_path / "v/deltas.safetensors"
    content = path.read_bytes()[:-4]
    path.write_bytes(content + torch.tensor([1.5 if damage == "altered" else torch.nan]).numpy().tobytes())
    found = load_vector(tmp_path / "v", lazy=True).positive["model.norm.weight"]
    with pytest.raises(VectorError, match=rf"{path}: tensor model.norm.weight is damaged \(not its hash\)"):
        found.dense()
    sign_again(tmp_path / "v")
    with pytest.raises(VectorError, match="not its hash"):  # the whole file's hash does not vouch for the tensor
        load_vector(tmp_path / "v")
    card = json.loads((tmp_path / "v/card.json").read_text())
    (tmp_path / "v/card.json").write_text(json.dumps({**card, "tensors": {}}))
    if damage == "altered":
        assert load_vector(tmp_path / "v").positive["model.norm.weight"].dense()[-1] == 1.5
    else:
        with pytest.raises(VectorError, match=rf"{path}: tensor model.norm.weight has values that are not finite"):
            load_vector(tmp_path / "v")
