"""Vectors on disk: a folder with `card.json` and tensors, low-rank ones laid out as a PEFT adapter."""

import hashlib
import json
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from alignvec.errors import StorageError, VectorError
from alignvec.files import atomic_folder, write_text
from alignvec.vectors.adapter import ADAPTER, ADAPTER_CONFIG, adapter_tensors, in_adapter, peft_config, read_adapter
from alignvec.vectors.adapter_settings import require_unit_scale
from alignvec.vectors.card import Card
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta
from alignvec.vectors.deltafile import DENSE, Written, open_deltas, write_deltas
from alignvec.vectors.stored import StoredDelta
from alignvec.vectors.vector import AlignmentVector, Deltas

CARD = "card.json"
NEGATIVE = "negative"
"""Subfolder of a hinged vector for the deltas of λ < 0; itself a PEFT adapter."""


def save_vector(vector: AlignmentVector, folder: Path, *, dtype: torch.dtype | None = None) -> AlignmentVector:
    """Write a vector atomically, replacing what is at `folder`.

    Args:
        dtype: store the tensors in this dtype; default: as they are. The largest relative error that rounding makes
            in a tensor is recorded in the card as `storage_rounding`.

    Returns:
        The vector with the card as stored.

    Raises:
        StorageError: if the folder cannot be written.
    """
    require_free(folder)
    with atomic_folder(folder) as staging:
        written = {name: _write_side(deltas, staging / name, vector.card, dtype) for name, deltas in _sides(vector)}
        files = {str(p.relative_to(staging)): sha256(p) for p in sorted(staging.rglob("*.safetensors"))}
        error = dict(vector.card.error)
        if dtype is not None:
            rounding = max(side.rounding for side in written.values())
            error["storage_rounding"] = max(rounding, error.get("storage_rounding", 0.0))
        hashes = {str(Path(name) / DENSE): side.hashes for name, side in written.items() if side.hashes}
        card = vector.card.model_copy(update={"files": files, "tensors": hashes, "error": error})
        (staging / CARD).write_text(card.model_dump_json(indent=1), encoding="utf-8")
    return AlignmentVector(card, vector.positive, vector.negative)


def require_free(folder: Path) -> None:
    """Check that a vector may be written to `folder`: nothing is there, or another vector.

    Raises:
        StorageError: if something else is there.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / CARD).is_file()):
        raise StorageError(f"cannot write {folder}: something else than a vector is there; choose another --out")


def load_card(folder: Path) -> Card:
    """Read the card of the vector in `folder`.

    Raises:
        VectorError: if there is none, or it is damaged or of another format.
    """
    path = folder / CARD
    try:
        return Card.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VectorError(f"no vector at {folder} (it has no {CARD}); check the path") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise VectorError(f"{path}: {where}: {first['msg']}; the card is damaged or from another version") from None
    except (OSError, UnicodeDecodeError) as error:
        raise VectorError(f"cannot read {path}: {error}") from None


def save_card(folder: Path, card: Card) -> None:
    """Replace the card of the vector in `folder` atomically; the tensors stay."""
    write_text(folder / CARD, card.model_dump_json(indent=1) + "\n")


def reload_card(folder: Path, measured: Card) -> Card:
    """The card of the vector in `folder` as it is now, to keep in it what took long to measure.

    Another command may have saved other things in it meanwhile.

    Args:
        measured: the card as it was when measuring began.

    Raises:
        VectorError: if there is no card any more, or one of other tensors than those that were measured.
    """
    card = load_card(folder)
    if card.files != measured.files:
        raise VectorError(
            f"the vector in {folder} was replaced while it was measured, so its card does not keep the result; "
            "measure the new one, with another --out"
        )
    return card


def load_vector(folder: Path, *, dtype: torch.dtype = torch.float32, lazy: bool = False) -> AlignmentVector:
    """Read a vector, checking every file against the card.

    Args:
        dtype: of factors and dense tensors in memory.
        lazy: leave dense tensors on disk. They are then not checked here but, each by its own hash, when they are
            streamed.

    Raises:
        VectorError: if a file is missing, truncated, altered, not in the card or holds values that are not finite, or
            if an adapter's settings scale its factors.
    """
    card = load_card(folder)
    if not card.files:
        raise VectorError(f"{folder / CARD} lists no files, so the vector has no tensors; save it again")
    for name, expected in card.files.items():
        path = folder / name
        if not path.is_file():
            raise VectorError(f"vector {card.name!r} lacks {path}; copy the whole folder again")
        streamed = lazy and name in card.tensors
        if not streamed and sha256(path) != expected:
            raise VectorError(f"{path} is damaged or was altered (its sha256 is not the card's); copy it again")
    positive, *negative = (
        _read_side(folder, side, card, dtype, lazy) for side in ["", NEGATIVE][: 2 if card.form == "hinged" else 1]
    )
    return AlignmentVector(card, positive, *negative)


def find_vectors(folder: Path) -> dict[str, Path]:
    """Names of the vectors in the subfolders of `folder` (or of `folder` itself, if it is one), with their paths.

    Raises:
        VectorError: if a card is damaged, or two vectors have one name.
    """
    places = [folder] if (folder / CARD).is_file() else sorted(p.parent for p in folder.glob(f"*/{CARD}"))
    found: dict[str, Path] = {}
    for place in places:
        name = load_card(place).name
        if name in found:
            raise VectorError(f"{found[name]} and {place} are both named {name!r}; load one, or rename one in its card")
        found[name] = place
    return found


def sha256(path: Path) -> str:
    """Hash of a file's content, as in a card's `files`."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sides(vector: AlignmentVector) -> list[tuple[str, Deltas]]:
    return [("", vector.positive)] + ([(NEGATIVE, vector.negative)] if vector.negative is not None else [])


