"""Items that show what a model can still do: questions with four choices, and instructions that a program checks."""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from alignvec.data.checks import Check
from alignvec.data.lines import numbered_lines, parse_line
from alignvec.data.load import SHIPPED
from alignvec.data.schema import Split, Text
from alignvec.errors import DataError

LETTERS = ("A", "B", "C", "D")
CHOICES = SHIPPED.parent / "capability" / "choices.jsonl"
INSTRUCTIONS = SHIPPED.parent / "capability" / "instructions.jsonl"
"""Files of the items that come with the project."""


class Item(BaseModel):
    """What all items have.

    Attributes:
        id: key of the item, unique in its file.
        split: validation to choose on, test to report on.
        topic: what it is about.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Text
    split: Split
    topic: Text


class Question(Item):
    """A question with four choices, one of them right.

    Attributes:
        choices: in the order of the letters A to D.
        answer: letter of the right one.
    """

    question: Text
    choices: tuple[Text, Text, Text, Text]
    answer: Literal["A", "B", "C", "D"]


class Instruction(Item):
    """An instruction whose fulfilment a program can check.

    Attributes:
        instruction: what the user says.
        checks: what has to hold for a reply, all of it.
    """

    instruction: Text
    checks: Annotated[tuple[Check, ...], Field(min_length=1)]

    @property
    def query(self) -> str:
        """What the user says, as generation asks for it."""
        return self.instruction

    def followed(self, reply: str) -> bool:
        """Whether a reply says something and passes every check; whether it makes sense is not looked at."""
        told = reply.strip()
        return bool(told) and all(check.holds(told) for check in self.checks)


Kind = TypeVar("Kind", bound=Item)


def load_items(path: Path, kind: type[Kind], *, split: str, limit: int | None = None) -> list[Kind]:
    """Items of a JSON-lines file, checking all of them before any is selected.

    Args:
        path: file with one JSON object a line.
        kind: `Question` or `Instruction`.
        split: keep only items of this split.
        limit: keep at most this many, the first ones.

    Raises:
        DataError: if the file cannot be read, a line is malformed, an id is used twice, or no item is left.
    """
    lines: dict[str, int] = {}
    items = []
    for number, line in numbered_lines(path, "it needs one JSON object a line, see data/README.md"):
        item = parse_line(path, number, line, kind)
        if item.id in lines:
            raise DataError(f"{path}:{number}: id {item.id!r} was used on line {lines[item.id]}; make ids unique")
        lines[item.id] = number
        items.append(item)
    chosen = [item for item in items if item.split == split]
    if not chosen:
        have = ", ".join(sorted({item.split for item in items}))
        raise DataError(f"{path}: no items with split={split} (splits there: {have}); choose another --split")
    return chosen[:limit]
