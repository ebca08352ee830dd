"""What a client is told of vectors that were measured."""

from dataclasses import replace
from typing import Any

import httpx2

from alignvec.vectors.card import Measurement
from tests.serve.scripted_engine import ScriptedEngine
from tests.serve.serving import make_service, served
from tests.solve.rule_knob import RuleKnob, calibrated


def test_the_curve_and_the_calibration_have_names_of_their_own(tiny: Any, make_vector: Any) -> None:
    found = calibrated(RuleKnob(perplexity=lambda value: 1.0 if abs(value) <= 1 else 2.0))
    measured = Measurement(data="d", queries=1, generation={}, judge="none", curve=[])
    updates = {"medical": {"calibration": found}, "legal": {"measured": measured}}
    vectors = [make_vector(name) for name in updates]
    told = [replace(v, card=v.card.model_copy(update=updates[v.name])) for v in vectors]
    with served(make_service(ScriptedEngine(tiny, told))) as url:
        medical, legal = httpx2.get(f"{url}/v1/alignment").json()["data"]
    assert medical["calibration"] == found.model_dump(mode="json") and medical["measured"] is None
    assert medical["usable_range"] == medical["calibration"]["usable"] == [-1.0, 1.0]
    assert legal["measured"] == measured.model_dump(mode="json")
    assert legal["calibration"] is None and legal["spillover"] is None
