"""What the benchmarks of the solver share: a journal of `alignvec solve --out`, read without loading the model."""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alignvec import models
from alignvec.cli.common import load_knobbed, vector_places
from alignvec.data.load import load_files, shipped_file
from alignvec.data.schema import PreferenceRow
from alignvec.errors import AlignvecError, ConfigError, DataError
from alignvec.evaluate.judge import LevelJudge, judge_for
from alignvec.evaluate.table import Table
from alignvec.progress import progress
from alignvec.solve.box import Box, Points, box_of
from alignvec.solve.measure import Measured, Meter
from alignvec.solve.replay import part, read_journal, replay
from alignvec.steer.sampling import Sampling
from alignvec.vectors.card import Card
from alignvec.vectors.store import load_card


@dataclass(frozen=True)
class Setup:
    """What settings were measured with.

    Attributes:
        cards: of the vectors, by name.
        rows: of all splits; a journal knows which it has.
        tokenizer: of the base model.
        judge: None if only likelihoods are wanted.
    """

    cards: Mapping[str, Card]
    rows: tuple[PreferenceRow, ...]
    tokenizer: Any
    judge: LevelJudge | None

    @property
    def box(self) -> Box:
        """The knobs."""
        return box_of(self.cards)

    def replay(self, journal: Path) -> Measured:
        """Settings of a journal."""
        return replay(read_journal(journal), self.cards, self.rows, tokenizer=self.tokenizer, judge=self.judge)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What a journal has to be read with."""
    parser.add_argument("--journal", type=Path, required=True, help="journal.jsonl of alignvec solve --out")
    parser.add_argument("--vectors", type=Path, action="append", help="default: the shipped ones")
    parser.add_argument("--data", type=Path, action="append", help="default: shipped data of the vectors' domains")
    parser.add_argument("--model", default="demo", help="only its tokenizer is loaded to read a journal")


def set_up(chosen: argparse.Namespace, *, judged: bool) -> Setup:
    """Load cards, rows and tokenizer, and train the judge if it is needed."""
    from transformers import AutoTokenizer

    cards = {name: load_card(place) for name, place in vector_places(chosen.vectors).items()}
    paths = chosen.data or [shipped_file(card.domain or name) for name, card in cards.items()]
    rows = tuple(load_files(paths))
    tokenizer = AutoTokenizer.from_pretrained(models.resolve(chosen.model))
    return Setup(cards, rows, tokenizer, judge_for(*paths) if judged else None)


def holds(measured: Measured, points: Points) -> Any:
    """Which measured settings are among the points, [settings]."""
    return (measured.points[:, None] == points).all(axis=2).any(axis=1)


def measured_at(points: Points, journal: Path, chosen: argparse.Namespace, setup: Setup) -> Measured:
    """Settings measured as those of `--journal` were, into a journal of their own.

    Killed, it goes on where it was; once all are in the journal no model is loaded.
    """
    scope = read_journal(chosen.journal).scope
    if journal.is_file() and (found := _whole(journal, setup)) is not None:
        same_scope(journal, scope)
        kept = np.flatnonzero(holds(found, points))
        if len(kept) == len(points):
            return part(found, kept)
    rows = setup.replay(chosen.journal).rows
    knobbed = load_knobbed(chosen.model, chosen.vectors, dtype=str(scope["dtype"]).removeprefix("torch."))
    meter = Meter(
        knobbed, setup.box, rows, judge=setup.judge, sampling=Sampling(**scope["sampling"]),
        data=scope["data"], journal=journal,
    )  # fmt: skip
    with progress() as advance:
        return meter.measure(points, advance)


def same_scope(journal: Path, scope: Mapping[str, Any]) -> None:
    """Refuse a journal that was measured under other conditions than another: they would not compare."""
    found = read_journal(journal).scope
    compared = ("rows", "vectors", "sampling", "base", "dtype")
    if wrong := [name for name in compared if found.get(name) != scope.get(name)]:
        raise ConfigError(f"{journal} was measured with other {wrong[0]} than --journal; name another")


def _whole(journal: Path, setup: Setup) -> Measured | None:
    """Settings of a journal; None if it has no whole one yet."""
    try:
        return setup.replay(journal)
    except DataError:
        return None


def at_least(chosen: argparse.Namespace, **least: int) -> None:
    """Refuse options that are too small."""
    for name, smallest in least.items():
        value = getattr(chosen, name)
        if value is not None and value < smallest:
            raise ConfigError(f"--{name} {value} is too little; use {smallest} or more")


def print_tables(tables: Iterable[Table]) -> None:
    """Tables on stderr, for people."""
    for table in tables:
        print(f"\n{table.title}", file=sys.stderr)
        widths = [max(len(row[i]) for row in (table.columns, *table.rows)) for i in range(len(table.columns))]
        for row in (table.columns, *table.rows):
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)), file=sys.stderr)


def in_one_line(main: Callable[[], None]) -> None:
    """Run a benchmark; a user's mistake is one line on stderr and exit code 2."""
    try:
        main()
    except AlignvecError as error:
        print(f"error: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
