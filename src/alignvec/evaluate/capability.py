"""What knobs cost: perplexity of general text, questions answered and instructions followed, against the base."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alignvec.data.capability import LETTERS, Instruction, Question
from alignvec.evaluate.capability_record import Cost, Measured, Said
from alignvec.evaluate.general_text import GeneralText
from alignvec.evaluate.generation import generate_replies
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.preference import Scores, score_encoded, token_counts
from alignvec.evaluate.scope import scope_of
from alignvec.evaluate.statistics import bootstrap_change, bootstrap_rate, persona_weights, spread
from alignvec.logprobs import EncodedReplies, encode_replies
from alignvec.steer.knobs import Knobs
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling
from alignvec.vectors.strict import Interval

FAR = 20.0
"""Nats a token beyond which a text is not told apart (a perplexity of 5e8), or is no number."""
BATCH = 48
"""Replies generated at once."""


@dataclass(frozen=True)
class Items:
    """What capability is measured on; the name is for the record."""

    name: str
    text: GeneralText
    questions: Sequence[Question]
    instructions: Sequence[Instruction]


def capability_scope(model: KnobbedModel, names: Sequence[str], sampling: Sampling, items: Items) -> dict[str, Any]:
    """What a journal of these measurements depends on besides setting and item."""
    scope = scope_of(model, names, sampling, items.name, [*items.questions, *items.instructions])
    asked = repr([(written_prompt(question), _lettered(question)) for question in items.questions])
    prompts = hashlib.sha256(asked.encode()).hexdigest()[:16]
    return {**scope, "text": [items.text.name, items.text.digest()], "prompts": prompts}


def measure_capability(
    model: KnobbedModel,
    settings: Sequence[Knobs],
    items: Items,
    *,
    sampling: Sampling | None = None,
    journal: Journal,
    advance: Callable[[str, int, int], None] = lambda *_: None,
) -> tuple[list[Cost], list[Said]]:
    """Measure settings of knobs, each against the base.

    Intervals are 95 % over resampled items (personas, where the general text is replies). A change is that of each
    item, so what makes an item hard does not widen it.

    Args:
        model: with the vectors.
        settings: of the knobs; the base, {}, is measured in any case.
        items: text, questions and instructions.
        sampling: how replies are decoded.
        journal: what it has is not measured again.
        advance: called with a task's name, what was done and the total.

    Returns:
        A cost for every setting in their order, and the replies to every instruction at each of them.

    Raises:
        DataError: if an item does not fit the model's context.
    """
    turned = [{name: value for name, value in knobs.items() if value} for knobs in settings]
    questions = items.questions

    def score(task: str, ids: Sequence[str], encoded: Sequence[EncodedReplies]) -> Scores:
        total = len(ids) * (len(turned) + 1)
        return score_encoded(model, ids, encoded, turned, journal=journal, advance=lambda n: advance(task, n, total))

    def asked(query: str, replies: Sequence[str]) -> EncodedReplies:
        return encode_replies(model.base.tokenizer, query, replies, max_length=model.base.context_length)

    written = [asked(written_prompt(q), [sentence(choice) for choice in q.choices]) for q in questions]
    lettered = [asked(_lettered(q), LETTERS) for q in questions]
    text = score("text", items.text.ids, items.text.encoded)
    choices = score("questions", [f"choice {q.id}" for q in questions], written) / token_counts(written)
    letters = score("letters", [f"letter {q.id}" for q in questions], lettered)
    count = len(items.instructions) * (len(turned) + 1)
    replies = generate_replies(
        model, items.instructions, [{}, *turned], sampling or Sampling(),
        journal=journal, batch_size=BATCH, advance=lambda n: advance("instructions", n, count),
    )  # fmt: skip
    followed = [[i.followed(reply) for i, reply in zip(items.instructions, c, strict=True)] for c in replies]
    perplexity = _perplexities(text[:, :, 0], items.text)
    keys = [q.id for q in questions]
    answers, named = (shares_of(right_choices(table, questions), keys) for table in (choices, letters))
    obeyed = shares_of(np.array(followed, dtype=float), [i.id for i in items.instructions])
    costs = [
        Cost(knobs=knobs, perplexity=p, answers=a, letters=n, followed=f)
        for knobs, p, a, n, f in zip(turned, perplexity, answers, named, obeyed, strict=True)
    ]
    said = [
        Said(knobs=knobs, item=i.id, reply=reply, followed=passed)
        for knobs, column, verdicts in zip(turned, replies[1:], followed[1:], strict=True)
        for i, reply, passed in zip(items.instructions, column, verdicts, strict=True)
    ]
    return costs, said


def written_prompt(question: Question) -> str:
    """Prompt for a choice that is written out; of the wordings tried, best on the base's validation questions."""
    return f"{question.question} Answer in a few words."


def sentence(choice: str) -> str:
    """A choice as the reply that is scored."""
    return f"{choice}."


def _lettered(question: Question) -> str:
    listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, question.choices, strict=True))
    return f"{question.question}\n\n{listed}\n\nAnswer with the letter only."


def right_choices(scores: Scores, questions: Sequence[Question]) -> Scores:
    """Whether the right choice has the highest score, [settings, questions]; where a score is no number it has not."""
    answers = np.array([LETTERS.index(question.answer) for question in questions])
    found: Scores = ((scores.argmax(axis=2) == answers) & np.isfinite(scores).all(axis=2)).astype(float)
    return found


def _perplexities(sums: Scores, text: GeneralText) -> list[Measured]:
    """Of log-probabilities, [1 + settings, pieces], the base's first: one entry a setting."""
    counts = token_counts(text.encoded)[:, 0]
    loss = np.clip(np.nan_to_num(-sums / counts, nan=FAR, posinf=FAR), None, FAR) * counts
    weights = persona_weights(text.groups, [text.name] * len(text.groups))
    groups = len(set(text.groups))

    def told(losses: npt.NDArray[np.float64]) -> Interval:
        return spread(np.exp((weights @ losses) / (weights @ counts)), groups)

    return [Measured(value=told(one), change=told(one - loss[0])) for one in loss[1:]]


def shares_of(passed: Scores, ids: Sequence[str]) -> list[Measured]:
    """Of what is 0 or 1, [1 + settings, items], the base's first: one entry a setting."""
    return [
        Measured(value=bootstrap_rate(one.tolist(), ids), change=bootstrap_change((one - passed[0]).tolist(), ids))
        for one in passed[1:]
    ]
