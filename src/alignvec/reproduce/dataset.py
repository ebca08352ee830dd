"""Statistics of the shipped preference data: queries, personas, topics, words by level, splits, agreement of raters."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alignvec.data.load import load_rows
from alignvec.data.publish.measure import measure
from alignvec.data.review import agreement
from alignvec.data.review.kappa import Estimate
from alignvec.data.schema import SPLITS, PreferenceRow
from alignvec.errors import DataError
from alignvec.evaluate.statistics import persona_weights, spread
from alignvec.evaluate.table import Table
from alignvec.provenance import Provenance, provenance
from alignvec.vectors.strict import Interval, Strict

RATINGS = "ratings.jsonl"
"""Name of a file of ratings beside files of rows."""


class Words(Strict):
    """Words of the replies at one level.

    Attributes:
        level: its name.
        median: with its 95 % interval over personas.
        lower_quartile: a quarter of the replies have fewer words.
        upper_quartile: a quarter have more.
    """

    level: str
    median: Interval
    lower_quartile: float
    upper_quartile: float


class FileStatistics(Strict):
    """One file of rows.

    Attributes:
        name: of its folder and the file.
        domains: of its rows.
        queries: split to their number.
        personas: split to their number; no persona is in two.
        topics: their number, by domain.
        words: by level, lowest first.
    """

    name: str
    domains: tuple[str, ...]
    queries: dict[str, int]
    personas: dict[str, int]
    topics: int
    words: tuple[Words, ...]


class Rated(Strict):
    """What a file of ratings says.

    Attributes:
        raters: to the number of replies they rated; those in `models` are language models.
        pairs: two raters, or a rater and the intended level; share of agreement and Cohen's kappa.
    """

    name: str
    replies: int
    raters: dict[str, int]
    models: tuple[str, ...]
    pairs: tuple[tuple[str, str, Estimate, Estimate], ...]


class Dataset(Strict):
    """Statistics of all files."""

    files: tuple[FileStatistics, ...]
    rated: tuple[Rated, ...]
    provenance: Provenance


def dataset_statistics(
    folders: Sequence[Path], *, more: Mapping[str, Sequence[PreferenceRow]] | None = None, seed: int = 0
) -> Dataset:
    """Statistics of every file of rows and every file of ratings in some folders.

    Args:
        folders: of files of rows, such as data/levels.
        more: name to rows that are in files of another schema, such as those of a safety file by kind.
        seed: of the intervals.

    Raises:
        DataError: if a folder has no files of rows, or a file cannot be read.
    """
    files: list[FileStatistics] = []
    rated: list[Rated] = []
    for folder in folders:
        paths = sorted(path for path in folder.glob("*.jsonl") if path.name != RATINGS)
        if not paths:
            raise DataError(f"no files of rows (.jsonl) in {folder}; name a folder such as data/levels")
        files += [_statistics(_name(path), load_rows(path), seed) for path in paths]
        if (folder / RATINGS).is_file():
            rated.append(_rated(folder / RATINGS, seed))
    files += [_statistics(name, rows, seed) for name, rows in (more or {}).items()]
    return Dataset(files=tuple(files), rated=tuple(rated), provenance=provenance())


def tables(result: Dataset) -> list[Table]:
    """Queries, personas and topics by file; words by level; agreement."""
    counts = [
        (
            one.name,
            *(f"{one.queries.get(s, 0)} ({one.personas.get(s, 0)})" for s in SPLITS),
            f"{sum(one.queries.values())} ({sum(one.personas.values())})",
            str(one.topics),
        )
        for one in result.files
    ]
    words = [
        (one.name, w.level, w.median.told(".0f", comma=","), f"{w.lower_quartile:.0f}-{w.upper_quartile:.0f}")
        for one in result.files
        for w in one.words
    ]
    found = [
        Table(title="queries (personas) by split", columns=("file", *SPLITS, "all", "topics"), rows=tuple(counts)),
        Table(
            title="words of the reference replies; median with its 95 % interval over personas",
            columns=("file", "level", "median", "middle half"),
            rows=tuple(words),
        ),
    ]
    for rated in result.rated:
        kinds = "all of them models" if len(rated.models) == len(rated.raters) else f"{len(rated.models)} models"
        pairs = tuple((f"{one}, {other}", _told(share), _told(kappa)) for one, other, share, kappa in rated.pairs)
        found.append(
            Table(
                title=f"{rated.name}: {rated.replies} replies, {len(rated.raters)} raters, {kinds}",
                columns=("pair", "agree", "kappa"),
                rows=pairs,
            )
        )
    return found


def plot_words(result: Dataset, path: Path) -> None:
    """Draw the middle half and the median of words by file and level into a PNG.

    Raises:
        StorageError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure

    from alignvec.evaluate.drawing import COLOURS
    from alignvec.files import write_figure

    levels = list(dict.fromkeys(w.level for one in result.files for w in one.words))
    figure = Figure(figsize=(7, 1.2 + 0.5 * len(result.files)), layout="constrained")
    axis = figure.subplots()
    for place, one in enumerate(result.files):
        for line, w in enumerate(one.words):
            order = levels.index(w.level)
            y, colour = place + 0.22 * (line - (len(one.words) - 1) / 2), COLOURS[order % len(COLOURS)]
            axis.hlines(y, w.lower_quartile, w.upper_quartile, color=colour, linewidth=3, alpha=0.45)
            axis.plot(w.median.value, y, "o", color=colour, markersize=5)
    for order, level in enumerate(levels):
        axis.plot([], [], "o-", color=COLOURS[order % len(COLOURS)], label=level)
    axis.set_yticks(range(len(result.files)), [one.name for one in result.files])
    axis.set_ylim(len(result.files) - 0.5, -0.5)
    axis.set(xlabel="words of a reference reply (median and middle half)")
    axis.set_xlim(0, None)
    figure.legend(frameon=False, fontsize=8, ncols=len(levels), loc="outside lower center")
    write_figure(path, figure)


