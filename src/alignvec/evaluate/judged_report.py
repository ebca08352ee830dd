"""Judged replies as tables and files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from alignvec.data.review.kappa import Estimate
from alignvec.evaluate.judged_record import Judged
from alignvec.evaluate.judging import Item, Verdict
from alignvec.evaluate.table import Table
from alignvec.files import write_text


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


def _told(value: Estimate) -> str:
    if value.value is None:
        return "missing"
    ends = "" if value.low is None or value.high is None else f" [{value.low:.2f},{value.high:.2f}]"
    return f"{value.value:.2f}{ends}"
