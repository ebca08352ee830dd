"""Cost of asking for a level at inference: by knobs, by an instruction, by three examples.

Prompt tokens, time to the first token, time per later token and total time, over the length of a system prompt that
all ways pay for, the batch size, and prefix caching on or off. With caching, keys and values of a way's constant prefix
(system prompt, instruction, examples) are computed once and copied for each request. The prefix of a request with knobs
is constant too, but its keys and values depend on the knobs: one copy is kept for each setting in use, where prompts of
several levels share that of their common system prompt.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from alignvec.data.schema import PreferenceRow
from alignvec.errors import ConfigError, DataError, KnobError
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.scope import rows_digest, scope_of
from alignvec.logprobs import encode_prompt
from alignvec.provenance import provenance
from alignvec.reproduce.cost.inference_record import WAYS, InferenceCost, Point, Request
from alignvec.reproduce.cost.prefill import Answered, Clock, Prefix, answer, cache_prefix
from alignvec.reproduce.cost.ways import Way, chat_of, check_shots, common_prefix, filler
from alignvec.steer.knobs import Knobs
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import GREEDY

PROBES = ("Why?", "how")
"""Queries that begin unlike any other, so that a prefix ends where the query begins."""


@dataclass(frozen=True)
class Grid:
    """What is varied.

    Attributes:
        system_tokens: lengths of the system prompt.
        batches: rows answered at once.
        caching: whether the prefix is cached.
        rounds: measured rounds of each point; one more comes before them, to warm up and to check.
        new_tokens: of every reply, two or more.
    """

    system_tokens: tuple[int, ...] = (0, 64, 256, 512, 1024)
    batches: tuple[int, ...] = (1, 8)
    caching: tuple[bool, ...] = (False, True)
    rounds: int = 5
    new_tokens: int = 32

    def check(self) -> None:
        """Refuse a grid without points, or with numbers that cannot be.

        Raises:
            ConfigError: naming the number.
        """
        for name, values, least in (
            ("system_tokens", self.system_tokens, 0), ("batches", self.batches, 1), ("caching", self.caching, 0),
            ("rounds", (self.rounds,), 1), ("new_tokens", (self.new_tokens,), 2),
        ):  # fmt: skip
            if not values or min(values) < least or len(set(values)) < len(values):
                told = ", ".join(map(str, values)) or "nothing"
                raise ConfigError(f"{name} is {told}; give different values of {least} or more")

    def points(self) -> list[tuple[int, int, bool]]:
        """System tokens, batch size and caching of every point."""
        return [(s, b, c) for b in self.batches for c in self.caching for s in self.system_tokens]


def inference_cost(
    model: KnobbedModel,
    knobs: Mapping[Way, Knobs],
    queries: Sequence[PreferenceRow],
    shots: Sequence[PreferenceRow],
    *,
    instruction: str,
    level: str,
    grid: Grid | None = None,
    seed: int = 0,
    journal: Path | None = None,
    clock: Clock = time.perf_counter,
    advance: Callable[[str, int, int], None] = lambda *_: None,
) -> InferenceCost:
    """Measure every point of a grid; the ways follow each other in each round, in an order drawn anew.

    Args:
        model: with the vectors of the knobs.
        knobs: settings of `knob` (one vector) and `knobs_3` (three), none of them 0.
        queries: of one domain; drawn with `seed` for every round.
        shots: three rows of the training split.
        instruction: the sentence of the zero-shot prompt.
        level: that is asked for.
        grid: what is varied.
        seed: of the queries and the order.
        journal: a file that a killed run goes on from, round by round.
        clock: seconds.
        advance: called with a task's name, what was done and the total.

    Raises:
        ConfigError: if the grid has no points.
        KnobError: if a setting leaves the model as it is: the knob would not be measured.
        DataError: if there are too few examples, or a prompt does not fit the model's context.
    """
    grid = grid or Grid()
    grid.check()
    if not queries:
        raise DataError("no queries to answer; give one or more")
    check_shots(shots, level)
    settings: dict[Way, Knobs] = {way: knobs.get(way, {}) for way in WAYS}
    _check_turned(model, queries[0].query, {way: settings[way] for way in ("knob", "knobs_3")})
    meter = _Meter(model, settings, queries, shots, instruction, level, grid.new_tokens, seed, clock)
    names = sorted({name for setting in settings.values() for name in setting})
    scope = scope_of(model, names, GREEDY, queries[0].domain, [*queries, *shots]) | {
        "knobs": {way: dict(setting) for way, setting in settings.items()},
        "asked": [instruction, level, grid.new_tokens, seed, rows_digest(shots)],
        "threads": torch.get_num_threads(),
    }
    kept = Journal(journal, scope)
    points, total = [], len(grid.points()) * (1 + grid.rounds)
    for system_tokens, batch, cached in grid.points():
        asked = meter.at(system_tokens, batch, cached)
        key = f"{system_tokens} {batch} {'cached' if cached else 'plain'}"
        warm = f"check {key}" not in kept
        if warm:
            kept.add(f"check {key}", asked.check())
        advance("answering", 1, total)
        for number in range(1, grid.rounds + 1):
            if f"{number} {key}" not in kept:
                if not warm:  # a killed run goes on in a new process
                    asked.round(0)
                    warm = True
                kept.add(f"{number} {key}", asked.round(number))
            advance("answering", 1, total)
        rounds = [kept[f"{number} {key}"] for number in range(1, grid.rounds + 1)]
        points.append(
            Point(
                system_tokens=system_tokens,
                batch=batch,
                cached=cached,
                rounds=tuple({way: Request(**one[way]) for way in WAYS} for one in rounds),
                **kept[f"check {key}"],
            )
        )
    return InferenceCost(
        model=model.base.name,
        knobs={way: dict(settings[way]) for way in ("knob", "knobs_3")},
        domain=queries[0].domain,
        level=level,
        new_tokens=grid.new_tokens,
        dtype=str(model.base.model.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        seed=seed,
        points=tuple(points),
        provenance=provenance(),
    )


@dataclass(frozen=True)
class _Meter:
    model: KnobbedModel
    settings: Mapping[Way, Knobs]
    queries: Sequence[PreferenceRow]
    shots: Sequence[PreferenceRow]
    instruction: str
    level: str
    new_tokens: int
    seed: int
    clock: Clock

    def at(self, system_tokens: int, batch: int, cached: bool) -> "_Asked":
        return _Asked(self, filler(self.model.base.tokenizer, system_tokens), system_tokens, batch, cached, {})

    def prompt(self, way: Way, system: str, query: str) -> list[int]:
        chat = chat_of(
            way, query, system=system, instruction=self.instruction, shots=self.shots, level=self.level
        )  # fmt: skip
        return encode_prompt(self.model.base.tokenizer, chat)


@dataclass(frozen=True)
class _Asked:
    """One point of the grid; its prefixes are computed when they are first used."""

    meter: _Meter
    system: str
    system_tokens: int
    batch: int
    cached: bool
    prefixes: dict[Way, Prefix]

    def check(self) -> dict[str, Any]:
        """The first round, which warms up: whether each way says the same with its prefix cached and not."""
        equal = {}
        for way in WAYS:
            prompts = self._prompts(way, 0)
            plain, cached = (self._answer(way, prompts, prefix) for prefix in (None, self._prefix(way)))
            equal[way] = sum(a == b for a, b in zip(plain.tokens, cached.tokens, strict=True))
        return {
            "equal_rows": equal,
            "prefix_tokens": {way: len(self._prefix(way).tokens) for way in WAYS},
            "prefix_bytes": {way: self._prefix(way).size for way in WAYS},
        }

    def round(self, number: int) -> dict[Way, dict[str, float]]:
        """Every way once, on the same queries."""
        found: dict[Way, dict[str, float]] = {}
        for way in random.Random(f"{self.meter.seed} order {number} {self.system_tokens}").sample(WAYS, len(WAYS)):
            prompts = self._prompts(way, number)
            prefix = self._prefix(way) if self.cached else None
            done = self._answer(way, prompts, prefix)
            found[way] = {
                "prompt_tokens": sum(map(len, prompts)),
                "reused_tokens": len(prompts) * len(prefix.tokens) if prefix else 0,
                "first": done.first,
                "later": done.later,
            }
        return found

    def _answer(self, way: Way, prompts: Sequence[Sequence[int]], prefix: Prefix | None) -> Answered:
        one = self.meter
        return answer(one.model, prompts, one.settings[way], one.new_tokens, prefix=prefix, clock=one.clock)

    def _prompts(self, way: Way, number: int) -> list[list[int]]:
        draw = random.Random(f"{self.meter.seed} queries {number}")
        asked = draw.choices(self.meter.queries, k=self.batch)
        return [self.meter.prompt(way, self.system, row.query) for row in asked]

    def _prefix(self, way: Way) -> Prefix:
        if way not in self.prefixes:
            meter = self.meter
            queries = [*PROBES, *(row.query for row in meter.queries)]
            prompts = [meter.prompt(way, self.system, query) for query in queries]
            tokens = prompts[0][: common_prefix(prompts)]
            self.prefixes[way] = cache_prefix(meter.model, tokens, meter.settings[way])
        return self.prefixes[way]


def _check_turned(model: KnobbedModel, query: str, settings: Mapping[Way, Knobs]) -> None:
    """Refuse settings that change nothing: their cost would be the base's."""
    ids = torch.tensor([encode_prompt(model.base.tokenizer, [{"role": "user", "content": query}])])

    def logits(setting: Knobs) -> torch.Tensor:
        with torch.no_grad(), model.knobs(setting) as network:
            found: torch.Tensor = network(input_ids=ids.to(model.base.device), logits_to_keep=1).logits
            return found.clone()

    base = logits({})
    for way, wanted in (("knob", 1), ("knobs_3", 3)):
        setting = settings[way]  # type: ignore[index]
        if sum(value != 0 for value in setting.values()) != wanted:
            raise KnobError(f"the way {way} has {dict(setting)}; it needs {wanted} knobs that are not 0")
        if torch.equal(logits(setting), base):
            raise KnobError(f"the knobs {dict(setting)} change nothing, so there is no cost to measure; look at them")
