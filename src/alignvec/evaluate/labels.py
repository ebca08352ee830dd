"""Labels that somebody gave to generated replies by reading them, as a judge among judges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alignvec.data.lines import numbered_lines, parse_line
from alignvec.data.schema import Text
from alignvec.errors import DataError
from alignvec.evaluate.judging import Item, Verdict
from alignvec.vectors.strict import Strict


class Label(Strict):
    """A reader's label of one reply.

    Attributes:
        row: id of the query's row.
        coefficient: λ of the reply.
        label: its level.
        rater: who read it.
        reply: the text that was read; checked against the reply that is judged, if it is there.
        domain: of the row.
        fluent: whether it read as fluent language.
    """

    row: str
    coefficient: float
    label: Text
    rater: Text = "reader"
    reply: str | None = None
    domain: str | None = None
    fluent: bool | None = None


@dataclass(frozen=True)
class Reader:
    """One rater's labels.

    Attributes:
        name: the rater.
        path: file of the labels.
        labels: row and λ to the label.
    """

    name: str
    path: Path
    labels: Mapping[tuple[str, float], Label]

    def judge(self, items: Sequence[Item], levels: Sequence[str]) -> list[Verdict]:
        """The label of every item that has one.

        Raises:
            DataError: if a label is none of the levels, or of another text than the item's.
        """
        return [self._verdict(item, levels) for item in items]

    def about(self) -> str:
        """How many labels there are."""
        return f"{self.name}: {len(self.labels)} labels by reading ({self.path.name})"

    def _verdict(self, item: Item, levels: Sequence[str]) -> Verdict:
        found = self.labels.get(item.key)
        if found is None:
            return Verdict(missing="not labelled")
        where = f"{self.path}: the label of {item.row} at λ = {item.coefficient:g}"
        if found.reply is not None and found.reply != item.reply:
            raise DataError(f"{where} belongs to another reply than the one judged; name the replies that were read")
        if found.label not in levels:
            raise DataError(f"{where} is {found.label!r}, which is no level of the data ({', '.join(levels)}); mend it")
        return Verdict(level=found.label)


def load_readers(path: Path) -> list[Reader]:
    """The raters of a file of labels, in the order of their first labels.

    Raises:
        DataError: if it cannot be read, a line is malformed, or a rater labels one reply twice.
    """
    by: dict[str, dict[tuple[str, float], Label]] = {}
    for number, line in numbered_lines(path, "--labels names a file of labels, one JSON object a line"):
        label = parse_line(path, number, line, Label)
        mine = by.setdefault(label.rater, {})
        if (label.row, label.coefficient) in mine:
            raise DataError(
                f"{path}:{number}: {label.rater} has labelled {label.row} at λ = {label.coefficient:g} before; keep one"
            )
        mine[label.row, label.coefficient] = label
    return [Reader(name, path, labels) for name, labels in by.items()]
