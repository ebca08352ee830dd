"""Replies of many settings: each asked for once, kept one by one, and put where it belongs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from alignvec.data.schema import PreferenceRow
from alignvec.evaluate.generation import generate_each, generate_replies, reply_key
from alignvec.evaluate.journal import Journal
from alignvec.models import BaseModel
from alignvec.steer.knobs import Knobs
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import GREEDY, Sampling

SETTINGS: list[Knobs] = [{"medical": -1.0}, {}, {"medical": 1.0, "legal": 0.25}]


class Echo:
    """Stands for a model: replies with the query and the setting, and stops after some batches."""

    def __init__(self, batches: int = 99) -> None:
        self.asked: list[list[tuple[str, Knobs]]] = []
        self.batches = batches

    def generate(self, queries: Sequence[str], settings: Sequence[Knobs], sampling: Sampling) -> list[str]:
        if len(self.asked) == self.batches:
            raise KeyboardInterrupt
        self.asked.append(list(zip(queries, settings, strict=True)))
        return [self.reply(query, knobs) for query, knobs in self.asked[-1]]

    @staticmethod
    def reply(query: str, knobs: Knobs) -> str:
        return f"{query} {sorted(knobs.items())}"


def run(model: Any, rows: Sequence[PreferenceRow], **options: Any) -> list[list[str]]:
    return generate_replies(model, rows, SETTINGS, Sampling(), **options)


def test_every_reply_stands_at_its_setting_and_row(rows: list[PreferenceRow]) -> None:
    model = Echo()
    expected = [[Echo.reply(row.query, knobs) for row in rows] for knobs in SETTINGS]
    assert run(model, rows, journal=Journal(), batch_size=7) == expected
    assert [len(batch) for batch in model.asked] == [7, 7, 7, 7, 7, 7, 6]


def test_progress_adds_up_to_every_reply(rows: list[PreferenceRow]) -> None:
    done: list[int] = []
    run(Echo(), rows, journal=Journal(), batch_size=5, advance=done.append)
    assert sum(done) == len(rows) * len(SETTINGS)


def test_a_stopped_run_goes_on_and_asks_nothing_twice(rows: list[PreferenceRow], tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    first, second, third = Echo(batches=2), Echo(), Echo(batches=0)
    with pytest.raises(KeyboardInterrupt):
        run(first, rows, journal=Journal(path), batch_size=5)
    done: list[int] = []
    replies = run(second, rows, journal=Journal(path), batch_size=5, advance=done.append)
    asked = [str(job) for model in (first, second) for batch in model.asked for job in batch]
    assert len(asked) == len(set(asked)) == len(rows) * len(SETTINGS)
    assert done[0] == 10
    assert replies == run(third, rows, journal=Journal(path)) == run(Echo(), rows, journal=Journal())


def test_what_is_kept_of_a_reply_may_be_more_than_its_text(rows: list[PreferenceRow], tmp_path: Path) -> None:
    def ask(queries: Sequence[str], knobs: Sequence[Knobs]) -> list[tuple[str, bool]]:
        return [(query, not setting) for query, setting in zip(queries, knobs, strict=True)]

    def fail(*_: Any) -> list[str]:
        pytest.fail("asked again")

    for answer in (ask, fail):
        table = generate_each(answer, rows, SETTINGS, journal=Journal(tmp_path / "journal.jsonl"))
        expected = [[[row.query, not knobs] for row in rows] for knobs in SETTINGS]
        assert [[list(value) for value in column] for column in table] == expected


def test_a_batch_of_mixed_settings_says_what_each_says_alone(
    tiny: BaseModel, make_vector: Any, rows: list[PreferenceRow]
) -> None:
    model = KnobbedModel(tiny, [make_vector(scale=0.3), make_vector("legal", seed=1, scale=0.3)])
    greedy = GREEDY.model_copy(update={"max_new_tokens": 6})
    together = generate_replies(model, rows[:2], SETTINGS, greedy, journal=Journal(), batch_size=6)
    alone = [[model.generate([row.query], knobs, greedy)[0] for row in rows[:2]] for knobs in SETTINGS]
    assert together == alone
    assert len({column[0] for column in together}) == 3


def test_settings_that_differ_in_a_late_digit_have_keys_of_their_own(rows: list[PreferenceRow]) -> None:
    assert reply_key(rows[0], {"medical": 0.1234567}) != reply_key(rows[0], {"medical": 0.1234568})
