"""Differences of two checkpoints: what is refused, what is left out, and how little is held at once."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from merging import EMBEDDING, INDEX, NORM, UP, WEIGHTS, Tensors, tensors_of, write_base, write_model
from safetensors.torch import save_file

from alignvec.errors import VectorError
from alignvec.vectors import difference as module
from alignvec.vectors.difference import difference
from alignvec.vectors.extract import extract
from alignvec.vectors.mismatch import POLICIES as WHAT
from alignvec.vectors.mismatch import Mismatch
from alignvec.vectors.store import load_vector, save_vector
from alignvec.vectors.stored import DifferenceDelta
from alignvec.vectors.tensorfile import Entry, Reader

HEAD = "lm_head.weight"
Change = Callable[[Tensors], object]


@pytest.fixture
def base(tiny_folder: Path, tmp_path: Path) -> Path:
    return write_base(tiny_folder, tmp_path / "base", extra={"extra.ids": torch.arange(6)})


def changed(base: Path, folder: Path, *changes: Change, tied: bool = True) -> Path:
    tensors = tensors_of(base)
    tensors[UP] = tensors[UP] + 2.0**-10
    for change in changes:
        change(tensors)
    return write_model(folder, tensors, like=base, tied=tied)


def halved(tensors: Tensors) -> None:
    tensors[NORM] = tensors[NORM].bfloat16() + 1


def grown(tensors: Tensors) -> None:
    tensors[EMBEDDING] = torch.cat([tensors[EMBEDDING] + 0.5, torch.ones(3, 32)])


def shrunk(tensors: Tensors) -> None:
    tensors[EMBEDDING] = tensors[EMBEDDING][:250] + 0.5


def fewer(tensors: Tensors) -> None:
    del tensors["model.layers.0.mlp.up_proj.weight"]


def more(tensors: Tensors) -> None:
    tensors["model.layers.0.mlp.up_proj.bias"] = torch.ones(64)


def grown_and_halved(tensors: Tensors) -> None:
    grown(tensors)
    tensors[EMBEDDING] = tensors[EMBEDDING].bfloat16()


POLICIES: list[tuple[tuple[Change, ...], list[str], list[str]]] = [
    ((halved,), ["dtype"], [f"{NORM} is F32 in the base and BF16 in the aligned model"]),
    ((grown,), ["vocabulary"], [f"{EMBEDDING} is [258, 32] in the base and [261, 32] in the aligned model"]),
    ((shrunk,), ["vocabulary"], [f"{EMBEDDING} is [258, 32] in the base and [250, 32] in the aligned model"]),
    ((fewer,), ["missing"], ["model.layers.0.mlp.up_proj.weight is in the base only"]),
    ((more,), ["missing"], ["model.layers.0.mlp.up_proj.bias is in the aligned model only"]),
    (
        (grown_and_halved,),
        ["dtype", "vocabulary"],
        [f"{EMBEDDING} is [258, 32] in the base and [261, 32]", f"{EMBEDDING} is F32 in the base and BF16"],
    ),
    (
        (halved, shrunk, fewer, more),
        ["dtype", "missing", "vocabulary"],
        [f"{NORM} is F32", f"{EMBEDDING} is [258, 32]", "up_proj.weight is in the base", "up_proj.bias is in the al"],
    ),
]


@pytest.mark.parametrize(("changes", "policies", "texts"), POLICIES)
def test_each_mismatch_needs_its_policy(
    base: Path, tmp_path: Path, changes: tuple[Change, ...], policies: list[str], texts: list[str]
) -> None:
    aligned = changed(base, tmp_path / "aligned", *changes)
    for allowed in ([], *([policy] for policy in policies if len(policies) > 1)):
        with pytest.raises(VectorError) as refused:
            difference(base, aligned, allow=allowed)
        missing = [text for text in texts if text not in str(refused.value)]
        assert allowed or not missing, refused.value
        for policy in policies:
            assert (f"--allow {policy} to " in str(refused.value)) == (policy not in allowed)
    with pytest.raises(VectorError) as refused:
        difference(base, aligned)
    advice = ", ".join(f"--allow {policy} to {WHAT[Mismatch(policy)]}" for policy in policies)
    assert str(refused.value).endswith(
        f"; {advice} (in a merge recipe, beside the knob's model: allow: [{', '.join(policies)}])"
    )
    deltas, source = difference(base, aligned, allow=policies)
    assert len(source.left_out) == len(texts)
    before, after = tensors_of(base), tensors_of(aligned)
    for name, delta in deltas.items():
        expected = torch.zeros(before[name].shape)
        rows = min(len(before[name]), len(after[name]))
        expected[:rows] = after[name][:rows].float() - before[name][:rows]
        assert torch.equal(delta.dense(), expected)
        for start, stop in ((0, 3), (rows - 1, len(expected)), (len(expected) - 1, len(expected))):
            assert torch.equal(delta.rows(start, stop), expected[start:stop])
    touched = {UP} | ({NORM} if halved in changes else set()) | ({EMBEDDING} if len(policies) > 1 else set())
    touched |= {EMBEDDING} if {grown, shrunk} & set(changes) else set()
    assert set(deltas) == touched


def test_the_error_counts_all_and_shows_five(base: Path, tmp_path: Path) -> None:
    def most(tensors: Tensors) -> None:
        for name in sorted(n for n in tensors if "layers.0" in n)[:8]:
            del tensors[name]

    with pytest.raises(VectorError, match=r"in 8 tensors: (\S+ is in the base only; ){5}and 3 more; --allow missing"):
        difference(base, changed(base, tmp_path / "aligned", most))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t.update({"extra.ids": torch.arange(1, 7)}), "extra.ids (I64) holds no numbers to subtract"),
        (lambda t: t.update({"extra.ids": torch.arange(7)}), "extra.ids is [6] in the base and [7]"),
        (lambda t: t.update({"extra.ids": torch.arange(6).int()}), "extra.ids is I64 in the base and I32"),
        (lambda t: t.update({"extra.ids": torch.arange(6).float()}), "extra.ids is I64 in the base and F32"),
        (lambda t: t.update({NORM: torch.ones(33)}), f"{NORM} is [32] in the base and [33]"),
        (lambda t: t.update({EMBEDDING: torch.ones(258, 33)}), f"{EMBEDDING} is [258, 32] in the base and [258, 33]"),
    ],
)
def test_what_no_policy_covers_is_refused_with_the_rest(base: Path, tmp_path: Path, change: Change, text: str) -> None:
    aligned = changed(base, tmp_path / "aligned", change, more)
    with pytest.raises(VectorError) as refused:
        difference(base, aligned, allow=["dtype", "vocabulary"])
    for part in (text, "up_proj.bias is in the aligned model only", "both must be checkpoints of one architecture"):
        assert part in str(refused.value)


@pytest.mark.parametrize("where", ["base", "aligned"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_the_damaged_models(base: Path, tmp_path: Path, where: str, bad: float) -> None:
    aligned = changed(base, tmp_path / "aligned")
    tensors = tensors_of(tmp_path / where)
    tensors[UP][3, 3] = bad
    save_file(tensors, tmp_path / where / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(VectorError, match=f"{UP} of {tmp_path / where} has values that are not finite"):
        difference(base, aligned)


def with_head(shift: float) -> Change:
    def change(tensors: Tensors) -> None:
        tensors[EMBEDDING] = tensors[EMBEDDING] + shift
        tensors[HEAD] = tensors[EMBEDDING].clone()

    return change


@pytest.mark.parametrize("copies", [(False, False), (True, False), (False, True), (True, True)])
def test_a_stored_copy_of_a_tied_head_says_nothing_of_its_own(
    base: Path, tmp_path: Path, copies: tuple[bool, bool]
) -> None:
    folders = []
    for name, shift, copy in zip(("old", "new"), (0.0, 0.5), copies, strict=True):
        tensors = tensors_of(base)
        with_head(shift)(tensors)
        folders.append(write_model(tmp_path / name, {n: t for n, t in tensors.items() if copy or n != HEAD}, like=base))
    deltas, source = difference(*folders)
    assert (set(deltas), source.left_out) == ({EMBEDDING}, [])
    assert (deltas[EMBEDDING].dense() == 0.5).all()


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("tied", ["old", "new"])
def test_a_head_that_is_tied_in_one_alone_needs_a_policy(base: Path, tmp_path: Path, tied: str, stored: bool) -> None:
    tensors = tensors_of(base)
    tensors[HEAD] = tensors[EMBEDDING] * 2
    folders = {}
    for name in ("old", "new"):
        own = {n: t + (name == "new") for n, t in tensors.items() if stored or n != HEAD or name != tied}
        own["extra.ids"] = tensors["extra.ids"]
        folders[name] = write_model(tmp_path / name, own, like=base, tied=name == tied)
    here, there = ("aligned model", "base") if tied == "old" else ("base", "aligned model")
    with pytest.raises(
        VectorError, match=f"{HEAD} is a head of its own in the {here} and tied in the {there}; --allow m"
    ):
        difference(folders["old"], folders["new"])
    deltas, source = difference(folders["old"], folders["new"], allow=["missing"])
    assert HEAD not in deltas
    assert len(source.left_out) == 1


def test_an_untied_head_is_a_tensor_like_others(base: Path, tmp_path: Path) -> None:
    tensors = {**tensors_of(base), HEAD: torch.ones(258, 32)}
    old = write_model(tmp_path / "old", tensors, like=base, tied=False)
    new = write_model(tmp_path / "new", {**tensors, HEAD: torch.full((258, 32), 1.5)}, like=base, tied=False)
    deltas, _ = difference(old, new)
    assert set(deltas) == {HEAD}


@pytest.mark.parametrize(("old", "new"), [(1, 3), (3, 1), (2, 3)])
def test_shards_make_no_difference(base: Path, tmp_path: Path, old: int, new: int) -> None:
    aligned = changed(base, tmp_path / "aligned", lambda t: t.update({NORM: t[NORM] + 1}))
    expected, _ = difference(base, aligned)
    folders = []
    for folder, shards in ((base, old), (aligned, new)):
        tensors, other = tensors_of(folder), tmp_path / f"{folder.name}-sharded"
        shutil.copytree(folder, other)
        (other / WEIGHTS).unlink()
        names = sorted(tensors, reverse=True)
        files = {name: f"model-{number % shards}.safetensors" for number, name in enumerate(names)}
        for file in set(files.values()):
            save_file({n: tensors[n] for n in names if files[n] == file}, other / file, metadata={"format": "pt"})
        (other / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": files}))
        folders.append(other)
    found, _ = difference(*folders)
    assert set(found) == set(expected) == {UP, NORM}
    assert all(torch.equal(found[name].dense(), delta.dense()) for name, delta in expected.items())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2.0**-10, torch.bfloat16),
        (1 + 2.0**-7, torch.bfloat16),
        (2.0**100, torch.bfloat16),
        (1 + 2.0**-10, torch.float16),
        (1 + 2.0**-11, torch.float32),
        (2.0**20 * (1 + 2.0**-10), torch.float32),
    ],
)
def test_the_smallest_dtype_that_is_exact_is_chosen(
    base: Path, tmp_path: Path, value: float, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", 320)
    old = write_model(tmp_path / "old", {UP: torch.zeros(64, 32)}, like=base)
    tensor = torch.zeros(64, 32)
    tensor[0], tensor[40, 3] = 1.0, value  # one value among many, in a later block
    new = write_model(tmp_path / "new", {UP: tensor}, like=base)
    delta = difference(old, new)[0][UP]
    assert isinstance(delta, DifferenceDelta)
    assert delta.dtype == expected
    assert delta.nbytes == 64 * 32 * expected.itemsize
    assert torch.equal(delta.dense().to(expected).float(), tensor)


def test_a_saved_vector_is_the_subtraction_and_no_read_is_large(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tall = {f"extra.tall{i}": torch.randn(3000, 8, generator=torch.Generator().manual_seed(i)) for i in range(4)}
    base = write_base(tiny_folder, tmp_path / "base", extra=tall)
    shift = {name: (tensor * 1.01).bfloat16().float() for name, tensor in tensors_of(base).items()}
    aligned = tmp_path / "aligned"
    shutil.copytree(base, aligned)
    save_file(shift, aligned / WEIGHTS, metadata={"format": "pt"})
    monkeypatch.setattr(module, "_BLOCK", 2000)
    monkeypatch.setattr("alignvec.vectors.deltafile._CHUNK", 2000)
    sizes: list[int] = []
    original = Reader.rows

    def watched(self: Reader, entry: Entry, start: int = 0, stop: int | None = None) -> torch.Tensor:
        found = original(self, entry, start, stop)
        sizes.append(found.nbytes)
        return found

    monkeypatch.setattr(Reader, "rows", watched)
    save_vector(extract(str(base), str(aligned), name="one"), tmp_path / "one")
    assert 2000 * 4 >= max(sizes) > 1000 * 4
    monkeypatch.undo()
    found, before = load_vector(tmp_path / "one").positive, tensors_of(base)
    assert len(found) == len(before)
    for name, delta in found.items():
        assert torch.equal(delta.dense(), shift[name] - before[name])


NAMES = [
    "a.embed_tokens.weight",
    "lm_head.weight",
    "a.wte.weight",
    "a.embed_in.weight",
    "embed_out.weight",
    "a.up.weight",
]


@pytest.mark.parametrize("name", NAMES)
def test_only_what_has_a_row_a_token_may_grow_with_the_vocabulary(tiny_folder: Path, tmp_path: Path, name: str) -> None:
    folders = [
        write_model(tmp_path / f"{rows}", {name: torch.full((rows, 4), float(rows))}, like=tiny_folder, tied=False)
        for rows in (6, 8)
    ]
    if name == "a.up.weight":
        with pytest.raises(VectorError, match="one architecture"):
            difference(*folders, allow=["vocabulary"])
    else:
        deltas, source = difference(*folders, allow=["vocabulary"])
        assert torch.equal(deltas[name].dense(), torch.full((6, 4), 2.0))
        assert source.left_out == [f"{name} is [6, 4] in the base and [8, 4] in the aligned model"]
