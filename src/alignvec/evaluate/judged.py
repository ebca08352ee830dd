"""Replies judged by several judges: level rates by each, and how far they agree."""

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from alignvec.data.lines import numbered_lines, parse_line
from alignvec.data.load import levels_of
from alignvec.data.schema import PreferenceRow
from alignvec.errors import ConfigError, DataError
from alignvec.evaluate.agreement import BOUND, agree
from alignvec.evaluate.judged_record import Judged, JudgedBy, Rates
from alignvec.evaluate.judging import Item, Judge, Verdict
from alignvec.evaluate.labels import Reader
from alignvec.evaluate.statistics import bootstrap_rate
from alignvec.evaluate.sweep_record import Reply
from alignvec.provenance import provenance


def load_items(paths: Sequence[Path], rows: Mapping[str, PreferenceRow]) -> list[Item]:
    """Replies that sweeps wrote, with what is known of their queries.

    Raises:
        DataError: if a file cannot be read, a line is malformed, a reply's row is unknown or has another query, or
            two replies are to one row at one λ.
    """
    found: dict[tuple[str, float], Item] = {}
    for path in dict.fromkeys(paths):
        for number, line in numbered_lines(path, "name a replies.jsonl that alignvec sweep wrote"):
            reply, where = parse_line(path, number, line, Reply), f"{path}:{number}"
            row = rows.get(reply.row)
            if row is None:
                raise DataError(f"{where}: row {reply.row!r} is in none of the data files; name its file with --data")
            if row.query != reply.query:
                raise DataError(f"{where}: row {reply.row!r} has another query in the data; name its file with --data")
            item = Item(
                row=row.id,
                domain=row.domain,
                persona=row.persona,
                coefficient=reply.coefficient,
                query=reply.query,
                reply=reply.reply,
            )
            if item.key in found:
                raise DataError(
                    f"{where}: a second reply to {row.id} at λ = {reply.coefficient:g}; judge the replies of each "
                    "vector by themselves"
                )
            found[item.key] = item
    return list(found.values())


def choose(
    items: Sequence[Item], limit: int | None, *, first: Collection[tuple[str, float]], seed: int = 0
) -> list[Item]:
    """Draw `limit` items at random, labelled ones before others; in the order in which they were.

    Args:
        first: keys of the labelled items.
        seed: of the draw.
    """
    if limit is None or limit >= len(items):
        return list(items)
    order = random.Random(seed).sample(range(len(items)), len(items))
    return [items[i] for i in sorted(sorted(order, key=lambda i: items[i].key not in first)[:limit])]


def judge_replies(
    items: Sequence[Item],
    judges: Sequence[Judge],
    rows: Mapping[str, PreferenceRow],
    *,
    readers: Sequence[Reader] = (),
    files: Sequence[str] = (),
    of: int | None = None,
    bound: float = BOUND,
    seed: int = 0,
) -> tuple[Judged, dict[str, list[Verdict]]]:
    """Let every judge judge every item; returns the result, and judge to verdicts.

    Args:
        items: what to judge.
        judges: who judges.
        rows: the items' rows; they have to have the same levels.
        readers: labels by reading.
        files: names of the files, for the record.
        of: how many replies there were before a choice among them.
        bound: see `agree`.
        seed: of the resampling.

    Raises:
        ConfigError: if two judges or readers have one name.
        DataError: if the items have different levels, or see the judges.
    """
    everyone: list[Judge] = [*judges, *readers]
    if again := [name for name, count in Counter(one.name for one in everyone).items() if count > 1]:
        raise ConfigError(f"two judges are called {again[0]!r}; give the rater of the labels another name")
    levels = levels_of([rows[item.row] for item in items])
    verdicts = {one.name: one.judge(items, levels) for one in everyone}
    names = [reader.name for reader in readers]
    keys = {item.key for item in items}
    result = Judged(
        files=tuple(files),
        replies=len(items),
        of=len(items) if of is None else of,
        seed=seed,
        judges=tuple(_part(one, verdicts[one.name], items) for one in everyone),
        readers=tuple(names),
        rates=tuple(_rates(items, verdicts, levels, names)),
        agreement=agree(verdicts, items, levels, readers=names, bound=bound, seed=seed),
        unused_labels=sum(key not in keys for reader in readers for key in reader.labels),
        provenance=provenance(),
    )
    return result, verdicts


def _part(judge: Judge, verdicts: Sequence[Verdict], items: Sequence[Item]) -> JudgedBy:
    asked = [i for i, one in enumerate(verdicts) if one.missing != "not labelled"]
    personas = [items[i].persona for i in asked]
    reasons = Counter(why for i in asked if (why := verdicts[i].missing))
    return JudgedBy(
        name=judge.name,
        about=judge.about(),
        asked=len(asked),
        missing={
            why: bootstrap_rate([float(verdicts[i].missing == why) for i in asked], personas) for why in sorted(reasons)
        },
    )


def _rates(
    items: Sequence[Item], verdicts: Mapping[str, Sequence[Verdict]], levels: Sequence[str], readers: Sequence[str]
) -> list[Rates]:
    found = []
    cells = sorted({(item.domain, item.coefficient) for item in items})
    for domain, value in cells:
        cell = [i for i, item in enumerate(items) if (item.domain, item.coefficient) == (domain, value)]
        for name, said in verdicts.items():
            mine = [i for i in cell if said[i].missing != "not labelled"]
            if not mine:
                continue
            personas = [items[i].persona for i in mine]
            read = verdicts[readers[0]] if readers and name not in readers else None
            both = [i for i in mine if read and read[i].level and said[i].level]
            agreed = [float(read[i].level == said[i].level) for i in both] if read else []
            found.append(
                Rates(
                    domain=domain,
                    coefficient=value,
                    judge=name,
                    replies=len(mine),
                    missing=sum(said[i].level is None for i in mine),
                    rate={v: bootstrap_rate([float(said[i].level == v) for i in mine], personas) for v in levels},
                    agreed=bootstrap_rate(agreed, [items[i].persona for i in both]) if both else None,
                )
            )
    return found