def _write_side(deltas: Deltas, folder: Path, card: Card, dtype: torch.dtype | None) -> Written:
    """Write one side's tensors: what PEFT can hold as its adapter, everything else beside it."""
    folder.mkdir(exist_ok=True)
    low = {name: d for name, d in deltas.items() if isinstance(d, LowRankDelta) and in_adapter(name)}
    other = {name: d for name, d in deltas.items() if name not in low}
    rounding, hashes = 0.0, {}
    if low:
        tensors = adapter_tensors(low)
        stored = {n: t.detach().to("cpu", dtype or t.dtype).contiguous() for n, t in tensors.items()}
        for name, tensor in stored.items():
            exact = tensors[name].detach().to("cpu", torch.float32)
            if not torch.isfinite(tensor).all():
                raise VectorError(
                    f"tensor {name} of vector {card.name!r} is not finite in {tensor.dtype}; store it wider"
                )
            norm = exact.norm().item()
            rounding = max(rounding, (tensor.float() - exact).norm().item() / norm if norm else 0.0)
        save_file(stored, folder / ADAPTER, metadata={"format": "pt"})
        (folder / ADAPTER).chmod(0o644)  # the library leaves it readable by its owner alone
        config = peft_config(low, card.base.name)
        (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
    if other:
        written = write_deltas(folder / DENSE, other, dtype)
        rounding, hashes = max(rounding, written.rounding), written.hashes
    return Written(hashes, rounding)


def _read_side(root: Path, side: str, card: Card, dtype: torch.dtype, lazy: bool) -> dict[str, Delta]:
    folder = root / side
    present = [file for file in (ADAPTER, DENSE) if (folder / file).is_file()]
    for file in present:
        if str(Path(side) / file) not in card.files:
            raise VectorError(f"{folder / file} is not in {CARD}, so nothing vouches for it; remove it")
    deltas: dict[str, Delta] = {}
    if ADAPTER in present:
        deltas |= read_adapter(folder, dtype)
        require_unit_scale(folder / ADAPTER_CONFIG, deltas)
    if DENSE in present:
        for name, delta in open_deltas(folder / DENSE, card.tensors.get(str(Path(side) / DENSE))).items():
            if name in deltas:
                raise VectorError(f"{folder}: {ADAPTER} and {DENSE} both change {name}; make the vector again")
            if lazy or not isinstance(delta, StoredDelta):
                deltas[name] = delta
                continue
            value = delta.dense()
            if not torch.isfinite(value).all():
                raise VectorError(f"{folder / DENSE}: tensor {name} has values that are not finite")
            deltas[name] = DenseDelta(value.to(dtype))
    if not deltas:
        raise VectorError(f"{folder} holds neither {ADAPTER} nor {DENSE}")
    return deltas
