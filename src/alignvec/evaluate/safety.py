"""Safety under knobs: refusals of harmful requests and of benign look-alikes, and the domains' replies."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alignvec.data.gates.loop import is_degenerate
from alignvec.data.load import levels_of
from alignvec.data.safety import KINDS, LEVELS, Kind, SafetyRow
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError
from alignvec.evaluate.generation import generate_replies
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.judge import LevelJudge
from alignvec.evaluate.preference import LevelScores, score_levels
from alignvec.evaluate.refusal import RefusalJudge
from alignvec.evaluate.safety_record import DomainPoint, KindPoint, Replied, Safety, SafetyPoint, SafetyReply
from alignvec.evaluate.safety_report import write_safety
from alignvec.evaluate.scope import rows_digest, scope_of
from alignvec.evaluate.statistics import bootstrap_change, bootstrap_rate
from alignvec.provenance import provenance
from alignvec.steer.knobs import Knobs, Turn, as_asked
from alignvec.steer.model import KnobbedModel
from alignvec.steer.routed import row_shares, turn_by
from alignvec.steer.router import Router
from alignvec.steer.sampling import Sampling
from alignvec.vectors.strict import Interval

BATCH = 32
"""Replies generated at once."""


def safety_scope(
    model: KnobbedModel,
    names: Sequence[str],
    sampling: Sampling,
    data: str,
    rows: Sequence[SafetyRow],
    domains: Sequence[PreferenceRow] = (),
) -> dict[str, Any]:
    """What the measurements depend on besides setting and row, for a journal."""
    return scope_of(model, names, sampling, data, rows) | {"domains": rows_digest(domains)}


def measure_safety(
    model: KnobbedModel,
    rows: Sequence[SafetyRow],
    settings: Sequence[Knobs],
    *,
    judge: RefusalJudge | None = None,
    generate: int | None = None,
    domains: Sequence[PreferenceRow] = (),
    level_judge: LevelJudge | None = None,
    sampling: Sampling | None = None,
    turn: Turn = as_asked,
    journal: Journal,
    advance: Callable[[str, int, int], None] = lambda *_: None,
) -> tuple[list[SafetyPoint], list[SafetyReply]]:
    """Measure refusals at settings of any knobs, each against the base; intervals are 95 % over resampled askers.

    Args:
        model: with the vectors, on any base.
        rows: harmful and benign queries.
        settings: of the knobs; the base, {}, is generated for in any case.
        judge: tells refusals; without one nothing is generated.
        generate: reply to so many queries of each kind and domain, the first ones; default all.
        domains: queries of domains, replied to under the same settings.
        level_judge: gives their replies a level; without one they are only looked at for refusals.
        sampling: how replies are decoded.
        turn: what a setting becomes for one of the rows and then the domains' queries, as a router turns it.
        journal: what it has is not measured again.
        advance: called with a task's name, what was done and the total.

    Returns:
        A point for every setting in their order, and every reply at each of them.

    Raises:
        DataError: if two rows have one id, or a row does not fit the model's context.
        KnobError: if a setting names no loaded vector, or is not finite.
    """
    turned = [{name: value for name, value in knobs.items() if value} for knobs in settings]
    _check_ids([*rows, *domains])
    total = len(rows) * (len(turned) + 1)
    preferences = [row.preference() for row in rows]
    scores = score_levels(
        model, preferences, LEVELS, turned,
        journal=journal, turn=turn, advance=lambda n: advance("scoring", n, total),
    )  # fmt: skip
    queries: list[SafetyRow | PreferenceRow] = [*rows, *domains]
    places = _first(queries, generate) if judge else []
    asked = [queries[i] for i in places]
    said: list[list[SafetyReply]] = [[] for _ in range(len(turned) + 1)]
    if judge and asked:
        count = len(asked) * (len(turned) + 1)
        texts = generate_replies(
            model, asked, [{}, *turned], sampling or Sampling(),
            journal=journal, turn=lambda i, knobs: turn(places[i], knobs), batch_size=BATCH,
            advance=lambda n: advance("generating", n, count),
        )  # fmt: skip
        said = [
            _judged(knobs, asked, column, judge, level_judge)
            for knobs, column in zip([{}, *turned], texts, strict=True)
        ]
    askers = {row.id: row.asker for row in rows} | {row.id: row.persona for row in domains}
    levels = levels_of(domains) if domains else ()
    points = [
        _point(knobs, i, rows, scores, said[i + 1], said[0], askers, levels if level_judge else ())
        for i, knobs in enumerate(turned)
    ]
    return points, [reply for column in said[1:] for reply in column]


def assess_safety(
    model: KnobbedModel,
    rows: Sequence[SafetyRow],
    settings: Sequence[Knobs],
    *,
    judge: RefusalJudge | None,
    level_judge: LevelJudge | None,
    domains: Sequence[PreferenceRow],
    generate: int | None = None,
    sampling: Sampling,
    router: Router | None = None,
    data: str,
    out: Path | None,
    advance: Callable[[str, int, int], None],
) -> Safety:
    """Measure refusals at settings of a model's knobs, as `measure_safety` does, and write the files about it.

    Args:
        router: lets each knob count as far as a query is its domain's; one whose domain it does not know, in full.
        data: name of the queries.
        out: folder of the files and of the journal that a killed run goes on from; None keeps nothing.
    """
    names = list(model.vectors)
    scope = safety_scope(model, names, sampling, data, rows, domains)
    queries = [*(row.query for row in rows), *(row.query for row in domains)]
    shares = row_shares(router, model, queries, names) if router else None
    points, replies = measure_safety(
        model, rows, settings, judge=judge, generate=generate, domains=domains, level_judge=level_judge,
        sampling=sampling, turn=turn_by(names, shares),
        journal=Journal(out / "journal.jsonl" if out else None, scope), advance=advance,
    )  # fmt: skip
    result = Safety(
        vectors=tuple(names),
        base=model.base.name,
        data=data,
        routed=router is not None,
        levels=levels_of(domains) if level_judge else (),
        points=tuple(points),
        judge=judge.report if judge else None,
        level_judge=level_judge.report if level_judge else None,
        sampling=sampling,
        provenance=provenance(),
    )
    if out:
        write_safety(result, replies, out)
    return result


def _check_ids(rows: Sequence[SafetyRow | PreferenceRow]) -> None:
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise DataError(f"two rows have the id {row.id!r}; replies are kept by it, so give one another id")
        seen.add(row.id)


def _about(row: SafetyRow | PreferenceRow) -> str:
    return row.kind if isinstance(row, SafetyRow) else row.domain


def _first(rows: Sequence[SafetyRow | PreferenceRow], count: int | None) -> list[int]:
    """Places of the first `count` rows of each kind and domain."""
    groups: dict[tuple[type, str], list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault((type(row), _about(row)), []).append(i)
    return [i for own in groups.values() for i in own[:count]]


def _judged(
    knobs: Knobs,
    rows: Sequence[SafetyRow | PreferenceRow],
    texts: Sequence[str],
    judge: RefusalJudge,
    level_judge: LevelJudge | None,
) -> list[SafetyReply]:
    levels = level_judge.verdicts(texts) if level_judge else [None] * len(texts)
    return [
        SafetyReply(
            knobs=dict(knobs),
            row=row.id,
            about=_about(row),
            query=row.query,
            reply=text,
            refused=refused,
            degenerate=is_degenerate(text),
            level=level if isinstance(row, PreferenceRow) else None,
        )
        for row, text, refused, level in zip(rows, texts, judge.refuses(texts), levels, strict=True)
    ]


def _point(
    knobs: Knobs,
    index: int,
    rows: Sequence[SafetyRow],
    scores: LevelScores,
    said: Sequence[SafetyReply],
    base: Sequence[SafetyReply],
    askers: Mapping[str, str],
    levels: Sequence[str],
) -> SafetyPoint:
    def replied(about: str) -> Replied | None:
        pairs = [(one, before) for one, before in zip(said, base, strict=True) if one.about == about]
        if not pairs:
            return None
        groups = [askers[one.row] for one, _ in pairs]
        return Replied(
            queries=len(pairs),
            refused=bootstrap_rate([float(one.refused) for one, _ in pairs], groups),
            change=bootstrap_change([float(one.refused) - float(before.refused) for one, before in pairs], groups),
            degenerate=bootstrap_rate([float(one.degenerate) for one, _ in pairs], groups),
        )

    def level_rates(mine: Sequence[SafetyReply]) -> dict[str, Interval]:
        groups = [askers[one.row] for one in mine]
        return {v: bootstrap_rate([float(one.level == v) for one in mine], groups) for v in levels} if mine else {}

    kinds: dict[Kind, KindPoint] = {}
    for kind in KINDS:
        if place := [i for i, row in enumerate(rows) if row.kind == kind]:
            own = _of_rows(scores, place)
            kinds[kind] = KindPoint(
                queries=len(place),
                preferred=_preferred(own, index),
                margin=own.margin(index),
                replied=replied(kind),
            )
    in_domains = [one for one in said if one.about not in KINDS]
    domains = {
        name: DomainPoint(levels=level_rates([one for one in in_domains if one.about == name]), replied=found)
        for name in dict.fromkeys(one.about for one in in_domains)
        if (found := replied(name))
    }
    return SafetyPoint(knobs=dict(knobs), kinds=kinds, domains=domains, levels=level_rates(in_domains))


def _of_rows(scores: LevelScores, place: Sequence[int]) -> LevelScores:
    return LevelScores(
        scores.levels,
        tuple(scores.personas[i] for i in place),
        scores.sums[:, place],
        scores.base[place],
        scores.counts[place],
    )


def _preferred(scores: LevelScores, index: int) -> Interval:
    per_token = (scores.sums / scores.counts)[index]
    safe = LEVELS.index("safe")
    likelier = per_token[:, safe] > np.delete(per_token, safe, axis=1).max(axis=1)
    return bootstrap_rate(likelier.astype(float).tolist(), scores.personas)
