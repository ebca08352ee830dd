"""Errors of a surface at settings that it has not seen, where the rule is known."""

import numpy as np
import pytest

from alignvec.errors import DataError
from alignvec.solve.behaviour import Behaviour
from alignvec.solve.oracle import StandIn
from alignvec.solve.solver import Kind, measured_rates
from alignvec.solve.surface import Array
from alignvec.solve.surface_error import RateError, surface_error
from tests.solve.synthetic import BOX, DOMAINS, RuleMeter

UNSEEN = BOX.random(40, seed=9)


@pytest.fixture(scope="module")
def behaviour() -> Behaviour:
    return Behaviour(BOX, RuleMeter(spill=0.3).measure(BOX.design(40, seed=0)))


def test_the_error_is_the_mean_over_settings_domains_and_levels(behaviour: Behaviour) -> None:
    measured = RuleMeter(spill=0.3).measure(UNSEEN)
    found = surface_error(behaviour, measured)
    assert (found.fitted, found.held_out) == (40, 40)
    kinds: tuple[tuple[RateError | None, Array, Kind], ...] = (
        (found.preference, behaviour.preference_rates(UNSEEN), "preference"),
        (found.level, behaviour.level_rates(UNSEEN), "level"),
    )
    for error, predicted, by in kinds:
        assert error is not None
        off = np.abs(predicted - measured_rates(measured, by))
        assert error.mean.value == pytest.approx(off.mean()) and error.mean.low <= off.mean() <= error.mean.high
        assert error.domains == pytest.approx(dict(zip(DOMAINS, off.mean(axis=(0, 2)), strict=True)))
    assert found.preference.noise is None and found.preference.explained is None


def test_a_true_surface_leaves_nothing_but_noise() -> None:
    truth = StandIn(BOX, RuleMeter(spill=0.3).measure(BOX.design(40, seed=0)))
    found = surface_error(truth, truth.draw(UNSEEN, 0)).level
    assert found is not None and found.noise is not None and found.explained is not None
    assert found.explained == pytest.approx(found.noise / found.mean.value)
    assert 0.85 < found.explained < 1.6, "a little too high, as queries differ"


def test_noise_does_not_explain_a_wrong_surface(behaviour: Behaviour) -> None:
    found = surface_error(behaviour, RuleMeter(spill=-0.9).measure(UNSEEN)).level
    assert found is not None and found.explained is not None and found.explained < 0.4


def test_settings_of_the_fit_and_other_queries_are_refused(behaviour: Behaviour) -> None:
    meter = RuleMeter(spill=0.3)
    seen = behaviour.measured.points[:1]
    with pytest.raises(DataError, match="fitted to"):
        surface_error(behaviour, meter.measure(np.concatenate([UNSEEN[:2], seen])))
    with pytest.raises(DataError, match="no held-out settings"):
        surface_error(behaviour, meter.measure(UNSEEN[:0]))
    with pytest.raises(DataError, match="other queries"):
        surface_error(behaviour, RuleMeter(rows=meter.rows[::-1]).measure(UNSEEN))
