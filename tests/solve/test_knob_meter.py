"""What a knob does at some λ, on the tiny model."""

import builtins
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alignvec import models
from alignvec.data.schema import LEVELS, PreferenceRow
from alignvec.errors import ConfigError, DataError
from alignvec.evaluate.generation import reply_key
from alignvec.evaluate.judge import LevelJudge, judge_for
from alignvec.solve.calibration import calibrate
from alignvec.solve.knob_meter import KnobMeter
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling
from alignvec.vectors.calibration import Limits

VALUES = (-1.0, 0.0, 2.0)


@pytest.fixture
def model(tiny: models.BaseModel, make_vector: Any) -> KnobbedModel:
    return KnobbedModel(tiny, [make_vector(scale=0.3)])


@pytest.fixture
def judge(data_file: Path) -> LevelJudge:
    return judge_for(data_file)


def meter(model: KnobbedModel, rows: Sequence[PreferenceRow], judge: LevelJudge, **options: Any) -> KnobMeter:
    named: dict[str, Any] = {"data": "medical.jsonl validation", "text": "medical.jsonl", "generate": 3}
    named["sampling"] = Sampling(max_new_tokens=4)
    return KnobMeter(model, "medical", rows[8:12], rows[12:], judge, **named | options)


def test_perplexity_is_that_of_the_middle_level_over_the_bases(
    model: KnobbedModel, rows: list[PreferenceRow], judge: LevelJudge
) -> None:
    from alignvec.logprobs import encode_replies

    found = meter(model, rows, judge).measure(VALUES)
    assert found[1].perplexity == 1.0
    encoded = [
        encode_replies(model.base.tokenizer, r.query, [r.responses["generic"]], max_length=512) for r in rows[12:]
    ]
    tokens = sum(len(one.replies[0]) for one in encoded)
    for value, position in zip(VALUES, found, strict=True):
        change = (model.score(encoded, {}) - model.score(encoded, {"medical": value})).sum().item() / tokens
        assert position.perplexity == pytest.approx(math.exp(change), rel=1e-4)
    assert found[0].perplexity != found[2].perplexity


def test_levels_are_the_judges_and_of_the_likeliest_reference_reply(
    model: KnobbedModel, rows: list[PreferenceRow], judge: LevelJudge, tmp_path: Path
) -> None:
    found = meter(model, rows, judge, journal=tmp_path / "journal.jsonl").measure(VALUES)
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()
    journal = dict(json.loads(line) for line in lines[1:])
    for value, position in zip(VALUES, found, strict=True):
        assert len(position.preferred) == 4 and len(position.said) == 3
        replies = [journal[reply_key(row, {"medical": value})] for row in rows[8:11]]
        assert [LEVELS[i] for i in position.said] == judge.verdicts(replies)
        assert sum(position.level_rate().values()) == pytest.approx(1)
        assert sum(position.preference_rate().values()) == pytest.approx(1)


