"""Training seconds of the methods' vectors: summed where every run says them, unknown otherwise."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from alignvec.errors import DataError
from alignvec.reproduce.material import recipe_folder, vector_sources
from alignvec.reproduce.place import Place
from alignvec.reproduce.scale import Scale
from alignvec.reproduce.stages.methods import control_folder, train_seconds

DOMAINS = ("medical", "legal")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(out=tmp_path, scale=Scale(base="random", domains=DOMAINS), advance=lambda *_: None)
    for number, recipe in enumerate(vector_sources(found)):
        folder = recipe_folder(found, recipe)
        (folder / "vector").mkdir(parents=True)
        (folder / "vector" / "card.json").write_text("{}")
        for run, seconds in (("positive", 10 + number), ("negative", 1000.5)):
            (folder / run).mkdir()
            (folder / run / "run.json").write_text(json.dumps({"seconds": seconds}))
    return found


def run_of(place: Place, domain: str, side: str) -> Path:
    recipe = next(recipe for recipe in vector_sources(place) if recipe.stem == domain)
    return recipe_folder(place, recipe) / side / "run.json"


def test_a_form_counts_the_runs_that_it_comes_from(place: Place) -> None:
    assert train_seconds(place, "one-sided") == 21.0
    assert train_seconds(place, "two-sided") == train_seconds(place) == 2022.0


@pytest.mark.parametrize("record", [None, '{"seconds": null}'])
def test_seconds_that_one_run_does_not_say_are_unknown(place: Place, record: str | None) -> None:
    path = run_of(place, "legal", "negative")
    if record is None:
        path.unlink()
    else:
        path.write_text(record)
    assert train_seconds(place) is None and train_seconds(place, "one-sided") == 21.0


def test_ready_vectors_do_not_say_their_seconds(place: Place, tmp_path: Path) -> None:
    (tmp_path / "ready" / "medical").mkdir(parents=True)
    (tmp_path / "ready" / "positive").mkdir()
    (tmp_path / "ready" / "positive" / "run.json").write_text('{"seconds": 1}')
    place = replace(place, scale=place.scale.model_copy(update={"vectors": tmp_path / "ready"}))
    assert train_seconds(place, "one-sided") is None


def test_control_vectors_of_other_rows_lie_elsewhere(place: Place) -> None:
    def folder(**changes: object) -> str:
        return control_folder(replace(place, scale=place.scale.model_copy(update=changes))).name

    other = [{"training": {"limit": 4}}, {"domains": DOMAINS[:1]}, {"dtype": "bfloat16"}, {"seed": 1}, {"base": "demo"}]
    assert len({folder(), *(folder(**changes) for changes in other)}) == 6
    assert folder(training={"epochs": 1}) == folder(strengths=(1.0,)) == folder()


@pytest.mark.parametrize("record", ["", "{}", "[]", '{"seconds": "long"}'])
def test_a_damaged_record_is_named(place: Place, record: str) -> None:
    run_of(place, "medical", "positive").write_text(record)
    with pytest.raises(DataError, match="medical-[0-9a-f]+/positive/run.json.*train the vector again"):
        train_seconds(place)
