"""A table as text: what commands print and reports show."""

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """A table as text, narrow enough for a terminal of 80 columns."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
