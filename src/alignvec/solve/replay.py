"""Measurements read back from the journal of a solver, without the model and without writing to it."""

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from alignvec.data.load import levels_of
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError
from alignvec.evaluate.journal import Recorded as Recorded
from alignvec.evaluate.journal import read_journal as read_journal
from alignvec.evaluate.judge import LevelJudge
from alignvec.evaluate.preference import LevelScores
from alignvec.evaluate.scope import rows_digest
from alignvec.logprobs import encode_replies
from alignvec.solve.box import box_of
from alignvec.solve.measure import Measured
from alignvec.steer.knobs import parse_knobs
from alignvec.vectors.card import Card

BASE = "base"


def replay(
    recorded: Recorded,
    cards: Mapping[str, Card],
    rows: Sequence[PreferenceRow],
    *,
    tokenizer: Any,
    judge: LevelJudge | None,
) -> Measured:
    """All settings of a journal that were measured to their end, without a router, in the order in which they were.

    Texts outside the domains are left out.

    Args:
        recorded: the journal.
        cards: of the vectors, by name.
        rows: queries; those that the journal does not have are left out.
        tokenizer: of the base model; reference replies are counted in its tokens.
        judge: gives generated replies their level; without one, settings need likelihoods only.

    Raises:
        DataError: if the journal belongs to other vectors or queries, or no setting is whole.
    """
    if recorded.scope.get("vectors") != {name: card.files for name, card in cards.items()}:
        raise DataError(f"{recorded.path} was measured with other vectors; name those that it was measured with")
    kinds: dict[str, dict[str, dict[str, Any]]] = {"score": defaultdict(dict), "reply": defaultdict(dict)}
    for key, value in recorded.values.items():
        kind, rest = key.split(" ", 1)
        row, setting = rest.rsplit(" ", 1)
        kinds[kind][setting][row] = value
    scores, replies = kinds["score"], kinds["reply"]
    kept = tuple(row for row in rows if row.id in scores[BASE])
    if not kept or recorded.scope.get("rows") != rows_digest(kept):
        raise DataError(f"{recorded.path} was measured on other queries, or is not begun; check data and split")
    ids = [row.id for row in kept]
    needed = [scores] if judge is None else [scores, replies]
    whole = [setting for setting in scores if all(kind[setting].keys() >= set(ids) for kind in needed)]
    if not whole:
        raise DataError(f"{recorded.path} has no setting that was measured to its end yet; let the solver go on")
    said = None
    if judge is not None:
        index = {level: i for i, level in enumerate(levels_of(kept))}
        verdicts = (judge.verdicts([replies[setting][row] for row in ids]) for setting in whole)
        said = np.array([[index[level] for level in column] for column in verdicts], dtype=np.int64)
    box = box_of(cards)
    points = np.array([box.point(parse_knobs(setting)) for setting in whole])
    return Measured(points, kept, _scores(kept, [scores[s] for s in whole], scores[BASE], tokenizer), said)


def part(measured: Measured, places: npt.NDArray[np.int64]) -> Measured:
    """Some of the settings.

    Args:
        measured: all of them.
        places: their indices.
    """
    said = None if measured.said is None else measured.said[places]
    scores = replace(measured.scores, sums=measured.scores.sums[places])
    general = measured.general and replace(measured.general, sums=measured.general.sums[places])
    return replace(measured, points=measured.points[places], scores=scores, said=said, general=general)


def _scores(
    rows: Sequence[PreferenceRow], settings: Sequence[Mapping[str, Any]], base: Mapping[str, Any], tokenizer: Any
) -> LevelScores:
    levels = levels_of(rows)
    # no limit of length: whatever is in the journal did fit the model
    encoded = [
        encode_replies(tokenizer, row.query, [row.responses[v] for v in levels], max_length=sys.maxsize) for row in rows
    ]
    counts = np.array([[len(reply) for reply in e.replies] for e in encoded], dtype=np.float64)
    table = np.array([[found[row.id] for row in rows] for found in (base, *settings)], dtype=np.float64)
    return LevelScores(levels, tuple(row.persona for row in rows), table[1:], table[0], counts)
