"""The gates over a file of finished rows, one row at a time."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from alignvec.data.domain import Domain, load_domain
from alignvec.data.gates.candidate import Candidate, Gate
from alignvec.data.gates.duplicates import NearDuplicates
from alignvec.data.gates.gates import PERSONA_GATES, QUERY_GATES, REPLY_GATES, first_fault
from alignvec.data.gates.report import CheckReport, Fault, GateCount, Stage
from alignvec.data.publish.files import read_rows, row_file
from alignvec.data.schema import SPLITS, PreferenceRow, Split
from alignvec.errors import ConfigError, DataError

DUPLICATE = "near-duplicate"
SAME = "same-reply"
LEAK = "split-leak"
_GATES: tuple[tuple[Stage, Mapping[str, Gate]], ...] = (
    ("persona", PERSONA_GATES),
    ("query", QUERY_GATES),
    ("reply", REPLY_GATES),
)


def check_rows(
    path: Path,
    *,
    domain: str | None = None,
    rejected: Path | None = None,
    out: Path | None = None,
    limit: int | None = None,
    advance: Callable[[str, int, int], None] | None = None,
) -> CheckReport:
    """Run all gates over a file of rows; memory does not grow with it.

    Queries and personas are compared with those of the rows before that have no fault.

    Args:
        path: JSON-lines file of rows.
        domain: name or file of the domain that all rows are held against; None for each row's own.
        rejected: where faults go, one JSON object a line.
        out: where rows without a fault go.
        limit: check the first rows only.
        advance: called after each row with the task's name, 1, and the number of rows in all.

    Raises:
        ConfigError: if two of the three files are one.
        DataError: if the file is not valid, a row's domain has no file, or the domain does not have its levels.
        StorageError: if a file cannot be written.
    """
    places = [place.resolve() for place in (path, rejected, out) if place]
    if len(set(places)) < len(places):
        raise ConfigError("the rows, --rejected and --out need a file each; name another")
    chosen = load_domain(domain) if domain else None
    domains: dict[str, Domain] = {}
    counts: Counter[tuple[Stage, str]] = Counter()
    checked: Counter[Stage] = Counter()
    examples: dict[tuple[Stage, str], str] = {}
    clean = 0
    with ExitStack() as stack:
        kept = stack.enter_context(row_file(out)) if out else None
        lost = stack.enter_context(row_file(rejected)) if rejected else None
        queries = stack.enter_context(NearDuplicates())
        personas = {split: stack.enter_context(NearDuplicates()) for split in SPLITS}
        total = 0
        for row in islice(read_rows(path), limit):
            total = total or _rows_in(path, limit)
            if not chosen and row.domain not in domains:
                domains[row.domain] = _domain_of(row)
            checked.update({"persona": 1, "query": 1, "reply": len(row.responses), "row": 1})
            faults = [
                *text_faults(row, chosen or domains[row.domain]),
                *_likeness_faults(row, queries, personas),
            ]
            for fault in faults:
                counts[fault.stage, fault.gate] += 1
                examples.setdefault((fault.stage, fault.gate), row.id)
                if lost:
                    lost.write(fault)
            if not faults:
                clean += 1
                queries.add(row.id, row.query)
                personas[row.split].add(row.id, row.persona)
                if kept:
                    kept.write(row)
            if advance:
                advance("check rows", 1, total)

    def count(stage: Stage, gate: str) -> GateCount:
        return GateCount(
            stage=stage,
            gate=gate,
            checked=checked[stage],
            faults=counts[stage, gate],
            example=examples.get((stage, gate)),
        )

    return CheckReport(
        file=str(path),
        rows=checked["row"],
        clean=clean,
        gates=(
            *(count(stage, gate) for stage, gates in _GATES for gate in gates),
            count("query", DUPLICATE),
            count("row", SAME),
        ),
        leaks=count("row", LEAK),
    )


def text_faults(row: PreferenceRow, domain: Domain) -> Iterator[Fault]:
    """First fault of each text of a row, and of replies that say the same.

    Raises:
        DataError: if the domain does not have the row's levels.
    """
    if unknown := [level for level in row.responses if level not in domain.levels]:
        raise DataError(
            f"row {row.id} has a reply at level {unknown[0]!r}, which domain {domain.name!r} does not have "
            f"(it has {', '.join(domain.levels)}); name the rows' domain file with --domain"
        )
    parts: list[tuple[Stage, Mapping[str, Gate], Candidate]] = [
        ("persona", PERSONA_GATES, Candidate(row.persona, domain)),
        ("query", QUERY_GATES, Candidate(row.query, domain)),
    ]
    parts += [
        ("reply", REPLY_GATES, Candidate(text, domain, level, row.query)) for level, text in row.responses.items()
    ]
    for stage, gates, candidate in parts:
        if found := first_fault(candidate, gates):
            gate, reason = found
            yield Fault(
                stage=stage, id=row.id, level=candidate.level, gate=gate, reason=reason, text=candidate.text, row=row
            )
    seen: dict[str, str] = {}
    for level, text in row.responses.items():
        other = seen.setdefault(" ".join(text.lower().split()), level)
        if other != level:
            reason = f"the same reply as at level {other}"
            yield Fault(stage="row", id=row.id, level=level, gate=SAME, reason=reason, text=text, row=row)


def _likeness_faults(
    row: PreferenceRow, queries: NearDuplicates, personas: Mapping[Split, NearDuplicates]
) -> Iterator[Fault]:
    if near := queries.find(row.query):
        reason = f"nearly the query of row {near}"
        yield Fault(stage="query", id=row.id, gate=DUPLICATE, reason=reason, text=row.query, row=row)
    for split, others in personas.items():
        if split != row.split and (near := others.find(row.persona)):
            reason = f"nearly the persona of row {near} in split {split}, here {row.split}"
            yield Fault(stage="row", id=row.id, gate=LEAK, reason=reason, text=row.persona, row=row)
            return


def _rows_in(path: Path, limit: int | None) -> int:
    with path.open("rb") as lines:
        return sum(1 for _ in islice((line for line in lines if line.strip()), limit))


def _domain_of(row: PreferenceRow) -> Domain:
    try:
        return load_domain(row.domain)
    except DataError:
        raise DataError(
            f"row {row.id} is of domain {row.domain!r}, which has no valid domain file; name one with --domain"
        ) from None
