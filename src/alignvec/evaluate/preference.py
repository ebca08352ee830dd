"""Preference rates: which of a query's reference replies the model finds likeliest, by three meters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alignvec import processes
from alignvec.data.schema import PreferenceRow
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.statistics import bootstrap_mean, bootstrap_rate
from alignvec.logprobs import EncodedReplies, encode_replies
from alignvec.steer.knobs import Knobs, Turn, as_asked, format_knobs
from alignvec.steer.model import KnobbedModel
from alignvec.vectors.strict import Interval

METERS = ("per_token", "raw", "implicit")
Scores = npt.NDArray[np.float64]
BATCH_TOKENS = 4096


@dataclass(frozen=True)
class LevelScores:
    """Log-probabilities of the reference replies under several settings.

    Attributes:
        levels: names of the levels, lowest first.
        personas: [rows], who asked.
        sums: [settings, rows, levels], nats.
        base: [rows, levels], the same without knobs.
        counts: [rows, levels], tokens.
    """

    levels: tuple[str, ...]
    personas: tuple[str, ...]
    sums: Scores
    base: Scores
    counts: Scores

    def implicit(self) -> Scores:
        """Implicit reward per token, [settings, rows, levels]: log-ratio against the base (DPO's reward at β = 1)."""
        result: Scores = (self.sums - self.base) / self.counts
        return result

    def values(self, meter: str) -> Scores:
        """What a meter compares, [settings, rows, levels].

        Args:
            meter: `per_token` (log-probability a token), `raw` (sum: shorter replies win) or `implicit`.
        """
        return {"per_token": self.sums / self.counts, "raw": self.sums, "implicit": self.implicit()}[meter]

    def likeliest(self, setting: int, meter: str) -> list[str | None]:
        """Level of each row's likeliest reply; None where several are equally likely."""
        values = self.values(meter)[setting]
        alone = (values == values.max(axis=1, keepdims=True)).sum(axis=1) == 1
        return [self.levels[i] if one else None for i, one in zip(values.argmax(axis=1), alone, strict=True)]

    def margins(self, *, per_token: bool = True) -> Scores:
        """Implicit reward of the highest level over the lowest, [settings, rows]."""
        reward = self.implicit() if per_token else self.sums - self.base
        margin: Scores = reward[:, :, -1] - reward[:, :, 0]
        return margin

    def margin(self, setting: int, *, per_token: bool = True) -> Interval:
        """Mean margin of a setting over the queries, nats (per token, or summed over the reply)."""
        return bootstrap_mean(self.margins(per_token=per_token)[setting].tolist(), self.personas)

    def preference_rate(self, setting: int, meter: str) -> dict[str, Interval]:
        """Share of queries whose reply of each level is the likeliest, by level.

        Empty where every reply has the same implicit reward: at the base nothing is preferred.

        Args:
            setting: index of the setting.
            meter: see `values`.
        """
        values = self.values(meter)[setting]
        if not np.ptp(values, axis=1).any():
            return {}
        best = values.argmax(axis=1)
        return {
            level: bootstrap_rate((best == i).astype(float).tolist(), self.personas)
            for i, level in enumerate(self.levels)
        }


def score_levels(
    model: KnobbedModel,
    rows: Sequence[PreferenceRow],
    levels: Sequence[str],
    settings: Sequence[Knobs],
    *,
    journal: Journal,
    turn: Turn = as_asked,
    advance: Callable[[int], None] = lambda _: None,
) -> LevelScores:
    """Score every row's reference replies under every setting, and under the base; see `score_encoded`.

    Args:
        turn: what a setting becomes for one row, as a router turns it.
        advance: called with the number of rows done.

    Raises:
        DataError: if a row does not fit the model's context.
    """
    encoded = [
        encode_replies(
            model.base.tokenizer, r.query, [r.responses[v] for v in levels], max_length=model.base.context_length
        )
        for r in rows
    ]
    ids = [row.id for row in rows]
    sums = score_encoded(model, ids, encoded, settings, journal=journal, turn=turn, advance=advance)
    return LevelScores(tuple(levels), tuple(r.persona for r in rows), sums[1:], sums[0], token_counts(encoded))


def token_counts(encoded: Sequence[EncodedReplies]) -> Scores:
    """Tokens of every reply, [rows, replies]; every row has as many replies."""
    return np.array([[len(reply) for reply in e.replies] for e in encoded], dtype=np.float64)


def score_encoded(
    model: KnobbedModel,
    ids: Sequence[str],
    encoded: Sequence[EncodedReplies],
    settings: Sequence[Knobs],
    *,
    journal: Journal,
    turn: Turn = as_asked,
    advance: Callable[[int], None] = lambda _: None,
) -> Scores:
    """Log-probabilities under the base, and then under every setting, [1 + settings, rows, replies], in nats.

    Rows are sorted by length; settings share batches, and processes share out the batches. What the journal has is not
    computed again.

    Args:
        ids: keys of the rows in the journal.
        encoded: one prompt with its replies a row; every row has as many replies.
        turn: what a setting becomes for one row, as a router turns it.
        advance: called with the number of rows done.
    """
    table = [[turn(i, knobs) for i in range(len(ids))] for knobs in ({}, *settings)]
    jobs = [(i, cells[i]) for i in np.argsort([-e.packed_length for e in encoded]).tolist() for cells in table]
    open_jobs = {score_key(ids[i], knobs): (i, knobs) for i, knobs in jobs}  # λ = 0 is the base: once
    missing = [job for key, job in open_jobs.items() if key not in journal]
    advance(len(jobs) - len(missing))
    for batch in processes.share(_batches(missing, encoded)):
        found = model.score([encoded[i] for i, _ in batch], [knobs for _, knobs in batch]).tolist()
        for (i, knobs), values in zip(batch, found, strict=True):
            journal.add(score_key(ids[i], knobs), values)
        advance(len(batch))
    advance(journal.exchange())
    return np.array(
        [[journal[score_key(i, k)] for i, k in zip(ids, cells, strict=True)] for cells in table], np.float64
    )


def score_key(row: str, knobs: Knobs) -> str:
    """Key of a row's log-probabilities at a setting in a journal."""
    turned = {name: value for name, value in knobs.items() if value}
    return f"score {row} {format_knobs(turned)}"


def _batches(jobs: Sequence[tuple[int, Knobs]], encoded: Sequence[EncodedReplies]) -> list[list[tuple[int, Knobs]]]:
    batches: list[list[tuple[int, Knobs]]] = []
    for job in jobs:
        length = encoded[job[0]].packed_length
        if not batches or (len(batches[-1]) + 1) * max(length, encoded[batches[-1][0][0]].packed_length) > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(job)
    return batches
