"""What measurements depend on besides setting and query, so that a journal is only gone on with for the same."""

import hashlib
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel as Record

from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import Sampling
from alignvec.vectors.fingerprint import fingerprint


def rows_digest(rows: Sequence[Record]) -> str:
    """What a journal knows its queries by."""
    return hashlib.sha256("\n".join(row.model_dump_json() for row in rows).encode()).hexdigest()[:16]


def scope_of(
    model: KnobbedModel, names: Sequence[str], sampling: Sampling, data: str, rows: Sequence[Record]
) -> dict[str, Any]:
    """What measurements of some knobs depend on besides setting and row."""
    return {
        "vectors": {name: model.vectors[name].card.files for name in names},
        "sampling": sampling.model_dump(),
        "data": data,
        "rows": rows_digest(rows),
        "base": fingerprint(model.base.folder),
        "dtype": str(model.base.model.dtype),
    }
