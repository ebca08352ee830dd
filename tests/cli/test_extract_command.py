"""`alignvec extract` on full models: policies, forms, storage, both sides, and what it warns of."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from running import Command, assert_told, prepared
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from alignvec.vectors.store import load_card, load_vector

NORM, EMBEDDING, MLP = "model.norm.weight", "model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"
Tensors = dict[str, torch.Tensor]


def changed(source: Path, folder: Path, change: Callable[[Tensors], object]) -> Path:
    """A copy of a model folder with other tensors."""
    shutil.copytree(source, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def on_grid(tensors: Tensors) -> None:
    """Weights that are multiples of 1/64, so that steps of that size add without rounding."""
    for name, value in tensors.items():
        tensors[name] = (value * 64).round() / 64


def moved(step: float) -> Callable[[Tensors], None]:
    def move(tensors: Tensors) -> None:
        draw = torch.Generator().manual_seed(0)
        for name in (NORM, MLP):
            signs = torch.randint(0, 2, tensors[name].shape, generator=draw) * 2 - 1
            tensors[name] = tensors[name] + step * signs

    return move


@pytest.fixture
def base(tiny_folder: Path, tmp_path: Path) -> Path:
    return changed(tiny_folder, tmp_path / "base", on_grid)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, base: Path) -> Command:
    assert base.is_dir()  # made before the capture begins
    monkeypatch.chdir(tmp_path)
    return prepared(monkeypatch, capfd, tmp_path)


def stored(place: Path) -> dict[str, torch.dtype]:
    """Dtypes of a vector's tensors on disk."""
    found = {}
    for path in sorted(place.rglob("*.safetensors")):
        with safe_open(path, "pt") as file:
            found |= {f"{path.parent.name}/{key}": file.get_tensor(key).dtype for key in file.keys()}  # noqa: SIM118
    return found


def test_it_is_stored_in_the_smallest_dtype_that_is_exact(command: Command, base: Path, tmp_path: Path) -> None:
    for step, dtype in (
        (0.25, torch.bfloat16),
        (1 / 64 + 2.0**-15, torch.float16),  # ten bits apart: more than bfloat16 holds
        (2.0**-20 + 2.0**-6, torch.float32),
    ):
        aligned = changed(base, tmp_path / f"to-{step}", moved(step))
        exact = {
            n: load_file(aligned / "model.safetensors")[n] - load_file(base / "model.safetensors")[n]
            for n in (NORM, MLP)
        }
        kept = {t.to(d).float().equal(t) for t in exact.values() for d in (dtype,)}
        done = command("extract", "--base", base, "--aligned", aligned, "--name", "tone", "--out", f"v{step}")
        assert done.code == 0, done
        assert kept == {True}
        assert set(stored(Path(f"v{step}")).values()) == {dtype}, step
        vector = load_vector(Path(f"v{step}"))
        assert set(vector.positive) == {NORM, MLP}
        assert all(torch.equal(vector.positive[n].dense(), value) for n, value in exact.items())


def test_another_storage_rounds_and_says_how_much(command: Command, base: Path, tmp_path: Path) -> None:
    aligned = changed(base, tmp_path / "aligned", moved(1 / 64 + 2.0**-15))
    arguments = ["extract", "--base", base, "--aligned", aligned, "--name", "tone", "--out", "v"]
    done = command(*arguments, "--storage", "bfloat16", "--json")
    card = json.loads(done.out)
    assert card["error"]["storage_rounding"] == pytest.approx(2.0**-15 / (1 / 64 + 2.0**-15), rel=1e-3)
    assert set(stored(Path("v")).values()) == {torch.bfloat16}
    assert json.loads(Path("v/card.json").read_text()) == card


def vocabulary(tensors: Tensors) -> None:
    tensors[EMBEDDING] = torch.cat([tensors[EMBEDDING] + 0.5, torch.ones(2, 32)])


def dtype(tensors: Tensors) -> None:
    tensors[NORM] = (tensors[NORM] + 0.5).bfloat16()


def missing(tensors: Tensors) -> None:
    del tensors[MLP]
    tensors[NORM] = tensors[NORM] + 0.5


