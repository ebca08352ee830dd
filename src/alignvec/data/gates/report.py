"""What the gates found: one fault a line, and the counts of a whole file."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from alignvec.data.schema import PreferenceRow

Stage = Literal["persona", "query", "reply", "row"]
STAGES: tuple[Stage, ...] = ("persona", "query", "reply", "row")


class Fault(BaseModel):
    """A text that a gate rejected.

    Attributes:
        stage: what was rejected; `row` for a fault of the texts together.
        id: id of the row.
        level: level of a rejected reply.
        gate: name of the gate.
        reason: why, in a few words.
        text: what was rejected.
        row: the row it stands in.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: Stage
    id: str
    level: str | None = None
    gate: str
    reason: str
    text: str
    row: PreferenceRow


class GateCount(BaseModel):
    """How many texts a gate rejected.

    Attributes:
        stage: what the gate looks at.
        gate: name of the gate.
        checked: texts that were to pass it.
        faults: texts that it rejected; a text counts for the first gate that rejects it.
        example: id of the first row with such a fault; None if there is none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: Stage
    gate: str
    checked: int
    faults: int
    example: str | None = None


class CheckReport(BaseModel):
    """What the gates found in a file of rows.

    Attributes:
        file: the file.
        rows: rows that were checked.
        clean: rows without a fault.
        gates: count of every gate, also of those that rejected nothing.
        of_no_domain: rows of no known domain.
        left_out: gates, each after its stage, that those rows did not have to pass, as they need a domain.
        leaks: personas that nearly equal one of another split; so rows are tested on who they were trained on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    rows: int
    clean: int
    of_no_domain: int
    left_out: tuple[str, ...]
    gates: tuple[GateCount, ...]
    leaks: GateCount
