"""From a merge recipe to a model folder that plain transformers loads."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict

from alignvec.errors import ConfigError, KnobError, ModelError, StorageError
from alignvec.files import storage_errors
from alignvec.merge.recipe import KnobTerm, MergeRecipe, depth_of, layer_coefficient
from alignvec.merge.staging import staging
from alignvec.merge.stream import Numerics, result_bytes, write_shards
from alignvec.merge.terms import Term
from alignvec.models import resolve
from alignvec.provenance import Provenance, provenance
from alignvec.vectors.checkpoint import INDEX, Checkpoint, open_checkpoint
from alignvec.vectors.extract import extract
from alignvec.vectors.fingerprint import fingerprint
from alignvec.vectors.store import load_vector
from alignvec.vectors.vector import AlignmentVector

REPORT = "alignvec.json"
"""What a merged model or an exported adapter says of itself, beside its config.json or adapter_config.json."""
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5", ".msgpack", ".index.json")


class MergedKnob(BaseModel):
    """One knob of a merged model.

    Attributes:
        coefficient: λ as it was asked for.
        realised: λ that the rounded weights have; None for methods other than the plain sum, and where vectors point
            the same way so that their shares cannot be told apart.
        source: hash over the vector's files, or fingerprint of the fine-tuned model.
        source_warning: what rounding did to the difference of a fine-tuned model, if it matters.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    coefficient: float
    realised: float | None
    layers: list[float] | None
    density: float
    source: str
    source_warning: str | None = None


