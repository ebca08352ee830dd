"""Vectors of the tiny model on disk, and plans for them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from alignvec.engines.vllm.plan import Plan
from alignvec.engines.vllm.prepare import make_plan
from alignvec.vectors.store import save_vector
from tests.conftest import MakeVector

MakePlan = Callable[..., Plan]


@pytest.fixture
def places(tmp_path: Path, make_vector: MakeVector) -> list[Path]:
    """A hinged vector of rank 2 and a single one of rank 3."""
    save_vector(make_vector("medical", hinged=True, rank=2, seed=1), tmp_path / "medical")
    save_vector(make_vector("legal", hinged=False, rank=3, seed=2), tmp_path / "legal")
    return [tmp_path / "medical", tmp_path / "legal"]


@pytest.fixture
def plan_for(tmp_path: Path, tiny_folder: Path, places: list[Path], monkeypatch: pytest.MonkeyPatch) -> MakePlan:
    """Makes a plan: plan_for("gate", step=...)."""
    monkeypatch.setenv("ALIGNVEC_CACHE", str(tmp_path / "cache"))

    def make(way: str, **options: object) -> Plan:
        return make_plan(str(tiny_folder), places, way, name="demo", **options)  # type: ignore[arg-type]

    return make
