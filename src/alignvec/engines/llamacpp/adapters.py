"""Vectors as GGUF adapters, one for each part, so that llama-server turns every knob per request."""

from collections.abc import Sequence
from pathlib import Path

import torch

from alignvec.engines.llamacpp.manifest import MANIFEST, Adapter, Manifest, Positions
from alignvec.errors import StorageError, VectorError
from alignvec.files import atomic_folder
from alignvec.merge.export import ExportReport, composition
from alignvec.merge.gguf import export_gguf
from alignvec.provenance import provenance
from alignvec.steer.scale import scale_of
from alignvec.vectors.vector import AlignmentVector

_ENDINGS = {0: "", 1: ".plus", -1: ".minus"}


def export_knobs(
    vectors: Sequence[AlignmentVector],
    base: str,
    out: Path,
    *,
    rank: int | None = None,
    dtype: torch.dtype = torch.float32,
    allow_other_base: bool = False,
) -> Manifest:
    """Write a folder with one GGUF LoRA adapter for each part of each vector, and `knobs.json`, atomically.

    Args:
        vectors: in the order that their adapters get.
        base: base model: `demo`, a folder or a hub id.
        out: the folder; an earlier export there is replaced.
        rank: keep at most this many singular values of each tensor.
        dtype: of the stored factors.
        allow_other_base: skip the fingerprint check, to move vectors to another fine-tuning stage on purpose.

    Raises:
        VectorError: if two vectors have the same name, or see `composition` and `export_gguf`.
        StorageError: if the folder cannot be written, or holds something else than an earlier export.
    """
    names = [vector.name for vector in vectors]
    if len(set(names)) < len(names):
        raise VectorError("two vectors have the same name; rename one in its card.json, or export one at a time")
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file()):
        raise StorageError(f"cannot write {out}: something else than exported knobs is there; choose another --out")
    if any(letter in str(out) for letter in ',:"'):
        raise StorageError(f"llama-server cannot be given {out}: the path has a comma, colon or quote; choose another")
    adapters: list[Adapter] = []
    reports: list[ExportReport] = []
    with atomic_folder(out) as staging:
        for vector in vectors:
            for part in vector.parts:
                file = f"{len(adapters):02d}-{vector.name}{_ENDINGS[part.sign]}.gguf"
                at_one = {vector.name: float(part.sign or 1)}  # the setting at which this part alone counts, once
                composed = composition(
                    [vector], at_one, base, rank=rank, dtype=dtype, allow_other_base=allow_other_base
                )
                export_gguf(composed, staging / file)
                adapters.append(Adapter(file=file, knob=vector.name, sign=part.sign, ranks=composed.report.ranks))
                reports.append(composed.report)
        scales = {vector.name: scale_of(vector.card) for vector in vectors}
        manifest = Manifest(
            base=base,
            base_fingerprint=reports[0].base_fingerprint,
            adapters=tuple(adapters),
            knobs={
                name: Positions(levels=dict(scale.levels), usable=scale.usable, curve=tuple(scale.curve))
                for name, scale in scales.items()
            },
            dtype=reports[0].dtype,
            relative_error=max(report.relative_error for report in reports),
            provenance=provenance(),
        )
        (staging / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return manifest
