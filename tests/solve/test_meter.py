"""Measuring settings of several knobs on the tiny model, with texts and with a router's shares."""

from typing import Any

import numpy as np
import pytest

from alignvec.data.schema import PreferenceRow
from alignvec.models import BaseModel
from alignvec.solve.behaviour import Behaviour
from alignvec.solve.box import Axis, Box
from alignvec.solve.measure import Meter
from alignvec.steer.model import KnobbedModel
from tests.conftest import preference_record
from tests.solve.synthetic import BOX as RULED
from tests.solve.synthetic import RuleMeter

BOX = Box((Axis("medical", -1.0, 1.0, True), Axis("legal", -1.0, 1.0, True)))


def rows(domain: str, count: int) -> list[PreferenceRow]:
    return [PreferenceRow.model_validate(preference_record(i, "test", domain)) for i in range(count)]


@pytest.fixture
def meter(tiny: BaseModel, make_vector: Any) -> Meter:
    knobbed = KnobbedModel(tiny, [make_vector(name, seed=i, scale=0.3) for i, name in enumerate(BOX.names)])
    asked = [*rows("medical", 3), *rows("legal", 2)]
    return Meter(knobbed, BOX, asked, texts=rows("general", 2), data="here")


def test_every_row_and_text_has_the_share_that_acts_on_it(meter: Meter) -> None:
    """A setting under shares is for each row the setting that its shares make of it."""
    point = np.array([[0.8, -0.6]])
    shares = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.25, 0.75], [0.0, 0.5]])
    found = meter.measure(point, shares=shares)
    assert found.general is not None
    for i, share in enumerate(shares):
        alone = meter.measure(point * share)
        assert alone.general is not None
        one, same = (
            (found.scores.sums[0, i], alone.scores.sums[0, i])
            if i < 5
            else (found.general.sums[0, i - 5], alone.general.sums[0, i - 5])
        )
        assert one == pytest.approx(same, abs=1e-4)
    assert found.scores.sums[0, 2] == pytest.approx(found.scores.base[2], abs=1e-4)


def test_perplexity_of_the_texts_is_predicted_at_their_own_shares() -> None:
    """A factor of e^(0.2 · Σ|λ|), of which a quarter of the legal knob acts on the text, none of the medical."""
    measured = RuleMeter(cost=0.2).measure(RULED.design(30, seed=0))
    shares = np.concatenate([np.ones((len(measured.rows), 2)), [[0.0, 0.25]]])
    points = RULED.random(10, seed=1)
    plain = Behaviour(RULED, measured).perplexity(points)
    assert plain == pytest.approx(np.exp(0.2 * np.abs(points).sum(axis=1)), abs=0.01)
    routed = Behaviour(RULED, measured, shares).perplexity(points)
    assert routed == pytest.approx(np.exp(0.05 * np.abs(points[:, 1])), abs=0.01)
