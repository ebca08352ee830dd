"""`alignvec convert`: the recipe it writes is one that loads, notes go to stderr, mistakes are one line."""

import json
from pathlib import Path

import pytest
from running import Command, assert_told, prepared

from alignvec.merge.recipe import KnobTerm, MergeRecipe, load_merge_recipe

MERGEKIT = """
merge_method: dare_ties
base_model: org/base
dtype: bfloat16
chat_template: chatml
models:
  - model: org/medical
    parameters: {weight: 0.5, density: 0.4}
  - model: org/legal
    parameters: {weight: [0, 1e-1]}
"""


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    return prepared(monkeypatch, capfd, tmp_path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "mergekit.yaml"
    path.write_text(MERGEKIT)
    return path


def test_convert_writes_a_recipe_that_loads(command: Command, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "recipe.yaml"
    done = command("convert", source, "--out", out)
    assert (done.code, done.out) == (0, f"{out}\n")
    notes = done.err.splitlines()
    assert len(notes) == 4 and all(note.startswith("note: ") for note in notes)
    for told in ("chat_template", "at random", "bfloat16", "knob legal"):
        assert sum(told in note for note in notes) == 1
    assert load_merge_recipe(out) == MergeRecipe(
        base="org/base",
        method="dare-ties",
        dtype="bfloat16",
        knobs={
            "medical": KnobTerm(model="org/medical", coefficient=0.5, density=0.4),
            "legal": KnobTerm(model="org/legal", layers=[0.0, 0.1]),
        },
    )


def test_convert_prints_json(command: Command, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "recipe.yaml"
    done = command("convert", source, "--out", out, "--json")
    found = json.loads(done.out)
    assert (found["recipe"], len(found["notes"])) == (str(out), 4)
    assert MergeRecipe.model_validate(found["values"]) == load_merge_recipe(out)


def test_convert_tells_a_users_mistakes(command: Command, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "recipe.yaml"
    assert_told(command("convert", tmp_path / "none.yaml", "--out", out), "ConfigError", "none.yaml")
    assert_told(command("convert", source, "--out", source), "ConfigError", "--out")
    assert_told(command("convert", source, "--out", tmp_path / "file" / "r.yaml"), "StorageError", "another place")
    source.write_text("merge_method: slerp\n")
    assert_told(command("convert", source, "--out", out), "ConfigError", "'slerp'", "task_arithmetic")
    assert not out.exists()
