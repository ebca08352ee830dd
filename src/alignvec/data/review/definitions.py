"""What the levels of rows mean, for those who judge replies: from a domain file, or from the build of the rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from alignvec.data.built import built_domain
from alignvec.data.domain import DOMAINS, Level, load_domain
from alignvec.data.load import levels_of
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError

Definitions = Mapping[str, Mapping[str, str]]
"""Domain of rows to level to its definition, lowest level first; a domain whose levels nobody defined has none."""


def definitions(rows_file: Path, rows: Sequence[PreferenceRow], domain: str | None = None) -> Definitions:
    """Definitions of the rows' levels, for every domain that the rows have.

    Args:
        rows_file: file of the rows; a build in its folder defines the levels of the build's domain.
        rows: the rows.
        domain: name or file of a domain that defines the levels of all rows; default: the build, else the domain file
            that comes with the project, if it has all levels of the rows.

    Raises:
        DataError: if there is no such domain, or it lacks a level of the rows; if the build's settings cannot be read.
    """
    levels = levels_of(rows)
    names = sorted({row.domain for row in rows})
    if domain is not None:
        given = load_domain(domain)
        if missing := [level for level in levels if level not in given.levels]:
            raise DataError(
                f"domain {given.name!r} has levels {', '.join(given.levels)}, and no {missing[0]!r} as {rows_file} has "
                f"({', '.join(levels)}); name the domain of these rows with --domain"
            )
        return dict.fromkeys(names, _texts(given.levels, levels))
    build = built_domain(rows_file.parent)
    shipped = {path.stem for path in DOMAINS.glob("*.yaml")}
    found: dict[str, dict[str, str]] = {}
    for name in names:
        if build and build.name == name:
            found[name] = _texts(build.levels, levels)
        else:
            found[name] = _texts(load_domain(name).levels, levels) if name in shipped else {}
    return found


def definition_lines(of: Definitions) -> list[str]:
    """A line for each level, which names the domain if domains define the levels in different ways."""
    first, *others = of.values()
    if all(texts == first for texts in others):
        return [f"{level}: {text}" for level, text in first.items()]
    return [f"{level} ({domain}): {text}" for domain, texts in of.items() for level, text in texts.items()]


def _texts(known: Mapping[str, Level], levels: Sequence[str]) -> dict[str, str]:
    """Definitions of the levels in one line each; none if some are not known."""
    if not set(levels) <= known.keys():
        return {}
    return {level: " ".join(known[level].instruction.split()) for level in levels}
