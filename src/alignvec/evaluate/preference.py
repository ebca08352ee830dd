"""Preference rates: which of a query's reference replies the model finds likeliest, by three meters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alignvec.data.schema import PreferenceRow
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.statistics import bootstrap_mean, bootstrap_rate
from alignvec.logprobs import EncodedReplies, encode_replies
from alignvec.steer.knobs import Knobs, format_knobs
from alignvec.steer.model import KnobbedModel
from alignvec.vectors.card import Interval

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
            meter: `per_token` (log-probability a token), `raw` (sum: shorter replies win) or `implicit`.
        """
        values = {"per_token": self.sums / self.counts, "raw": self.sums, "implicit": self.implicit()}[meter][setting]
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
    advance: Callable[[int], None] = lambda _: None,
) -> LevelScores:
    """Score every row's reference replies under every setting, and under the base.

    Rows are sorted by length; settings share batches. What the journal has is not computed again.

    Args:
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
    wanted: list[Knobs] = [{}, *settings]
    jobs = [(i, knobs) for i in np.argsort([-e.packed_length for e in encoded]).tolist() for knobs in wanted]
    open_jobs = {_key(rows[i], knobs): (i, knobs) for i, knobs in jobs}  # λ = 0 is the base: once
    missing = [job for key, job in open_jobs.items() if key not in journal]
    advance(len(jobs) - len(missing))
    for batch in _batches(missing, encoded):
        sums = model.score([encoded[i] for i, _ in batch], [knobs for _, knobs in batch]).tolist()
        for (i, knobs), values in zip(batch, sums, strict=True):
            journal.add(_key(rows[i], knobs), values)
        advance(len(batch))
    table = np.array([[journal[_key(row, knobs)] for row in rows] for knobs in wanted], dtype=np.float64)
    counts = np.array([[len(reply) for reply in e.replies] for e in encoded], dtype=np.float64)
    return LevelScores(tuple(levels), tuple(r.persona for r in rows), table[1:], table[0], counts)


def _key(row: PreferenceRow, knobs: Knobs) -> str:
    turned = {name: value for name, value in knobs.items() if value}
    return f"score {row.id} {format_knobs(turned)}"


def _batches(jobs: Sequence[tuple[int, Knobs]], encoded: Sequence[EncodedReplies]) -> list[list[tuple[int, Knobs]]]:
    batches: list[list[tuple[int, Knobs]]] = []
    for job in jobs:
        length = encoded[job[0]].packed_length
        if not batches or (len(batches[-1]) + 1) * max(length, encoded[batches[-1][0][0]].packed_length) > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(job)
    return batches