@pytest.mark.parametrize(
    ("change", "name", "left"),
    [(vocabulary, EMBEDDING, EMBEDDING), (dtype, NORM, NORM), (missing, NORM, MLP)],
)
def test_what_does_not_match_is_refused_unless_its_policy_is_named(
    command: Command, base: Path, tmp_path: Path, change: Callable[[Tensors], object], name: str, left: str
) -> None:
    aligned = changed(base, tmp_path / "aligned", change)
    policy = change.__name__
    arguments = ["extract", "--base", base, "--aligned", aligned, "--name", "tone", "--out", "v"]
    assert_told(command(*arguments), "VectorError", left, f"--allow {policy}")
    others = [
        option for other in ("vocabulary", "dtype", "missing") if other != policy for option in ("--allow", other)
    ]
    assert_told(command(*arguments, *others), "VectorError", left, f"--allow {policy}")
    assert not Path("v").exists()
    done = command(*arguments, "--allow", policy)
    assert done.code == 0, done
    vector = load_vector(Path("v"))
    assert set(vector.positive) == {name}
    assert torch.equal(vector.positive[name].dense(), torch.full(vector.positive[name].shape, 0.5))
    assert vector.card.source is not None
    assert [left in note for note in vector.card.source.left_out] == [True]


def test_a_policy_that_does_not_exist_is_told(command: Command, base: Path) -> None:
    arguments = ["extract", "--base", base, "--aligned", base, "--name", "tone", "--out", "v", "--allow", "all"]
    assert_told(command(*arguments), "--allow", "'all'", "vocabulary")


def test_a_form_makes_it_small_at_once(command: Command, base: Path, tmp_path: Path) -> None:
    aligned = changed(base, tmp_path / "aligned", moved(0.25))
    arguments = ["extract", "--base", base, "--aligned", aligned, "--name", "tone"]
    done = command(*arguments, "--out", "v", "--compress", "rank=2", "--json")
    assert done.code == 0, done
    assert stored(Path("v")) == {
        "v/base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": torch.float16,
        "v/base_model.model.model.layers.0.mlp.up_proj.lora_B.weight": torch.float16,
        f"v/{NORM}": torch.bfloat16,
    }
    exact = load_file(aligned / "model.safetensors")[MLP] - load_file(base / "model.safetensors")[MLP]
    values = torch.linalg.svdvals(exact.double())
    tail, whole = values[2:].square().sum(), values.square().sum() + 32 * 0.25**2
    assert json.loads(done.out)["error"]["compression"] == pytest.approx((tail / whole).sqrt().item(), rel=2e-2)
    assert "compress" in done.err
    assert_told(command(*arguments, "--out", "w", "--compress", "rank=x"), "ConfigError", "rank=x")
    assert not Path("w").exists()


@pytest.mark.parametrize("form", [None, "hinged", "two-sided"])
def test_both_sides_of_two_full_models_are_combined(
    command: Command, base: Path, tmp_path: Path, form: str | None
) -> None:
    up, down = changed(base, tmp_path / "up", moved(0.25)), changed(base, tmp_path / "down", moved(-0.75))
    options = ["--form", form] if form else []
    sides = ["--aligned", up, "--negative", down, "--name", "tone", "--out", "v"]
    done = command("extract", "--base", base, *sides, *options)
    assert done.code == 0, done
    vector = load_vector(Path("v"))
    tensors = [load_file(folder / "model.safetensors") for folder in (base, up, down)]
    assert (vector.card.form, vector.card.method) == (
        ("single", "two-sided") if form == "two-sided" else ("hinged", "hinged")
    )
    for name in (NORM, MLP):
        start, positive, negative = (t[name].double() for t in tensors)
        if form == "two-sided":
            assert torch.equal(vector.positive[name].dense().double(), (positive - negative) / 2)
        else:
            assert vector.negative is not None
            assert torch.equal(vector.positive[name].dense().double(), positive - start)
            assert torch.equal(vector.negative[name].dense().double(), negative - start)


@pytest.mark.parametrize("form", ["hinged", "two-sided"])
def test_the_card_tells_where_both_sides_come_from_and_what_each_leaves_out(
    command: Command, base: Path, tmp_path: Path, form: str
) -> None:
    up, down = changed(base, tmp_path / "up", moved(0.25)), changed(base, tmp_path / "down", missing)
    sides = ["--aligned", up, "--negative", down, "--name", "tone", "--out", "v", "--form", form]
    done = command("extract", "--base", base, *sides, "--allow", "missing", "--json")
    assert done.code == 0, done
    card = load_card(Path("v"))
    assert (card.recipe["aligned"], card.recipe["negative"]["aligned"]) == (str(up), str(down))
    assert card.recipe["aligned_fingerprint"] != card.recipe["negative"]["aligned_fingerprint"]
    assert card.source is not None
    assert [MLP in note for note in card.source.left_out] == [True]


