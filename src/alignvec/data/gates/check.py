"""The gates over a file of finished rows, one row at a time."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from alignvec.data.domain import Domain, Level
from alignvec.data.gates.candidate import Candidate, Gate
from alignvec.data.gates.duplicates import NearDuplicates
from alignvec.data.gates.gates import NEED_DOMAIN, PERSONA_GATES, QUERY_GATES, REPLY_GATES, first_fault
from alignvec.data.gates.home import Homes
from alignvec.data.gates.report import CheckReport, Fault, GateCount, Stage
from alignvec.data.publish.files import read_rows, row_file
from alignvec.data.schema import SPLITS, PreferenceRow, Split
from alignvec.errors import ConfigError

DUPLICATE = "near-duplicate"
SAME = "same-reply"
LEAK = "split-leak"
_GATES: tuple[tuple[Stage, Mapping[str, Gate]], ...] = (
    ("persona", PERSONA_GATES),
    ("query", QUERY_GATES),
    ("reply", REPLY_GATES),
)
_LEVEL = Level(instruction="unknown", words=(1, 2), answers=False)
_NO_DOMAIN = Domain(
    name="unknown",
    description="unknown",
    topics=("unknown",),
    personas={"unknown": ("unknown",)},
    levels={"one": _LEVEL, "other": _LEVEL},
)
"""Stands for a domain where none is known; the gates that are left ask it for its language only, English."""


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

    Queries and personas are compared with those of the rows before that have no fault. Rows of no known domain are
    taken for English and pass by the gates that need a domain; names that an import gives to askers are no personas.

    Args:
        path: JSON-lines file of rows.
        domain: name or file of the domain that all rows are held against; None for each row's own: that of the
            build in the file's folder, or a shipped one.
        rejected: where faults go, one JSON object a line.
        out: where rows without a fault go.
        limit: check the first rows only.
        advance: called after each row with the task's name, 1, and the number of rows in all.

    Raises:
        ConfigError: if two of the three files are one.
        DataError: if the file is not valid, the named domain is not, or a row's domain lacks some of its levels.
        StorageError: if a file cannot be written.
    """
    places = [place.resolve() for place in (path, rejected, out) if place]
    if len(set(places)) < len(places):
        raise ConfigError("the rows, --rejected and --out need a file each; name another")
    homes = Homes(path, domain)
    of_no_domain = 0
    counts: Counter[tuple[Stage, str]] = Counter()
    checked: Counter[Stage] = Counter()
    left_out: Counter[tuple[Stage, str]] = Counter()
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
            home = homes.of(row)
            texts: dict[Stage, int] = {"persona": _has_persona(row), "query": 1, "reply": len(row.responses), "row": 1}
            checked.update(texts)
            if home is None:
                of_no_domain += 1
                left_out.update({(stage, gate): texts[stage] for stage, gates in _GATES for gate in NEED_DOMAIN[stage]})
            faults = [
                *text_faults(row, home),
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
            checked=checked[stage] - left_out[stage, gate],
            faults=counts[stage, gate],
            example=examples.get((stage, gate)),
        )

    return CheckReport(
        file=str(path),
        rows=checked["row"],
        clean=clean,
        of_no_domain=of_no_domain,
        left_out=tuple(f"{stage} {gate}" for (stage, gate), texts in left_out.items() if texts),
        gates=(
            *(count(stage, gate) for stage, gates in _GATES for gate in gates),
            count("query", DUPLICATE),
            count("row", SAME),
        ),
        leaks=count("row", LEAK),
    )


def text_faults(row: PreferenceRow, domain: Domain | None) -> Iterator[Fault]:
    """First fault of each text of a row, and of replies that say the same.

    Args:
        row: to check.
        domain: its domain, which has all its levels; None to leave out the gates that need one.
    """
    home = domain or _NO_DOMAIN
    gates_of = {
        stage: {name: gate for name, gate in gates.items() if domain or name not in NEED_DOMAIN[stage]}
        for stage, gates in _GATES
    }
    parts: list[tuple[Stage, Candidate]] = [("persona", Candidate(row.persona, home))] if _has_persona(row) else []
    parts.append(("query", Candidate(row.query, home)))
    parts += [("reply", Candidate(text, home, level, row.query)) for level, text in row.responses.items()]
    for stage, candidate in parts:
        if found := first_fault(candidate, gates_of[stage]):
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


def _has_persona(row: PreferenceRow) -> bool:
    return not (row.provenance and row.provenance.persona.kind == "import")
