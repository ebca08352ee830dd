"""Preference rates and margins from hand-made numbers, and scores against a merged model in float64."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alignvec import models
from alignvec.data.schema import LEVELS, PreferenceRow
from alignvec.errors import DataError
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.preference import LevelScores, score_levels
from alignvec.steer.model import KnobbedModel
from alignvec.vectors.vector import AlignmentVector

BASE = [[-10.0, -30.0, -60.0], [-12.0, -22.0, -50.0]]
COUNTS = [[5.0, 20.0, 30.0], [4.0, 10.0, 25.0]]
TURNED = [[-9.0, -38.0, -36.0], [-20.0, -10.0, -50.0]]
# per token: TURNED/COUNTS = [-1.8, -1.9, -1.2], [-5, -1, -2]; implicit = [.2, -.4, .8], [-2, 1.2, 0]


@pytest.fixture
def scores() -> LevelScores:
    return LevelScores(LEVELS, ("p", "q"), np.array([BASE, TURNED]), np.array(BASE), np.array(COUNTS))


def winners(scores: LevelScores, meter: str) -> dict[str, float]:
    return {level: rate.value for level, rate in scores.preference_rate(1, meter).items()}


def test_each_meter_prefers_by_its_own_measure(scores: LevelScores) -> None:
    assert winners(scores, "raw") == {"avoidance": 0.5, "generic": 0.5, "expert": 0.0}
    assert winners(scores, "per_token") == {"avoidance": 0.0, "generic": 0.5, "expert": 0.5}
    assert winners(scores, "implicit") == {"avoidance": 0.0, "generic": 0.5, "expert": 0.5}


def test_the_base_prefers_by_likelihood_but_has_no_implicit_preference(scores: LevelScores) -> None:
    assert scores.preference_rate(0, "implicit") == {}
    assert scores.preference_rate(0, "raw")["avoidance"].value == 1.0
    assert scores.preference_rate(0, "per_token")["generic"].value == 0.5  # of -2, -1.5, -2 and of -3, -2.2, -2


def test_the_implicit_reward_is_the_log_ratio_a_token(scores: LevelScores) -> None:
    np.testing.assert_allclose(scores.implicit()[1], [[0.2, -0.4, 0.8], [-2.0, 1.2, 0.0]], atol=1e-12)


def test_margins_set_the_highest_level_against_the_lowest(scores: LevelScores) -> None:
    np.testing.assert_allclose(scores.margins()[1], [0.6, 2.0], atol=1e-12)
    np.testing.assert_allclose(scores.margins(per_token=False)[1], [23.0, 8.0], atol=1e-12)
    assert scores.margin(1).value == pytest.approx(1.3, abs=1e-12)
    assert (scores.margin(1).low, scores.margin(1).high) == pytest.approx((0.6, 2.0), abs=1e-12)
    assert scores.margin(1, per_token=False).value == pytest.approx(15.5, abs=1e-12)
    assert scores.margin(0).value == 0.0


def merged_scores(folder: Path, vector: AlignmentVector, coefficient: float, row: PreferenceRow) -> list[float]:
    """Log-probability of each reply from a model whose float64 weights hold λ·Δ, each reply alone."""
    base = models.load(str(folder), device="cpu")
    model, tokenizer = base.model.double(), base.tokenizer
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for name, delta in vector.delta_at(coefficient).items():
            weights[name] += delta.dense().double()
        sums = []
        for level in LEVELS:
            prompt = f"<|im_start|>user\n{row.query}<|im_end|>\n<|im_start|>assistant\n"
            reply = tokenizer(row.responses[level] + "<|im_end|>", add_special_tokens=False)["input_ids"]
            ids = torch.tensor([[*tokenizer(prompt, add_special_tokens=False)["input_ids"], *reply]])
            logits = model(ids).logits[0, -len(reply) - 1 : -1].log_softmax(-1)
            sums.append(logits.gather(1, torch.tensor(reply)[:, None]).sum().item())
    return sums


def test_scores_are_those_of_a_merged_model_reply_by_reply(
    tiny: models.BaseModel, tiny_folder: Path, make_vector: Any, rows: list[PreferenceRow]
) -> None:
    vector = make_vector()
    settings = [{"medical": value} for value in (-0.7, 0.0, 1.0)]
    found = score_levels(KnobbedModel(tiny, [vector]), rows[:3], LEVELS, settings, journal=Journal())
    for s, value in enumerate((-0.7, 0.0, 1.0)):
        for r, row in enumerate(rows[:3]):
            assert found.sums[s, r].tolist() == pytest.approx(merged_scores(tiny_folder, vector, value, row), rel=1e-5)
    assert found.base.tolist() == found.sums[1].tolist()
    assert found.counts.tolist() == [[len(row.responses[v]) + 1 for v in LEVELS] for row in rows[:3]]
    assert found.personas == tuple(row.persona for row in rows[:3])


def test_progress_counts_every_row_under_every_setting_and_the_base(
    tiny: models.BaseModel, make_vector: Any, rows: list[PreferenceRow]
) -> None:
    done: list[int] = []
    model = KnobbedModel(tiny, [make_vector()])
    settings = [{"medical": 0.5}, {"medical": 1.0}]
    score_levels(model, rows, LEVELS, settings, journal=Journal(), advance=done.append)
    assert sum(done) == len(rows) * 3


def test_a_setting_of_zero_is_not_scored_apart_from_the_base(
    tiny: models.BaseModel, make_vector: Any, rows: list[PreferenceRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = KnobbedModel(tiny, [make_vector()])
    scored: list[Any] = []
    score = model.score

    def counted(encoded: Any, knobs: Any) -> Any:
        scored.extend(encoded)
        return score(encoded, knobs)

    monkeypatch.setattr(model, "score", counted)
    score_levels(model, rows[:2], LEVELS, [{"medical": 0.0}, {"medical": 1.0}], journal=Journal())
    assert len(scored) == 2 * 2


def test_what_the_journal_has_needs_no_model(
    tiny: models.BaseModel, make_vector: Any, rows: list[PreferenceRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, path = KnobbedModel(tiny, [make_vector()]), tmp_path / "journal.jsonl"
    first = score_levels(model, rows, LEVELS, [{"medical": 1.0}], journal=Journal(path))
    monkeypatch.delattr(KnobbedModel, "score")
    again = score_levels(model, rows, LEVELS, [{"medical": 1.0}], journal=Journal(path))
    assert again.sums.tolist() == first.sums.tolist()
    assert again.base.tolist() == first.base.tolist()


def test_a_row_beyond_the_context_is_refused_by_its_query(tiny: models.BaseModel, rows: list[PreferenceRow]) -> None:
    long = rows[0].model_copy(update={"query": "Why so long? " * 60})
    with pytest.raises(
        DataError, match=r"the query 'Why so long\? .*' with its reply has \d+ tokens, more than the 512"
    ):
        score_levels(KnobbedModel(tiny), [long], LEVELS, [], journal=Journal())
