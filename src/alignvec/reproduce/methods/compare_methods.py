"""All methods on the same held-out queries and goals: levels of replies, spillover, capability, cost."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from alignvec.data.capability import Question
from alignvec.data.gates.loop import is_degenerate
from alignvec.data.load import levels_of
from alignvec.data.schema import PreferenceRow
from alignvec.errors import ConfigError
from alignvec.evaluate.capability import right_choices, sentence, written_prompt
from alignvec.evaluate.capability_record import Measured
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.judge import LevelJudge
from alignvec.evaluate.spillover import one_hot, shift_of, spread_size
from alignvec.evaluate.statistics import (
    bootstrap_change,
    bootstrap_mean,
    bootstrap_rate,
    persona_weights,
    spread_rate,
)
from alignvec.provenance import machine, provenance
from alignvec.reproduce.methods.asking import Advance, Job, Options, generate, score
from alignvec.reproduce.methods.base import Base
from alignvec.reproduce.methods.method import Goal, Method, encoded, goal_text
from alignvec.reproduce.methods.method_speed import Speed, measure_speeds
from alignvec.reproduce.methods.methods_result import Cell, Comparison, MethodResult, Spilled
from alignvec.solve.goals import REACHED
from alignvec.steer.sampling import Sampling
from alignvec.vectors.strict import Interval

Array = npt.NDArray[np.float64]
SPEED_TOKENS = 32
"""Tokens of a timed reply."""


def latin_goals(domains: Sequence[str], levels: Sequence[str]) -> list[dict[str, str]]:
    """As many goals as levels, so that each level is asked of each domain once (rows of a Latin square)."""
    return [{domain: levels[(i - 1 + j) % len(levels)] for j, domain in enumerate(domains)} for i in range(len(levels))]


def single_goals(domains: Sequence[str], levels: Sequence[str]) -> list[dict[str, str]]:
    """Each domain alone at the highest and at the lowest level: where spillover is looked at."""
    return [{domain: level} for domain in domains for level in (levels[-1], levels[0])]


def compare_methods(
    methods: Sequence[Method],
    rows: Sequence[PreferenceRow],
    judge: LevelJudge,
    *,
    data: str,
    goals: Sequence[Goal] | None = None,
    questions: Sequence[Question] = (),
    sampling: Sampling | None = None,
    speed_rounds: int = 0,
    speed_tokens: int = SPEED_TOKENS,
    speed_batches: Sequence[int] = (1, 8),
    journal: Journal,
    batch_size: int = 48,
    advance: Advance = lambda *_: None,
) -> Comparison:
    """Ask every method the same; then time them in turn under the first goal.

    Args:
        methods: of one base, at strengths that were chosen on other rows.
        rows: held-out queries of all domains.
        judge: gives generated replies their level.
        data: name of the rows.
        goals: that name all domains; default `latin_goals`.
        questions: with four choices, for what a goal costs elsewhere; none: not measured.
        sampling: how replies are decoded.
        speed_rounds: runs to time; 0: not measured.
        speed_tokens: tokens of a timed reply.
        speed_batches: requests at once.
        journal: what it has is not measured again; see `methods_scope`.
        batch_size: replies generated at once.
        advance: called with a task's name, what was done and the total.

    Raises:
        ConfigError: if two methods have one name, they have different bases, or a method cannot be asked for a goal.
    """
    names = [method.name for method in methods]
    if not methods or len(set(names)) < len(names):
        raise ConfigError(f"methods to compare need different names (have: {', '.join(names) or 'none'})")
    if any(method.base is not methods[0].base for method in methods):
        raise ConfigError("the methods have different base models; load one and make them all on it")
    sampling = sampling or Sampling()
    domains, levels = tuple(dict.fromkeys(row.domain for row in rows)), levels_of(rows)
    goals = [dict(goal) for goal in goals] if goals else latin_goals(domains, levels)
    asked = _Asked(rows, levels, judge, sampling, journal, batch_size)
    base = Base(methods[0].base)
    plain = asked.levels_said(base, {}, "base", advance)[0]
    results = []
    for method in methods:
        cells, level_rate, degenerate = _cells(asked, method, goals, advance)
        spilled, spillover = _spillover(asked, method, single_goals(domains, levels), plain, advance)
        results.append(
            MethodResult(
                card=method.card(goals[0]),
                cells=cells,
                level_rate=level_rate,
                reached=float(np.mean([cell.reached for cell in cells])),
                degenerate=degenerate,
                spilled=spilled,
                spillover=spillover,
                answers=_answers(method, base, goals, questions, journal, advance) if questions else None,
                speed=(),
            )
        )
    if speed_rounds:
        queries = [row.query for row in rows]
        timed = [
            _speeds(methods, queries, goals[0], n, speed_rounds, speed_tokens, journal, advance) for n in speed_batches
        ]
        results = [one.model_copy(update={"speed": tuple(t[one.card.name] for t in timed)}) for one in results]
    return Comparison(
        data=data,
        domains=domains,
        levels=levels,
        goals=tuple(goals),
        queries=len(rows),
        questions=len(questions),
        judge=judge.report,
        sampling=sampling,
        threads=torch.get_num_threads(),
        methods=tuple(results),
        provenance=provenance(),
    )


class _Asked:
    """The queries, and the levels of what is said to them."""

    def __init__(
        self,
        rows: Sequence[PreferenceRow],
        levels: tuple[str, ...],
        judge: LevelJudge,
        sampling: Sampling,
        journal: Journal,
        batch_size: int,
    ) -> None:
        self.rows, self.levels = rows, levels
        self._judge, self._sampling, self._journal, self._batch_size = judge, sampling, journal, batch_size
        self.weights = persona_weights([row.persona for row in rows], [row.domain for row in rows])
        self.domains = tuple(dict.fromkeys(row.domain for row in rows))
        self.places = {domain: [i for i, row in enumerate(rows) if row.domain == domain] for domain in self.domains}
        self.personas = {d: len({rows[i].persona for i in own}) for d, own in self.places.items()}

    def levels_said(
        self, method: Method, goal: Goal, task: str, advance: Advance, domains: Sequence[str] | None = None
    ) -> tuple[Array, Array]:
        """Level of each reply as ones, [rows, levels], and whether it is degenerate and so of no level, [rows].

        Both are 0 in other domains.
        """
        places = [i for domain in domains or self.domains for i in self.places[domain]]
        replies = generate(
            [Job(method, self.rows[i], goal) for i in places], self._sampling,
            journal=self._journal, batch_size=self._batch_size,
            advance=lambda _, n, total: advance(f"{method.name}: {task}", n, total),
        )  # fmt: skip
        said, broken = np.zeros((len(self.rows), len(self.levels))), np.zeros(len(self.rows))
        verdicts = self._judge.verdicts(replies)
        broken[places] = [is_degenerate(reply) for reply in replies]
        said[places] = one_hot([self.levels.index(level) for level in verdicts], len(self.levels))
        return said * (1 - broken[:, None]), broken

    def rate(self, values: Array, domain: str) -> Interval:
        own = self.places[domain]
        return bootstrap_rate(values[own].tolist(), [self.rows[i].persona for i in own])

    def mean(self, draws: Sequence[Array]) -> Interval:
        """Over several rates, each with its resamplings."""
        return spread_rate(np.mean(draws, axis=0), sum(self.personas.values()), min(self.personas.values()))

    def mean_size(self, sizes: Sequence[Array]) -> Interval:
        """Over sizes of shifts, each with its resamplings."""
        personas = self.personas.values()
        return spread_size(np.mean(sizes, axis=0), self.levels, sum(personas), min(personas))

    def draws(self, values: Array, domain: str) -> Array:
        """Means over a domain's queries, [1 + resamplings]."""
        inside = self.weights[:, self.places[domain]]
        found: Array = inside @ values[self.places[domain]] / inside.sum(axis=1)
        return found