def test_replies_in_another_language_and_loops_are_counted(
    model: KnobbedModel, rows: list[PreferenceRow], judge: LevelJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {
        0.0: "Keep regular hours and dim the lights in the evening, then see whether it helps.",
        1.0: "Gehen Sie jeden Abend zur gleichen Zeit ins Bett und dunkeln Sie das Licht ab.",
        2.0: "sleep sleep sleep sleep sleep",
    }

    def generate(self: KnobbedModel, queries: Any, settings: Any, sampling: Any) -> list[str]:
        return [said[knobs["medical"]] for knobs in settings]

    monkeypatch.setattr(KnobbedModel, "generate", generate)
    plain, foreign, loop = meter(model, rows, judge).measure(list(said))
    assert not plain.off_language.any() and not plain.degenerate.any()
    assert foreign.off_language.all() and not foreign.degenerate.any()
    assert loop.degenerate.all()
    lenient = Limits(perplexity=1e9, degenerate=1.0, off_language=1.0)
    assert foreign.broken(plain, lenient.model_copy(update={"off_language": 0.5})) == ("off_language",)
    assert loop.broken(plain, lenient.model_copy(update={"degenerate": 0.5})) == ("degenerate",)
    german = meter(model, rows, judge, language="de").measure([1.0])[0]
    assert not german.off_language.any()


def test_a_model_that_overflows_is_far_beyond_every_limit(
    model: KnobbedModel, rows: list[PreferenceRow], judge: LevelJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(
        KnobbedModel, "score", lambda self, encoded, rows: torch.full((len(encoded), len(encoded[0].replies)), math.nan)
    )
    (position,) = meter(model, rows, judge).measure([2.0])
    assert position.perplexity == pytest.approx(math.exp(20))


def test_rows_that_serve_as_text_too_keep_scores_of_their_own(
    model: KnobbedModel, rows: list[PreferenceRow], judge: LevelJudge, tmp_path: Path
) -> None:
    both = KnobMeter(
        model, "medical", rows[8:12], rows[8:12], judge, generate=1, data="d", text="t",
        sampling=Sampling(max_new_tokens=2), journal=tmp_path / "journal.jsonl",
    )  # fmt: skip
    first = both.measure([1.0])[0]
    apart = meter(model, rows, judge).measure([1.0])[0]
    assert np.array_equal(first.preferred, apart.preferred)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_killed_calibration_goes_on_to_the_same_result(
    model: KnobbedModel, rows: list[PreferenceRow], judge: LevelJudge, tmp_path: Path, share: float
) -> None:
    def run(journal: Path) -> Any:
        made = meter(model, rows, judge, journal=journal)
        return calibrate(made, Limits(perplexity=1.5, off_language=1.0, degenerate=1.0), points=7)

    whole = run(tmp_path / "whole.jsonl")
    content = (tmp_path / "whole.jsonl").read_bytes()
    (tmp_path / "cut.jsonl").write_bytes(content[: int(len(content) * share)])
    again = run(tmp_path / "cut.jsonl")
    assert [p.perplexity for p in again.points] == pytest.approx([p.perplexity for p in whole.points])
    for name in ("usable", "curve", "settings"):
        assert getattr(again, name) == getattr(whole, name)
    keys = [
        sorted(json.loads(line)[0] for line in text.splitlines()[1:])
        for text in (content.decode(), (tmp_path / "cut.jsonl").read_text())
    ]
    assert keys[0] == keys[1]


def test_a_finished_one_is_read_from_its_journal_whatever_the_limits(
    model: KnobbedModel, rows: list[PreferenceRow], judge: LevelJudge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(limits: Limits) -> Any:
        return calibrate(meter(model, rows, judge, journal=tmp_path / "j.jsonl"), limits, points=5)

    wide = run(Limits(perplexity=1e9, degenerate=1, off_language=1))
    monkeypatch.delattr(KnobbedModel, "score")
    monkeypatch.delattr(KnobbedModel, "generate")
    narrow = run(Limits(perplexity=1.0 + 1e-6, degenerate=1, off_language=1))
    assert wide.usable == (-1, 1)
    assert narrow.usable[1] - narrow.usable[0] < 2
    assert [p.perplexity for p in wide.points] == [p.perplexity for p in narrow.points]


def test_progress_counts_every_reply(model: KnobbedModel, rows: list[PreferenceRow], judge: LevelJudge) -> None:
    done: list[tuple[int, int]] = []
    calibrate(
        meter(model, rows, judge), Limits(), points=7, advance=lambda _, number, total: done.append((number, total))
    )
    assert sum(number for number, _ in done) == 7 * 3
    assert {total for _, total in done} == {7 * 3}


def test_what_cannot_be_measured_is_told(
    model: KnobbedModel, rows: list[PreferenceRow], judge: LevelJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="no language 'klingon'"):
        meter(model, rows, judge, language="klingon")
    fewer = [row.model_copy(update={"responses": {"low": "a", "high": "b"}}) for row in rows]
    with pytest.raises(DataError, match="the judge tells avoidance, generic, expert apart, but the rows have low, hig"):
        meter(model, fewer, judge)
    found = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("py3langid"):
            raise ModuleNotFoundError(name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'alignvec\[data\]'"):
        meter(model, rows, judge)


def test_levels_of_the_card_that_the_rows_do_not_have_are_told(
    model: KnobbedModel, rows: list[PreferenceRow], judge: LevelJudge, make_vector: Any, tiny: models.BaseModel
) -> None:
    from dataclasses import replace

    vector = make_vector()
    assert meter(model, rows, judge).named == LEVELS

    def named(*levels: str) -> tuple[str, ...]:
        card = vector.card.model_copy(update={"levels": levels})
        return meter(KnobbedModel(tiny, [replace(vector, card=card)]), rows, judge).named

    assert named("generic", "expert") == ("generic", "expert")
    assert named() == LEVELS
    with pytest.raises(DataError, match="names the level formal, but the rows have avoidance, generic, expert"):
        named("generic", "formal")
