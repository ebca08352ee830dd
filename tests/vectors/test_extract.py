"""Extraction against PEFT's own merge and against plain subtraction of checkpoints."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from alignvec import models
from alignvec.errors import ModelError, VectorError
from alignvec.models import BaseModel
from alignvec.steer.model import KnobbedModel
from alignvec.vectors.extract import base_reference, extract, other_base
from alignvec.vectors.fingerprint import fingerprint, template_hash, tokenizer_hash
from tests.conftest import write_tiny_model
from tests.vectors import peft_adapters

IDS = torch.arange(40).view(2, 20)
WEIGHTS = "model.safetensors"
Tensors = dict[str, torch.Tensor]


write_adapter = partial(peft_adapters.write_adapter, target_modules="all-linear")


def merged_difference(base: BaseModel, adapted: Any) -> Tensors:
    """What PEFT's merge adds to the base, in float64."""
    before = dict(base.model.named_parameters())
    merged = adapted.merge_and_unload()
    return {name: (w.double() - before[name].double()).detach() for name, w in merged.named_parameters()}


def write_changed(source: Path, folder: Path, change: Callable[[Tensors], object]) -> Path:
    """A copy of a model folder with other tensors."""
    shutil.copytree(source, folder)
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def align(tensors: Tensors) -> None:
    generator = torch.Generator().manual_seed(7)
    for name in ("model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight"):
        tensors[name] = tensors[name] + 0.05 * torch.randn(tensors[name].shape, generator=generator)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"lora_alpha": 4},
        {"rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 7}, "alpha_pattern": {"mlp.down_proj": 1, "q_proj": 5}},
        {"use_rslora": True, "rank_pattern": {"k_proj": 3}},
        {"rank_pattern": {r"layers\.0\..*_proj": 3}, "alpha_pattern": {r".*\.1\.self_attn\.(q|v)_proj": 9}},
        {"target_modules": ["gate_proj", "o_proj"], "layers_to_transform": [1]},
    ],
    ids=["alpha-6-rank-4", "alpha-is-rank", "patterns", "rslora", "regex-patterns", "some-layers"],
)
def test_an_adapter_gives_what_pefts_merge_adds(tiny: BaseModel, tmp_path: Path, config: dict[str, Any]) -> None:
    expected = merged_difference(tiny, write_adapter(tiny, tmp_path / "adapter", **config))
    vector = extract(tiny.name, str(tmp_path / "adapter"), name="medical")
    assert set(vector.positive) == {name for name, value in expected.items() if value.any()}
    for name, delta in vector.positive.items():
        torch.testing.assert_close(delta.dense().double(), expected[name], rtol=0, atol=1e-6)


def test_the_card_names_the_base(tiny: BaseModel, tmp_path: Path) -> None:
    write_adapter(tiny, tmp_path / "adapter")
    card = extract(tiny.name, str(tmp_path / "adapter"), name="medical", domain="health").card
    assert (card.name, card.domain, card.form, card.method) == ("medical", "health", "single", "one-sided")
    assert card.base.model_dump() == {
        "name": tiny.name,
        "fingerprint": fingerprint(tiny.folder),
        "template": template_hash(tiny.tokenizer),
        "tokenizer": tokenizer_hash(tiny.tokenizer),
        "licence": None,
    }


def test_two_checkpoints_give_their_exact_difference(tiny_folder: Path, tmp_path: Path) -> None:
    aligned = write_changed(tiny_folder, tmp_path / "aligned", align)
    vector = extract(str(tiny_folder), str(aligned), name="medical")
    before, after = load_file(tiny_folder / WEIGHTS), load_file(aligned / WEIGHTS)
    assert set(vector.positive) == {n for n in before if not torch.equal(before[n], after[n])}
    assert len(vector.positive) == 3
    for name, delta in vector.positive.items():
        assert torch.equal(delta.dense(), after[name] - before[name])


def test_at_one_a_full_vector_is_the_aligned_model_tied_head_included(tiny_folder: Path, tmp_path: Path) -> None:
    aligned = write_changed(tiny_folder, tmp_path / "aligned", align)
    vector = extract(str(tiny_folder), str(aligned), name="medical")
    assert "lm_head.weight" not in vector.positive
    knobbed = KnobbedModel(models.load(str(tiny_folder), device="cpu"), [vector])
    with torch.no_grad():
        expected = models.load(str(aligned), device="cpu").model(IDS).logits
        with knobbed.knobs({"medical": 1.0}) as model:
            torch.testing.assert_close(model(IDS).logits, expected, rtol=1e-4, atol=1e-5)


