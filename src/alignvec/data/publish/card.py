"""A folder of a data set that others can use: rows, Parquet, statistics, pictures, and a Hugging Face dataset card."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from alignvec.data.publish.files import read_rows, write_parquet
from alignvec.data.publish.measure import measure
from alignvec.data.publish.plot import plot_statistics
from alignvec.data.publish.sections import card_text
from alignvec.data.publish.statistics import Statistics, statistics
from alignvec.data.schema import SPLITS
from alignvec.errors import DataError
from alignvec.files import atomic_folder

ROWS = "rows.jsonl"
SHARE_ALIKE = "cc-by-nc-sa-4.0"
"""Licence of PersonaHub: what is made from its personas is for non-commercial use, under the same licence."""

_HUB_LICENCES = (
    *("apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nd-4.0", SHARE_ALIKE),
    *("cc-by-nc-nd-4.0", "cc-by-3.0", "cc-by-sa-3.0", "odc-by", "odbl", "pddl", "cdla-permissive-2.0", "unknown"),
)
"""Identifiers that the hub takes as they are; anything else is `other` with a name."""
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write_dataset_folder(
    rows_file: Path,
    out: Path,
    *,
    title: str | None = None,
    report: Mapping[str, Any] | None = None,
    ratings: Sequence[Path] = (),
    licence: str | None = None,
    language: str = "en",
) -> Statistics:
    """Write a folder that `datasets.load_dataset` reads and a reader can judge; an existing one is replaced.

    It holds `rows.jsonl`, `data/SPLIT.parquet`, `statistics.json`, `report.json` (if given), `plots/` and `README.md`;
    hidden files that were there, such as `.DS_Store`, are kept.

    Args:
        rows_file: rows as JSON lines; it may lie in the folder that is replaced.
        out: the folder.
        title: of the card; default: the domains.
        report: counts of the build; `rejected` maps a step to its reasons and their counts.
        ratings: files of ratings of the replies, whose agreement goes into the card.
        licence: of the data set; default: `unknown`, or that of PersonaHub where its personas were used.
        language: ISO 639-1 code of the texts.

    Raises:
        DataError: if a file is not valid, the licence contradicts that of the personas, or `out` holds anything
            that is not of such a folder.
        StorageError: if the folder cannot be written.
    """
    import pyarrow.parquet  # noqa: F401  if it is not installed, that is told before the work

    require_free(out)
    measured = measure(read_rows(rows_file), language=language)
    result = statistics(measured)
    chosen = _licence(result, licence)
    agreement = _agreement(rows_file, ratings) if ratings else None
    with atomic_folder(out) as staging:
        for path in _hidden(out):
            shutil.copy2(path, staging / path.name)
        shutil.copyfile(rows_file, staging / ROWS)
        write_parquet(rows_file, staging / "data")
        (staging / "statistics.json").write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
        if report is not None:
            text = json.dumps(report, indent=1, ensure_ascii=False, default=str)
            (staging / "report.json").write_text(text + "\n", encoding="utf-8")
        plots = plot_statistics(measured, result, staging / "plots")
        name = title or f"Preference data: {', '.join(dict.fromkeys(part.domain for part in result.parts))}"
        text = card_text(
            result,
            title=name,
            licence=chosen,
            share_alike=_share_alike(result),
            plots=[path.relative_to(staging).as_posix() for path in plots],
            report=report,
            agreement=agreement,
        )
        front = _front_matter(result, rows_file, name, chosen, language)
        (staging / "README.md").write_text(f"{front}\n\n{text}", encoding="utf-8")
    return result


def load_report(path: Path) -> dict[str, Any]:
    """Read the report of a build.

    Raises:
        DataError: if it cannot be read or is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"no report at {path}; check --report") from None
    except (OSError, ValueError, RecursionError) as error:
        cause = " ".join(str(error).split())[:120]
        raise DataError(f"cannot read {path}: {cause}; a report is one JSON object, check --report") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} is no JSON object, as a report is; check --report")
    return content


def require_free(out: Path) -> None:
    """Check that a folder of a data set may be written to `out`, before any work is spent on it.

    Raises:
        DataError: if `out` is a file, or a folder that holds anything that is not of such a folder; hidden files may
            be there, hidden folders may not.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError(f"{out} is a file, which would be lost; name a new folder with --out")
    kept = {ROWS, "data", "statistics.json", "report.json", "plots", "README.md", *(path.name for path in _hidden(out))}
    if others := sorted(path.name for path in out.iterdir() if path.name not in kept):
        raise DataError(f"{out} holds {others[0]!r}, which would be lost; name a new folder with --out")


def _hidden(folder: Path) -> list[Path]:
    return [path for path in folder.glob(".*") if path.is_file()]


def _share_alike(result: Statistics) -> bool:
    return any(re.sub(r"[^a-z]+", "-", name.lower()).startswith("cc-by-nc-sa") for name in result.origins.licences)


def _licence(result: Statistics, wanted: str | None) -> str:
    if not _share_alike(result):
        return wanted or "unknown"
    if wanted and wanted.lower() != SHARE_ALIKE:
        raise DataError(
            f"licence {wanted!r} contradicts that of the persona source (CC BY-NC-SA 4.0: non-commercial, "
            f"share-alike); leave --licence out, or build from other personas"
        )
    return SHARE_ALIKE


def _agreement(rows_file: Path, ratings: Sequence[Path]) -> Any:
    from alignvec.data.review.agreement import load_all
    from alignvec.data.review.agreement import report as agreement_of

    ids = {row.id for row in read_rows(rows_file)}
    for path in ratings:
        found, _ = load_all([path])
        if not any(rating.id in ids for rating in found):
            raise DataError(
                f"{path}: none of its {len(found)} ratings is of a row in {rows_file}; name its own ratings"
            )
    found, _ = load_all(ratings)
    return agreement_of([rating for rating in found if rating.id in ids])


def _config_name(domains: Iterable[str], rows_file: Path) -> str:
    """A name that changes with the rows.

    `datasets` caches a local folder under its name, its configuration's and a hash of the card, not of the files: with
    a constant name, another folder called `dataset` would give the rows of whichever was loaded first.
    """
    with rows_file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return f"{'-'.join(re.sub(r'[^a-z0-9]+', '-', name.lower()) for name in domains)}-{digest[:12]}"


def _front_matter(result: Statistics, rows_file: Path, title: str, licence: str, language: str) -> str:
    from huggingface_hub import DatasetCardData

    known = licence.lower() in _HUB_LICENCES
    domains = dict.fromkeys(part.domain for part in result.parts)
    files = [{"split": split, "path": f"data/{split}.parquet"} for split in SPLITS if result.rows_of(split)]
    data = DatasetCardData(
        pretty_name=title,
        language=[language],
        license=licence.lower() if known else "other",
        license_name=None if known else re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-"),
        size_categories=[next((name for limit, name in _SIZES if result.rows < limit), "1M<n<10M")],
        task_categories=["text-generation"],
        tags=["preference", "dpo", "alignvec", *(["synthetic"] if result.origins.known_teachers else []), *domains],
        configs=[{"config_name": _config_name(domains, rows_file), "data_files": files}],
    )
    return f"---\n{data.to_yaml()}\n---"