def test_a_form_of_one_side_alone_is_refused(command: Command, base: Path) -> None:
    arguments = ["extract", "--base", base, "--aligned", base, "--name", "tone", "--out", "v", "--form", "hinged"]
    assert_told(command(*arguments), "ConfigError", "--negative")


def rounded(tensors: Tensors) -> None:
    """A fine-tune so small that bfloat16 hides most of it."""
    draw = torch.Generator().manual_seed(1)
    for name, value in tensors.items():
        tensors[name] = (value + 0.001 * torch.randn(value.shape, generator=draw)).bfloat16().float()


@pytest.mark.parametrize("side", ["--aligned", "--negative"])
def test_rounded_sources_are_warned_of_on_stderr_with_figures(
    command: Command, base: Path, tmp_path: Path, side: str
) -> None:
    low, fine = changed(base, tmp_path / "low", rounded), changed(base, tmp_path / "fine", moved(0.1234567))
    other = "--negative" if side == "--aligned" else "--aligned"
    done = command("extract", "--base", base, side, low, other, fine, "--name", "tone", "--out", "v", "--json")
    assert json.loads(done.out)["name"] == "tone"
    (warning,) = [line for line in done.err.splitlines() if line.startswith("warning:")]
    before, after = load_file(base / "model.safetensors"), load_file(low / "model.safetensors")
    equal, entries = (
        sum(float(f(before[n], after[n])) for n in before if not torch.equal(before[n], after[n]))
        for f in (lambda a, b: (a == b).sum(), lambda a, _: a.numel())
    )
    assert f"rounded to bfloat16, which hides small changes: {equal / entries:.0%} of the entries" in warning


def test_a_rounded_fine_tune_of_a_base_that_was_not_is_noise_and_said_to_be(
    command: Command, tiny_folder: Path, tmp_path: Path
) -> None:
    low = changed(tiny_folder, tmp_path / "low", rounded)
    done = command("extract", "--base", tiny_folder, "--aligned", low, "--name", "tone", "--out", "v", "--json")
    (warning,) = [line for line in done.err.splitlines() if line.startswith("warning:")]
    before, after = load_file(tiny_folder / "model.safetensors"), load_file(low / "model.safetensors")
    own = sum(float((b.bfloat16().double() - b.double()).square().sum()) for b in before.values())
    change = sum(float((after[n].double() - b.double()).square().sum()) for n, b in before.items())
    assert "the base was not" in warning
    assert f"a difference of {(own / change) ** 0.5:.2f} times this vector's norm" in warning


def test_a_float32_source_is_not_warned_of(command: Command, base: Path, tmp_path: Path) -> None:
    aligned = changed(base, tmp_path / "aligned", moved(0.1234567))
    done = command("extract", "--base", base, "--aligned", aligned, "--name", "tone", "--out", "v")
    assert "warning" not in done.err
    assert done.out.endswith("saved to v\n")


def test_a_place_that_holds_something_else_is_refused_before_any_work(
    command: Command, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alignvec.vectors.extract.extract", lambda *_, **__: pytest.fail("work was begun"))
    Path("thesis").mkdir()
    Path("thesis/chapter.txt").write_text("mine")
    for out in ("thesis", "file"):
        arguments = ["extract", "--base", base, "--aligned", base, "--name", "tone", "--out", out]
        assert_told(command(*arguments), "StorageError", out, "something else than a vector", "--out")
    assert Path("thesis/chapter.txt").read_text() == Path("file").read_text() == "mine"


def test_another_vector_in_place_is_replaced_and_the_card_tells_domain_and_licence(
    command: Command, base: Path, tmp_path: Path
) -> None:
    aligned = changed(base, tmp_path / "aligned", moved(0.25))
    arguments = ["extract", "--base", base, "--aligned", aligned, "--out", "v"]
    assert command(*arguments, "--name", "old").code == 0
    assert (load_card(Path("v")).domain, load_card(Path("v")).licence) == (None, "unknown")
    done = command(*arguments, "--name", "tone", "--domain", "medical", "--licence", "CC-BY-4.0")
    card = load_card(Path("v"))
    assert (card.name, card.domain, card.licence) == ("tone", "medical", "CC-BY-4.0")
    assert "for the domain medical" in done.out
    assert "CC-BY-4.0" in done.out