def _cells(
    asked: _Asked, method: Method, goals: Sequence[Goal], advance: Advance
) -> tuple[tuple[Cell, ...], Interval, Interval]:
    cells, rates, broken = [], [], []
    for goal in goals:
        said, loops = asked.levels_said(method, goal, goal_text(goal), advance)
        for domain, wanted in goal.items():
            by_level = {level: asked.rate(said[:, i], domain) for i, level in enumerate(asked.levels)}
            own = by_level[wanted].value
            most = all(own > rate.value for level, rate in by_level.items() if level != wanted)
            cells.append(
                Cell(
                    goal=goal_text(goal), domain=domain, wanted=wanted, queries=len(asked.places[domain]),
                    rates=by_level, degenerate=asked.rate(loops, domain), reached=most and own >= REACHED,
                )
            )  # fmt: skip
            rates.append(asked.draws(said[:, asked.levels.index(wanted)], domain))
            broken.append(asked.draws(loops, domain))
    return tuple(cells), asked.mean(rates), asked.mean(broken)


def _spillover(
    asked: _Asked, method: Method, goals: Sequence[Goal], plain: Array, advance: Advance
) -> tuple[tuple[Spilled, ...], Interval | None]:
    found, sizes = [], []
    for goal in goals:
        others = [domain for domain in asked.domains if domain not in goal]
        if not others or not method.can(goal):
            continue
        said, _ = asked.levels_said(method, goal, goal_text(goal), advance, others)
        for domain in others:
            own = asked.places[domain]
            shift, size = shift_of(said[own] - plain[own], asked.weights[:, own], asked.levels, asked.personas[domain])
            found.append(Spilled(goal=goal_text(goal), domain=domain, shift=shift))
            sizes.append(size)
    if not sizes:
        return (), None
    if all(method.is_base(goal) for goal in goals):
        return tuple(found), Interval(value=0.0, low=0.0, high=0.0)  # compared with itself
    return tuple(found), asked.mean_size(sizes)


