"""A language model behind any OpenAI-compatible endpoint as judge: a published rubric, and every reply asked twice.

The second time the levels are listed in the opposite order (position bias: Wang et al., arXiv 2305.17926). Verdicts
that differ, and answers that name no single level, are missing; neither is resolved by a guess.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alignvec.data.load import load_rows
from alignvec.data.review.definitions import Definitions, definitions
from alignvec.data.synthesis.prompts import PROMPTS, Prompt, load_prompt
from alignvec.data.synthesis.replies import verdict
from alignvec.data.teacher.answering import NoAnswerError
from alignvec.data.teacher.budget import Budget, Limits, Prices
from alignvec.data.teacher.cache import AnswerCache
from alignvec.data.teacher.client import Teacher
from alignvec.data.teacher.endpoint import Endpoint
from alignvec.data.teacher.ordered import ordered
from alignvec.data.teacher.request import Answer, Request, derived_seed
from alignvec.errors import DataError
from alignvec.evaluate.judging import Item, Verdict

RUBRIC = PROMPTS / "level-rubric.yaml"
"""The published rubric."""
FIELDS = ("levels", "names", "query", "reply")
"""What a rubric may name in braces."""
SHORTENED = 80
"""Characters of an answer that are kept beside the verdict; the whole is in the cache."""


def load_rubric(path: Path | None = None) -> Prompt:
    """Read a rubric; default: the published one.

    Raises:
        DataError: if it is missing or malformed, or does not show the judge levels, question and reply.
    """
    rubric = load_prompt(path or RUBRIC, "level-rubric", FIELDS)
    text = rubric.system + rubric.user
    if lacking := [name for name in FIELDS if f"{{{name}}}" not in text]:
        raise DataError(f"{path or RUBRIC} nowhere has {{{lacking[0]}}}; a rubric needs {', '.join(FIELDS)}")
    return rubric


def definitions_of(files: Sequence[Path], rows: Collection[str], domain: str | None = None) -> Definitions:
    """Definitions of the levels, by domain, of the files that some rows are in.

    Args:
        files: preference data.
        rows: ids.
        domain: name or file of a domain that defines them all; default: see `data.review.definitions`.

    Raises:
        DataError: if a file or the domain cannot be read, or the domain lacks a level.
    """
    found: dict[str, Mapping[str, str]] = {}
    for path in dict.fromkeys(files):
        mine = [row for row in load_rows(path) if row.id in rows]
        if mine:
            found |= definitions(path, mine, domain)
    return found


def safe_endpoint(url: str, in_flight: int, timeout: float, attempts: int, key_variable: str) -> Endpoint:
    """An endpoint whose URL may be stored with the results.

    Raises:
        ConfigError: if the URL is none, or has a user's name or password.
    """
    endpoint = Endpoint(url, in_flight, timeout, attempts, key_variable, role="judge")
    endpoint.refuse_secret("--judge-key-variable")
    return endpoint


@dataclass
class LlmJudge:
    """Asks a model which level each reply has, twice; every answer is kept before it is used.

    Attributes:
        endpoint: where the model is.
        model: its name there.
        definitions: domain to level to its definition.
        answers: SQLite file of answers; what is there is not asked again. It never holds the key.
        rubric: the prompt.
        max_tokens: longest answer.
        seed: of the endpoint's sampling, for those that sample at temperature 0 too.
        prices: of tokens.
        limits: of spending.
        advance: called with the number of replies judged.
    """

    endpoint: Endpoint
    model: str
    definitions: Definitions
    answers: Path
    rubric: Prompt = field(default_factory=load_rubric)
    max_tokens: int = 32
    seed: int = 0
    prices: Prices = field(default_factory=Prices)
    limits: Limits = field(default_factory=Limits)
    advance: Callable[[int], None] = lambda _: None
    name: str = "llm"
    _about: str = ""
    _differing: Counter[tuple[str, str]] = field(default_factory=Counter)

    def judge(self, items: Sequence[Item], levels: Sequence[str]) -> list[Verdict]:
        """A verdict for every item.

        Raises:
            DataError: if nobody has defined the levels of an item's domain.
            TeacherError: if the endpoint refuses all requests or cannot be reached; answers so far are kept.
            BudgetError: if the budget is used up; answers so far are kept.
        """
        for domain in dict.fromkeys(item.domain for item in items):
            if not set(levels) <= set(self.definitions.get(domain, {})):
                raise DataError(f"nobody has defined the levels of domain {domain!r}; name a domain file with --domain")
        return asyncio.run(self._judge(items, levels))

    def about(self) -> str:
        """Model, rubric, what it cost, and how the orders turned out."""
        return self._about

    async def _judge(self, items: Sequence[Item], levels: Sequence[str]) -> list[Verdict]:
        found = []
        self._differing.clear()
        with AnswerCache(self.answers) as cache:
            budget = Budget(self.prices, self.limits, cache.tokens())
            async with Teacher(self.endpoint, cache, budget) as teacher:

                async def work(item: Item) -> Verdict:
                    return await self._verdict(teacher, item, levels)

                async for one in ordered(items, work, window=2 * self.endpoint.in_flight):
                    found.append(one)
                    self.advance(1)
                money = f", {budget.money:.4g} in money" if budget.money else ""
                self._about = (
                    f"llm: {self.model} by {self.rubric.reference}, temperature 0; {teacher.requests:,} answers, "
                    f"{teacher.cached:,} kept from before, {budget.prompt_tokens:,} + {budget.completion_tokens:,} "
                    f"tokens{money}{self._bias(levels)}"
                )
        return found

    async def _verdict(self, teacher: Teacher, item: Item, levels: Sequence[str]) -> Verdict:
        if not item.reply.strip():
            return Verdict(missing="empty reply")
        asked = (self._request(item, order) for order in (levels, levels[::-1]))
        answers = await asyncio.gather(*(teacher.ask(one, (0, item.row)) for one in asked), return_exceptions=True)
        for one in answers:  # raised only when both are finished: what was asked for is paid for
            if isinstance(one, BaseException) and not isinstance(one, NoAnswerError):
                raise one
        told = [one for one in answers if isinstance(one, Answer)]
        said = tuple(" ".join(one.text.split())[:SHORTENED] for one in told)
        if len(told) < len(answers):
            return Verdict(missing="no answer", said=said)
        first, second = (verdict(one, levels) for one in told)
        if first is None or second is None:
            return Verdict(missing="unparsable", said=said)
        if first != second:
            self._differing[first, second] += 1
            return Verdict(missing="inconsistent", said=said)
        return Verdict(level=first, said=said)

    def _request(self, item: Item, order: Sequence[str]) -> Request:
        defined = self.definitions[item.domain]
        messages = self.rubric.messages(
            levels="\n".join(f"- {level}: {defined[level]}" for level in order),
            names=", ".join(order),
            query=item.query,
            reply=item.reply,
        )
        seed = derived_seed(self.seed, "level-rubric")
        return Request(self.model, messages, temperature=0.0, top_p=1.0, max_tokens=self.max_tokens, seed=seed)

    def _bias(self, levels: Sequence[str]) -> str:
        """How many of the inconsistent verdicts named what was listed first, or last, both times."""
        if not self._differing:
            return ""
        first, last = self._differing[levels[0], levels[-1]], self._differing[levels[-1], levels[0]]
        total = self._differing.total()
        return f"; of {total} inconsistent verdicts {first} named the first of the list both times, {last} the last"
