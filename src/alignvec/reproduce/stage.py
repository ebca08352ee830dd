"""A stage of a reproduction: what it measures, kept in one JSON file, and how it is shown."""

import datetime
import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout
from pydantic import BaseModel as Record
from pydantic import ValidationError

from alignvec.data.load import shipped_file
from alignvec.errors import AlignvecError, ConfigError, DataError
from alignvec.evaluate.table import Table
from alignvec.files import storage_errors, write_text
from alignvec.provenance import Provenance, provenance
from alignvec.reproduce.place import Place, contents
from alignvec.reproduce.scale import PLACES
from alignvec.vectors.fingerprint import fingerprint
from alignvec.vectors.strict import Strict

ALWAYS = ("base", "dtype", "domains", "seed")
"""Keys of the scale that every stage depends on."""
KEPT_EVERY = 5.0
"""Seconds after which the time spent is kept again."""


class Figure(Strict):
    """A picture in the report's folder, and what it shows."""

    path: str
    caption: str


class Section(Strict):
    """What the report tells of a stage.

    Attributes:
        text: paragraphs, plain text.
        tables: below them.
        figures: above the tables.
    """

    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()


class Finished(Strict):
    """What a stage's JSON file holds.

    Attributes:
        stage: its name.
        scope: what the result depends on: keys of the scale, and digests of the results it was made from.
        seconds: that measuring took, over all processes that worked on it.
        finished: when, ISO 8601, UTC.
        found: the stage's own record.
    """

    stage: str
    scope: dict[str, Any]
    seconds: float
    finished: str
    provenance: Provenance
    found: dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """One step of a reproduction.

    Attributes:
        name: of its JSON file.
        title: of its section.
        keys: of the scale that it depends on, besides those of every stage.
        needs: stages whose results it reads.
        record: what `measure` returns.
        measure: does the work; resumable through journals.
        show: draws into a folder of figures and tells the report's section.
        reads: files and folders that it depends on, besides the domains' data.
        makes: folders of models and vectors that it makes, which measuring it anew makes anew.
    """

    name: str
    title: str
    record: type[Record]
    measure: Callable[[Place], Record]
    show: Callable[[Any, Path], Section]
    keys: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    reads: Callable[[Place], Iterable[Path]] = lambda _: ()
    makes: Callable[[Place], Iterable[Path]] = lambda _: ()

    def settings(self, place: Place) -> dict[str, Any]:
        """What the result depends on but for other results, as JSON values."""
        scale = place.scale.model_dump(mode="json", exclude=PLACES)
        data = contents(shipped_file(domain) for domain in (*place.scale.domains, "general"))
        base = Path(place.scale.base)
        local = {"weights": fingerprint(base)} if base.is_dir() else {}
        own = {key: scale[key] for key in (*ALWAYS, *self.keys) if key in scale}
        return own | local | {"data": data, "files": contents(self.reads(place))}

    def scope(self, place: Place) -> dict[str, Any]:
        """What the result depends on, as JSON values."""
        return self.settings(place) | {f"of {name}": digest(place.found(name)) for name in self.needs}


def digest(found: Record) -> str:
    """What a result is known by to those made from it; a key that a record got later is no change at its default."""
    return hashlib.sha256(found.model_dump_json(exclude_defaults=True).encode()).hexdigest()[:16]


def run_stage(stage: Stage, place: Place) -> Finished:
    """Measure a stage, or read what it has found before.

    Raises:
        ConfigError: if its file was made with other values, or another process measures it.
        DataError: if its file cannot be read.
    """
    path = place.data(f"{stage.name}.json")
    scope = stage.scope(place)
    if path.is_file():
        finished = read_finished(path)
        require_scope(path, stage, finished.scope, scope)
    else:
        with alone(stage.name, place):
            with _Spent(place.data(f"{stage.name}.seconds")) as spent:
                # a place of its own, so that what the stage has loaded goes with it
                found = stage.measure(Place(place.scale, place.out, place.advance, place._found))
            finished = Finished(
                stage=stage.name,
                scope=scope,
                seconds=round(spent.seconds, 1),
                finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                provenance=provenance(),
                found=found.model_dump(mode="json"),
            )
            write_text(path, finished.model_dump_json(indent=1) + "\n")
            spent.forget()
    place.keep(stage.name, parse_found(path, stage, finished))
    return finished


@contextmanager
def alone(name: str, place: Place) -> Iterator[None]:
    """Keep other processes from measuring the same stage in the same folder; a killed one's lock is gone with it.

    Raises:
        ConfigError: if one does.
    """
    lock = place.work(f"{name}.lock")
    with storage_errors(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout:
        raise ConfigError(
            f"another process measures stage {name!r} in {place.out}; wait for it, or choose another --out or --stage"
        ) from None


def read_finished(path: Path) -> Finished:
    """A stage's result.

    Raises:
        DataError: if the file is damaged.
    """
    try:
        return Finished.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        cause = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise DataError(f"cannot read the result {path}: {cause}; delete it to measure again") from None


def parse_found(path: Path, stage: Stage, finished: Finished) -> Record:
    """The stage's own record.

    Raises:
        DataError: if the file holds something else.
    """
    try:
        return stage.record.model_validate(finished.found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{path}: {where}: {first['msg']}; measure it again with --again {stage.name}") from None


def require_scope(path: Path, stage: Stage, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Check that a result was made from what it would be made from now.

    Raises:
        ConfigError: naming the first value that differs.
    """
    if different := first_difference(stored, wanted):
        raise ConfigError(
            f"{path} was measured with another {different!r} (its scale is in scale.json beside it); check --scale, "
            f"choose another --out, or measure it again with --again {stage.name}"
        )


def first_difference(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Key of the first value that differs; empty if none does."""
    different = (key for key in dict.fromkeys([*wanted, *stored]) if stored.get(key) != wanted.get(key))
    return next(different, "")


def dependents(names: Iterable[str], stages: Iterable[Stage]) -> list[str]:
    """These stages and all that need them, in the order of `stages`."""
    found = set(names)
    for stage in stages:
        if found.intersection(stage.needs):
            found.add(stage.name)
    return [stage.name for stage in stages if stage.name in found]


class _Spent:
    """Seconds spent on a stage, kept in a file every few seconds, so that a killed run's are not lost."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = 0.0
        with suppress(OSError, ValueError):  # not begun yet, or torn
            self._before = float(path.read_text())
        self._start = time.monotonic()
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    @property
    def seconds(self) -> float:
        """Until now."""
        return self._before + time.monotonic() - self._start

    def __enter__(self) -> Self:
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._keeper.join()
        self._try()

    def forget(self) -> None:
        """Remove the file: the result has the figure."""
        self._path.unlink(missing_ok=True)

    def _keep(self) -> None:
        while not self._ended.wait(KEPT_EVERY):
            self._try()

    def _try(self) -> None:
        with suppress(AlignvecError):  # a full disk is told by what is being measured
            write_text(self._path, f"{self.seconds:.1f}\n")
