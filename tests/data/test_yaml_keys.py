"""YAML in which no key is there twice."""

from collections.abc import Callable
from pathlib import Path

import pytest

from alignvec.data.synthesis.prompts import load_prompt
from alignvec.data.yaml_keys import RepeatedKeyError, load_yaml
from alignvec.errors import AlignvecError
from alignvec.merge.recipe import read_mapping
from alignvec.reproduce.scale import load_scale
from alignvec.train.config import load_recipe


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 1\n", "the key 'a' is there twice, again on line 3"),
        ("a:\n  - {b: 1,\n     b: 1}\n", "the key 'b' is there twice, again on line 3"),
        ("a: 1\n'a': 1\n", "the key 'a' is there twice, again on line 2"),
    ],
    ids=["block", "flow", "quoted"],
)
def test_a_key_that_is_there_twice_is_refused_with_its_line(text: str, told: str) -> None:
    with pytest.raises(RepeatedKeyError) as caught:
        load_yaml(text)
    assert str(caught.value) == told


def test_the_same_key_in_several_mappings_is_none_twice() -> None:
    assert load_yaml("a: {c: 1}\nb: {c: 1}\nc: [{c: 1}, {c: 2}]\n")["c"] == [{"c": 1}, {"c": 2}]


def test_what_is_merged_may_be_overridden_at_any_depth() -> None:
    content = load_yaml("a: &a {x: 1}\ntop: {in: &b {<<: *a, x: 2}}\nlast: {<<: *b, y: 3}\n")
    assert content["last"] == {"x": 2, "y": 3} and content["top"] == {"in": {"x": 2}}


@pytest.mark.parametrize(
    "read",
    [load_recipe, read_mapping, lambda path: load_scale(str(path)), lambda path: load_prompt(path, "judge", ())],
    ids=["train", "merge", "reproduce", "prompt"],
)
def test_recipes_are_read_so(read: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: brief\nname: long\n")
    with pytest.raises(AlignvecError, match=r"mine.yaml.*the key 'name' is there twice, again on line 2"):
        read(path)