class MergeReport(BaseModel):
    """What a merged model is made of; stored in it as `alignvec.json`.

    Attributes:
        base: name of the base model.
        base_fingerprint: its fingerprint.
        fingerprint: the merged model's own.
        plan: hash over everything that decides the result's bytes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1] = 1
    base: str
    base_fingerprint: str
    fingerprint: str
    knobs: dict[str, MergedKnob]
    method: str
    normalize: bool
    scale: float
    dtype: str | None
    rounding: str
    seed: int
    bytes: int
    plan: str
    provenance: Provenance

    def warnings(self) -> list[str]:
        """What a reader of the realised coefficients should know, a line each."""
        found = [f"model {name!r}: {warning}" for name, knob in self.knobs.items() if (warning := knob.source_warning)]
        off = [
            name
            for name, k in self.knobs.items()
            if k.realised is not None and abs(k.realised - k.coefficient) > 0.1 * abs(k.coefficient)
        ]
        if off:
            found.append(
                f"rounding to {self.dtype or 'the dtype of the base'} changed λ of {', '.join(off)} by more than a "
                "tenth; --rounding stochastic is right on average, --dtype float32 exact"
            )
        if self.method != "sum" or self.normalize or self.scale != 1.0:
            found.append("the realised λ is measured for plain sums only")
        return found


def merge(
    recipe: MergeRecipe,
    out: Path,
    *,
    vectors: Mapping[str, Path] | None = None,
    allow_other_base: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    advance: Callable[[int, int], None] = lambda _done, _total: None,
) -> MergeReport:
    """Write base + Σ λ·Δ as a model folder, streamed; killed at any point, the same call goes on.

    Args:
        recipe: base, knobs, method, dtype and rounding.
        out: new folder; a merge that is already there with the same recipe is returned as it is.
        vectors: folders of the knobs that the recipe gives by name only.
        allow_other_base: skip the fingerprint check, to move a vector to another fine-tuning stage on purpose.
        overwrite: replace another merge at `out`; anything else there is refused.
        workers: see `write_shards`.
        advance: told the bytes written and the bytes in all.

    Raises:
        AlignvecError: if base or vectors are missing, damaged or do not fit, or `out` cannot be written.
    """
    out = out.resolve()  # so that the staging folder is beside the result, not beside a link to it
    folder = resolve(recipe.base)
    base = open_checkpoint(folder)
    found = fingerprint(folder)
    depth = depth_of(base.entries)
    terms, knobs = [], {}
    for name, knob in recipe.knobs.items():
        vector = _vector(name, knob, recipe.base, vectors or {})
        if not allow_other_base:
            vector.require_base(found)
        coefficient = _coefficient(vector, knob)
        term = _term(vector, name, coefficient, knob, base.entries, depth)
        knobs[name] = MergedKnob(
            coefficient=coefficient,
            realised=None,
            layers=knob.layers,
            density=knob.density,
            source=_source(vector),
            source_warning=vector.card.source.warning() if vector.card.source else None,
        )
        if term is not None:
            terms.append(term)
    terms.sort(key=lambda term: term.vector)  # any order of the knobs is the same merge, and resumes as such
    numerics = Numerics(
        method=recipe.method,
        normalize=recipe.normalize,
        scale=recipe.scale,
        dtype=getattr(torch, recipe.dtype) if recipe.dtype else None,
        rounding=recipe.rounding,
        seed=recipe.seed,
    )
    settings = recipe.model_dump(mode="json", include={"method", "normalize", "scale", "dtype", "rounding", "seed"})
    plan: dict[str, Any] = {
        "format_version": 1,
        "base": found,
        "knobs": {
            name: knob.model_dump(mode="json", exclude={"realised", "source_warning"}) for name, knob in knobs.items()
        },
        **settings,
    }
    digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
    with storage_errors(out):
        if (existing := _existing(out, folder, digest, overwrite)) is not None:
            return existing
    total = result_bytes(base, numerics.dtype)
    with staging(out, plan) as place:
        overlap = write_shards(
            base, terms, numerics, place, workers=workers, advance=lambda written: advance(written, total)
        )
        _copy_the_rest(base, place.folder, recipe.dtype, total)
        realised = overlap.realised(terms) if numerics.plain else {}
        report = MergeReport(
            base=recipe.base,
            base_fingerprint=found,
            fingerprint=fingerprint(place.folder),
            knobs={
                name: knob.model_copy(update={"realised": realised.get(name)}) if knob.coefficient else knob
                for name, knob in knobs.items()
            },
            bytes=total,
            plan=digest,
            provenance=provenance(),
            **settings,
        )
        (place.folder / REPORT).write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return report


def _vector(name: str, knob: KnobTerm, base: str, vectors: Mapping[str, Path]) -> AlignmentVector:
    if knob.model is not None:
        return extract(base, knob.model, name=name, allow=knob.allow)
    place = knob.vector or vectors.get(name)
    if place is None:
        have = ", ".join(vectors) or "none"
        raise KnobError(f"no vector named {name!r} is at hand (have: {have}); check --knob and --vectors")
    return load_vector(place, lazy=True)


def _coefficient(vector: AlignmentVector, knob: KnobTerm) -> float:
    if not isinstance(knob.coefficient, str):
        return knob.coefficient
    settings = vector.card.settings
    if knob.coefficient not in settings:
        have = ", ".join(settings) or "none"
        raise KnobError(f"vector {vector.name!r} has no level {knob.coefficient!r} (have: {have}); give a number")
    return settings[knob.coefficient]


def _term(
    vector: AlignmentVector, name: str, coefficient: float, knob: KnobTerm, tensors: Iterable[str], depth: int
) -> Term | None:
    """The term of a knob; None at λ = 0."""
    if vector.negative is not None and knob.layers and min(knob.layers) < 0:
        raise ConfigError(
            f"knob {name!r}: a hinged vector has another delta below zero, so its layers must not be negative; "
            "turn the coefficient's sign instead"
        )
    if knob.layers and not depth:
        raise ConfigError(f"knob {name!r} has layers, but no tensor of this base is numbered by layer; leave them out")
    for part in vector.parts:
        if gate := part.gate(coefficient):
            gates = {tensor: layer_coefficient(gate, knob.layers, tensor, depth) for tensor in tensors}
            return Term(name, coefficient, part.deltas, gates, knob.density)
    return None


def _source(vector: AlignmentVector) -> str:
    if not vector.card.files:  # taken from a fine-tuned model just now
        return str(vector.card.recipe["aligned_fingerprint"])
    return hashlib.sha256(json.dumps(vector.card.files, sort_keys=True).encode()).hexdigest()


def _existing(out: Path, base: Path, plan: str, overwrite: bool) -> MergeReport | None:
    """The same merge, already made; refuses what must not be replaced."""
    if out == base.resolve():
        raise StorageError(f"cannot write {out}: it is the base model itself; choose another --out")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not ((out / REPORT).is_file() and (out / "config.json").is_file()):  # an exported adapter has a report too
        raise StorageError(f"cannot write {out}: something else than a merged model is there; choose another --out")
    try:
        report = MergeReport.model_validate_json((out / REPORT).read_text(encoding="utf-8"))
        if report.plan == plan and report.fingerprint == fingerprint(out):
            return report
    except (ModelError, OSError, ValueError):
        pass  # damaged: only --overwrite helps
    if not overwrite:
        raise StorageError(f"cannot write {out}: another merge is there; choose another --out, or pass --overwrite")
    return None


def _copy_the_rest(base: Checkpoint, target: Path, dtype: str | None, total: int) -> None:
    """Tokenizer, chat template, generation config and whatever else belongs to the model; config.json last."""
    for path in sorted(base.folder.iterdir()):
        skipped = path.name.startswith(".") or path.name in ("config.json", "README.md", REPORT)
        if path.is_file() and not skipped and not path.name.endswith(_WEIGHTS):
            shutil.copyfile(path, target / path.name)
    if (base.folder / INDEX).is_file():
        index = json.loads((base.folder / INDEX).read_text(encoding="utf-8"))
        index["metadata"] = {**(index.get("metadata") or {}), "total_size": total}
        (target / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")
    config = json.loads((base.folder / "config.json").read_text(encoding="utf-8"))
    if dtype:
        config["torch_dtype" if "torch_dtype" in config else "dtype"] = dtype
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
