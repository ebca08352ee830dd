"""Vectors on disk: exact round trips, PEFT as a second reader, and damage of every kind."""

import errno
import hashlib
import json
import resource
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from alignvec.errors import AlignvecError, StorageError, VectorError
from alignvec.models import BaseModel
from alignvec.steer.model import KnobbedModel
from alignvec.vectors import store
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta
from alignvec.vectors.store import find_vectors, load_card, load_vector, save_card, save_vector
from alignvec.vectors.vector import AlignmentVector, Deltas
from tests.conftest import MakeVector

IDS = torch.arange(40).view(2, 20)
ADAPTERS = ["adapter_model.safetensors", "negative/adapter_model.safetensors"]


def tensors_of(deltas: Deltas | None) -> dict[str, torch.Tensor]:
    found = {}
    for name, delta in (deltas or {}).items():
        parts = {"a": delta.a, "b": delta.b} if isinstance(delta, LowRankDelta) else {"value": delta.value}
        found |= {f"{name} {part}": tensor for part, tensor in parts.items()}
    return found


def assert_identical(found: Deltas | None, expected: Deltas | None) -> None:
    before, after = tensors_of(expected), tensors_of(found)
    assert set(after) == set(before)
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def sign_again(folder: Path) -> None:
    """Put the files' present sha256 into the card, as somebody would who alters a vector on purpose."""
    card = json.loads((folder / "card.json").read_text())
    card["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in card["files"]}
    (folder / "card.json").write_text(json.dumps(card))


@pytest.mark.parametrize("hinged", [False, True])
def test_a_round_trip_changes_no_bit(make_vector: MakeVector, tmp_path: Path, hinged: bool) -> None:
    vector = make_vector(hinged=hinged)
    stored = save_vector(vector, tmp_path / "v")
    loaded = load_vector(tmp_path / "v")
    assert_identical(loaded.positive, vector.positive)
    assert_identical(loaded.negative, vector.negative)
    card = loaded.card.model_dump(mode="json")
    assert card == stored.card.model_dump(mode="json")
    assert {**card, "files": {}} == vector.card.model_dump(mode="json")
    assert set(loaded.card.files) == set(ADAPTERS[: 1 + hinged])


def test_dense_and_mixed_vectors_round_trip(make_vector: MakeVector, tmp_path: Path) -> None:
    low = make_vector(hinged=False)
    dense: dict[str, Delta] = {"model.norm.weight": DenseDelta(torch.randn(32)), "x": DenseDelta(torch.randn(3, 2))}
    for number, deltas in enumerate((dense, {**low.positive, **dense})):
        save_vector(AlignmentVector(low.card, deltas), tmp_path / f"v{number}")
        assert_identical(load_vector(tmp_path / f"v{number}").positive, deltas)


def test_half_precision_storage_records_its_rounding(make_vector: MakeVector, tmp_path: Path) -> None:
    vector = make_vector(hinged=True)
    stored = save_vector(vector, tmp_path / "v", dtype=torch.float16)
    loaded = load_vector(tmp_path / "v")
    exact = [*tensors_of(vector.positive).values(), *tensors_of(vector.negative).values()]
    worst = max(((t.half().double() - t.double()).norm() / t.double().norm()).item() for t in exact)
    assert worst > 1e-5
    assert stored.card.error["storage_rounding"] == pytest.approx(worst, rel=1e-3)
    assert loaded.card.error == stored.card.error
    for name, tensor in tensors_of(vector.negative).items():
        assert torch.equal(tensors_of(loaded.negative)[name], tensor.half().float())


def test_a_value_that_overflows_the_storage_dtype_is_refused(make_vector: MakeVector, tmp_path: Path) -> None:
    vector = replace(
        make_vector(hinged=False), positive={"w.weight": LowRankDelta(torch.ones(1, 2), torch.full((2, 1), 1e6))}
    )
    with pytest.raises(VectorError, match=r"'medical' is not finite in torch.float16"):
        save_vector(vector, tmp_path / "v", dtype=torch.float16)
    assert list(tmp_path.iterdir()) == []


def test_peft_reads_both_sides_as_they_are(make_vector: MakeVector, tiny: BaseModel, tmp_path: Path) -> None:
    from peft import PeftModel

    vector, wide = make_vector(rank=2), make_vector(rank=5, seed=3)
    assert vector.negative is not None
    mixed = {n: wide.positive[n] if "up_proj" in n or ".0.self_attn.q" in n else d for n, d in vector.positive.items()}
    vector = replace(vector, positive=mixed)
    save_vector(vector, tmp_path / "v")
    knobbed = KnobbedModel(tiny, [vector])
    for folder, coefficient, deltas in ((tmp_path / "v", 1.0, mixed), (tmp_path / "v/negative", -1.0, vector.negative)):
        assert deltas is not None
        merged = deepcopy(tiny.model)
        weights = dict(merged.named_parameters())
        with torch.no_grad():
            for name, delta in deltas.items():
                weights[name] += delta.dense()
            by_peft = PeftModel.from_pretrained(deepcopy(tiny.model), folder)(IDS).logits
            with knobbed.knobs({"medical": coefficient}) as model:
                by_knob = model(IDS).logits
            torch.testing.assert_close(by_peft, merged(IDS).logits, rtol=1e-5, atol=1e-4)
            torch.testing.assert_close(by_knob, by_peft, rtol=1e-5, atol=1e-4)
            assert (by_peft - tiny.model(IDS).logits).abs().max() > 0.01


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
    with pytest.raises(VectorError, match=file.rpartition("/")[2]):
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
        (lambda text: text.replace('"name"', '"nmae"', 1), "nmae|name"),
        (lambda text: text.replace("{", '{"colour": 1,', 1), "colour"),
        (lambda text: text[: len(text) // 2], "Invalid JSON"),
        (lambda text: text.replace('"format_version": 1', '"format_version": 2'), "format_version"),
        (lambda text: text.replace('"form": "hinged"', '"form": "bent"'), "form"),
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


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_save_that_fails_leaves_the_old_vector(
    make_vector: MakeVector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    save_vector(make_vector(seed=0), tmp_path / "v")
    before = snapshot(tmp_path / "v")

    def write_half(tensors: dict[str, torch.Tensor], path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise error

    monkeypatch.setattr(store, "save_file", write_half)
    with pytest.raises((StorageError, KeyboardInterrupt)) as failure:
        save_vector(make_vector(seed=1), tmp_path / "v")
    if isinstance(error, OSError):
        assert str(failure.value) == f"cannot write {tmp_path / 'v'}: no space left on the device; free some space"
    assert snapshot(tmp_path / "v") == before
    assert [p.name for p in tmp_path.iterdir()] == ["v"]


def test_a_write_that_the_system_cuts_short_is_a_storage_error(make_vector: MakeVector, tmp_path: Path) -> None:
    save_vector(make_vector(seed=0), tmp_path / "v")
    before = snapshot(tmp_path / "v")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(StorageError, match=f"cannot write {tmp_path / 'v'}") as failure:
            save_vector(make_vector(seed=1), tmp_path / "v")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(failure.value)
    assert snapshot(tmp_path / "v") == before


def test_a_save_replaces_the_old_vector_whole(make_vector: MakeVector, tmp_path: Path) -> None:
    save_vector(make_vector(hinged=True), tmp_path / "v")
    single = make_vector(hinged=False, seed=5)
    save_vector(single, tmp_path / "v")
    assert not (tmp_path / "v/negative").exists()
    assert_identical(load_vector(tmp_path / "v").positive, single.positive)


def test_vectors_are_found_in_subfolders_or_in_the_folder_itself(make_vector: MakeVector, tmp_path: Path) -> None:
    save_vector(make_vector("medical"), tmp_path / "a")
    save_vector(make_vector("legal"), tmp_path / "b")
    (tmp_path / "notes").mkdir()
    assert find_vectors(tmp_path) == {"medical": tmp_path / "a", "legal": tmp_path / "b"}
    assert find_vectors(tmp_path / "b") == {"legal": tmp_path / "b"}
    assert find_vectors(tmp_path / "notes") == {}


def test_two_folders_with_one_vector_name_are_not_silently_one(make_vector: MakeVector, tmp_path: Path) -> None:
    save_vector(make_vector("medical", seed=0), tmp_path / "a")
    save_vector(make_vector("medical", seed=1), tmp_path / "b")
    with pytest.raises(AlignvecError, match="medical"):
        find_vectors(tmp_path)


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


def test_a_card_is_read_again_before_it_keeps_what_was_measured(make_vector: MakeVector, tmp_path: Path) -> None:
    before = save_vector(make_vector(), tmp_path / "v").card
    store.save_card(tmp_path / "v", before.model_copy(update={"notes": "saved meanwhile"}))
    assert store.reload_card(tmp_path / "v", before).notes == "saved meanwhile"
    save_vector(make_vector(seed=1), tmp_path / "v")
    with pytest.raises(VectorError, match=f"vector in {tmp_path / 'v'} was replaced while it was measured"):
        store.reload_card(tmp_path / "v", before)


def test_a_card_is_written_for_people_too(make_vector: MakeVector, tmp_path: Path) -> None:
    """One field a line and a newline at the end, so that a change of it is read line by line."""
    card = save_vector(make_vector(), tmp_path / "v").card.model_copy(update={"notes": "λ"})
    saved = (tmp_path / "v/card.json").read_text(encoding="utf-8")
    save_card(tmp_path / "v", card)
    text = (tmp_path / "v/card.json").read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n"
    assert saved == json.dumps(json.loads(saved), indent=1, ensure_ascii=False)
    assert load_card(tmp_path / "v").model_dump_json() == card.model_dump_json()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("form", ["adapter", "dense"])
def test_a_vector_is_loaded_in_the_dtype_that_is_asked_for(
    make_vector: MakeVector, tmp_path: Path, dtype: torch.dtype, form: str
) -> None:
    low = make_vector(hinged=False)
    dense: dict[str, Delta] = {"model.norm.weight": DenseDelta(torch.randn(32))}
    vector = low if form == "adapter" else AlignmentVector(low.card, dense)
    save_vector(vector, tmp_path / "v")
    for name, tensor in tensors_of(load_vector(tmp_path / "v", dtype=dtype).positive).items():
        assert torch.equal(tensor, tensors_of(vector.positive)[name].to(dtype)) and tensor.dtype == dtype


@pytest.mark.parametrize("before", [0.0, 0.25])
def test_the_worst_rounding_of_a_vectors_storages_stays_on_its_card(
    make_vector: MakeVector, tmp_path: Path, before: float
) -> None:
    vector = make_vector()
    card = vector.card.model_copy(update={"error": {"storage_rounding": before}})
    stored = save_vector(replace(vector, card=card), tmp_path / "v", dtype=torch.float16)
    assert stored.card.error["storage_rounding"] == 0.25 if before else 0 < stored.card.error["storage_rounding"] < 1e-3


def test_the_adapters_settings_are_what_peft_needs_for_scale_one(tmp_path: Path, make_vector: MakeVector) -> None:
    shapes = {"x.up": 3, "x.down": 3, "x.q": 5}
    low: dict[str, Delta] = {f"{n}.weight": LowRankDelta(torch.ones(r, 4), torch.ones(6, r)) for n, r in shapes.items()}
    vector = replace(make_vector(hinged=False), positive=low)
    save_vector(vector, tmp_path / "v")
    assert json.loads((tmp_path / "v/adapter_config.json").read_text()) == {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": vector.card.base.name,
        "r": 3,
        "lora_alpha": 3,
        "rank_pattern": {"x.q": 5},
        "alpha_pattern": {"x.q": 5},
        "target_modules": ["x.down", "x.q", "x.up"],
        "bias": "none",
        "lora_dropout": 0.0,
        "fan_in_fan_out": False,
        "inference_mode": True,
    }


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
