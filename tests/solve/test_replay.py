"""Journals of a real meter on the tiny model, read back without it."""

from pathlib import Path

import numpy as np
import pytest

from alignvec import models
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError
from alignvec.evaluate.judge import LevelJudge, train_judge
from alignvec.solve.box import box_of
from alignvec.solve.measure import Measured, Meter
from alignvec.solve.replay import part, read_journal, replay
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling
from alignvec.vectors.card import Card
from tests.conftest import MakeVector

POINTS = np.array([[0.0, 0.0], [0.5, -1.0], [0.0, 0.333]])


class Workshop:
    """A meter with its journal, and what is needed to read it back."""

    def __init__(self, base: models.BaseModel, make_vector: MakeVector, rows: list[PreferenceRow], place: Path) -> None:
        vectors = [make_vector("legal", seed=1), make_vector("medical", seed=2)]
        self.cards: dict[str, Card] = {vector.card.name: vector.card for vector in vectors}
        self.rows, self.journal, self.tokenizer = rows, place, base.tokenizer
        self.judge: LevelJudge = train_judge(rows[:8], rows[12:], tuple(rows[0].responses))
        self.meter = Meter(
            KnobbedModel(base, vectors), box_of(self.cards), rows[8:12], judge=self.judge,
            sampling=Sampling(max_new_tokens=6), data="tiny", journal=place,
        )  # fmt: skip

    def read(self, *, judged: bool = True) -> Measured:
        return replay(
            read_journal(self.journal), self.cards, self.rows, tokenizer=self.tokenizer,
            judge=self.judge if judged else None,
        )  # fmt: skip


@pytest.fixture
def workshop(tiny: models.BaseModel, make_vector: MakeVector, rows: list[PreferenceRow], tmp_path: Path) -> Workshop:
    return Workshop(tiny, make_vector, rows, tmp_path / "journal.jsonl")


def test_what_was_measured_is_read_back(workshop: Workshop) -> None:
    measured, found = workshop.meter.measure(POINTS), workshop.read()
    assert found.points.tolist() == POINTS.tolist()
    assert [row.id for row in found.rows] == [row.id for row in measured.rows], "rows of the journal, of all"
    for name in ("sums", "base", "counts"):
        assert np.array_equal(getattr(found.scores, name), getattr(measured.scores, name))
    assert found.scores.levels == measured.scores.levels and found.scores.personas == measured.scores.personas
    assert found.said is not None and np.array_equal(found.said, measured.said)  # type: ignore[arg-type]


def test_a_growing_journal_is_read_up_to_its_last_whole_setting_and_left_alone(workshop: Workshop) -> None:
    workshop.meter.measure(POINTS)
    lines = workshop.journal.read_bytes().splitlines(keepends=True)
    content = b"".join(lines[:-1]) + lines[-1][:20]
    workshop.journal.write_bytes(content)
    assert workshop.read().points.tolist() == POINTS[:2].tolist()
    assert workshop.read(judged=False).points.tolist() == POINTS.tolist(), "all likelihoods are there"
    assert workshop.journal.read_bytes() == content


def test_some_settings_of_all(workshop: Workshop) -> None:
    measured = workshop.meter.measure(POINTS)
    some = part(measured, np.array([2, 0]))
    assert some.points.tolist() == POINTS[[2, 0]].tolist() and some.said is not None and measured.said is not None
    assert np.array_equal(some.said, measured.said[[2, 0]])
    assert np.array_equal(some.scores.sums, measured.scores.sums[[2, 0]])


def test_journals_of_something_else_are_refused(workshop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read the journal"):
        read_journal(tmp_path / "none.jsonl")
    broken = tmp_path / "broken.jsonl"
    broken.write_text("no json\n")
    with pytest.raises(DataError, match="no journal of alignvec solve"):
        read_journal(broken)
    with pytest.raises(DataError, match="is not begun"):
        workshop.read()
    workshop.meter.measure(POINTS[1:2])
    workshop.rows[9] = workshop.rows[9].model_copy(update={"query": "another one?"})
    with pytest.raises(DataError, match="other queries"):
        workshop.read()
    del workshop.cards["legal"]
    with pytest.raises(DataError, match="other vectors"):
        workshop.read()


def test_a_journal_without_a_whole_setting_is_told(workshop: Workshop) -> None:
    workshop.meter.measure(POINTS[1:2])
    lines = workshop.journal.read_bytes().splitlines(keepends=True)
    workshop.journal.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(DataError, match="no setting that was measured to its end"):
        workshop.read()
