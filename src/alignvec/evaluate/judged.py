"""Replies judged by several judges: level rates by each, and how far they agree."""

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from alignvec.data.lines import numbered_lines, parse_line
from alignvec.data.load import levels_of
from alignvec.data.review.kappa import Estimate
from alignvec.data.schema import PreferenceRow
from alignvec.errors import ConfigError, DataError
from alignvec.evaluate.agreement import BOUND, JudgeAgreement, agree
from alignvec.evaluate.judging import Item, Judge, Verdict
from alignvec.evaluate.labels import Reader
from alignvec.evaluate.statistics import bootstrap_rate
from alignvec.evaluate.sweep import Reply, Table
from alignvec.files import write_text
from alignvec.provenance import Provenance, provenance
from alignvec.vectors.strict import Interval, Strict


class JudgedBy(Strict):
    """One judge's part.

    Attributes:
        name: the judge.
        about: what it judges by.
        asked: replies that it was to judge; a reader's are those with a label.
        missing: reason to the share of those without a verdict.
    """

    name: str
    about: str
    asked: int
    missing: dict[str, Interval]


class Rates(Strict):
    """Level rates of one domain's replies at one λ, by one judge.

    Attributes:
        replies: replies that the judge was to judge, those without a verdict included.
        missing: of these, how many have no verdict.
        rate: level to its share of the replies; with the missing ones they sum to 1.
        agreed: share of the replies with a verdict and a label whose level is the reader's; None without such.
    """

    domain: str
    coefficient: float
    judge: str
    replies: int
    missing: int
    rate: dict[str, Interval]
    agreed: Interval | None = None


class Judged(Strict):
    """What several judges say of the same replies.

    Attributes:
        files: names of the files of replies.
        replies: how many were judged.
        of: how many there were.
        seed: of the choice and of the resampling.
        judges: every judge, readers last.
        readers: judges that are labels by reading.
        rates: by domain, λ and judge.
        agreement: between judges.
        unused_labels: labels of replies that were not judged.
    """

    files: tuple[str, ...]
    replies: int
    of: int
    seed: int
    judges: tuple[JudgedBy, ...]
    readers: tuple[str, ...]
    rates: tuple[Rates, ...]
    agreement: JudgeAgreement
    unused_labels: int
    provenance: Provenance


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


def tables(result: Judged) -> list[Table]:
    """Level rates by λ and judge for each domain, missing verdicts, and agreement of every two judges."""
    levels = result.agreement.levels
    found = []
    for domain in dict.fromkeys(rate.domain for rate in result.rates):
        lines = [
            (f"{r.coefficient:g}", r.judge, *(r.rate[v].told(comma=",") for v in levels), f"{r.missing}/{r.replies}")
            for r in result.rates
            if r.domain == domain
        ]
        title = f"{domain}: level of the replies by each judge, shares of all"
        found.append(Table(title=title, columns=("λ", "judge", *levels, "missing"), rows=tuple(lines)))
    if lost := [(one.name, why, share.told()) for one in result.judges for why, share in one.missing.items()]:
        title = "verdicts that are missing, share of the replies"
        found.append(Table(title=title, columns=("judge", "why", "share"), rows=tuple(lost)))
    pairs = [
        (
            " x ".join(pair.judges),
            str(pair.agreement.replies),
            _told(pair.agreement.kappa),
            _told(pair.weighted),
        )
        for pair in result.agreement.pairs
    ]
    if pairs:
        columns = ("judges", "n", "κ", "κ, quadratic")
        found.append(Table(title="agreement (personas resampled)", columns=columns, rows=tuple(pairs)))
    return found


def confusions(result: Judged) -> list[Table]:
    """A table for every two judges: the first one's level down, the second one's across."""
    levels = result.agreement.levels
    return [
        Table(
            title=f"{pair.judges[0]} (down) x {pair.judges[1]} (across), same level: {_told(pair.agreement.share)}",
            columns=("", *levels),
            rows=tuple((level, *map(str, row)) for level, row in zip(levels, pair.confusion, strict=True)),
        )
        for pair in result.agreement.pairs
    ]


def write_judged(result: Judged, items: Sequence[Item], verdicts: Mapping[str, Sequence[Verdict]], out: Path) -> None:
    """Write judged.json, verdicts.jsonl (a line a reply) and, of two judges or more, judged.png into a folder.

    Raises:
        StorageError: if it cannot be written.
    """
    import json

    from alignvec.evaluate.agreement_plot import plot_agreement

    lines = (
        {
            "row": item.row,
            "coefficient": item.coefficient,
            "verdicts": {
                name: found[i].model_dump(exclude_defaults=True)
                for name, found in verdicts.items()
                if found[i].missing != "not labelled"
            },
        }
        for i, item in enumerate(items)
    )
    write_text(out / "judged.json", result.model_dump_json(indent=1) + "\n")
    write_text(out / "verdicts.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    if result.agreement.pairs:
        plot_agreement(result, out / "judged.png")


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


def _told(value: Estimate) -> str:
    if value.value is None:
        return "missing"
    ends = "" if value.low is None or value.high is None else f" [{value.low:.2f},{value.high:.2f}]"
    return f"{value.value:.2f}{ends}"
