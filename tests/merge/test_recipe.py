"""Merge recipes: what is read, where it is looked for, what is refused, and the coefficient at each layer."""

from pathlib import Path

import pytest

from alignvec.errors import ConfigError
from alignvec.merge.recipe import KnobTerm, MergeRecipe, layer_coefficient, load_merge_recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "merge"


def write(folder: Path, text: str) -> Path:
    path = folder / "merge.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_is_read_and_the_rest_is_default(tmp_path: Path) -> None:
    text = """
base: demo
method: ties
normalize: true
scale: 1e-1
dtype: bfloat16
rounding: stochastic
seed: 3
knobs:
  medical: 0.5
  legal: expert
  law.v2: {coefficient: -3e-1, density: 0.2, layers: [0, 1e-1, 1]}
  plain: {}
"""
    assert load_merge_recipe(write(tmp_path, text)) == MergeRecipe(
        base="demo",
        method="ties",
        normalize=True,
        scale=0.1,
        dtype="bfloat16",
        rounding="stochastic",
        seed=3,
        knobs={
            "medical": KnobTerm(coefficient=0.5),
            "legal": KnobTerm(coefficient="expert"),
            "law.v2": KnobTerm(coefficient=-0.3, density=0.2, layers=[0.0, 0.1, 1.0]),
            "plain": KnobTerm(coefficient=1.0),
        },
    )
    plain = load_merge_recipe(write(tmp_path, "knobs: {medical: 1}"))
    assert (plain.base, plain.method, plain.normalize, plain.scale) == ("demo", "sum", False, 1.0)
    assert (plain.dtype, plain.rounding, plain.seed) == (None, "nearest", 0)


def test_paths_are_looked_for_beside_the_recipe(tmp_path: Path) -> None:
    for name in ("tuned", "base", "demo"):
        (tmp_path / name).mkdir()
    text = "base: {}\nknobs:\n  a: {{vector: vectors/a}}\n  b: {{model: tuned}}\n  c: {{model: someone/tuned}}\n"
    recipe = load_merge_recipe(write(tmp_path, text.format("base")))
    assert recipe.base == str(tmp_path / "base")
    assert recipe.knobs["a"].vector == tmp_path / "vectors" / "a"
    assert [recipe.knobs[k].model for k in "bc"] == [str(tmp_path / "tuned"), "someone/tuned"]
    assert load_merge_recipe(write(tmp_path, text.format("demo"))).base == "demo"
    assert load_merge_recipe(write(tmp_path, "knobs: {a: {vector: /abs/a}}")).knobs["a"].vector == Path("/abs/a")


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.name)
def test_a_shipped_recipe_is_valid_and_short(path: Path) -> None:
    assert load_merge_recipe(path).knobs
    assert len(path.read_text().splitlines()) < 25


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("knobz: {a: 1}\n", "knobs: Field required"),
        ("knobs: {a: 1}\nlambda: 2\n", "lambda.*keys: base, knobs, method"),
        ("knobs: {a: {weight: 1}}\n", "knobs.a.weight.*keys: vector, model, coefficient"),
        ("knobs: {../a: 1}\n", "knobs"),
        ("knobs: {a: true}\n", "knobs.a.coefficient.*0.5"),
        ("knobs: {a: .nan}\n", "knobs.a.coefficient.*finite"),
        ("knobs: {a: inf}\n", "knobs.a.coefficient.*finite"),
        ("knobs: {a: [1, 2]}\n", "knobs.a"),
        ("knobs: {a: {coefficient: [1, 2]}}\n", "knobs.a.coefficient"),
        ("knobs: {a:}\n", "knobs.a"),
        ("knobs: {a: {layers: []}}\n", "knobs.a.layers"),
        ("knobs: {a: {layers: [1, .inf]}}\n", "knobs.a.layers.1"),
        ("knobs: {a: {layers: [1, first]}}\n", "knobs.a.layers.1"),
        ("method: ties\nknobs: {a: {density: 0}}\n", "knobs.a.density"),
        ("method: ties\nknobs: {a: {density: 1.5}}\n", "knobs.a.density"),
        ("knobs: {a: {density: 0.5}}\n", "'a' has a density.*use ties or dare"),
        ("knobs: {a: {vector: v, model: m}}\n", "knobs.a: .*not both"),
        ("knobs: {a: {model: m, coefficient: expert}}\n", "knobs.a: .*'expert'"),
        ("method: slerp\nknobs: {a: 1}\n", "method: .*'slerp'.*sum, ties, dare, dare-ties"),
        ("dtype: float64\nknobs: {a: 1}\n", "dtype"),
        ("rounding: up\nknobs: {a: 1}\n", "rounding"),
        ("scale: .inf\nknobs: {a: 1}\n", "scale"),
        ("seed: -1\nknobs: {a: 1}\n", "seed"),
        ("- a\n", "no YAML mapping"),
        ("", "no YAML mapping"),
        ("knobs: {a: 1\n", "cannot read"),
        ("knobs: {a: 1}\nlow: 2024-99-99\n", "cannot read .*month must be in 1..12"),
    ],
)
def test_a_bad_recipe_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_merge_recipe(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_recipe_and_one_in_another_encoding_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no file"):
        load_merge_recipe(tmp_path / "none.yaml")
    (tmp_path / "merge.yaml").write_bytes(b"\xff\xfe\x00k")
    with pytest.raises(ConfigError, match="cannot read"):
        load_merge_recipe(tmp_path / "merge.yaml")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.embed_tokens.weight", 1.0),
        ("transformer.wte.weight", 1.0),
        ("transformer.wpe.weight", 1.0),
        ("gpt_neox.embed_in.weight", 1.0),
        ("model.layers.0.mlp.up_proj.weight", 1.0),
        ("model.layers.1.input_layernorm.weight", 2.0),  # half way to the middle value 3
        ("transformer.h.2.attn.c_attn.bias", 3.0),
        ("h.3.attn.c_attn.weight", 1.5),  # half way from 3 to 0
        ("model.layers.4.mlp.up_proj.weight", 0.0),
        ("model.norm.weight", 0.0),
        ("transformer.ln_f.weight", 0.0),
        ("gpt_neox.embed_out.weight", 0.0),
        ("lm_head.weight", 0.0),
    ],
)
def test_a_schedule_is_linear_between_its_values(name: str, expected: float) -> None:
    assert layer_coefficient(1.0, [1.0, 3.0, 0.0], name, 5) == pytest.approx(expected, abs=1e-12)
    assert layer_coefficient(-0.5, [1.0, 3.0, 0.0], name, 5) == pytest.approx(-0.5 * expected, abs=1e-12)


def test_a_schedule_of_one_value_or_none_is_constant() -> None:
    for name in ("model.embed_tokens.weight", "model.layers.1.mlp.weight", "lm_head.weight"):
        assert layer_coefficient(0.3, None, name, 4) == 0.3
        assert layer_coefficient(0.3, [0.5], name, 4) == pytest.approx(0.15)


def test_a_single_layer_takes_the_last_value() -> None:
    assert layer_coefficient(1.0, [1.0, 0.25], "model.layers.0.mlp.weight", 1) == 0.25
