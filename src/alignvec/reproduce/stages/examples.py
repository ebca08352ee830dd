"""Replies over λ to the first queries, unpicked."""

from pathlib import Path

from alignvec.reproduce import examples as shown
from alignvec.reproduce.examples import Examples
from alignvec.reproduce.place import Place
from alignvec.reproduce.stage import Section, Stage
from alignvec.vectors.strict import Strict

QUERIES = 2


class Shown(Strict):
    """What the stage has found: examples of every domain."""

    domains: tuple[Examples, ...]


def measure(place: Place) -> Shown:
    """Take the first queries of every domain's curve."""
    return Shown(
        domains=tuple(
            shown.examples(
                shown.load_replies(place.data("curves") / domain / "replies.jsonl"), vector=domain, count=QUERIES
            )
            for domain in place.scale.domains
        )
    )


def show(found: Shown, figures: Path) -> Section:
    """A table a query."""
    return Section(
        text=(
            "The first test queries of each domain at every λ from -1 to 1, with the judge's verdict. Facts of a model "
            "of 135 million parameters are often wrong; none of this is advice.",
        ),
        tables=tuple(table for one in found.domains for table in shown.tables(one)),
    )


STAGE = Stage(name="examples", title="Examples", record=Shown, measure=measure, show=show, needs=("curves",))