def test_a_sharded_checkpoint_gives_the_same_difference(tiny_folder: Path, tmp_path: Path) -> None:
    aligned = write_changed(tiny_folder, tmp_path / "aligned", align)
    whole = extract(str(tiny_folder), str(aligned), name="medical")
    tensors = load_file(aligned / WEIGHTS)
    (aligned / WEIGHTS).unlink()
    for number in (0, 1):
        save_file(dict(list(tensors.items())[number::2]), aligned / f"model-0000{number + 1}-of-00002.safetensors")
    sharded = extract(str(tiny_folder), str(aligned), name="medical")
    assert set(sharded.positive) == set(whole.positive)
    assert all(torch.equal(sharded.positive[n].dense(), whole.positive[n].dense()) for n in whole.positive)


def test_bfloat16_checkpoints_are_subtracted_in_float32(tiny_folder: Path, tmp_path: Path) -> None:
    name = "model.norm.weight"
    base = write_changed(tiny_folder, tmp_path / "a", lambda t: t.update({name: torch.full((32,), 256.0).bfloat16()}))
    aligned = write_changed(base, tmp_path / "b", lambda t: t.update({name: torch.full((32,), 1 + 2.0**-7).bfloat16()}))
    vector = extract(str(base), str(aligned), name="medical")
    assert (vector.positive[name].dense() == 1 + 2.0**-7 - 256).all()  # needs 16 bits, more than bfloat16 has


def test_two_models_that_do_not_differ_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_folder, tmp_path / "same")
    with pytest.raises(VectorError, match=r"has the same weights as .*nothing to extract"):
        extract(str(tiny_folder), str(tmp_path / "same"), name="medical")


def drop(tensors: Tensors) -> None:
    del tensors["model.norm.weight"]


def extend(tensors: Tensors) -> None:
    tensors["model.extra.weight"] = torch.zeros(258, 32)


def halve(tensors: Tensors) -> None:
    tensors["model.norm.weight"] = tensors["model.norm.weight"].bfloat16()


def grow(tensors: Tensors) -> None:
    name = "model.embed_tokens.weight"
    tensors[name] = torch.cat([2 * tensors[name], torch.ones(2, 32)])


def poison(tensors: Tensors) -> None:
    tensors["model.norm.weight"][0] = float("nan")


def reshape(tensors: Tensors) -> None:
    tensors["model.norm.weight"] = torch.ones(33)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, "in 1 tensors: model.norm.weight is in the base only; --allow missing"),
        (extend, "in 1 tensors: model.extra.weight is in the aligned model only; --allow missing"),
        (halve, "model.norm.weight is F32 in the base and BF16 in the aligned model; --allow dtype"),
        (grow, r"embed_tokens.weight is \[258, 32\] in the base and \[260, 32\] .*; --allow vocabulary"),
        (poison, "model.norm.weight .* not finite"),
        (reshape, r"model.norm.weight is \[32\] in the base and \[33\] .*one architecture"),
    ],
)
def test_checkpoints_that_do_not_match_are_refused(
    tiny_folder: Path, tmp_path: Path, change: Callable[[Tensors], object], message: str
) -> None:
    aligned = write_changed(tiny_folder, tmp_path / "aligned", change)
    with pytest.raises(VectorError, match=message):
        extract(str(tiny_folder), str(aligned), name="medical")


def test_a_truncated_checkpoint_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    aligned = write_changed(tiny_folder, tmp_path / "aligned", align)
    (aligned / WEIGHTS).write_bytes((aligned / WEIGHTS).read_bytes()[:-100])
    with pytest.raises(VectorError, match=f"cannot read {aligned}"):
        extract(str(tiny_folder), str(aligned), name="medical")


