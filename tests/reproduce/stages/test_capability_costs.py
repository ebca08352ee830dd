"""Costs are told apart by knob, and drawn."""

from pathlib import Path

import pytest

from alignvec.evaluate.capability_record import Cost, Measured
from alignvec.reproduce.stages.capability import Capabilities, by_knob, show
from alignvec.vectors.strict import Interval

LAMBDAS = (-1.0, 0.0, 1.0)


def cost(knobs: dict[str, float], value: float) -> Cost:
    one = Measured(value=Interval(value=value, low=None, high=None), change=Interval(value=1, low=0.5, high=2))
    return Cost(knobs=knobs, perplexity=one, answers=one, letters=one, followed=one)


def test_each_knob_has_its_own_costs_in_the_order_of_its_settings() -> None:
    settings = [{name: value} for name in ("legal", "medical") for value in LAMBDAS]
    found = by_knob(settings, [cost(knobs, i / 10) for i, knobs in enumerate(settings)])
    assert list(found) == ["legal", "medical"]
    assert [one.answers.value.value for one in found["legal"]] == [0, 0.1, 0.2]
    assert [one.answers.value.value for one in found["medical"]] == [0.3, 0.4, 0.5]
    mixed = [{"legal": 1.0}, {"medical": 0.0}, {"legal": -1.0}]
    found = by_knob(mixed, [cost(knobs, i / 10) for i, knobs in enumerate(mixed)])
    assert {name: [one.answers.value.value for one in costs] for name, costs in found.items()} == {
        "legal": [0, 0.2],
        "medical": [0.1],
    }


def test_a_cost_too_few_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        by_knob([{"legal": 1.0}, {"legal": 0.0}], [cost({}, 0.0)])


def test_tables_have_a_row_for_every_strength(tmp_path: Path) -> None:
    settings = [{name: value} for name in ("legal", "medical") for value in LAMBDAS]
    costs = by_knob(settings, [cost(knobs, i / 10) for i, knobs in enumerate(settings)])
    found = Capabilities(data="d", items=(4, 3, 2), coefficients=LAMBDAS, costs=costs)
    legal, medical = show(found, tmp_path).tables
    assert (legal.title, medical.title) == ("legal knob", "medical knob")
    assert [row[0] for row in medical.rows] == ["-1", "0", "1"]
    assert [row[2] for row in medical.rows] == [one.answers.value.told() for one in costs["medical"]]
    assert (tmp_path / "capability.png").is_file()
