"""The tiny model with a longer context, and vectors and a router for it under the shipped ones' names."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from alignvec import models
from alignvec.steer.router import save_router
from alignvec.tiny_model import write_tiny_model
from alignvec.vectors.store import save_vector
from tests.conftest import vector_maker
from tests.serve.routers import SURE, router_of

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@dataclass(frozen=True)
class Tiny:
    """Folders of what the examples take in place of the demo model."""

    model: Path
    vectors: Path
    router: Path


@pytest.fixture(scope="session")
def tiny_parts(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    folder = tmp_path_factory.mktemp("examples")
    model = write_tiny_model(folder / "model", context=4096)
    make = vector_maker(model)
    for seed, name in enumerate(("medical", "legal", "financial")):
        save_vector(make(name, seed=seed, scale=0.3), folder / "vectors" / name)
    router = router_of(models.load(str(model), device="cpu"), spread=20.0, medical=0.0, legal=0.0, financial=-SURE)
    save_router(router, folder / "router")
    return Tiny(model, folder / "vectors", folder / "router")


@pytest.fixture
def start_example(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a script of examples/ in an empty folder."""

    def start(name: str, *arguments: object, **environment: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True, check=False
        )

    return start


@pytest.fixture
def run_example(start_example: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., str]:
    """Runs a script of examples/ in an empty folder, and returns what it prints."""

    def run(name: str, *arguments: object, **environment: Any) -> str:
        done = start_example(name, *arguments, **environment)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run
