"""The level of a *setting*, by likelihood: which reference reply of the query is the likeliest at it.

It never sees the generated reply: how far it agrees with judges that do is how far likelihoods tell what is said.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alignvec.data.load import levels_of
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError, ModelError
from alignvec.evaluate.generation import reply_key
from alignvec.evaluate.journal import Recorded, read_journal
from alignvec.evaluate.judging import Item, Verdict
from alignvec.evaluate.preference import LevelScores, score_key, token_counts
from alignvec.logprobs import encode_replies
from alignvec.models import resolve


@dataclass(frozen=True)
class LikelihoodJudge:
    """Verdicts by the journals of sweeps.

    Attributes:
        journals: what the sweeps measured.
        rows: row id to the row, with the reference replies that were scored.
        tokenizer: of the base model; replies are counted in its tokens.
        meter: `per_token`, `raw` or `implicit`, see `LevelScores.values`.
    """

    journals: Sequence[Recorded]
    rows: Mapping[str, PreferenceRow]
    tokenizer: Any
    meter: str = "per_token"
    name: str = "likelihood"

    def judge(self, items: Sequence[Item], levels: Sequence[str]) -> list[Verdict]:
        """A verdict for every item: `tied` where several replies are equally likely, `not measured` without a score.

        Raises:
            DataError: if a journal has another reply to an item's query, is no sweep's, or is damaged.
        """
        return [self._verdict(item, levels) for item in items]

    def about(self) -> str:
        """What was compared."""
        how = {
            "per_token": "likeliest per token",
            "raw": "likeliest",
            "implicit": "most raised above the base, a token",
        }
        return f"likelihood: the reference reply that is {how[self.meter]}; the generated reply is not looked at"

    def _verdict(self, item: Item, levels: Sequence[str]) -> Verdict:
        for journal in self.journals:
            knobs = {vector_of(journal): item.coefficient}
            written = journal.values.get(reply_key(self.rows[item.row], knobs))
            if written is not None and written != item.reply:
                raise DataError(
                    f"{journal.path} has another reply to {item.row} at λ = {item.coefficient:g} than the one judged; "
                    "name the journal that was written with the replies"
                )
            keys = score_key(item.row, {}), score_key(item.row, knobs)
            if all(key in journal.values for key in keys):
                scores = self._scores(journal, item.row, keys, levels)
                level = scores.likeliest(0, self.meter)[0]
                return Verdict(level=level) if level else Verdict(missing="tied")
        return Verdict(missing="not measured")

    def _scores(self, journal: Recorded, row: str, keys: Sequence[str], levels: Sequence[str]) -> LevelScores:
        asked = self.rows[row]
        order = levels_of([asked])
        encoded = encode_replies(
            self.tokenizer, asked.query, [asked.responses[level] for level in order], max_length=sys.maxsize
        )  # no limit of length: whatever is in the journal did fit the model
        try:
            base, sums = (np.array(journal.values[key], dtype=np.float64) for key in keys)
        except (TypeError, ValueError):
            base = sums = np.full(1, np.nan)
        if base.shape != (len(order),) or sums.shape != base.shape or not np.isfinite([base, sums]).all():
            raise DataError(f"{journal.path}: {keys[1]!r} is no finite number a level; the journal is damaged")
        counts = token_counts([encoded])
        return LevelScores(order, (asked.persona,), sums[None, None], base[None], counts)


def vector_of(journal: Recorded) -> str:
    """Name of the one knob that a sweep's journal is of.

    Raises:
        DataError: if it is none.
    """
    name = journal.scope.get("vector")
    if not isinstance(name, str):
        raise DataError(f"{journal.path} is no journal of alignvec sweep; name the one beside the replies")
    return name


def journals_beside(replies: Sequence[Path]) -> list[Path]:
    """Where sweeps keep the journals of their replies."""
    return [path.parent / "journal.jsonl" for path in dict.fromkeys(replies)]


def likelihood_judge(
    journals: Sequence[Path], rows: Mapping[str, PreferenceRow], *, model: str = "demo", meter: str = "per_token"
) -> LikelihoodJudge:
    """The judge by some journals of sweeps.

    Args:
        journals: their files.
        rows: row id to the row.
        model: base model of the sweeps: a folder, a hub id, or `demo`; only its tokenizer is loaded.
        meter: see `LikelihoodJudge`.

    Raises:
        DataError: if a journal cannot be read.
        ModelError: if there is no such model, or it has no usable tokenizer.
    """
    read = [read_journal(path) for path in journals]
    folder = resolve(model)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # whatever a damaged folder makes the library raise
        cause = str(error).strip().split("\n")[0]
        raise ModelError(f"cannot load the tokenizer in {folder}: {cause}; is the folder complete?") from error
    return LikelihoodJudge(read, rows, tokenizer, meter)
