"""Rows with a full account of where they come from, for the tests of this folder."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.conftest import preference_record

PROVENANCE: dict[str, Any] = {
    "persona": {"kind": "created", "name": "teacher-1", "licence": "Apache-2.0"},
    "prompts": {"query": "query/1#aaaa", "reply": "reply/1#bbbb"},
    "teacher": "teacher-1",
    "sampling": {"temperature": 0.7, "top_p": 0.95, "max_tokens": 300},
    "seed": 7,
    "attempts": {"avoidance": 1, "generic": 2, "expert": 1},
    "time": "2026-11-21T10:00:00Z",
}


def record(number: int, split: str = "train", **changes: Any) -> dict[str, Any]:
    """A record with provenance; two of them share a persona."""
    return {**preference_record(number, split), "provenance": PROVENANCE, **changes}


def write(path: Path, records: Iterable[dict[str, Any]]) -> Path:
    """Write records as JSON lines."""
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")
    return path
