"""The text of a dataset card, from statistics alone; what was not measured says so."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alignvec.data.publish.measure import MISSING
from alignvec.data.schema import SPLITS

if TYPE_CHECKING:
    from alignvec.data.publish.statistics import Spread, Statistics
    from alignvec.data.review.agreement import Report as Agreement


def card_text(
    statistics: "Statistics",
    *,
    title: str,
    licence: str,
    share_alike: bool,
    plots: Sequence[str],
    report: Mapping[str, Any] | None,
    agreement: "Agreement | None",
) -> str:
    """Markdown of the card, without the front matter.

    Args:
        statistics: of the rows.
        title: its heading.
        licence: of the data set.
        share_alike: whether a persona source brings non-commercial, share-alike terms along.
        plots: pictures, relative to the card.
        report: counts of the build.
        agreement: of raters on the replies.
    """
    sections = [
        _introduction(statistics, title),
        _counts(statistics),
        _origins(statistics),
        _levels(statistics),
        _confound(statistics),
        "\n".join(f"![{path.split('/')[-1].removesuffix('.png')}]({path})" for path in plots),
        _report(report) if report else "## Quality gates\n\nNo report of a build was given: missing.",
        _agreement(agreement) if agreement else "## Review\n\nNo ratings were given: missing.",
        _licence(statistics, licence, share_alike),
        _limits(statistics),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _introduction(statistics: "Statistics", title: str) -> str:
    levels = statistics.levels
    example = ">".join(reversed(levels))
    return (
        f"# {_line(title)}\n\n{statistics.rows} queries, each with a reply at every one of {len(levels)} levels: "
        f"{', '.join(levels)}. A preference order over the levels, such as `{example}`, makes pairs of a chosen and a "
        "rejected reply for preference tuning. Splits are by persona: nobody who asks in one split asks in another.\n\n"
        '```python\nfrom datasets import load_dataset\n\nrows = load_dataset("PATH_OR_HUB_ID")\n```\n\n'
        "The same rows are in `rows.jsonl` for alignvec: "
        f"`data: rows.jsonl` and `order: {example}` in a recipe of `alignvec train`."
    )


def _counts(statistics: "Statistics") -> str:
    rows = [
        [part.domain, part.split, str(part.rows), str(part.personas), str(part.topics)] for part in statistics.parts
    ]
    total = [["all", "all", str(statistics.rows), str(statistics.personas), ""]]
    empty = [split for split in SPLITS if not statistics.rows_of(split)]
    note = f"\n\nNo rows in split {', '.join(empty)}." if empty else ""
    same = sum(level.duplicates for level in statistics.by_level.values())
    return (
        "## Rows\n\n"
        + _table(["domain", "split", "rows", "personas", "topics"], rows + total)
        + f"{note}\n\nExact duplicates: {statistics.duplicate_queries} queries, {same} replies within a level."
    )


def _origins(statistics: "Statistics") -> str:
    origins = statistics.origins
    known = statistics.rows - origins.missing
    head = f"## How it was made\n\n{known} of {statistics.rows} rows say how they were made"
    if not known:
        return f"{head}: missing."
    kinds = {
        "persona source": origins.personas,
        "licence of persona source": origins.licences,
        "teacher": origins.teachers,
        "judge of levels": origins.judges,
        "prompt": origins.prompts or {MISSING: known},
        "sampling": origins.sampling or {MISSING: known},
    }
    rows = [[kind, f"`{name}`", str(count)] for kind, counts in kinds.items() for name, count in counts.items()]
    times = f"\n\nAnswers from {origins.first_time} to {origins.last_time}." if origins.first_time else ""
    return f"{head}.\n\n{_table(['what', 'which', 'rows'], rows)}{times}"


def _levels(statistics: "Statistics") -> str:
    columns = ["level", "words: mean (sd)", "quartiles", "reading ease", "grade", "distinct words", "distinct pairs"]
    rows = [
        [
            name,
            _mean(level.words),
            f"{level.words.lower_quartile:.0f} / {level.words.median:.0f} / {level.words.upper_quartile:.0f}",
            _mean(level.reading_ease),
            _mean(level.grade),
            _number(level.distinct_words),
            _number(level.distinct_pairs),
        ]
        for name, level in statistics.by_level.items()
    ]
    return (
        f"## Length and readability\n\n{_table(columns, rows)}\n\n"
        "Reading ease: Flesch, 100 is very easy, 30 and less very hard; grade: Flesch-Kincaid; syllables are counted "
        "by rule, English only. Distinct: different words (pairs of words) as a share of all, on "
        f"{statistics.sampled_rows} rows sampled by a hash of their ids; it falls as more rows are counted."
    )


def _confound(statistics: "Statistics") -> str:
    confound = statistics.confound
    if confound.by_word_count is None:
        lines = ["How well the number of words alone predicts the level: missing, as it takes two personas or more."]
    else:
        lines = [
            "The number of words alone predicts the level of a reply with an accuracy of "
            f"{confound.by_word_count:.2f} (chance: {confound.chance:.2f}; the words themselves, by TF-IDF on "
            f"{statistics.sampled_rows} rows: {_number(confound.by_words)}; {confound.folds}-fold cross-validation "
            "over personas). The further the first is above chance, the more a model tuned on these rows, or a "
            "judge, can follow length in place of level."
        ]
    lines += [
        f"{_cap(pair.higher)} is longer than {pair.lower} in {pair.longer:.1%} of rows; their histograms of words have "
        f"{pair.overlap:.0%} in common."
        for pair in statistics.neighbours
    ]
    return "## What length gives away\n\n" + "\n\n".join(lines)


def _report(report: Mapping[str, Any]) -> str:
    parts = ["## Quality gates"]
    if "rejected" in report:
        rows = [[" / ".join(path), _value(value)] for path, value in _leaves(report["rejected"])]
        parts += [_table(["rejected: step / reason", "count"], rows) if rows else "Nothing was rejected."]
    other = {key: value for key, value in report.items() if key != "rejected"}
    if facts := [[" / ".join(path), _value(value)] for path, value in _leaves(other)]:
        parts += ["The build's report:", _table(["what", "value"], facts)]
    return "\n\n".join(parts)


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, str(key)))
    else:
        yield path, value


def _agreement(agreement: "Agreement") -> str:
    models = set(agreement.model_raters)
    raters = ", ".join(f"{name}{' (a model)' if name in models else ''}" for name in agreement.raters)
    compared = [(" and ".join(pair.pair), pair.agreement) for pair in (*agreement.pairs, *agreement.intended)]
    if agreement.together:
        compared.append(("all raters (Fleiss)", agreement.together.agreement))
    rows = [[who, str(a.replies), _estimate(a.share), _estimate(a.kappa)] for who, a in compared]
    lines = [f"{agreement.replies} replies were rated. Raters, as named in the ratings: {raters}."]
    if models:
        lines.append("Agreement of model raters says how alike models judge; it is no check by people.")
    flags = [[name, flag, str(count)] for name, counts in agreement.flags.items() for flag, count in counts.items()]
    return "\n\n".join(
        [
            "## Review",
            " ".join(lines),
            _table(["who", "replies", "same level", "kappa"], rows),
            f"{len(agreement.disputes)} replies are in dispute: raters differ, are against the level it was written "
            "for, or flagged it.",
            *([_table(["rater", "flag", "replies"], flags)] if flags else []),
        ]
    )


def _licence(statistics: "Statistics", licence: str, share_alike: bool) -> str:
    lines = [f"Licence of this data set: {licence}."]
    if share_alike:
        lines.append(
            "Some of its personas come from a source under CC BY-NC-SA 4.0 (PersonaHub). Its terms come along: these "
            "rows are for **non-commercial** use only, and what is made from them must be shared under the **same** "
            "licence, with attribution. Ask a lawyer whether that reaches a model trained on them."
        )
    if statistics.origins.known_teachers:
        lines.append("The terms of the teacher model may bind what is done with its answers; they are not part of it.")
    return "## Licence\n\n" + "\n\n".join(lines)


def _limits(statistics: "Statistics") -> str:
    teachers = statistics.origins.known_teachers
    lines = [f"Written by a language model ({', '.join(teachers)}), not by people."] if teachers else []
    lines += [
        "Facts in the replies were not checked: figures, doses, laws and prices can be wrong or out of date.",
        "It is not advice, medical, legal, financial or other, and must not be served as such.",
        "Levels are as the rows name them; whether readers see them so is what a review tells.",
        "Personas do not stand for any population.",
    ]
    return "## Known limits\n\n" + "\n".join(f"- {_line(line)}" for line in lines)


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_line(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _estimate(estimate: Any) -> str:
    if estimate.value is None:
        return f"{MISSING}: {estimate.note}" if estimate.note else MISSING
    interval = "" if estimate.low is None else f" [{estimate.low:.2f}, {estimate.high:.2f}]"
    return f"{estimate.value:.2f}{interval}"


def _mean(spread: "Spread | None") -> str:
    if spread is None:
        return MISSING
    return f"{spread.mean:.1f}" + ("" if spread.sd is None else f" ({spread.sd:.1f})")


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cap(text: str) -> str:
    return text[:1].upper() + text[1:]


def _line(text: str) -> str:
    return " ".join(text.split())
