"""Whether vectors are what their cards state, and fit the base they were made for."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from alignvec.demo_model import cached_demo_model
from alignvec.errors import VectorError
from alignvec.models import DEMO, resolve
from alignvec.vectors.adapter import ADAPTER
from alignvec.vectors.card import BaseReference, Card
from alignvec.vectors.checkpoint import open_checkpoint
from alignvec.vectors.deltafile import DENSE
from alignvec.vectors.extract import base_reference
from alignvec.vectors.integrity import Check, Skipped, VectorReport, check_folder, read_deltas, run_check
from alignvec.vectors.store import CARD, load_card


class Report(BaseModel):
    """Checks of every vector that was found."""

    model_config = ConfigDict(frozen=True)
    vectors: Sequence[VectorReport]

    @property
    def failed(self) -> list[tuple[VectorReport, Check]]:
        """The checks that failed, each with its vector."""
        return [(vector, check) for vector in self.vectors for check in vector.failed]


def verify(folder: Path, *, base: str | None = None) -> Report:
    """Check everything that vector folders state. Damage is reported, not raised; nothing is fetched unless `base` is.

    Args:
        folder: a vector, or a folder of vectors.
        base: base model to compare with; default: the one the card names, if it lies on this machine.

    Raises:
        VectorError: if there is no vector at all.
        ModelError: if `base` cannot be found.
    """
    places = [folder] if _is_vector(folder) else sorted(p for p in folder.glob("*") if _is_vector(p))
    if not places:
        raise VectorError(f"no vectors in {folder} (neither it nor a subfolder has a {CARD}); check the path")
    given = resolve(base) if base else None
    reports = []
    for place in places:
        report = check_folder(place)
        if report.name is not None:
            fits = next(check.state for check in report.checks if check.name == "factors") == "ok"
            checks = _base_checks(place, load_card(place), given, fits)
            report = report.model_copy(update={"checks": [*report.checks, *checks]})
        reports.append(report)
    return Report(vectors=reports)


def _is_vector(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (CARD, ADAPTER, DENSE))


def _base_checks(folder: Path, card: Card, given: Path | None, fits: bool) -> list[Check]:
    place = given or _local_base(card.base.name)
    found: list[BaseReference] = []
    checks = [run_check(folder, "base", partial(_look, place, card, found))]
    if place is None or not found:
        return checks
    for key in ("fingerprint", "template", "tokenizer"):
        same = partial(_same, getattr(card.base, key), getattr(found[0], key))
        checks.append(run_check(folder, f"base {key}", same))
    return [*checks, run_check(folder, "base tensors", partial(_base_tensors, folder, card, place, fits))]


def _look(place: Path | None, card: Card, found: list[BaseReference]) -> str:
    if place is None:
        raise Skipped(f"base {card.base.name!r} is not on this machine; name it with --base")
    found.append(base_reference(str(place)))
    return str(place)


def _same(stated: str | None, found: str) -> str:
    if stated is None:
        raise Skipped("the card was written before it was recorded")
    if stated != found:
        raise VectorError(f"the card states {stated[:12]}, the base has {found[:12]}; is it the right base?")
    return found[:12]


def _base_tensors(folder: Path, card: Card, place: Path, fits: bool) -> str:
    if not fits:
        raise Skipped("the factors could not be read")
    entries = open_checkpoint(place).entries
    deltas = read_deltas(folder, card)
    for name, delta in deltas:
        if name not in entries:
            raise VectorError(f"the base has no tensor {name}")
        if entries[name].shape != tuple(delta.shape):
            raise VectorError(f"{name} is {list(delta.shape)} here and {list(entries[name].shape)} in the base")
    return f"{len(deltas)} deltas, each with its tensor in the base"


def _local_base(name: str) -> Path | None:
    if name == DEMO:
        return cached_demo_model()
    folder = Path(name).expanduser()
    return folder if folder.is_dir() else None
