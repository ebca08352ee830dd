"""Both texts about a vector, word for word as they stand in texts/, so that they change on purpose only."""

from pathlib import Path
from typing import Any

import pytest
import torch

from alignvec.vectors.calibration import (
    Calibration,
    CalibrationPoint,
    FittedPoint,
    Limits,
    Rising,
    Spillover,
    SpilloverPoint,
)
from alignvec.vectors.card import BaseReference, Card, CurvePoint, Measurement, Source
from alignvec.vectors.delta import Delta, LowRankDelta
from alignvec.vectors.describe import describe
from alignvec.vectors.model_card import model_card
from alignvec.vectors.packed import to_signs
from alignvec.vectors.strict import Interval
from alignvec.vectors.vector import AlignmentVector

TEXTS = Path(__file__).parent / "texts"
FILES = ("adapter_model.safetensors", "deltas.safetensors", "negative/adapter_model.safetensors")


def near(value: float) -> Interval:
    return Interval(value=value, low=value - 0.05, high=value + 0.1)


def curve_point(value: float) -> CurvePoint:
    levels = {"avoidance": near(0.5 - value / 4), "expert": near(0.5 + value / 4)}
    generated: dict[str, Any] = {"level_rate": levels, "degenerate": Interval(value=0.02, low=None, high=None)}
    rates = {"per_token": levels if value else {"expert": near(0.4)}, "raw": levels}
    return CurvePoint(
        coefficient=value,
        preference_rate={"raw": levels} if value == 0.5 else rates,
        margin=near(3 * value),
        margin_sum=near(30 * value),
        **(generated if value else {}),
    )


def calibration_point(value: float, *broken: str) -> CalibrationPoint:
    rates = {"avoidance": 0.5, "expert": 0.5}
    return CalibrationPoint(
        coefficient=value,
        level_rate=rates,
        preference_rate=rates,
        perplexity=1.1,
        degenerate=0.0,
        off_language=0.0,
        broken=broken,
    )


CALIBRATION = Calibration(
    data="cal.jsonl validation",
    queries=12,
    text="general text",
    language="en",
    generation={"temperature": 0.7},
    judge="The judge is right on .97.",
    levels=("avoidance", "generic", "expert"),
    limits=Limits(),
    usable=(-1.25, 1.5),
    points=[
        calibration_point(-3.0, "perplexity", "degenerate"),
        calibration_point(-1.5, "off_language", "perplexity"),
        calibration_point(-1.25),
        calibration_point(0.0),
        calibration_point(1.5),
    ],
    curve=[
        FittedPoint(
            coefficient=value,
            level_rate=Rising(highest=near(0.5 + value / 3), above_lowest=near(0.6 + value / 5)),
            preference_rate=Rising(highest=near(0.1), above_lowest=near(0.2)),
        )
        for value in (-1.0, 0.0, 1.25)
    ],
    settings={"avoidance": -1.0, "generic": 0.125, "expert": 1.25},
)
SPILLOVER = Spillover(
    data="all",
    points=[
        SpilloverPoint(coefficient=value, domain=domain, preference=near(share), perplexity=near(1.0))
        for value in (-1.0, 1.25)
        for domain, share in (("medical", 0.5), ("legal", 0.25), ("general", 0.0312))
    ],
)
MEASURED = Measurement(
    data="medical.jsonl test",
    queries=40,
    generation={"temperature": 0.7, "seed": 0},
    judge="The judge is right on .99.",
    curve=[curve_point(0.0), curve_point(1.0), curve_point(-1.0), curve_point(0.5)],
)
BASE = BaseReference(
    name="owner/base-1B", fingerprint="0123456789ab" * 5, template="t" * 64, tokenizer="k" * 64, licence="llama3.2"
)
EVERYTHING = Card(
    name="medical",
    domain="medical",
    levels=("avoidance", "generic", "expert"),
    form="hinged",
    method="hinged",
    base=BASE,
    recipe={
        "seed": 11,
        "order": "a|b",
        "epochs": None,
        "rank": 8,
        "notes": "two\nlines",
        "beta": 0.1,
        "aligned": "x",
        "of": ["y"],
        "orders": 2,
        "loss": "z",
        "sft_weight": 0.2,
        "learning_rate": 3e-4,
        "dtype": "float32",
    },
    versions={"trl": "1.0", "torch": "9.9"},
    settings={"avoidance": -1.0, "generic": 0.0, "expert": 1.5},
    measured=MEASURED,
    calibration=CALIBRATION,
    spillover=SPILLOVER,
    source=Source(grid="bfloat16", zero_share=0.25, delta_ulp=1.5, left_out=[]),
    error={"storage_rounding": 2e-4, "compression": 0.25, "rank_cut": 0.125},
    licence="Apache-2.0 AND My Own: v2",
    notes="Made\nby hand.",
    files=dict(zip(FILES, ("a" * 64, "d" * 64, "n" * 64), strict=True)),
)
LEAST = Card(
    name="plain",
    form="single",
    method="extracted",
    base=BASE.model_copy(update={"name": "/home/somebody/base", "tokenizer": None, "licence": None}),
    files={"deltas.safetensors": "d" * 64},
)
OF_DEMO = LEAST.model_copy(
    update={
        "base": BASE.model_copy(update={"name": "demo"}),
        "method": "one-sided",
        "recipe": {"epochs": 2, "seed": 0},
        "measured": MEASURED.model_copy(
            update={"curve": [point.model_copy(update={"level_rate": {}}) for point in MEASURED.curve]}
        ),
        "settings": {"expert": -0.5, "generic": 0.0},
        "files": {"adapter_model.safetensors": "a" * 64},
        "licence": "MIT",
        "source": Source(grid="float16", zero_share=0.0, delta_ulp=9.0, left_out=[], base_rounding=0.5),
    }
)


@pytest.mark.parametrize(
    ("name", "card", "repo_id"),
    [("everything", EVERYTHING, "me/medical"), ("least", LEAST, None), ("of_demo", OF_DEMO, None)],
)
def test_the_model_card_is_word_for_word_what_it_was(name: str, card: Card, repo_id: str | None) -> None:
    assert model_card(card, repo_id=repo_id) == (TEXTS / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "card"), [("everything", EVERYTHING), ("least", LEAST), ("of_demo", OF_DEMO)])
def test_the_description_is_word_for_word_what_it_was(name: str, card: Card) -> None:
    low: dict[str, Delta] = {"a.weight": LowRankDelta(torch.ones(2, 4), torch.ones(8, 2))}
    signs: dict[str, Delta] = {"b.weight": to_signs(torch.ones(8, 4))}
    vector = AlignmentVector(card, {**low, **signs}, low if card.form == "hinged" else None)
    assert describe(vector) + "\n" == (TEXTS / f"{name}.txt").read_text(encoding="utf-8")
