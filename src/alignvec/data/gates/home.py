"""The domain that a finished row is held against."""

from pathlib import Path

from alignvec.data.built import built_domain
from alignvec.data.domain import Domain, load_domain
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError


class Homes:
    """Finds the domain of rows: the one that is named, else that of the build beside them, else a shipped one.

    Args:
        path: file of the rows.
        name: name or file of the domain of all rows; None for each row's own.

    Raises:
        DataError: if the named domain is not there or not valid, or the build beside the rows cannot be read.
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
