"""The merged folder as plain transformers sees it, and what a merge refuses before it begins."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from merging import NORM, UP, WEIGHTS, grid, recipe, save, tensors_of, write_base

from alignvec import models
from alignvec.errors import KnobError, ModelError, StorageError, VectorError
from alignvec.merge.export import composition, export_peft
from alignvec.merge.run import REPORT, MergedKnob, MergeReport, merge
from alignvec.steer.model import KnobbedModel
from alignvec.vectors.delta import DenseDelta, LowRankDelta
from alignvec.vectors.fingerprint import fingerprint
from alignvec.vectors.store import save_vector
from tests.conftest import MakeVector

IDS = torch.arange(40).view(2, 20)


@pytest.fixture
def base(tiny_folder: Path, tmp_path: Path) -> Path:
    return write_base(tiny_folder, tmp_path / "base")


@pytest.fixture
def one(base: Path, tmp_path: Path) -> Path:
    save(base, tmp_path / "one", {UP: DenseDelta(grid(64, 32, seed=1)), NORM: DenseDelta(grid(32, seed=2))})
    return tmp_path / "one"


def run(base: Path, out: Path, **options: Any) -> MergeReport:
    values = options.pop("values", {})
    return merge(recipe(base, {"one": 0.5}, **values), out, vectors={"one": out.parent / "one"}, **options)


def test_plain_transformers_gives_the_turned_knobs_logits(
    make_vector: MakeVector, tiny_folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    vectors = [make_vector(name, seed=seed) for seed, name in enumerate(("medical", "legal"))]
    for vector in vectors:
        save_vector(vector, tmp_path / vector.name)
    asked = recipe(tiny_folder, {"medical": "expert", "legal": -0.3})
    merge(asked, tmp_path / "out", vectors={v.name: tmp_path / v.name for v in vectors})
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    knobbed = KnobbedModel(models.load(str(tiny_folder), device="cpu"), vectors)
    with torch.no_grad(), knobbed.knobs({"medical": 1.0, "legal": -0.3}) as turned:
        expected = turned(IDS).logits
        torch.testing.assert_close(model(IDS).logits, expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert not torch.allclose(expected, knobbed.base.model(IDS).logits, atol=1e-2)
    messages = [{"role": "user", "content": "hello"}]
    templates = [
        AutoTokenizer.from_pretrained(folder).apply_chat_template(messages, tokenize=False)
        for folder in (tmp_path / "out", tiny_folder)
    ]
    assert templates[0] == templates[1] != ""


def test_everything_but_old_weights_and_readme_is_copied(base: Path, one: Path, tmp_path: Path) -> None:
    written = {"generation_config.json": '{"top_k": 3}', "modeling_own.py": "x = 1\n", "vocab.txt": "a\n"}
    for name, text in written.items():
        (base / name).write_text(text)
    for name in ("README.md", "pytorch_model.bin", "alignvec.json", ".gitattributes"):
        (base / name).write_text("not the merged model's")
    (base / "folder").mkdir()
    run(base, tmp_path / "out")
    files = {path.name for path in (tmp_path / "out").iterdir()}
    left_out = {"README.md", "pytorch_model.bin", ".gitattributes", "folder"}
    assert files == ({path.name for path in base.iterdir()} - left_out) | {REPORT}
    for name in files - {REPORT, WEIGHTS, "config.json"}:
        assert (tmp_path / "out" / name).read_bytes() == (base / name).read_bytes()
    assert json.loads((tmp_path / "out/config.json").read_text()) == json.loads((base / "config.json").read_text())


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_the_config_names_the_new_dtype_under_its_own_key(base: Path, one: Path, tmp_path: Path, key: str) -> None:
    from transformers import AutoModelForCausalLM

    config = json.loads((base / "config.json").read_text())
    config[key] = config.pop("dtype")
    (base / "config.json").write_text(json.dumps(config))
    run(base, tmp_path / "out", values={"dtype": "bfloat16"})
    assert json.loads((tmp_path / "out/config.json").read_text()) == {**config, key: "bfloat16"}
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").dtype is torch.bfloat16


def test_the_report_says_what_it_is_made_of(base: Path, one: Path, tmp_path: Path) -> None:
    report = run(base, tmp_path / "out", values={"dtype": "float16", "seed": 3})
    assert MergeReport.model_validate_json((tmp_path / "out" / REPORT).read_text()) == report
    assert report.base_fingerprint == fingerprint(base)
    assert report.fingerprint == fingerprint(tmp_path / "out") != fingerprint(base)
    assert (report.dtype, report.rounding, report.seed, report.method) == ("float16", "nearest", 3, "sum")
    assert report.bytes == sum(tensor.nbytes for tensor in tensors_of(tmp_path / "out").values())
    assert report.knobs["one"].coefficient == 0.5


def stamp(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_the_same_merge_again_touches_nothing(base: Path, one: Path, tmp_path: Path) -> None:
    first, before = run(base, tmp_path / "out"), stamp(tmp_path / "out")
    assert run(base, tmp_path / "out") == first
    assert run(base, tmp_path / "out", overwrite=True) == first
    assert stamp(tmp_path / "out") == before


@pytest.mark.parametrize("damage", ["cut", "gone", "garbage", "report", "other"])
def test_another_or_a_damaged_merge_is_replaced_only_on_demand(
    base: Path, one: Path, tmp_path: Path, damage: str
) -> None:
    run(base, tmp_path / "out", values={"seed": 1} if damage == "other" else {})
    shard = tmp_path / "out" / WEIGHTS
    {
        "cut": lambda: shard.write_bytes(shard.read_bytes()[:-5000]),
        "gone": shard.unlink,
        "garbage": lambda: shard.write_bytes(b"\xff" * 100),
        "report": lambda: (tmp_path / "out" / REPORT).write_text("{"),
        "other": lambda: None,
    }[damage]()
    with pytest.raises(StorageError, match="another merge is there; choose another --out, or pass --overwrite"):
        run(base, tmp_path / "out")
    run(base, tmp_path / "out", overwrite=True)
    run(base, tmp_path / "new")
    assert shard.read_bytes() == (tmp_path / "new" / WEIGHTS).read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_only_a_merge_is_replaced(base: Path, one: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/mine").write_text("mine")
    (tmp_path / "link").symlink_to(base)
    wrong = {"file": "something else", "folder": "something else", "base": "the base model", "link": "the base model"}
    before = stamp(base)
    for name, message in {**wrong, "one": "something else", "file/out": "a file is in the way"}.items():
        with pytest.raises(StorageError, match=message):
            merge(recipe(base, {"one": 0.5}), tmp_path / name, vectors={"one": one}, overwrite=True)
    assert stamp(base) == before
    assert (tmp_path / "file").read_text() == (tmp_path / "folder/mine").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    run(base, tmp_path / "empty")
    assert (tmp_path / "empty" / REPORT).is_file()


def test_an_exported_adapter_is_no_merge_to_replace_nor_a_merge_an_adapter(
    make_vector: MakeVector, tiny_folder: Path, tmp_path: Path
) -> None:
    save_vector(make_vector(), tmp_path / "vector")
    composed = composition([make_vector()], {"medical": 1.0}, str(tiny_folder))
    export_peft(composed, tmp_path / "adapter")
    before = stamp(tmp_path / "adapter")
    asked, places = recipe(tiny_folder, {"medical": 1.0}), {"medical": tmp_path / "vector"}
    for overwrite in (False, True):
        with pytest.raises(StorageError, match="adapter: something else than a merged model is there"):
            merge(asked, tmp_path / "adapter", vectors=places, overwrite=overwrite)
    assert stamp(tmp_path / "adapter") == before
    merge(asked, tmp_path / "merged", vectors=places)
    with pytest.raises(StorageError, match="merged: something else than an exported adapter is there"):
        export_peft(composed, tmp_path / "merged")


def test_a_link_to_a_place_elsewhere_is_followed(base: Path, one: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk/model")
    run(base, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk/model" / REPORT).is_file()


def test_the_working_folder_may_be_the_place(
    base: Path, one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    merge(recipe(base, {"one": 0.5}), Path(), vectors={"one": one})
    assert (tmp_path / "here" / REPORT).is_file()


def test_a_vector_of_another_base_is_refused_unless_wanted(base: Path, one: Path, tmp_path: Path) -> None:
    other = write_base(base, tmp_path / "other", dtype=torch.bfloat16)
    with pytest.raises(VectorError, match=r"belongs to base .* --allow-other-base"):
        run(other, tmp_path / "out")
    run(other, tmp_path / "out", allow_other_base=True)
    expected = tensors_of(other)[NORM].double() + 0.5 * grid(32, seed=2).double()
    assert torch.equal(tensors_of(tmp_path / "out")[NORM], expected.bfloat16())


def test_a_wrong_shape_or_name_is_refused(base: Path, tmp_path: Path) -> None:
    for deltas, message in (
        ({UP: DenseDelta(torch.ones(32, 64))}, r"as \[32, 64\], but here it is \[64, 32\]"),
        ({UP: LowRankDelta(torch.ones(1, 32), torch.ones(63, 1))}, r"as \[63, 32\], but here it is \[64, 32\]"),
        ({"model.other.weight": DenseDelta(torch.ones(3))}, "changes model.other.weight, which this model does not"),
    ):
        save(base, tmp_path / "one", deltas)
        with pytest.raises(VectorError, match=message):
            run(base, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_an_adapter_folder_may_stand_for_a_model(base: Path, tmp_path: Path) -> None:
    a, b = grid(2, 32, seed=1, unit=2.0**-4, steps=8), grid(64, 2, seed=2, unit=2.0**-8, steps=16)
    save(base, tmp_path / "adapter", {UP: LowRankDelta(a, b)})
    report = merge(recipe(base, {"one": {"model": str(tmp_path / "adapter")}}), tmp_path / "out")
    expected = tensors_of(base)[UP].double() + b.double() @ a.double()
    assert torch.equal(tensors_of(tmp_path / "out")[UP], expected.float())
    save(base, tmp_path / "adapter", {UP: LowRankDelta(a, 2 * b)})
    again = merge(recipe(base, {"one": {"model": str(tmp_path / "adapter")}}), tmp_path / "out", overwrite=True)
    assert again.knobs["one"].source != report.knobs["one"].source


def test_unknown_names_and_levels_are_told(base: Path, one: Path, tmp_path: Path) -> None:
    with pytest.raises(KnobError, match=r"no vector named 'legal' is at hand \(have: one\)"):
        merge(recipe(base, {"legal": 1.0}), tmp_path / "out", vectors={"one": one})
    with pytest.raises(KnobError, match=r"no level 'loud' \(have: expert\)"):
        merge(recipe(base, {"one": "loud"}), tmp_path / "out", vectors={"one": one})
    assert (
        merge(recipe(base, {"one": "expert"}), tmp_path / "out", vectors={"one": one}).knobs["one"].coefficient == 0.5
    )


def test_a_damaged_base_is_refused(base: Path, one: Path, tmp_path: Path) -> None:
    shard = base / WEIGHTS
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(VectorError, match=f"cannot read {shard}.*truncated"):
        run(base, tmp_path / "out")
    shard.unlink()
    with pytest.raises(ModelError, match=r"no \*.safetensors weights"):
        run(base, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_coefficient_that_rounding_has_changed_is_warned_of() -> None:
    knob = {"layers": None, "density": 1.0, "source": "x"}
    report = MergeReport.model_construct(
        knobs={
            "kept": MergedKnob(coefficient=0.5, realised=0.46, **knob),
            "lost": MergedKnob(coefficient=0.1, realised=0.05, **knob),
            "inflated": MergedKnob(coefficient=-0.1, realised=-0.5, **knob),
            "noise": MergedKnob(coefficient=1.0, realised=1.0, source_warning="it was rounded", **knob),
        },
        method="sum",
        normalize=False,
        scale=1.0,
        dtype="bfloat16",
    )
    first, second = report.warnings()
    assert first == "model 'noise': it was rounded"
    assert second.startswith(
        "rounding to bfloat16 changed λ of lost, inflated by more than a tenth; --rounding stochastic"
    )
    assert (
        report.model_copy(update={"method": "ties"}).warnings()[-1].startswith("the realised λ is measured for plain")
    )
