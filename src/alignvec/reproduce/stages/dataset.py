"""What the vectors were trained and measured on (dataset statistics)."""

from pathlib import Path

from alignvec.data.load import SHIPPED
from alignvec.data.safety import KINDS, SAFETY, load_safety
from alignvec.reproduce.dataset import Dataset, dataset_statistics, plot_words, tables
from alignvec.reproduce.place import Place
from alignvec.reproduce.stage import Figure, Section, Stage


def measure(place: Place) -> Dataset:
    """Count the shipped data."""
    rows = load_safety()
    safety = {f"safety, {kind}": [row.preference() for row in rows if row.kind == kind] for kind in KINDS}
    return dataset_statistics([SHIPPED], more=safety, seed=place.scale.seed)


def show(found: Dataset, figures: Path) -> Section:
    """Tables, and words by level."""
    plot_words(found, figures / "words.png")
    return Section(
        text=("All of it was written for this project by a language model; raters are models too.",),
        tables=tuple(tables(found)),
        figures=(Figure(path="words.png", caption="Words of the reference replies by level."),),
    )


STAGE = Stage(
    name="dataset", title="The data", record=Dataset, measure=measure, show=show, reads=lambda _: [SHIPPED, SAFETY]
)
