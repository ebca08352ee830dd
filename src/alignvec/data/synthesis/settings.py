"""What a build of preference data is made of; two builds with equal settings make equal data."""

from collections.abc import Collection
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from alignvec.data.domain import Domain
from alignvec.data.schema import Sampling
from alignvec.data.synthesis.prompts import Prompt, PromptSet

PERSONA_SAMPLING = Sampling(temperature=1.0, top_p=0.95, max_tokens=120)
QUERY_SAMPLING = Sampling(temperature=0.9, top_p=0.95, max_tokens=160)
REPLY_SAMPLING = Sampling(temperature=0.7, top_p=0.95, max_tokens=400)
JUDGE_SAMPLING = Sampling(temperature=0.0, top_p=1.0, max_tokens=32)
PERSONA_WORDS, QUERY_WORDS = 25, 35
"""Words that a persona and a query have on average, for estimates."""


class BuildSettings(BaseModel):
    """Everything that decides what the data will be, besides the number of personas.

    Attributes:
        domain: the domain file's content.
        prompts: the texts of all steps.
        teacher: model that writes.
        judge: model that checks levels; None to leave them unchecked.
        seed: of grids, topics and every request.
        queries_per_persona: queries each persona asks, on different topics as far as there are any.
        retries: how often a reply or query that fails a gate is asked for again.
        reply_sampling: how replies are sampled.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    domain: Domain
    prompts: PromptSet
    teacher: str
    judge: str | None
    seed: int = 0
    queries_per_persona: int = Field(default=2, ge=1)
    retries: int = Field(default=2, ge=0)
    reply_sampling: Sampling = REPLY_SAMPLING


class Expected(NamedTuple):
    """What a run will ask for, estimated before the first request; no retries counted.

    Attributes:
        requests: number of requests.
        prompt_tokens: tokens of their prompts.
        completion_tokens: tokens of their answers.
        kept: answers that are there already, of this or other settings.
    """

    requests: int
    prompt_tokens: int
    completion_tokens: int
    kept: int = 0


def expected(
    settings: BuildSettings, stages: Collection[str], personas: int, queries: int, *, invented: bool
) -> Expected:
    """Estimate a run: a token per four characters of a prompt, and 4/3 tokens a word.

    Args:
        settings: of the build.
        stages: the steps to do, of personas, queries and rows.
        personas: how many.
        queries: how many.
        invented: whether the teacher invents the personas.
    """
    domain = settings.domain
    steps: list[tuple[int, int, int]] = []  # requests, prompt and answer tokens of each
    if "personas" in stages and invented:
        steps.append((personas, _tokens(settings.prompts.persona) + 30, _said(PERSONA_WORDS)))
    if "queries" in stages:
        steps.append((queries, _tokens(settings.prompts.query) + _said(PERSONA_WORDS), _said(QUERY_WORDS)))
    if "rows" in stages:
        kinds = sum(len(level.instruction) // 4 + 4 for level in domain.levels.values())
        for name, level in domain.levels.items():
            words = domain.length(name, "", settings.seed)
            prompt = _tokens(settings.prompts.reply) + len(level.instruction) // 4 + _said(QUERY_WORDS)
            steps.append((queries, prompt, _said(words)))
            if settings.judge:
                steps.append((queries, _tokens(settings.prompts.judge) + kinds + _said(QUERY_WORDS + words), 4))
    return Expected(
        requests=sum(count for count, _, _ in steps),
        prompt_tokens=sum(count * prompt for count, prompt, _ in steps),
        completion_tokens=sum(count * answer for count, _, answer in steps),
    )


def _tokens(prompt: Prompt) -> int:
    return len(prompt.system + prompt.user) // 4 + 8


def _said(words: int) -> int:
    return words * 4 // 3
