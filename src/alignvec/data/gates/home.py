"""The domain that a finished row is held against."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from alignvec.data.domain import Domain, load_domain
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError

BUILD = "build.json"
"""Plan of a build, in the folder of its rows."""


class Homes:
    """Finds the domain of rows: the one that is named, else that of the build beside them, else a shipped one.

    Args:
        path: file of the rows.
        name: name or file of the domain of all rows; None for each row's own.

    Raises:
        DataError: if the named domain is not there or not valid.
    """

    def __init__(self, path: Path, name: str | None) -> None:
        self._named = load_domain(name) if name else None
        built = None if name else built_domain(path.parent)
        self._known: dict[str, Domain | None] = {built.name: built} if built else {}

    def of(self, row: PreferenceRow) -> Domain | None:
        """Domain of a row; None if none is known that has one of its levels.

        Raises:
            DataError: if its domain, or the one that was named, lacks some of its levels.
        """
        domain = self._named or self._own(row.domain)
        if domain is None or not (unknown := [level for level in row.responses if level not in domain.levels]):
            return domain
        if not self._named and len(unknown) == len(row.responses):  # another data set under that name
            return None
        raise DataError(
            f"row {row.id} has a reply at level {unknown[0]!r}, which domain {domain.name!r} does not have "
            f"(it has {', '.join(domain.levels)}); name the rows' domain file with --domain"
        )

    def _own(self, name: str) -> Domain | None:
        if name not in self._known:
            try:
                self._known[name] = load_domain(name)
            except DataError:
                self._known[name] = None
        return self._known[name]


def built_domain(folder: Path) -> Domain | None:
    """Domain that the rows of a build's folder were made for; None if it holds no plan of rows.

    The plan of a build from given queries has no topics or personas; the gates need none.
    """
    try:
        plan = json.loads((folder / BUILD).read_text(encoding="utf-8"))
        stages = [plan["rows"], *(plan.get(stage, {}) for stage in ("personas", "queries"))]
        parts: dict[str, Any] = {"topics": ["unknown"], "personas": {"unknown": ["unknown"]}}
        for stage in stages:
            parts |= {key.removeprefix("domain."): stage[key] for key in stage if key.startswith("domain.")}
        return Domain.model_validate(parts)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ValidationError):
        return None
