"""The domains' vectors: ready ones, or trained by the recipes."""

from pathlib import Path

from alignvec.evaluate.table import Table
from alignvec.reproduce.material import recipe_folder, vector_folder, vector_sources
from alignvec.reproduce.place import Place
from alignvec.reproduce.stage import Section, Stage
from alignvec.vectors.strict import Strict


class Trained(Strict):
    """A vector and the recipe that made it.

    Attributes:
        rank: of its factors; None if it is dense.
        rows: queries trained on, a side; None for a ready vector, which does not say.
        files: sha256 of its files.
    """

    name: str
    method: str
    rank: int | None
    epochs: float | None
    learning_rate: float | None
    orders: dict[str, str]
    files: dict[str, str]


class Vectors(Strict):
    """What the stage has found."""

    ready: bool
    vectors: tuple[Trained, ...]


def measure(place: Place) -> Vectors:
    """Load or train a vector a domain."""
    from alignvec.vectors.store import load_card

    cards = [load_card(vector_folder(place, domain)) for domain in place.scale.domains]
    return Vectors(
        ready=place.scale.vectors is not None,
        vectors=tuple(
            Trained(
                name=card.name,
                method=card.method,
                rank=card.recipe.get("rank"),
                epochs=card.recipe.get("epochs"),
                learning_rate=card.recipe.get("learning_rate"),
                orders=card.recipe.get("orders", {}),
                files=card.files,
            )
            for card in cards
        ),
    )


def made(place: Place) -> list[Path]:
    """Folders of the runs, where vectors are not ready."""
    ready = place.scale.vectors is not None
    return [] if ready else [recipe_folder(place, recipe) for recipe in vector_sources(place)]


def show(found: Vectors, figures: Path) -> Section:
    """A table of recipes."""
    where = "come with the project" if found.ready else "were trained here"
    return Section(
        text=(f"The vectors {where}; DPO with an SFT term of the chosen replies, one run a side, then subtraction.",),
        tables=(
            Table(
                title="recipes",
                columns=("vector", "form", "rank", "passes", "rate", "λ > 0", "λ < 0"),
                rows=tuple(
                    (
                        one.name, one.method, f"{one.rank}", f"{one.epochs:g}", f"{one.learning_rate:g}",
                        one.orders.get("positive", "-"), one.orders.get("negative", "-"),
                    )
                    for one in found.vectors
                ),
            ),
        ),
    )  # fmt: skip


STAGE = Stage(
    name="vectors",
    title="The vectors",
    record=Vectors,
    measure=measure,
    show=show,
    keys=("training",),
    reads=vector_sources,
    makes=made,
)
