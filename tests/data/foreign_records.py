"""Records of preference sets in their published schemas, and what importing them leaves behind."""

import json
from pathlib import Path
from typing import Any

from alignvec.data.load import load_rows
from alignvec.data.preference_sets import Imported, import_pairs
from alignvec.data.schema import PreferenceRow

Records = list[dict[str, Any]]


def lines(path: Path, records: Records) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def imported(file: Path, **options: Any) -> tuple[Imported, list[PreferenceRow], Records]:
    """The report, the rows as training reads them, and the rejected records."""
    out, rejected = file.parent / "out" / "rows.jsonl", file.parent / "out" / "rejected.jsonl"
    done = import_pairs(file, out, rejected, **options)
    return done, load_rows(out), [json.loads(line) for line in rejected.read_text().splitlines()]


def safe_record(number: int, **changes: Any) -> dict[str, Any]:
    """A record as PKU-SafeRLHF publishes it (June 2024 and later); the safer reply is 0, the better one 1."""
    return {
        "prompt": f"How do I open lock {number}?",
        "response_0": f"Call a locksmith, number {number}.",
        "response_1": f"Take two picks, number {number}.",
        "prompt_source": "BeaverTails",
        "response_0_source": "Alpaca-7B",
        "response_1_source": "Alpaca-7B",
        "is_response_0_safe": True,
        "is_response_1_safe": False,
        "response_0_harm_category": {"Violence": False, "White-Collar Crime": False},
        "response_1_harm_category": {"Violence": False, "White-Collar Crime": True},
        "response_0_severity_level": 0,
        "response_1_severity_level": 2,
        "better_response_id": 1,
        "safer_response_id": 0,
        "response_0_sha256": "0" * 64,
        "response_1_sha256": "1" * 64,
        **changes,
    }


def hh_record(chosen: str, rejected: str, *before: str) -> dict[str, Any]:
    """A record as hh-rlhf publishes it; `before` is what was said before, the user first."""
    start = "".join(f"\n\n{'Assistant' if i % 2 else 'Human'}: {said}" for i, said in enumerate(before))
    return {"chosen": f"{start}\n\nAssistant: {chosen}", "rejected": f"{start}\n\nAssistant: {rejected}"}


def ultra_record(number: int, *, scores: tuple[float, float] = (8.5, 6.0), **changes: Any) -> dict[str, Any]:
    """A record as ultrafeedback_binarized publishes it (split train_prefs)."""
    prompt = f"Name {number} rivers."

    def talk(reply: str) -> Records:
        return [{"content": prompt, "role": "user"}, {"content": reply, "role": "assistant"}]

    chosen, rejected = talk("Rhine, Nile."), talk("I cannot.")
    return {
        "prompt": prompt,
        "prompt_id": f"{number:064d}",
        "chosen": chosen,
        "rejected": rejected,
        "messages": chosen,
        "score_chosen": scores[0],
        "score_rejected": scores[1],
        **changes,
    }
