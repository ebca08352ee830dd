"""Results that come with the project are of the scale, files and results that they would be made from now."""

import json
from pathlib import Path

import pytest

from alignvec.reproduce.place import Place
from alignvec.reproduce.run import SCALE, SHIPPED
from alignvec.reproduce.scale import load_scale
from alignvec.reproduce.stage import first_difference, parse_found, read_finished
from alignvec.reproduce.stages import STAGES

RESULTS = [path.stem for path in sorted(SHIPPED.glob("*.json")) if path.name != SCALE]


def test_they_are_of_the_small_scale() -> None:
    assert (SHIPPED / SCALE).read_text() == load_scale("small").told()
    assert set(RESULTS) <= set(STAGES)


def test_every_result_is_of_what_it_would_be_made_from(tmp_path: Path) -> None:
    place = Place(load_scale("small"), tmp_path, lambda *_: None)
    for name, stage in STAGES.items():
        path = SHIPPED / f"{name}.json"
        if path.is_file():
            finished = read_finished(path)
            assert first_difference(finished.scope, stage.scope(place)) == "", name
            place.keep(name, parse_found(path, stage, finished))


@pytest.mark.parametrize("name", RESULTS)
def test_no_result_names_a_place_of_the_machine(name: str) -> None:
    text = (SHIPPED / f"{name}.json").read_text()
    commands = [one["command"] for one in _records(json.loads(text)) if "command" in one]
    assert commands and all(" /" not in command for command in commands)


def _records(value: object) -> list[dict[str, str]]:
    if isinstance(value, dict):
        return [value, *(found for one in value.values() for found in _records(one))]
    return [found for one in value for found in _records(one)] if isinstance(value, list) else []
