"""A sweep of one knob: what it writes, what the numbers are, and how it goes on."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from alignvec import models
from alignvec.data.schema import LEVELS, PreferenceRow
from alignvec.errors import DataError, KnobError, StorageError
from alignvec.evaluate.judge import LevelJudge, judge_for
from alignvec.evaluate.sweep import parse_coefficients, sweep
from alignvec.evaluate.sweep_record import SweepResult
from alignvec.evaluate.sweep_report import tables
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling

VALUES = (-1.0, 0.0, 0.5, 2.0)
SAMPLING = Sampling(max_new_tokens=6)


@pytest.fixture
def model(tiny: models.BaseModel, make_vector: Any) -> KnobbedModel:
    return KnobbedModel(tiny, [make_vector()])


@pytest.fixture
def judge(data_file: Path) -> LevelJudge:
    return judge_for(data_file)


def run(model: KnobbedModel, rows: Sequence[PreferenceRow], out: Path | None = None, **options: Any) -> SweepResult:
    settings = {"data": "medical.jsonl test", "coefficients": VALUES, "sampling": SAMPLING, **options}
    return sweep(model, "medical", rows, out=out, **settings)


def test_it_writes_the_curve_as_json_csv_and_picture_and_every_reply(
    model: KnobbedModel, rows: list[PreferenceRow], judge: LevelJudge, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = run(model, rows[12:], out, judge=judge, generate=3)
    names = {"sweep.json", "sweep.csv", "sweep.png", "replies.jsonl", "replies.md", "journal.jsonl"}
    assert {path.name for path in out.iterdir()} == names
    stored = SweepResult.model_validate({**json.loads((out / "sweep.json").read_text()), "replies": []})
    assert stored == result.model_copy(update={"replies": ()})
    replies = [json.loads(line) for line in (out / "replies.jsonl").read_text().splitlines()]
    assert [(r["row"], r["coefficient"]) for r in replies] == [(r.id, v) for v in VALUES for r in rows[12:15]]
    prose = (out / "replies.md").read_text()
    assert prose.count("\n## ") == 3
    assert all(" ".join(r["reply"].split()) in prose for r in replies)
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    lines = list(csv.DictReader((out / "sweep.csv").read_text().splitlines()))
    margins = [float(line["value"]) for line in lines if line["measure"] == "margin_per_token"]
    assert margins == [point.margin.value for point in result.curve]
    rates = {(float(x["coefficient"]), x["level"]): float(x["high"]) for x in lines if x["measure"] == "level_rate"}
    assert rates == {(p.coefficient, level): p.level_rate[level].high for p in result.curve for level in LEVELS}


def test_level_rates_are_the_shares_of_the_verdicts_on_the_replies(
    model: KnobbedModel, rows: list[PreferenceRow], judge: LevelJudge
) -> None:
    result = run(model, rows[12:], judge=judge)
    assert (result.queries, result.generated) == (4, 4)
    for point in result.curve:
        replies = [r for r in result.replies if r.coefficient == point.coefficient]
        for level in LEVELS:
            share = sum(verdict == level for verdict in judge.verdicts([r.reply for r in replies])) / 4
            assert point.level_rate[level].value == share
        assert point.degenerate is not None
        assert point.degenerate.value == sum(r.degenerate for r in replies) / 4


def test_the_curve_has_every_coefficient_and_is_exactly_nothing_at_the_base(
    model: KnobbedModel, rows: list[PreferenceRow]
) -> None:
    result = run(model, rows)
    assert tuple(point.coefficient for point in result.curve) == VALUES
    zero = result.curve[VALUES.index(0.0)]
    assert (zero.margin.value, zero.margin.low, zero.margin.high, zero.margin_sum.value) == (0.0, 0.0, 0.0, 0.0)
    assert set(zero.preference_rate) == {"per_token", "raw"}
    assert all(point.margin.value != 0.0 for point in result.curve if point.coefficient)


def test_without_a_judge_nothing_is_generated_and_nothing_is_claimed(
    model: KnobbedModel, rows: list[PreferenceRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(KnobbedModel, "generate")
    result = run(model, rows[:2])
    assert (result.generated, result.replies, result.judge) == (0, (), None)
    assert all(point.level_rate == {} and point.degenerate is None for point in result.curve)
    assert "no replies were generated" in result.measurement().judge


def test_a_journal_cut_anywhere_leads_to_the_same_curve(
    model: KnobbedModel, rows: list[PreferenceRow], judge: LevelJudge, tmp_path: Path
) -> None:
    run(model, rows[12:], tmp_path / "whole", judge=judge)
    curve = json.loads((tmp_path / "whole" / "sweep.json").read_text())["curve"]
    journal = (tmp_path / "whole" / "journal.jsonl").read_bytes()
    for cut in (journal.index(b"\n") + 1, len(journal) // 3, len(journal) * 9 // 10, len(journal)):
        out = tmp_path / str(cut)
        out.mkdir()
        (out / "journal.jsonl").write_bytes(journal[:cut])
        run(model, rows[12:], out, judge=judge)
        assert json.loads((out / "sweep.json").read_text())["curve"] == curve


def test_a_finished_sweep_is_read_from_its_journal(
    model: KnobbedModel, rows: list[PreferenceRow], judge: LevelJudge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(model, rows[12:], tmp_path / "out", judge=judge)
    monkeypatch.delattr(KnobbedModel, "generate")
    monkeypatch.delattr(KnobbedModel, "score")
    assert run(model, rows[12:], tmp_path / "out", judge=judge) == first


@pytest.mark.parametrize("changed", [{"sampling": Sampling(seed=1)}, {"data": "legal.jsonl test"}])
def test_a_folder_of_another_sweep_is_refused(
    model: KnobbedModel, rows: list[PreferenceRow], tmp_path: Path, changed: dict[str, Any]
) -> None:
    run(model, rows[:1], tmp_path / "out")
    with pytest.raises(DataError, match="choose another --out"):
        run(model, rows[:1], tmp_path / "out", **changed)


def test_edited_replies_are_never_given_the_scores_of_the_old_ones(
    model: KnobbedModel, rows: list[PreferenceRow], tmp_path: Path
) -> None:
    run(model, rows[:1], tmp_path / "out")
    responses = {**rows[0].responses, "expert": "Melatonin, two milligrams."}
    edited = [rows[0].model_copy(update={"responses": responses})]
    fresh = run(model, edited)
    try:
        assert run(model, edited, tmp_path / "out").curve == fresh.curve
    except DataError as error:
        assert "choose another --out" in str(error)


def test_another_base_is_never_given_the_scores_of_the_first(
    model: KnobbedModel, make_vector: Any, rows: list[PreferenceRow], tmp_path: Path
) -> None:
    from tests.conftest import write_tiny_model

    run(model, rows[:1], tmp_path / "out")
    other = models.load(str(write_tiny_model(tmp_path / "other", seed=1)), device="cpu")
    moved = KnobbedModel(other, [make_vector()], allow_other_base=True)
    fresh = run(moved, rows[:1])
    try:
        assert run(moved, rows[:1], tmp_path / "out").curve == fresh.curve
    except DataError as error:
        assert "choose another --out" in str(error)


def test_an_unknown_knob_and_a_place_under_a_file_are_refused(
    model: KnobbedModel, rows: list[PreferenceRow], tmp_path: Path
) -> None:
    with pytest.raises(KnobError, match=r"no vector named 'legal' is loaded \(have: medical\)"):
        sweep(model, "legal", rows[:1], data="x")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="choose another place"):
        run(model, rows[:1], tmp_path / "file" / "out")


def test_coefficients_are_read_in_ascending_order() -> None:
    assert parse_coefficients("1, -0.5,0,1e-3") == (-0.5, 0.0, 0.001, 1.0)


@pytest.mark.parametrize("text", ["", "1,", "a", "1;2", "1,nan", "inf", "-inf,0", "0,0.0", "1,1", "0,-0"])
def test_coefficients_that_cannot_be_swept_are_refused(text: str) -> None:
    with pytest.raises(KnobError, match="like -1,0,1"):
        parse_coefficients(text)


def test_the_table_shows_what_was_measured_and_a_dash_for_the_rest(
    model: KnobbedModel, rows: list[PreferenceRow], judge: LevelJudge
) -> None:
    scored = run(model, rows[:4])
    (preferred,) = tables(scored)
    assert preferred.columns == ("λ", "margin", *LEVELS)
    assert [row[0] for row in preferred.rows] == ["-1", "0", "0.5", "2"]
    margin = scored.curve[3].margin
    assert preferred.rows[3][1] == f"{margin.value:.2f} [{margin.low:.2f},{margin.high:.2f}]"
    one_persona = run(model, rows[:2], judge=judge, generate=1)
    preferred, said = tables(one_persona)
    assert preferred.rows[3][1] == f"{one_persona.curve[3].margin.value:.2f}"
    assert said.columns == ("λ", *LEVELS, "broken")
    assert {len(row) for row in said.rows} == {5}
