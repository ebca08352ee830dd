"""Whether a vector folder holds what its card states, looked at by itself, without its base."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import torch
import xxhash
from pydantic import BaseModel, ConfigDict

from alignvec.errors import AlignvecError, VectorError
from alignvec.vectors.adapter import ADAPTER, ADAPTER_CONFIG, read_adapter
from alignvec.vectors.adapter_settings import require_unit_scale
from alignvec.vectors.card import Card
from alignvec.vectors.delta import Delta
from alignvec.vectors.deltafile import DENSE, open_deltas
from alignvec.vectors.packed import SignDelta, SparseDelta
from alignvec.vectors.store import CARD, NEGATIVE, load_card, sha256
from alignvec.vectors.tensorfile import DTYPES, Entry, Reader, read_header, tensor_bytes

_TENSOR_FILES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".npz", ".gguf")
_CHUNK_BYTES = 1 << 24


class Check(BaseModel):
    """One thing that was looked at: `ok`, `failed`, or `skipped` with the reason as its detail."""

    model_config = ConfigDict(frozen=True)
    name: str
    state: Literal["ok", "failed", "skipped"]
    detail: str


class Skipped(Exception):
    """A check has nothing to look at; the message says why."""


class VectorReport(BaseModel):
    """Checks of one vector folder; `name` is missing if its card cannot be read."""

    model_config = ConfigDict(frozen=True)
    folder: Path
    name: str | None
    checks: Sequence[Check]

    @property
    def failed(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.state == "failed"]


def run_check(folder: Path, name: str, run: Callable[[], str]) -> Check:
    """The outcome of a function that returns a detail, or raises what is wrong (`Skipped`: why it cannot tell)."""
    try:
        return Check(name=name, state="ok", detail=run())
    except Skipped as reason:
        return Check(name=name, state="skipped", detail=str(reason))
    except AlignvecError as error:
        cause = str(error)
    except Exception as error:  # whatever a damaged file makes its reader raise
        cause = f"{type(error).__name__}: {error}"
    return Check(name=name, state="failed", detail=" ".join(cause.replace(f"{folder}/", "").split()))


def check_folder(folder: Path) -> VectorReport:
    """Check a vector's card, files, hashes, values and factors. Damage is reported, not raised."""
    checks = [run_check(folder, "card", partial(_card, folder))]
    if checks[0].state == "failed":
        return VectorReport(folder=folder, name=None, checks=checks)
    card = load_card(folder)
    for name, run in _CONTENT:
        checks.append(run_check(folder, name, partial(run, folder, card)))
    readable = checks[-1].state == "ok"
    for name, run in _FORM:
        checks.append(run_check(folder, name, partial(run if readable else _unread, folder, card)))
    return VectorReport(folder=folder, name=card.name, checks=checks)


def read_deltas(folder: Path, card: Card) -> list[tuple[str, Delta]]:
    """Tensor name and delta of every side, dense ones left on disk.

    Raises:
        VectorError: if a side is missing or the parts of a delta do not fit together.
    """
    found: list[tuple[str, Delta]] = []
    for side in _sides(card):
        deltas: dict[str, Delta] = {}
        for file, read in ((ADAPTER, lambda path: read_adapter(path.parent)), (DENSE, open_deltas)):
            if str(side / file) in card.files:
                more = read(folder / side / file)
                if both := sorted(deltas.keys() & more.keys()):
                    raise VectorError(f"{side / ADAPTER} and {side / DENSE} both change {both[0]}")
                deltas |= more
        if not deltas:
            raise VectorError(f"the {card.form} vector lacks its side {str(side / ADAPTER)!r} or {str(side / DENSE)!r}")
        found += deltas.items()
    for name, delta in found:
        _require_components(name, delta)
    return found


def _card(folder: Path) -> str:
    card = load_card(folder)
    allowed = {str(side / name) for side in _sides(card) for name in (ADAPTER, DENSE)}
    if others := sorted(card.files.keys() - allowed):
        raise VectorError(f"{CARD} names {others[0]}, which no {card.form} vector has")
    if others := sorted(card.tensors.keys() - card.files.keys()):
        raise VectorError(f"{CARD} has hashes of tensors in {others[0]}, but not of that file")
    return f"format {card.format_version}, {card.form}"


def _unread(_folder: Path, _card: Card) -> str:
    raise Skipped("the values are not all finite, or cannot be read")


