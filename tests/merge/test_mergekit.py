"""mergekit files as merge recipes: values by mergekit's documented rules, and everything left out is told."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from alignvec.errors import ConfigError
from alignvec.merge.mergekit import convert

Entry = dict[str, Any]


def entry(name: str, **parameters: Any) -> Entry:
    return {"model": name, "parameters": parameters} if parameters else {"model": name}


def written(folder: Path, **keys: Any) -> Path:
    path = folder / "mergekit.yaml"
    config = {"base_model": "org/base", "dtype": "float32", **keys}
    path.write_text(yaml.safe_dump({k: v for k, v in config.items() if v is not None}))
    return path


def test_task_arithmetic(tmp_path: Path) -> None:
    models = [entry("org/a", weight=0.7), entry("org/base"), entry("other/a", weight="-3e-1")]
    path = written(tmp_path, merge_method="task_arithmetic", models=models, parameters={"lambda": 1.5})
    assert convert(path) == (
        {
            "base": "org/base",
            "method": "sum",
            "scale": 1.5,
            "dtype": "float32",
            "knobs": {
                "a": {"model": "org/a", "coefficient": 0.7},
                "a-2": {"model": "other/a", "coefficient": -0.3},
            },
        },
        [],
    )


@pytest.mark.parametrize(
    ("method", "ours", "normalize"),
    [
        ("task_arithmetic", "sum", False),
        ("ties", "ties", True),
        ("dare_ties", "dare-ties", False),
        ("dare_linear", "dare", False),
    ],
)
def test_each_methods_own_default_of_normalize_is_kept(tmp_path: Path, method: str, ours: str, normalize: bool) -> None:
    for given, expected in [({}, normalize), ({"normalize": True}, True), ({"normalize": 0}, False)]:
        values, notes = convert(written(tmp_path, merge_method=method, models=[entry("a", weight=1)], parameters=given))
        assert (values["method"], values.get("normalize", False), notes) == (ours, expected, [])


def test_a_models_own_parameters_win_over_the_shared_ones(tmp_path: Path) -> None:
    models = [entry("a", weight=2, density=0.5), entry("b"), entry("c", density=[{"value": 1.7}])]
    shared = {"weight": [{"value": 0.25, "filter": "*"}, {"value": 9, "filter": "mlp"}], "density": 0.1}
    values, notes = convert(written(tmp_path, merge_method="ties", models=models, parameters=shared))
    assert values["knobs"] == {
        "a": {"model": "a", "coefficient": 2.0, "density": 0.5},
        "b": {"model": "b", "coefficient": 0.25, "density": 0.1},
        "c": {"model": "c", "coefficient": 0.25},
    }
    assert notes == []


def test_a_gradient_becomes_a_schedule(tmp_path: Path) -> None:
    models = [entry("a", weight=[0, "5e-1", 0]), entry("b", weight=[1, 0.5]), entry("c", weight=[2, 2])]
    values, notes = convert(written(tmp_path, merge_method="task_arithmetic", models=models))
    assert values["knobs"] == {
        "a": {"model": "a", "layers": [0.0, 0.5, 0.0]},
        "b": {"model": "b", "layers": [1.0, 0.5]},
        "c": {"model": "c", "coefficient": 2.0},
    }
    assert len(notes) == 1  # mergekit gives the final norm and the output head the first value
    assert "knob b" in notes[0] and "(0.5)" in notes[0] and "(1)" in notes[0]


@pytest.mark.parametrize("base", [None, "b"])
def test_linear_is_the_weighted_mean(tmp_path: Path, base: str | None) -> None:
    weights, thetas = {"a": 2.0, "b": 1.0, "c": -0.5}, {"a": 3.0, "b": -1.0, "c": 10.0}
    models = [entry(name, weight=weight) for name, weight in weights.items()]
    values, notes = convert(written(tmp_path, merge_method="linear", base_model=base, models=models))
    assert (values["base"], values["method"]) == (base or "a", "sum")
    assert not {"normalize", "scale"} & values.keys()
    found = thetas[values["base"]] + sum(
        term["coefficient"] * (thetas[term["model"]] - thetas[values["base"]]) for term in values["knobs"].values()
    )
    assert found == pytest.approx((2 * 3 - 1 - 5) / 2.5)
    assert "share of all weights" in notes[0]


@pytest.mark.parametrize("method", ["task_arithmetic", "dare_linear"])
def test_weights_that_add_up_to_a_negative_number_turn_the_merge_round(tmp_path: Path, method: str) -> None:
    shared = {"normalize": True, "lambda": 2}
    models = [entry("a", weight=0.25), entry("b", weight=-0.75)]
    values, notes = convert(written(tmp_path, merge_method=method, models=models, parameters=shared))
    assert values["scale"] == pytest.approx(2 / (0.25 - 0.75))
    assert "normalize" not in values and "written into scale" in notes[0]
    models[1] = entry("b", weight=-0.25)  # mergekit does not divide by 0
    values, _ = convert(written(tmp_path, merge_method=method, models=models, parameters=shared))
    assert (values["scale"], values.get("normalize")) == (2.0, None)


def test_dare_without_rescaling_is_a_smaller_coefficient(tmp_path: Path) -> None:
    models = [entry("a", weight=0.5, density=0.2), entry("b", weight=[1, 1, 2], density=0.5)]
    path = written(tmp_path, merge_method="dare_ties", models=models, parameters={"rescale": False})
    values, notes = convert(path)
    assert values["knobs"]["a"] == {"model": "a", "coefficient": pytest.approx(0.1), "density": 0.2}
    assert values["knobs"]["b"] == {"model": "b", "layers": [0.5, 0.5, 1.0], "density": 0.5}
    assert any("coefficients times density" in note for note in notes)
    assert any("at random" in note for note in notes)


def test_a_folder_that_is_here_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("base+x", "tuned@1"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    models = [entry("tuned@1", weight=1), entry("base+x")]
    values, notes = convert(written(tmp_path, merge_method="ties", base_model="./base+x", models=models))
    assert values["base"] == str(tmp_path / "base+x")
    assert values["knobs"] == {"tuned-1": {"model": str(tmp_path / "tuned@1"), "coefficient": 1.0}}
    assert notes == []


@pytest.mark.parametrize(
    ("keys", "dtype", "told"),
    [
        ({"dtype": "bfloat16"}, "bfloat16", ["mergekit makes them in bfloat16"]),
        ({"dtype": "torch.float16", "out_dtype": "bfloat16"}, "bfloat16", ["mergekit makes them in float16"]),
        ({"dtype": "float32", "out_dtype": "float16"}, "float16", []),
        ({"dtype": None, "out_dtype": "float16"}, "float16", []),
        ({"dtype": None}, None, ["each tensor keeps the base's"]),
    ],
)
def test_dtypes(tmp_path: Path, keys: dict[str, Any], dtype: str | None, told: list[str]) -> None:
    values, notes = convert(written(tmp_path, merge_method="ties", models=[entry("a", weight=1)], **keys))
    assert values.get("dtype") == dtype
    assert len(notes) == len(told) and all(t in n for t, n in zip(told, notes, strict=True))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"tokenizer_source": "union"}, "tokenizer_source: not mapped"),
        ({"tokenizer": {"source": "base", "tokens": {"x": {"source": "a"}}}}, "tokenizer: not mapped"),
        ({"chat_template": "chatml"}, "chat_template: not mapped"),
        ({"mystery": 1}, "mystery: not mapped"),
        ({"parameters": {"int8_mask": True}}, "parameters.int8_mask: left out; it has no effect"),
        ({"parameters": {"epsilon": 0.1}}, "parameters.epsilon: left out; it has no effect"),
        ({"models": [entry("a", weight=1, normalize=False)]}, "models.0.parameters.normalize: left out"),
        ({"models": [entry("a", weight=1), entry("org/base", weight=1)]}, "models.1.parameters.weight: left out"),
        ({"models": [{**entry("a", weight=1), "filter": "x"}]}, "models.0.filter: left out"),
        ({"models": [entry("a", weight=1), entry("b", weight=-1)]}, "differ where a negative weight agrees"),
    ],
)
def test_what_is_left_out_is_told(tmp_path: Path, keys: dict[str, Any], told: str) -> None:
    config: dict[str, Any] = {"merge_method": "ties", "models": [entry("a", weight=1)], **keys}
    _, notes = convert(written(tmp_path, **config))
    assert len(notes) == 1 and told in notes[0]


def test_what_changes_nothing_is_not_told(tmp_path: Path) -> None:
    config: dict[str, Any] = {"tokenizer_source": "base", "tokenizer": {"source": "base"}, "chat_template": None}
    _, notes = convert(written(tmp_path, merge_method="ties", models=[entry("a", weight=1)], **config))
    assert notes == []


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"merge_method": "slerp"}, "merge_method: 'slerp'.*supported: task_arithmetic, ties"),
        ({"merge_method": None}, "merge_method: None"),
        ({"merge_method": ["ties"]}, "merge_method"),
        ({"base_model": None}, "base_model: is missing"),
        ({"base_model": 3}, "base_model: cannot read 3"),
        ({"slices": [{"sources": []}], "models": None}, "slices: .*whole models"),
        ({"modules": {"x": {}}, "models": None}, "modules: "),
        ({"models": None}, "models: must be a list"),
        ({"models": []}, "models: must be a list"),
        ({"models": ["a"]}, "models.0: must be a mapping"),
        ({"models": [{"parameters": {}}]}, "models.0.model: cannot read None"),
        ({"models": [entry("a", weight=1), entry("a", weight=2)]}, "models.1.model: a comes twice"),
        ({"models": [entry("a")]}, "models.0.parameters.weight: is missing"),
        ({"models": [entry("a", weight="much")]}, "models.0.parameters.weight: 'much' is no float"),
        ({"models": [entry("a", weight=[{"value": 1, "filter": "mlp"}, {"value": 2}])]}, "filter by tensor name"),
        ({"models": [entry("a", weight=1, density=[0.5, 1])]}, "models.0.parameters.density: changes with depth"),
        ({"models": [entry("a", weight=1, density=0)]}, "knobs.a.density"),
        ({"models": [entry("a", weight=float("nan"))]}, "knobs.a.coefficient"),
        ({"models": [entry("a+lora", weight=1)]}, "alignvec extract"),
        ({"models": [entry("a@main", weight=1)]}, "names a revision"),
        ({"models": [{"model": {"model": {"path": "a"}}, "parameters": {"weight": 1}}]}, "models.0.model: cannot read"),
        ({"parameters": [1]}, "parameters: must be a mapping"),
        ({"parameters": {"normalize": "perhaps"}}, "parameters.normalize: 'perhaps' is no bool"),
        ({"parameters": {"normalize": [True, False]}}, "parameters.normalize: changes with depth"),
        ({"parameters": {"lambda": [{"filter": "mlp", "value": 1}]}}, "parameters.lambda: .*filter"),
        ({"parameters": {"rescale": True, "density": 0.5}}, "parameters.rescale: True"),
        ({"dtype": "float64"}, "dtype: float64 is none of"),
        ({"out_dtype": "int8"}, "out_dtype: int8 is none of"),
    ],
)
def test_what_cannot_be_said_is_refused(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    config: dict[str, Any] = {"merge_method": "ties", "models": [entry("a", weight=1)], **keys}
    path = written(tmp_path, **config)
    with pytest.raises(ConfigError, match=message) as caught:
        convert(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"parameters": {"normalize": False}}, "add up to 3"),
        ({"models": [entry("a", weight=1), entry("org/base", weight=-1)]}, "add up to 0"),
        ({"models": [entry("a", weight=[0, 1]), entry("org/base", weight=1)]}, "change with depth"),
        ({"models": [entry("a", weight=1), entry("b", weight=1)]}, "base_model: linear needs a weight"),
    ],
)
def test_a_linear_merge_that_would_scale_the_base_is_refused(
    tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    models = [entry("a", weight=1), entry("org/base", weight=2)]
    with pytest.raises(ConfigError, match=message):
        convert(written(tmp_path, **{"merge_method": "linear", "models": models, **keys}))


def test_linear_without_normalize_is_kept_where_the_weights_add_up_to_1(tmp_path: Path) -> None:
    models = [entry("a", weight=0.25), entry("org/base", weight=0.75)]
    values, _ = convert(written(tmp_path, merge_method="linear", models=models, parameters={"normalize": False}))
    assert values["knobs"] == {"a": {"model": "a", "coefficient": 0.25}}


def test_rescaling_with_normalize_is_refused(tmp_path: Path) -> None:
    shared = {"normalize": True, "rescale": False, "density": 0.5}
    path = written(tmp_path, merge_method="dare_ties", models=[entry("a", weight=1)], parameters=shared)
    with pytest.raises(ConfigError, match="rescale: False"):
        convert(path)


def test_rescaling_what_is_whole_changes_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, merge_method="ties", models=[entry("a", weight=1)], parameters={"rescale": True})
    values, notes = convert(path)
    assert (values["knobs"], notes) == ({"a": {"model": "a", "coefficient": 1.0}}, [])
