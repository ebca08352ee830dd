"""Verdicts by likelihood: the journal of a real sweep of the tiny model, and journals written by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from alignvec import models
from alignvec.data.schema import LEVELS, PreferenceRow
from alignvec.errors import DataError, ModelError
from alignvec.evaluate.journal import read_journal
from alignvec.evaluate.judge import judge_for
from alignvec.evaluate.judging import Item
from alignvec.evaluate.likelihood_judge import LikelihoodJudge, journals_beside, likelihood_judge
from alignvec.evaluate.sweep import sweep
from alignvec.logprobs import encode_replies
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling
from tests.conftest import MakeVector

A, G, E = LEVELS


def item(row: PreferenceRow, coefficient: float, reply: str = "said") -> Item:
    return Item(
        row=row.id, domain=row.domain, persona=row.persona, coefficient=coefficient, query=row.query, reply=reply
    )


def write(path: Path, values: dict[str, Any], vector: Any = "medical") -> Path:
    lines = [{"scope": {"vector": vector}}, *([key, value] for key, value in values.items())]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def judge(path: Path, row: PreferenceRow, tokenizer: Any, meter: str = "per_token") -> LikelihoodJudge:
    return LikelihoodJudge([read_journal(path)], {row.id: row}, tokenizer, meter)


def test_verdicts_are_the_sweeps_own_preference_rates(
    tiny: models.BaseModel, make_vector: MakeVector, rows: list[PreferenceRow], data_file: Path, tmp_path: Path
) -> None:
    model = KnobbedModel(tiny, [make_vector("medical", scale=0.5)])
    asked = rows[12:]
    result = sweep(
        model, "medical", asked, data="tiny", coefficients=(-1.0, 0.0, 1.0), judge=judge_for(data_file),
        sampling=Sampling(max_new_tokens=3), out=tmp_path / "out",
    )  # fmt: skip
    by = {row.id: row for row in asked}
    items = [item(by[reply.row], reply.coefficient, reply.reply) for reply in result.replies]
    for meter in ("per_token", "raw", "implicit"):
        found = likelihood_judge(
            journals_beside([tmp_path / "out/replies.jsonl"]), by, model=str(tiny.folder), meter=meter
        ).judge(items, LEVELS)
        for point in result.curve:
            mine = [v for i, v in zip(items, found, strict=True) if i.coefficient == point.coefficient]
            rates = point.preference_rate.get(meter)
            if rates is None:  # the base prefers nothing to itself
                assert [one.missing for one in mine] == ["tied"] * 4
                continue
            for level in LEVELS:
                assert sum(one.level == level for one in mine) / 4 == rates[level].value


def test_per_token_and_sum_differ_where_lengths_do(
    tiny: models.BaseModel, rows: list[PreferenceRow], tmp_path: Path
) -> None:
    row = rows[0]
    counts = [
        len(r) for r in encode_replies(tiny.tokenizer, row.query, list(row.responses.values()), max_length=512).replies
    ]
    assert counts[0] < counts[2]
    per_token = (-1.0, -2.0, -0.9)  # the expert reply is the likeliest a token, the short one as a sum
    sums = [value * count for value, count in zip(per_token, counts, strict=True)]
    base = [1.5 * sums[0], sums[1], sums[2]]
    path = write(tmp_path / "journal.jsonl", {f"score {row.id} medical=1": sums, f"score {row.id} base": base})
    found = {
        m: judge(path, row, tiny.tokenizer, m).judge([item(row, 1.0)], LEVELS)[0].level
        for m in ("per_token", "raw", "implicit")
    }
    assert sums[0] > sums[2]
    assert found == {"per_token": E, "raw": A, "implicit": A}


def test_a_tie_and_a_setting_that_was_not_scored_are_missing(
    tiny: models.BaseModel, rows: list[PreferenceRow], tmp_path: Path
) -> None:
    row = rows[0]
    path = write(tmp_path / "journal.jsonl", {f"score {row.id} base": [-5.0, -5.0, -9.0]})
    one = judge(path, row, tiny.tokenizer, "raw")
    assert [v.missing for v in one.judge([item(row, 0.0), item(row, 1.0)], LEVELS)] == ["tied", "not measured"]


def test_journals_of_other_replies_or_nothing_are_refused(
    tiny: models.BaseModel, rows: list[PreferenceRow], tmp_path: Path
) -> None:
    row, path = rows[0], tmp_path / "journal.jsonl"
    write(path, {f"reply {row.id} medical=0": "something else"})
    with pytest.raises(DataError, match="another reply to medical-0 at λ = 0"):
        judge(path, row, tiny.tokenizer).judge([item(row, 0.0)], LEVELS)
    for damaged in ([1.0, 2.0], [1.0, float("nan"), 2.0], "text", None):
        write(path, {f"score {row.id} base": damaged})
        with pytest.raises(DataError, match="damaged"):
            judge(path, row, tiny.tokenizer).judge([item(row, 0.0)], LEVELS)
    write(path, {}, vector=None)
    with pytest.raises(DataError, match="no journal of alignvec sweep"):
        judge(path, row, tiny.tokenizer).judge([item(row, 0.0)], LEVELS)
    with pytest.raises(DataError, match="cannot read the journal"):
        likelihood_judge([tmp_path / "none.jsonl"], {})
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelError):
        likelihood_judge([path], {}, model=str(tmp_path / "model"))