def _sides(card: Card) -> list[PurePosixPath]:
    return [PurePosixPath(name) for name in ([""] if card.form == "single" else ["", NEGATIVE])]


def _files(folder: Path, card: Card) -> str:
    if not card.files:
        raise VectorError(f"{CARD} lists no files, so the vector has no tensors")
    for name, expected in card.files.items():
        if not (folder / name).is_file():
            raise VectorError(f"{name} is missing")
        if sha256(folder / name) != expected:
            raise VectorError(f"{name} is damaged or was altered (its sha256 is not the card's)")
    return f"{len(card.files)} with the card's sha256"


def _other_files(folder: Path, card: Card) -> str:
    found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix in _TENSOR_FILES)
    if others := [name for name in found if name not in card.files]:
        raise VectorError(f"{others[0]} holds tensors, but {CARD} does not name it")
    return "no other tensor file"


def _tensor_hashes(folder: Path, card: Card) -> str:
    if not card.tensors:
        raise Skipped(f"the card has none; they are kept for {DENSE}")
    for name, hashes in card.tensors.items():
        found = {}
        for entry, chunks in _contents(folder / name):
            digest: Any = xxhash.xxh3_128()
            for chunk in chunks:
                digest.update(tensor_bytes(chunk))
            found[entry.name] = digest.hexdigest()
        if wrong := sorted(key for key in found.keys() | hashes.keys() if found.get(key) != hashes.get(key)):
            raise VectorError(f"{name}: tensor {wrong[0]} is missing or altered (its xxh3 is not the card's)")
    return f"{sum(map(len, card.tensors.values()))} tensors with the card's xxh3"


def _finite(folder: Path, card: Card) -> str:
    count = 0
    for name in card.files:
        for entry, chunks in _contents(folder / name):
            count += 1
            for chunk in chunks:
                value = chunk.view(entry.dtype)
                if value.is_floating_point() and not value.double().isfinite().all():
                    raise VectorError(f"{name}: tensor {entry.name} has values that are not finite")
    return f"{count} tensors"


def _contents(path: Path) -> Iterator[tuple[Entry, Iterator[torch.Tensor]]]:
    """Every tensor of a file with its bytes, in pieces of whole values."""
    reader = Reader()

    def chunks(entry: Entry) -> Iterator[torch.Tensor]:
        size = entry.size
        for start in range(0, size, _CHUNK_BYTES):
            yield reader.raw(entry, start, min(start + _CHUNK_BYTES, size))

    try:
        for entry in read_header(path)[0]:
            if entry.code not in DTYPES:
                raise VectorError(f"{path}: tensor {entry.name} has the unknown dtype {entry.code}")
            yield entry, chunks(entry)
    finally:
        reader.close()


def _factors(folder: Path, card: Card) -> str:
    return f"{len(read_deltas(folder, card))} deltas fit together"


def _adapter_settings(folder: Path, card: Card) -> str:
    adapters = [side for side in _sides(card) if str(side / ADAPTER) in card.files]
    if not adapters:
        raise Skipped("it has no low-rank adapter")
    for side in adapters:
        require_unit_scale(folder / side / ADAPTER_CONFIG, read_adapter(folder / side))
    return "rank and scale are those of the factors"


def _require_components(name: str, delta: Delta) -> None:
    """Check that the parts of a packed delta agree with its shape (low-rank factors check themselves)."""
    columns = delta.shape[1:].numel()
    if isinstance(delta, SignDelta) and list(delta.bits.shape) != [delta.shape[0], -(-columns // 8)]:
        raise VectorError(f"the signs of {name} have shape {list(delta.bits.shape)}, its weight {list(delta.shape)}")
    if isinstance(delta, SparseDelta):
        counts, places = delta.counts.to(torch.int64), delta.columns.to(torch.int64)
        fits = len(counts) == delta.shape[0] and len(delta.values) == len(places) == int(counts.sum())
        if not fits or counts.lt(0).any() or places.lt(0).any() or places.ge(columns).any():
            raise VectorError(f"values, columns and counts of {name} do not fit its shape {list(delta.shape)}")


_CONTENT = (
    ("files", _files),
    ("other files", _other_files),
    ("tensor hashes", _tensor_hashes),
    ("finite values", _finite),
)
_FORM = (("factors", _factors), ("adapter settings", _adapter_settings))
