"""Calibrations of known rules: curves, positions, what a card keeps, and the knobs that are read by it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignvec.solve.calibration import fit, recommended
from alignvec.solve.calibration_report import rows_of, summary
from alignvec.solve.knob_meter import Position
from alignvec.steer.scale import Scale, scale_of
from alignvec.vectors.calibration import Calibration
from alignvec.vectors.card import Card
from tests.solve.rule_knob import LEVELS, LIMITS, PERSONAS, RuleKnob, calibrated


def scale(found: Calibration, make_vector: Any) -> Scale:
    return scale_of(make_vector().card.model_copy(update={"calibration": found}))


def test_curves_rise_and_the_ends_are_the_ends_rates() -> None:
    found = calibrated(RuleKnob(), points=13)
    for meter in ("level_rate", "preference_rate"):
        for end in ("highest", "above_lowest"):
            values = [getattr(getattr(point, meter), end).value for point in found.curve]
            assert values == sorted(values)
            assert (values[0], values[-1]) == (0, 1)
    assert [p.coefficient for p in found.curve] == [p.coefficient for p in found.points]


def test_replies_to_the_first_queries_alone_have_the_personas_of_those() -> None:
    from dataclasses import replace

    position = RuleKnob().at(0.6)
    (point,) = fit([replace(position, said=position.said[:6])], PERSONAS)
    assert point.level_rate.highest.value == position.said[:6].tolist().count(2) / 6
    assert point.preference_rate.highest.value == 0.5


def test_each_level_is_where_its_rate_is_highest_nearest_to_the_base() -> None:
    found = calibrated(RuleKnob(turn=0.55))
    # all are expert from 1 on, and all generic at 0
    assert found.settings == {"avoidance": -1.0, "generic": 0.0, "expert": 1.0}
    assert calibrated(RuleKnob(turn=1.2)).settings["expert"] == 2.0


DEPTH = {-1.0: (0, 20, 0), -0.5: (0, 17, 3), 0.0: (0, 12, 8), 0.5: (0, 5, 15), 1.0: (0, 1, 19)}
"""λ to replies of each level, of a knob between generic and expert."""


@pytest.mark.parametrize(
    ("counts", "named", "expected"),
    [
        (DEPTH, ("generic", "expert"), {"generic": -1.0, "expert": 1.0}),
        # the data's highest level has a rate that rises, the knob's a rate of its own
        (
            {-value: row[::-1] for value, row in DEPTH.items()},
            ("generic", "avoidance"),
            {"generic": 1.0, "avoidance": -1.0},
        ),
        (
            {-1.0: (18, 2, 0), 0.0: (4, 16, 0), 1.0: (0, 11, 9)},
            ("avoidance", "generic"),
            {"avoidance": -1.0, "generic": 0.0},
        ),
        (DEPTH, ("expert",), {"expert": 1.0}),
        # between the ends of the knob, not of the data
        (
            {-2.0: (0, 20, 0), -1.0: (15, 5, 0), 0.0: (2, 15, 3), 1.0: (0, 1, 19)},
            LEVELS,
            {"avoidance": -1.0, "generic": 0.0, "expert": 1.0},
        ),
    ],
)
def test_only_the_knobs_own_levels_are_recommended(
    counts: dict[float, tuple[int, ...]], named: tuple[str, ...], expected: dict[str, float]
) -> None:
    none = np.zeros(20, dtype=bool)
    said = {value: np.repeat(np.arange(3), row) for value, row in sorted(counts.items())}
    positions = [Position(value, LEVELS, levels, levels, 1.0, none, none) for value, levels in said.items()]
    assert recommended(positions, fit(positions, PERSONAS), named) == expected


def test_positions_are_never_outside_the_usable_range() -> None:
    found = calibrated(RuleKnob(perplexity=lambda value: 1 + 0.4 * abs(value)))
    assert found.usable == (-0.5, 0.5)
    assert found.settings == {"avoidance": -0.5, "generic": 0.0, "expert": 0.5}
    assert [p.coefficient for p in found.curve] == [p.coefficient for p in found.points if abs(p.coefficient) <= 0.5]


def test_the_card_says_what_broke_on_either_side() -> None:
    found = calibrated(RuleKnob(perplexity=lambda v: 1.5 if v > 1.1 else 1.0, broken=lambda v: 0.2 * (v > 1.1)))
    assert found.ends() == {
        "lowest": "nothing was measured beyond",
        "highest": f"at λ = {found.points[-1].coefficient:g} beyond the limit of perplexity, degenerate",
    }
    assert all(bool(p.broken) == (p.coefficient > 1.1) for p in found.points)
    assert f"usable from λ = {found.usable[0]:g} (nothing was measured beyond)" in summary(found)


def test_the_table_fits_in_80_columns() -> None:
    columns, rows = rows_of(calibrated(RuleKnob(), points=12))
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    assert sum(widths) + 2 * (len(widths) - 1) <= 80
    assert {row[-1] for row in rows} == {"yes"}


def test_a_card_keeps_it_and_a_card_without_one_stays_valid(make_vector: Any) -> None:
    card = make_vector().card
    stored = card.model_copy(update={"calibration": calibrated(RuleKnob())})
    read = Card.model_validate_json(stored.model_dump_json())
    assert read.calibration is not None
    assert read.model_dump_json() == stored.model_dump_json()
    assert Card.model_validate_json(card.model_dump_json(exclude={"calibration"})).calibration is None


def test_levels_percentages_and_the_range_are_read_by_the_calibration(make_vector: Any) -> None:
    found = calibrated(RuleKnob(turn=0.9, spread=0.3, perplexity=lambda v: 1.5 if abs(v) > 1.6 else 1.0), points=15)
    read = scale(found, make_vector)
    assert read.usable == found.usable
    assert {level: read.coefficient(level) for level in LEVELS} == found.settings
    assert (read.coefficient("0%"), read.coefficient("100%")) == (0.0, found.settings["expert"])
    # half of the queries are expert at .9
    assert read.coefficient("50%") == pytest.approx(0.9, abs=0.1)


@settings(max_examples=20, deadline=None)
@given(
    turn=st.floats(0.1, 1.5), spread=st.floats(0.05, 1.0), far=st.floats(0.3, 2.5),
    shares=st.lists(st.floats(0, 100), min_size=2, max_size=6),
)  # fmt: skip
def test_percentages_rise_and_every_position_is_usable(
    make_vector: Any, turn: float, spread: float, far: float, shares: list[float]
) -> None:
    found = calibrated(RuleKnob(turn, spread, perplexity=lambda v: 1.0 if abs(v) <= far else 2.0))
    read = scale(found, make_vector)
    low, high = found.usable
    assert all(low <= read.coefficient(level) <= high for level in LEVELS)
    if found.settings["expert"]:
        positions = [read.coefficient(f"{share}%") for share in sorted(shares)]
        assert positions == sorted(positions)
        assert all(low <= value <= high for value in positions)


def test_a_knob_that_changes_nothing_has_its_levels_at_the_base_and_no_percentages(make_vector: Any) -> None:
    from alignvec.errors import KnobError

    found = calibrated(RuleKnob(turn=9))
    assert set(found.settings.values()) == {0.0}
    with pytest.raises(KnobError, match="or the highest at λ = 0"):
        scale(found, make_vector).coefficient("50%")
    assert scale(found, make_vector).coefficient("0.5") == 0.5


def test_limits_that_hold_are_kept_with_the_result() -> None:
    assert calibrated(RuleKnob()).limits == LIMITS
