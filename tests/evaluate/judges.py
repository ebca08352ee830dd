"""Items and judges that follow a script."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alignvec.evaluate.judging import Item, Verdict


def item(number: int, *, coefficient: float = 0.0, reply: str = "", persona: str = "") -> Item:
    """A medical reply; every item has a persona of its own unless one is named."""
    return Item(
        row=f"medical-{number}",
        domain="medical",
        persona=persona or f"persona {number}",
        coefficient=coefficient,
        query=f"query {number}?",
        reply=reply or f"reply {number}",
    )


def said(levels: Sequence[str | None]) -> list[Verdict]:
    """Verdicts; None is an unparsable one."""
    return [Verdict(level=level) if level else Verdict(missing="unparsable") for level in levels]


@dataclass(frozen=True)
class Scripted:
    """Gives each row its level."""

    name: str
    script: Mapping[str, str | None]

    def judge(self, items: Sequence[Item], levels: Sequence[str]) -> list[Verdict]:
        return said([self.script[one.row] for one in items])

    def about(self) -> str:
        return f"{self.name}: by a script"
