"""The shipped vectors on the embedded model."""

from pathlib import Path

import pytest
import torch

from alignvec import models
from alignvec.data.load import load_rows, shipped_file
from alignvec.data.schema import LEVELS
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.preference import score_levels
from alignvec.logprobs import encode_replies
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import GREEDY
from alignvec.train.config import load_recipe
from alignvec.vectors.fingerprint import fingerprint
from alignvec.vectors.store import load_card, load_vector

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
DOMAINS = ("medical", "legal", "financial")


@pytest.fixture(scope="module")
def knobbed() -> KnobbedModel:
    vectors = [load_vector(ROOT / "vectors" / domain) for domain in DOMAINS]
    return KnobbedModel(models.load("demo", device="cpu"), vectors)


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_shipped_vector_is_small_and_says_how_it_was_made_and_measured(domain: str) -> None:
    folder = ROOT / "vectors" / domain
    card = load_card(folder)
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= 10_000_000
    assert card.base.fingerprint == fingerprint(models.resolve("demo"))
    assert card.measured is not None and card.measured.data == f"{domain}.jsonl test"
    assert set(card.settings) == set(LEVELS)
    recipe = load_recipe(ROOT / "recipes" / f"{domain}.yaml")
    assert recipe.split == "train"
    stored = {key: card.recipe.get(key) for key in recipe.model_dump(exclude={"data"})}  # newer keys are None
    assert stored == recipe.model_dump(mode="json", exclude={"data"})


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_margin_of_expert_over_avoidance_rises_with_the_knob(knobbed: KnobbedModel, domain: str) -> None:
    rows = load_rows(shipped_file(domain), split="validation", limit=4)
    settings = [{domain: value} for value in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    scores = score_levels(knobbed, rows, LEVELS, settings, journal=Journal())
    margins = [scores.margin(i).value for i in range(len(settings))]
    assert margins == sorted(margins) and len(set(margins)) == len(margins)
    assert margins[2] == 0.0
    sums = [scores.margin(i, per_token=False).value for i in range(len(settings))]
    assert sums == sorted(sums) and sums[0] < 0 < sums[-1]


def test_eight_rows_with_eight_settings_equal_each_run_alone(knobbed: KnobbedModel) -> None:
    rows = [row for domain in DOMAINS for row in load_rows(shipped_file(domain), split="validation", limit=3)][:8]
    settings: list[dict[str, float]] = [
        {},
        {"medical": 1.0},
        {"medical": -1.0},
        {"legal": 0.5},
        {"financial": 1.0, "medical": -0.5},
        {"legal": -1.0, "financial": 0.3},
        {"medical": 0.3, "legal": 0.3, "financial": 0.3},
        {"financial": -0.7},
    ]
    sampling = GREEDY.model_copy(update={"max_new_tokens": 16})
    together = knobbed.generate([row.query for row in rows], settings, sampling)
    alone = [knobbed.generate([row.query], [knobs], sampling)[0] for row, knobs in zip(rows, settings, strict=True)]
    assert together == alone
    assert len(set(together)) == 8


def test_the_base_is_bit_identical_at_zero_and_after_every_context(knobbed: KnobbedModel) -> None:
    ids = torch.arange(1, 40)[None]
    with torch.no_grad():
        before = knobbed.base.model(ids).logits
        with knobbed.knobs(dict.fromkeys(DOMAINS, 0.0)) as model:
            assert torch.equal(model(ids).logits, before)
        with knobbed.knobs({"medical": 1.0}) as model:
            assert not torch.allclose(model(ids).logits, before, atol=1e-2)
        assert torch.equal(knobbed.base.model(ids).logits, before)


def test_the_gate_equals_weights_merged_with_peft(knobbed: KnobbedModel) -> None:
    """λ = 1 and λ = -1 of a hinged vector are the two adapters of its folder, as PEFT reads them."""
    from peft import PeftModel

    row = load_rows(shipped_file("medical"), split="validation", limit=1)[0]
    encoded = [encode_replies(knobbed.base.tokenizer, row.query, [row.responses["expert"]], max_length=2048)]
    gate = {value: knobbed.score(encoded, {"medical": value}).item() for value in (1.0, -1.0)}
    for value, folder in ((1.0, "."), (-1.0, "negative")):
        peft = PeftModel.from_pretrained(models.load("demo", device="cpu").model, ROOT / "vectors" / "medical" / folder)
        merged = models.BaseModel("merged", knobbed.base.folder, peft.merge_and_unload(), knobbed.base.tokenizer)
        assert KnobbedModel(merged).score(encoded, {}).item() == pytest.approx(gate[value], rel=1e-4)
    assert gate[1.0] > gate[-1.0]