def test_a_checkpoint_of_another_size_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other", hidden=64)
    with pytest.raises(VectorError, match="both must be checkpoints of one architecture"):
        extract(str(tiny_folder), str(other), name="medical")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"use_dora": True}, "use_dora=True"),
        ({"lora_bias": True}, "lora_B.bias|lora_bias"),
        ({"target_modules": ["embed_tokens", "q_proj"]}, "ties its output head"),
        ({"init_lora_weights": "pissa"}, "pissa"),  # it changes the base weights as well
    ],
    ids=["dora", "biases", "embedding", "pissa"],
)
def test_adapters_that_are_more_than_low_rank_factors_are_refused(
    tiny: BaseModel, tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    write_adapter(tiny, tmp_path / "adapter", **config)
    with pytest.raises(VectorError, match=message):
        extract(tiny.name, str(tmp_path / "adapter"), name="medical")


@pytest.mark.parametrize(
    "content", ["{", "[]", '["lora_alpha"]', json.dumps({"peft_type": "LORA"}), json.dumps({"peft_type": "IA3"})]
)
def test_a_damaged_adapter_config_is_named(tiny: BaseModel, tmp_path: Path, content: str) -> None:
    write_adapter(tiny, tmp_path / "adapter")
    path = tmp_path / "adapter/adapter_config.json"
    path.write_text(content)
    told = "is it a PEFT adapter folder" if content == "{" else "is no configuration of a LoRA adapter"
    with pytest.raises(VectorError, match=rf"{path}.*{told}"):
        extract(tiny.name, str(tmp_path / "adapter"), name="medical")


def test_half_an_adapter_is_refused(tiny: BaseModel, tmp_path: Path) -> None:
    write_adapter(tiny, tmp_path / "adapter")
    path = tmp_path / "adapter/adapter_model.safetensors"
    tensors = load_file(path)
    missing = next(name for name in tensors if "lora_B" in name)
    save_file({name: t for name, t in tensors.items() if name != missing}, path)
    with pytest.raises(VectorError, match=f"no {missing}"):
        extract(tiny.name, str(tmp_path / "adapter"), name="medical")


def test_an_adapter_of_another_base_is_refused(tiny: BaseModel, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other", hidden=64)
    write_adapter(tiny, tmp_path / "adapter")
    with pytest.raises(VectorError, match=r"as \[\d+, \d+\], but here it is \[\d+, \d+\]"):
        extract(str(other), str(tmp_path / "adapter"), name="medical")


def test_the_recipe_names_what_it_was_extracted_from(tiny: BaseModel, tiny_folder: Path, tmp_path: Path) -> None:
    write_adapter(tiny, tmp_path / "adapter", target_modules=["q_proj"])
    files = ("adapter_config.json", "adapter_model.safetensors")
    content = b"".join((tmp_path / "adapter" / name).read_bytes() for name in files)
    aligned = write_changed(tiny_folder, tmp_path / "aligned", align)
    for folder, identity in ((tmp_path / "adapter", sha256(content).hexdigest()), (aligned, fingerprint(aligned))):
        card = extract(str(tiny_folder), str(folder), name="medical").card
        assert card.recipe == {"aligned": str(folder), "aligned_fingerprint": identity}
        assert (card.form, card.method, (card.source is None)) == ("single", "one-sided", folder != aligned)
    own = extract(str(tiny_folder), str(aligned), name="medical", recipe={"seed": 1}, method="mine", notes="n").card
    assert (own.recipe, own.method, own.notes) == ({"seed": 1}, "mine", "n")


def test_a_base_without_a_usable_tokenizer_is_told_in_one_line_with_the_cause(
    tiny_folder: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_folder, tmp_path / "base")
    for path in base.glob("*token*"):
        path.unlink()
    with pytest.raises(
        ModelError, match=r"has no usable tokenizer: (\S+ ){3,}.*; copy the tokenizer's files"
    ) as caught:
        base_reference(str(base))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("named", ["somebody/else", "moved/BASE", None], ids=["another", "the same elsewhere", "none"])
def test_an_adapter_that_names_another_base_is_noticed(named: str | None, tiny_folder: Path, tmp_path: Path) -> None:
    named = named and named.replace("BASE", tiny_folder.name)
    settings = {"peft_type": "LORA", "lora_alpha": 8, "base_model_name_or_path": named}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    assert other_base(str(tiny_folder), str(tmp_path)) == ("somebody/else" if named == "somebody/else" else None)
    assert other_base(str(tiny_folder), str(tiny_folder)) is None  # a whole model names no base


def test_an_adapter_may_name_its_base_by_anything(tiny_folder: Path, tmp_path: Path) -> None:
    for named in ("x" * 5000, "zero\0byte"):
        settings = {"peft_type": "LORA", "lora_alpha": 8, "base_model_name_or_path": named}
        (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
        assert other_base(str(tiny_folder), str(tmp_path)) == named


@pytest.mark.parametrize("how", ["never trained", "alpha of 0"])
def test_an_adapter_that_changes_nothing_is_refused(tiny: BaseModel, tmp_path: Path, how: str) -> None:
    write_adapter(tiny, tmp_path / "adapter", lora_alpha=6 if how == "never trained" else 0)
    if how == "never trained":
        path = tmp_path / "adapter/adapter_model.safetensors"
        save_file({name: t * ("lora_A" in name) for name, t in load_file(path).items()}, path)
    with pytest.raises(VectorError, match=r"adapter changes nothing: all its factors' products are 0"):
        extract(tiny.name, str(tmp_path / "adapter"), name="medical")


def test_an_adapter_with_factors_of_another_rank_is_refused(tiny: BaseModel, tmp_path: Path) -> None:
    write_adapter(tiny, tmp_path / "adapter", rank_pattern={"layers.1.self_attn.q_proj": 2})
    extract(tiny.name, str(tmp_path / "adapter"), name="medical")
    path = tmp_path / "adapter/adapter_config.json"
    settings = json.loads(path.read_text())
    for changed, rank in (({"r": 64}, 64), ({"rank_pattern": {"q_proj": 9}}, 9), ({"rank_pattern": {}}, 4)):
        path.write_text(json.dumps({**settings, **changed}))
        with pytest.raises(VectorError, match=f"gives model.layers.* rank {rank}, but its factors have rank [42]"):
            extract(tiny.name, str(tmp_path / "adapter"), name="medical")
