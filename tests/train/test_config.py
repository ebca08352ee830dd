"""Recipes: what is read, what is refused, and where the data is looked for."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from alignvec.data.load import load_rows, shipped_file
from alignvec.data.pairs import parse_order, preference_pairs
from alignvec.errors import ConfigError
from alignvec.train.config import TrainConfig, load_recipe, make_config
from alignvec.train.vector import end_settings
from alignvec.vectors.store import load_card

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_is_read_and_the_rest_is_default(tmp_path: Path) -> None:
    text = "name: medical\nbase: demo\nloss: ipo\nbeta: 5.0e-2\nrank: 4\norder: expert > generic=avoidance\n"
    config = load_recipe(write(tmp_path, text))
    assert (config.name, config.loss, config.beta, config.rank) == ("medical", "ipo", 0.05, 4)
    assert config.order == "expert>generic=avoidance"
    untouched = TrainConfig(name="x").model_dump(exclude={"name", "loss", "beta", "rank", "order"})
    assert config.model_dump(include=set(untouched)) == untouched


@pytest.mark.parametrize(
    "path",
    sorted(path for folder in (".", "knobs", "keep", "joint", "stages") for path in (RECIPES / folder).glob("*.yaml")),
    ids=lambda path: str(path.relative_to(RECIPES)),
)
def test_a_shipped_recipe_is_valid_short_and_named_like_its_file(path: Path) -> None:
    assert load_recipe(path).name == path.stem
    assert len(path.read_text().splitlines()) < 25


def test_two_knobs_of_a_domain_are_trained_on_its_shipped_data() -> None:
    for domain in ("medical", "legal", "financial"):
        engagement, depth = (load_recipe(RECIPES / f"knobs/{domain}-{kind}.yaml") for kind in ("engagement", "depth"))
        assert engagement.domain == depth.domain == domain and shipped_file(domain).is_file()
        assert engagement.orders() == {"positive": "expert=generic>avoidance", "negative": "avoidance>expert=generic"}
        assert depth.orders() == {"positive": "expert>generic", "negative": "generic>expert"}
        assert end_settings(engagement) == {"avoidance": -1.0}  # a tie at the top is no trained level
        assert end_settings(depth) == {"generic": -1.0, "expert": 1.0}


def test_the_safety_recipe_turns_between_refusing_and_complying_on_shipped_data() -> None:
    config = load_recipe(RECIPES / "safety.yaml")
    assert config.orders() == {"positive": "safe>unsafe", "negative": "unsafe>safe"}
    assert end_settings(config) == {"unsafe": -1.0, "safe": 1.0}
    rows = load_rows(shipped_file(config.domain or config.name), split=config.split)
    assert len(preference_pairs(rows, parse_order(config.order))) == 112


@pytest.mark.parametrize("domain", ["medical", "legal", "financial"])
def test_a_keep_recipe_goes_on_from_the_shipped_vector_as_it_was_trained(domain: str) -> None:
    first, second = load_recipe(RECIPES / f"{domain}.yaml"), load_recipe(RECIPES / f"keep/{domain}.yaml")
    assert second.start and second.start.resolve() == RECIPES.parent / "vectors" / domain
    assert second.keep and second.keep.resolve() == RECIPES.parent / f"out/keep/{domain}.jsonl"
    assert load_card(second.start).name == domain
    changed = {"start", "keep", "epochs", "learning_rate"}
    assert second.model_dump(exclude=changed) == first.model_dump(exclude=changed)
    assert (second.epochs, second.learning_rate) == (1.0, 3e-4)


def test_overrides_replace_values_and_none_does_not(tmp_path: Path) -> None:
    config = load_recipe(write(tmp_path, "name: medical\nrank: 4\nseed: 3\n"), rank=16, seed=None, base="other")
    assert (config.rank, config.seed, config.base) == (16, 3, "other")


def test_data_is_looked_for_beside_the_recipe(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, "name: a\ndata: sub/rows.jsonl\n")).data == tmp_path / "sub/rows.jsonl"
    assert load_recipe(write(tmp_path, "name: a\ndata: /abs/rows.jsonl\n")).data == Path("/abs/rows.jsonl")
    assert load_recipe(write(tmp_path, "name: a\n")).data is None
    config = load_recipe(write(tmp_path, "name: a\nkeep: keep.jsonl\nstart: ../first\n"))
    assert (config.keep, config.start) == (tmp_path / "keep.jsonl", tmp_path / "../first")


def test_data_given_as_an_override_is_taken_as_it_is(tmp_path: Path) -> None:
    recipe = write(tmp_path, "name: a\ndata: rows.jsonl\n")
    assert load_recipe(recipe, data=Path("here.jsonl")).data == Path("here.jsonl")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nlearnign_rate: 1\n", "learnign_rate"),
        ("rank: 4\n", "name"),
        ("name: ../escape\n", "name"),
        ("name: ''\n", "name"),
        ("name: a\ndomain: ../escape\n", "domain"),
        ("name: a\nrank: 0\n", "rank"),
        ("name: a\nrank: many\n", "rank"),
        ("name: a\nbeta: 0\n", "beta"),
        ("name: a\nbeta: .nan\n", "beta"),
        ("name: a\nbeta: .inf\n", "beta"),
        ("name: a\nlearning_rate: .inf\n", "learning_rate"),
        ("name: a\nepochs: .inf\n", "epochs"),
        ("name: a\nsft_weight: -1\n", "sft_weight"),
        ("name: a\nwarmup_share: 1\n", "warmup_share"),
        ("name: a\nloss: hinge\n", "loss"),
        ("name: a\nform: bent\n", "form"),
        ("name: a\ndtype: int8\n", "dtype"),
        ("name: a\nsplit: dev\n", "split"),
        ("name: a\nlimit: 0\n", "limit"),
        ("name: a\norder: expert\n", "order.*prefers nothing"),
        ("name: a\norder: expert>expert\n", "order.*twice"),
        ("name: a\nnegative_order: a>>b\n", "negative_order.*empty level"),
        ("name: a\n1: 2\n", "1"),
    ],
)
def test_a_bad_recipe_is_refused_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    recipe = write(tmp_path, text)
    with pytest.raises(ConfigError, match=f"{recipe}: {message}") as refusal:
        load_recipe(recipe)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text", "name: [", "name: a\nname2: 'open"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    recipe = write(tmp_path, text)
    with pytest.raises(ConfigError, match=rf"recipe {recipe}.*YAML mapping") as refusal:
        load_recipe(recipe)
    assert "\n" not in str(refusal.value)


def test_a_missing_or_unreadable_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"no recipe at {tmp_path / 'none.yaml'}"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=f"cannot read recipe {tmp_path}"):
        load_recipe(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: médical".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml"):
        load_recipe(tmp_path / "latin.yaml")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_training_all_weights_needs_float32(dtype: str) -> None:
    values: dict[str, Any] = {"name": "a", "full": True, "dtype": dtype}
    with pytest.raises(ConfigError, match="needs dtype float32"):
        make_config("recipe", values)
    assert make_config("recipe", {**values, "dtype": "float32"}).full
    assert make_config("recipe", {**values, "full": False}).dtype == dtype


def test_the_negative_side_is_trained_on_the_order_turned_round() -> None:
    config = TrainConfig(name="a", order="expert>generic=avoidance")
    assert config.orders() == {"positive": "expert>generic=avoidance", "negative": "generic=avoidance>expert"}


def test_the_negative_order_can_be_given() -> None:
    config = TrainConfig(name="a", order="expert>generic=avoidance", negative_order="avoidance > generic=expert")
    assert config.orders()["negative"] == "avoidance>generic=expert"


def test_a_one_sided_vector_has_no_negative_side() -> None:
    assert set(TrainConfig(name="a", form="one-sided").orders()) == {"positive"}
    assert set(TrainConfig(name="a", form="two-sided").orders()) == {"positive", "negative"}


def test_a_config_cannot_be_changed_afterwards() -> None:
    config = TrainConfig(name="a")
    with pytest.raises(ValidationError, match="frozen"):
        config.rank = 3
