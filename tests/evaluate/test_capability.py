"""What a knob costs, on the tiny model: against plain forward passes, and against scores made by hand."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from alignvec.data.capability import LETTERS, Instruction, Question
from alignvec.evaluate import capability as module
from alignvec.evaluate.capability import Items, measure_capability
from alignvec.evaluate.general_text import windows_of
from alignvec.evaluate.journal import Journal
from alignvec.models import BaseModel
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling

SHORT = Sampling(max_new_tokens=4)
TEXT = "The wind turned the old mill slowly, and the miller slept. " * 12


@pytest.fixture
def knobbed(tiny: BaseModel, make_vector: Callable[..., Any]) -> KnobbedModel:
    return KnobbedModel(tiny, [make_vector("medical", scale=0.5)])


@pytest.fixture
def items(tiny: BaseModel, tmp_path: Any) -> Items:
    (tmp_path / "text.txt").write_text(TEXT)
    questions = [
        Question(
            id=f"q{i}", split="test", topic="t", question=f"Which is number {i}?", answer=LETTERS[i % 4],
            choices=("the first", "the second one", "third", "the fourth of all"),
        )
        for i in range(6)
    ]  # fmt: skip
    long = {"kind": "min_words", "count": 1}
    instructions = [
        Instruction(id=f"i{i}", split="test", topic="t", instruction=f"Say {i}.", checks=(long,)) for i in range(3)
    ]
    text = windows_of(tiny.tokenizer, tmp_path / "text.txt", max_length=100)
    return Items("made up", text, questions, instructions)


def test_perplexity_is_that_of_a_plain_forward_pass_over_each_window(knobbed: KnobbedModel, items: Items) -> None:
    (base, turned), _ = measure_capability(knobbed, [{}, {"medical": 1.0}], items, sampling=SHORT, journal=Journal())
    ids = torch.tensor(knobbed.base.tokenizer(TEXT)["input_ids"])
    windows = ids[: len(ids) // 100 * 100].view(-1, 100)
    assert len(items.text.ids) == len(windows) == len(ids) // 100

    def plain(model: Any) -> float:
        with torch.no_grad():
            return math.exp(model(input_ids=windows, labels=windows).loss)

    expected = plain(knobbed.base.model)
    assert base.perplexity.value.value == pytest.approx(expected, rel=1e-4)
    assert base.perplexity.change.value == base.perplexity.change.high == 1.0
    with knobbed.knobs({"medical": 1.0}) as model:
        moved = plain(model)
    assert abs(moved / expected - 1) > 0.01
    assert turned.perplexity.value.value == pytest.approx(moved, rel=1e-4)
    assert turned.perplexity.change.value == pytest.approx(moved / expected, rel=1e-4)


def test_answers_are_counted_per_token_and_letters_after_the_listed_choices(
    knobbed: KnobbedModel, items: Items
) -> None:
    (base,), _ = measure_capability(knobbed, [{}], items, sampling=SHORT, journal=Journal())
    tokenizer, model = knobbed.base.tokenizer, knobbed.base.model

    def logprob(query: str, reply: str) -> tuple[float, int]:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": query}], tokenize=False, add_generation_prompt=True
        )
        start, ids = (
            len(tokenizer(prompt)["input_ids"]),
            torch.tensor([tokenizer(f"{prompt}{reply}<|im_end|>").input_ids]),
        )
        with torch.no_grad():
            told = model(input_ids=ids).logits[0, start - 1 : -1].log_softmax(-1)
        return float(told.gather(1, ids[0, start:, None]).sum()), ids.shape[1] - start

    right = {"answers": 0, "letters": 0}
    for q in items.questions:
        written = [logprob(f"{q.question} Answer in a few words.", f"{choice}.") for choice in q.choices]
        right["answers"] += int(np.argmax([total / count for total, count in written]) == LETTERS.index(q.answer))
        listed = "\n".join(f"{a}. {b}" for a, b in zip(LETTERS, q.choices, strict=True))
        query = f"{q.question}\n\n{listed}\n\nAnswer with the letter only."
        right["letters"] += int(np.argmax([logprob(query, a)[0] for a in LETTERS]) == LETTERS.index(q.answer))
    assert base.answers.value.value == pytest.approx(right["answers"] / 6)
    assert base.letters.value.value == pytest.approx(right["letters"] / 6)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """At λ = 1 the model loses two of six questions and gains one; its replies become empty; texts are no numbers."""

    def score(_: Any, ids: Sequence[str], encoded: Any, settings: Any, **__: Any) -> Any:
        replies = len(encoded[0].replies)
        table = np.full((1 + len(settings), len(ids), replies), -50.0)
        if replies == 1:
            table[1:] = np.nan
        if ids[0].startswith("choice"):
            for i in range(6):
                table[:, i, i % 4 if i < 4 else (i + 1) % 4] = -0.1
            table[1:, 0:2, 3] = -0.01
            table[1:, 4, 0] = -0.01
        elif ids[0].startswith("letter"):
            table[:, :, 2] = np.nan
        return table

    monkeypatch.setattr(module, "score_encoded", score)
    monkeypatch.setattr(
        module, "generate_replies", lambda _, rows, settings, *__, **___: [["" if s else "yes"] * 3 for s in settings]
    )


def test_changes_are_of_the_same_items_and_a_broken_model_costs_everything(
    knobbed: KnobbedModel, items: Items, scripted: None
) -> None:
    (cost,), said = measure_capability(knobbed, [{"medical": 1.0}], items, sampling=SHORT, journal=Journal())
    assert cost.answers.value.value == pytest.approx(3 / 6)
    assert cost.answers.change.value == pytest.approx(-1 / 6)
    low, high = cost.answers.change.drawn
    assert low < -1 / 6 < high
    assert cost.letters.value.value == 0.0  # a score that is no number is never right
    slack = 1 - 0.025 ** (1 / 6)  # six items that did not change leave room for some that would have
    assert cost.letters.change.drawn == pytest.approx((-slack, slack))
    assert (cost.followed.value.value, cost.followed.change.value) == (0.0, -1.0)
    assert [(one.item, one.reply, one.followed) for one in said] == [(f"i{i}", "", False) for i in range(3)]
    assert cost.perplexity.value.value == pytest.approx(math.exp(20))


def test_zero_is_the_base_and_nothing_is_measured_twice(
    knobbed: KnobbedModel, items: Items, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal()
    (zero, one), said = measure_capability(
        knobbed, [{"medical": 0.0}, {"medical": 1.0}], items, sampling=SHORT, journal=journal
    )
    assert zero.knobs == {} and zero.perplexity.change.value == 1.0
    assert {tuple(reply.knobs.items()) for reply in said} == {(), (("medical", 1.0),)}
    monkeypatch.setattr(KnobbedModel, "score", None)
    monkeypatch.setattr(KnobbedModel, "generate", None)
    again, _ = measure_capability(knobbed, [{}, {"medical": 1.0}], items, sampling=SHORT, journal=journal)
    assert again == [zero, one]
