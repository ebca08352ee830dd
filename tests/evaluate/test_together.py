"""Scoring and generating in two processes: bit for bit what one finds, and a journal that survives kills of either."""

import json
from pathlib import Path
from typing import Any

import pytest

from alignvec import processes
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError
from alignvec.evaluate import preference
from alignvec.evaluate.generation import generate_replies
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.preference import score_levels
from alignvec.models import BaseModel
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling
from tests.together import together

LEVELS = ("avoidance", "generic", "expert")
SETTINGS = [{"medical": value} for value in (-1.0, 0.5, 1.0)]
SCOPE = {"vector": "medical"}


@pytest.fixture
def model(tiny: BaseModel, make_vector: Any) -> KnobbedModel:
    return KnobbedModel(tiny, [make_vector("medical")])


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preference, "BATCH_TOKENS", 1200)


def lines(path: Path) -> list[str]:
    return sorted(path.read_text().splitlines())


def test_two_processes_score_the_very_numbers_of_one(
    model: KnobbedModel, rows: list[PreferenceRow], tmp_path: Path
) -> None:
    def scores(path: Path | None) -> tuple[Any, int, int]:
        done: list[int] = []
        batches: list[int] = []
        whole = model.score

        def counted(encoded: Any, knobs: Any) -> Any:
            batches.append(len(encoded))
            return whole(encoded, knobs)

        model.score = counted  # type: ignore[method-assign]
        journal = Journal(path, SCOPE)
        found = score_levels(model, rows, LEVELS, SETTINGS, journal=journal, advance=done.append)
        model.score = whole  # type: ignore[method-assign]
        return (found.sums.tobytes(), found.base.tobytes()), sum(done), len(batches)

    one, total, batches = scores(tmp_path / "one.jsonl")
    two = together(lambda: scores(tmp_path / "two.jsonl"))
    assert [found for found, _, _ in two] == [one, one]
    assert [done for _, done, _ in two] == [total, total] == [len(rows) * 4] * 2
    assert all(two_batches < batches for _, _, two_batches in two)
    assert sum(two_batches for _, _, two_batches in two) == batches
    assert lines(tmp_path / "two.jsonl") == lines(tmp_path / "one.jsonl")
    assert sorted(path.name for path in tmp_path.glob("two*")) == ["two.jsonl"]


def test_three_processes_generate_the_very_replies_of_one(model: KnobbedModel, rows: list[PreferenceRow]) -> None:
    def replies() -> list[list[str]]:
        return generate_replies(
            model, rows[:5], SETTINGS, Sampling(temperature=0.7, max_new_tokens=6), journal=Journal(), batch_size=2
        )

    assert together(replies, 3) == [replies()] * 3


def test_a_process_that_has_nothing_to_do_knows_everything(model: KnobbedModel, rows: list[PreferenceRow]) -> None:
    def sums() -> bytes:
        return score_levels(model, rows[:1], LEVELS, [], journal=Journal()).base.tobytes()

    assert together(sums, 2) == [sums()] * 2


def add(path: Path, keys: str, *, exchange: bool) -> dict[str, str]:
    journal = Journal(path, SCOPE)
    for key in processes.share(keys):
        if key not in journal:
            journal.add(key, key.upper())
    if exchange:
        journal.exchange()
    return {key: journal[key] for key in keys if key in journal}


def test_what_killed_processes_leave_is_taken_over_by_any_number(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    together(lambda: add(path, "abcdef", exchange=False), 3)  # ended before they could tell one another
    left = sorted(file.name for file in tmp_path.iterdir())
    assert left == ["journal.jsonl", "journal.jsonl.part1", "journal.jsonl.part2"]
    with (tmp_path / "journal.jsonl.part2").open("ab") as stream:
        stream.write(b'["g", "G')  # cut off
    found = together(lambda: add(path, "abcdefgh", exchange=True), 2)
    assert found == [{key: key.upper() for key in "abcdefgh"}] * 2
    assert [file.name for file in tmp_path.iterdir()] == ["journal.jsonl"]
    kept = [json.loads(line)[0] for line in path.read_text().splitlines()[1:]]
    assert sorted(kept) == list("abcdefgh")  # each once


def test_one_process_takes_over_what_two_have_left(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    together(lambda: add(path, "abcd", exchange=False))
    journal = Journal(path, SCOPE)
    assert [journal[key] for key in "abcd"] == list("ABCD")
    assert (journal.added, journal.reused) == (0, 4)
    assert [file.name for file in tmp_path.iterdir()] == ["journal.jsonl"]


def test_what_another_scope_has_left_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    together(lambda: add(path, "abcd", exchange=False))
    path.unlink()
    with pytest.raises(DataError, match="holds results of other vectors, data or settings"):
        Journal(path, {"vector": "legal"})


def test_files_of_other_names_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "journal.old.jsonl").write_text("mine")
    add(tmp_path / "journal.jsonl", "ab", exchange=True)
    assert (tmp_path / "journal.old.jsonl").read_text() == "mine"
