"""The command line in this process; a file whose commands need another place has a fixture of its own."""

import json
from pathlib import Path
from typing import Any

import pytest
from running import Command, prepared

from alignvec.vectors.store import save_vector
from tests.conftest import preference_record


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tiny_folder: Path, tmp_path: Path
) -> Command:
    assert tiny_folder.is_dir()  # made before the capture begins
    return prepared(monkeypatch, capfd, tmp_path)


@pytest.fixture
def two_domains(make_vector: Any, tiny_folder: Path, tmp_path: Path) -> list[Any]:
    """Options for the tiny model, a vector each for legal and medical, and a file of data for each."""
    found: list[Any] = ["--model", tiny_folder, "--max-new-tokens", 4, "--vectors", tmp_path / "vectors"]
    for seed, domain in enumerate(("legal", "medical")):
        save_vector(make_vector(domain, seed=seed, scale=0.3), tmp_path / "vectors" / domain)
        splits = ["train"] * 6 + ["validation"] * 4 + ["test"] * 4
        records = [preference_record(i, split, domain) for i, split in enumerate(splits)]
        for record in records:
            record["persona"] = f"{record['persona']} of {domain}"
        (tmp_path / f"{domain}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        found += ["--data", tmp_path / f"{domain}.jsonl"]
    return found