def _answers(
    method: Method,
    base: Method,
    goals: Sequence[Goal],
    questions: Sequence[Question],
    journal: Journal,
    advance: Advance,
) -> Measured:
    asked = [Options(q.id, written_prompt(q), tuple(map(sentence, q.choices))) for q in questions]
    counts = [[len(reply) for reply in encoded(method.base, one.query, one.replies).replies] for one in asked]

    def right(by: Method, wanted: Sequence[Goal]) -> Array:
        sums = score(
            by, asked, wanted,
            journal=journal, advance=lambda _, n, total: advance(f"{by.name}: questions", n, total),
        )  # fmt: skip
        found: Array = right_choices(np.array(sums) / np.array(counts), questions).mean(axis=0)
        return found

    ids, plain, own = [q.id for q in questions], right(base, [{}]), right(method, goals)
    return Measured(value=bootstrap_mean(own.tolist(), ids), change=bootstrap_change((own - plain).tolist(), ids))


def _speeds(
    methods: Sequence[Method],
    queries: Sequence[str],
    goal: Goal,
    batch: int,
    rounds: int,
    tokens: int,
    journal: Journal,
    advance: Advance,
) -> dict[str, Speed]:
    """Speed by name of the method; journalled together, as they are timed together on one machine."""
    keys = [method.key(goal) for method in methods]
    device = methods[0].base.device
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else machine()
    key = f"speed {batch} {rounds} {tokens} {torch.get_num_threads()} threads, {where}: {' '.join(keys)}"
    if key not in journal:
        found = measure_speeds(
            methods, queries, goal, batch=batch, new_tokens=tokens, rounds=rounds,
            advance=lambda n, total: advance(f"timing, {batch} at once", n, total),
        )  # fmt: skip
        journal.add(key, {name: one.model_dump() for name, one in found.items()})
    return {name: Speed.model_validate(one) for name, one in journal[key].items()}