def median_interval(values: Sequence[float], personas: Sequence[str], *, seed: int = 0) -> Interval:
    """Median with a 95 % percentile interval over resampled personas.

    Args:
        values: one a reply.
        personas: of each reply.
        seed: of the resampling.
    """
    weights = persona_weights(personas, ["all"] * len(personas), seed=seed)
    order = np.argsort(values)
    ordered = np.asarray(values, dtype=np.float64)[order]
    passed = weights[:, order].cumsum(axis=1)
    half = passed[:, -1:] / 2
    lower, upper = (passed >= half).argmax(axis=1), (passed > half).argmax(axis=1)
    found: npt.NDArray[np.float64] = (ordered[lower] + ordered[upper]) / 2
    return spread(found, len(set(personas)))


def _statistics(name: str, rows: Sequence[PreferenceRow], seed: int) -> FileStatistics:
    measured = measure(rows)
    personas = [str(persona) for persona in measured.personas]
    queries: dict[str, int] = {}
    people: dict[str, int] = {}
    topics: dict[str, set[int]] = {}
    for (domain, split), tally in measured.tallies():
        queries[split] = queries.get(split, 0) + tally.rows
        people[split] = people.get(split, 0) + len(tally.personas)
        topics.setdefault(domain, set()).update(tally.topics)
    words = []
    for level in measured.levels:
        values: Any = list(measured.words[level])
        low, high = np.quantile(values, (0.25, 0.75))
        words.append(
            Words(
                level=level,
                median=median_interval(values, personas, seed=seed),
                lower_quartile=float(low),
                upper_quartile=float(high),
            )
        )
    return FileStatistics(
        name=name,
        domains=tuple(topics),
        queries=queries,
        personas=people,
        topics=sum(map(len, topics.values())),
        words=tuple(words),
    )


def _rated(path: Path, seed: int) -> Rated:
    ratings, _ = agreement.load_all([path])
    report = agreement.report(ratings, seed=seed)
    return Rated(
        name=_name(path),
        replies=report.replies,
        raters=report.raters,
        models=report.model_raters,
        pairs=tuple((*one.pair, one.agreement.share, one.agreement.kappa) for one in (*report.pairs, *report.intended)),
    )


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def _told(estimate: Estimate) -> str:
    if estimate.value is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.2f}"
    return f"{estimate.value:.2f} [{estimate.low:.2f},{estimate.high:.2f}]"
